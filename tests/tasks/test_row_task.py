"""What identifies and describes the runs of tasks on rows in a comparison."""

from typing import Any

import pytest

from llmkit.tasks.table import TASKS
from llmkit.training.run_record import RunRecord

SPLITS = {"train": {"rows": 90, "rows_hash": "t"}, "test": {"rows": 12, "rows_hash": "h"}}


def make_record(**metrics: Any) -> RunRecord:
    manifest = {"data": {"splits": SPLITS}, "origin": {"start": "bert"}, "label_type": "single_label"}
    return RunRecord("run", {}, {"test": metrics, "training": {"epochs": 3}}, manifest, "", ())


@pytest.mark.parametrize(("task", "unit"), [("cls", "rows"), ("ner", "rows"), ("qa", "questions")])
def test_scored_rows_identify_the_data_and_fall_back_on_the_manifest(task: str, unit: str) -> None:
    held_out = TASKS[task].describe_held_out(make_record(**{f"n_{unit}": 10}), "test")
    assert (held_out.size, held_out.digest, held_out.train_digest) == (10, "h", "t")
    assert TASKS[task].describe_held_out(make_record(), "test").size == 12


@pytest.mark.parametrize(
    ("task", "unit", "own"),
    [
        ("cls", "rows", {"label type": "single_label"}),
        ("ner", "rows", {"decoding": "greedy"}),
        ("qa", "questions", {"rules": "squad_1.1"}),
    ],
)
def test_comparison_shows_the_start_the_rows_and_the_settings_of_the_task(
    task: str, unit: str, own: dict[str, str]
) -> None:
    method = {"decoding": "greedy", "rules": "squad_1.1", "weights": "the best of the run on these rows"}
    shown = TASKS[task].describe_compared(make_record(**{f"n_{unit}": 10, "method": method}), "test")
    common = {"started from": "bert", f"train {unit}": 90, "epochs": 3, f"scored {unit}": 10}
    assert shown == common | own | {"weights chosen on": "these rows"}
