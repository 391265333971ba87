"""The logged values that are drawn, and those that are not finite."""

import math
from typing import Any

from llmkit.pages.page import render_page
from llmkit.reporting.report_curves import find_non_finite, make_curves
from llmkit.tasks.clm import METRICS
from llmkit.training.run_record import RunRecord


def render(run: RunRecord) -> str:
    page = render_page("", "", [], [make_curves(run, METRICS)])
    return page[page.index("<h2>") : page.index("<script>")]


def record(train: list[dict[str, Any]], evaluations: list[dict[str, Any]] = ()) -> RunRecord:
    steps = [{"kind": "train", "step": step + 1, **logged} for step, logged in enumerate(train)]
    return RunRecord("run", {"train": steps, "eval": list(evaluations)}, {}, {}, "", ())


def test_curves_of_each_split_and_of_training_are_drawn_together() -> None:
    evaluations = [
        {"step": step, "split": split, "loss": 3.0 - step, "bits_per_byte": 1.0}
        for step in (1, 2)
        for split in ("validation", "test")
    ]
    page = render(record([{"loss": 3.0}, {"loss": 2.0}], evaluations))
    loss, bits = page.split("<figure")[1:3]
    for name in ("training", "validation", "test"):
        assert f"</i>{name} <b>" in loss
    assert "Held-out bits per byte" in bits and "</i>training" not in bits


def test_values_that_every_run_logs_are_reported_if_missing_and_others_are_not() -> None:
    page = render(record([{"loss": 3.0, "learning_rate": 0.1}]))
    assert "Not in the log: held-out bits per byte, gradient norm, tokens per second, MFU." in page
    empty = render(record([]))
    assert "<figure" not in empty and "Not in the log: loss" in empty


def test_long_noisy_loss_gets_a_mean_beside_it_and_a_rate_does_not() -> None:
    long = render(record([{"loss": 3.0, "learning_rate": 0.1}] * 100))
    assert long.count("</i>mean of 5 ") == 1
    assert "mean of" not in render(record([{"loss": 3.0}] * 39))


def test_steps_without_a_finite_number_are_left_out_of_the_curve_and_reported() -> None:
    logged = [{"loss": 3.0, "grad_norm": None}, {"loss": None, "grad_norm": None}, {"loss": math.inf}, {"loss": 2.0}]
    lines = find_non_finite(record(logged))
    assert lines == ["train loss is not finite at step 2 and 1 more time; the curve omits such values"]
    assert "nan" not in render(record(logged)).lower().replace("finance", "")
    evaluations = [{"step": 7, "loss": None, "pearson": None}, {"step": 8, "pearson": 0.5}]
    assert find_non_finite(record([], evaluations)) == [
        "eval loss is not finite at step 7; the curve omits such values",
        "eval pearson is not finite at step 7; the curve omits such values",
    ]
