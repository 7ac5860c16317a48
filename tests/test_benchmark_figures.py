"""The tables of benchmarks/README.md say what the committed results say, to the last digit that they show."""

import json
import re
from pathlib import Path

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
PAGE = (BENCHMARKS / "README.md").read_text("utf8")
SCANS = {
    "(256, 128, 12, 128) tables": "scan-tables",
    "(64, 128, 64, 16) recall": "scan-recall",
    "(64, 128, 512, 16) recall, long": "scan-recall-long",
    "(1, 1536, 2048, 16) text": "scan-text",
}
ARCHS = {
    "No PE": "nope",
    "Learned PE": "learned",
    "Rotary PE": "rotary",
    "Mamba": "mamba",
    "Hybrid A": "hybrid_a",
    "Hybrid B": "hybrid_b",
}


def read(name):
    return json.loads((BENCHMARKS / "results" / f"{name}.json").read_text("utf8"))


def table(heading):
    """Cells of the table with that first heading, by its first column."""
    lines = PAGE[PAGE.index(f"\n| {heading} |") + 1 :].split("\n\n")[0].splitlines()
    return {first.strip(): cells for first, *cells in (line.strip("|").split("|") for line in lines[2:])}


def assert_shown(text, values):
    """The numbers of a cell are the values, rounded."""
    numbers = re.findall(r"\d+\.?\d*", text)
    for shown, value in zip(numbers, values, strict=True):
        unit = 10.0 ** -len(shown.partition(".")[2])
        assert abs(float(shown) - value) <= 0.5001 * unit, (text, values)


def test_the_scan_on_a_cpu():
    rows = {(row["case"], row["contender"]): row for row in read("ops-cpu")["rows"]}
    shown = table("selective_scan (batch, d_inner, seq_len, d_state)")
    assert list(shown) == list(SCANS)
    others = ("unbind loop", "lean loop", "torch")
    for shape, cells in shown.items():
        native = rows[SCANS[shape], "native"]
        times = [rows[SCANS[shape], other]["total_ms"] for other in others]
        ratios = [native["ratios"][other] for other in others]
        assert_shown(" ".join(cells), [*times, native["total_ms"], *ratios, 100 * native["exponential_share"]])
    memory = rows["scan-text", "native"]["extra_mib"]
    assert_shown(re.findall(r"Peak memory at the text shape: ([\d.]+) MiB", PAGE)[0], [memory])


def test_the_scan_on_a_gpu():
    shown = table("(batch, d_inner, seq_len, d_state)")
    for row in read("scan-gpu-h100")["rows"]:
        forward, total = shown[f"({', '.join(map(str, row['sizes']))})"][row["dtype"] == "bfloat16" :: 2]
        assert_shown(forward, [row["forward_ms"], row["forward_ratio"]])
        assert_shown(total, [row["total_ms"], row["total_ratio"]])


def test_a_population():
    shown = table("architecture")
    assert list(shown) == list(ARCHS)
    for column, name in ((0, "recall-population-cpu"), (2, "recall-population-h200")):
        rows = {row["arch"]: row for row in read(name)["rows"]}
        for arch, cells in shown.items():
            if (row := rows.get(ARCHS[arch])) is None:
                assert not cells[column].strip()
                continue
            assert_shown(cells[column], [row["ms"]["population"]])
            assert_shown(cells[column + 1], [row["gain"]["module"], row["gain"]["engine, one member"]])
