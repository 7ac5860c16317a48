"""Token mixers — Mamba, attention and every hybrid of them — for tables, recall studies and text."""

__version__ = "0.1.0"
