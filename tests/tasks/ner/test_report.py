"""The report shows types, confusions and mistakes with coloured entities; damaged metrics leave parts out."""

from pathlib import Path

from llmkit.pages.blocks import MarkedTexts, Table
from llmkit.tasks.ner.report import make_sections, make_tables, shorten_metrics

TYPES = [
    {"type": f"T{n}", "precision": 1.0, "recall": 0.5, "f1": 0.6, "n_true": 4, "n_predicted": 2} for n in range(12)
]
MISTAKE = {
    "line": 3, "probability": 0.9, "what": "predicted", "label": "T0", "true": ["T1"], "text": "In <New> York",
    "spans": [
        {"start": 3, "end": 13, "label": "T1", "is_true": True},
        {"start": 3, "end": 8, "label": "T0", "is_true": False},
    ],
}  # fmt: skip


def test_page_marks_entities_and_escapes_the_text(run: Path) -> None:
    page = (run / "report.html").read_text()
    assert "Types of entities" in page and "Confusion of types" in page
    (section,) = make_sections({"per_type": TYPES, "mistakes": [MISTAKE]})
    (block,) = section.blocks
    assert isinstance(block, MarkedTexts)
    text = block.texts[0]
    assert text.note == "line 3: T0 predicted instead of T1, probability 0.900"
    assert [("".join(part for part, _, _ in segments)) for _, segments in text.readings] == ["In <New> York"] * 2
    assert [segment[1:] for segment in text.readings[0][1] if segment[1]] == [("T1", "orange")]


def test_terminal_shows_the_most_frequent_types_only() -> None:
    (table,) = make_tables({"per_type": TYPES}, brief=True)
    assert isinstance(table, Table) and len(table.rows) == 10 and table.title.endswith("10 of 12")


def test_damaged_metrics_leave_parts_out() -> None:
    assert make_tables({"per_type": "x", "type_labels": [1], "type_confusion": [[0, 1]]}) == []
    damaged = [{**MISTAKE, "spans": [{"start": 3, "end": 99, "is_true": True}]}, {"text": 5}, "x"]
    assert make_sections({"mistakes": damaged}) == []
    assert shorten_metrics({"entity_f1": 1, "mistakes": []}) == {"entity_f1": 1}
