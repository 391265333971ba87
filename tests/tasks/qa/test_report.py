"""The report shows mistakes in their contexts and survives damaged figures."""

from typing import Any

import pytest

from llmkit.pages.blocks import Table
from llmkit.tasks.qa import QaTask
from llmkit.tasks.qa.metrics import METRICS
from llmkit.tasks.qa.report import describe_counts, make_sections, make_tables, shorten_metrics

FIGURES: dict[str, Any] = {
    "exact_match": 0.5, "answer_f1": 0.6, "baseline_exact_match": 0.01, "baseline_answer_f1": 0.1,
    "n_questions": 10, "n_answerable": 8, "n_answered": 7, "n_windows": 14,
    "intervals": {"answer_f1": [0.4, 0.8]},
    "method": {"rules": "squad_2.0", "no_answer_threshold": 1.5, "confidence": 0.95},
    "mistakes": [
        {"question": "who?", "answer": "cook", "predicted": "king", "probability": 0.9, "before": "the ",
         "after": " won"},
    ],
}  # fmt: skip


def test_mistakes_are_shown_in_their_contexts_with_the_answer_marked() -> None:
    summary, mistakes = make_sections(FIGURES, "test", {"test": FIGURES, "validation": FIGURES})
    [table, _] = mistakes.blocks
    assert isinstance(table, Table) and "…the 【king】 won…" in table.rows[0]
    text = str(summary.blocks[0])
    assert "8 have an answer; the model answered 7" in text and "script of SQuAD 2.0" in text and "14 windows" in text


def test_model_is_compared_with_the_baseline() -> None:
    [table] = make_tables(FIGURES, METRICS, brief=False)
    assert isinstance(table, Table)
    assert table.rows[0][1] == "60.00% (40.00% to 80.00%)" and table.rows[1][1] == "10.00%"
    assert make_tables(FIGURES, METRICS, brief=True) == []
    metric = METRICS.find("answer_f1")
    assert metric is not None and "word overlap: 10.00%" in QaTask().note_headline(FIGURES, metric)


def test_counts_and_intervals_are_words() -> None:
    assert [name.strip() for name, _, _ in describe_counts(FIGURES)] == [
        "over questions", "with an answer", "answered", "read in windows",
    ]  # fmt: skip
    shown = shorten_metrics(FIGURES, METRICS, is_above=True)
    assert shown["mistakes"] == "in a table above"
    assert shown["intervals"]["answer_f1"] == "95% interval 40.00% to 80.00%"


@pytest.mark.parametrize("damage", [None, "text", [1], {"a": 1}])
def test_damaged_figures_are_left_out(damage: Any) -> None:
    for key in FIGURES:
        figures = FIGURES | {key: damage}
        make_sections(figures, "test", {"test": figures})
        make_tables(figures, METRICS, brief=False)
        describe_counts(figures)
        shorten_metrics(figures, METRICS, is_above=False)
