"""One self-contained HTML page a run: it opens offline, prints, and fetches nothing."""

from mambattn.report.compare import compare_page
from mambattn.report.explain import explain_page
from mambattn.report.recall import recall_page, write_recall_report

__all__ = ["compare_page", "explain_page", "recall_page", "write_recall_report"]
