"""The report's data section: totals are the sums of their parts, and missing entries are left out."""

from typing import Any

from llmkit.pages.page import render_page
from llmkit.reporting.report_data import make_data


def render_data(data: dict[str, Any]) -> str:
    page = render_page("", "", [], [make_data(data)])
    return page[page.index("<h2>") : page.index("<script>")]


HOSTILE = "<script>alert(1)</script>"
SPLITS = {
    "train": {"rows": 90, "documents": 9, "characters": 4000, "bytes": 5000, "tokens": 1250, "words": 700},
    "validation": {"rows": 10, "documents": 1, "characters": 400, "bytes": 500, "tokens": 125, "words": 70},
}


def test_totals_are_the_sums_of_the_splits() -> None:
    page = render_data({"splits": SPLITS, "tokenizer": {"kind": "char", "vocab_size": 99, "fingerprint": "f" * 64}})
    for total in ("5,500", "1,375", "4,400", "770"):
        assert total in page
    assert "4.000" in page, "bytes per token, where the manifest does not say it"
    assert "f" * 12 in page and "f" * 13 not in page
    assert "unknown tokens" not in page, "a column that no split has"


def test_empty_or_invalid_manifest_does_not_crash_the_report() -> None:
    assert "does not describe its data" in render_data({})
    nonsense: dict[str, Any] = {
        "splits": {"train": 7, "test": {"tokens": "many"}}, "steps": {"a": None}, "sources": ["x", None, {}],
        "overlap": {"test": 3}, "samples": "text", "tokenizer": [],
    }  # fmt: skip
    assert "<h2>Data</h2>" in render_data(nonsense)


def test_steps_sources_overlap_and_samples_are_shown_as_text() -> None:
    step = {"documents_in": 12, "documents_out": 10, "changed": 3, "dropped": {"too short": 2}, "removed": {HOSTILE: 7}}
    sources = [{"path": f"{HOSTILE}{n}.txt", "n_bytes": 9, "skipped": {"bad row": 2}} for n in range(203)]
    overlap = {"test": {"share": 0.0123, "n_found": 12, "n_windows": 976, "window_bytes": 50}}
    page = render_data({"steps": {"quality": step}, "sources": sources, "overlap": overlap, "samples": [HOSTILE]})
    assert HOSTILE not in page and "&lt;script&gt;" in page
    assert "too short 2" in page and "bad row 2" in page
    assert "1.23% of the test split" in page and "(12 of 976)" in page
    assert "Sources: 203" in page and "and 3 more, listed in manifest.json" in page
    assert page.count("0.txt") == 20, "the first two hundred"
