"""The report of a series shows statistics of each metric, each run and its curves, or a learning curve."""

import json
from pathlib import Path
from typing import Any

import pytest
from reporting.test_report import make_run, read_report

from llmkit.pages.blocks import Charts, LineChart, Table
from llmkit.reporting.export import export_report
from llmkit.reporting.report import write_report
from llmkit.reporting.series import is_series, make_learning_curve, make_table, make_tables
from llmkit.tasks.table import TASKS
from llmkit.training.run_record import read_run

MANIFEST = {"task": "cls", "series": {"folds": 2, "seeds": 1}}


def make_series(folder: Path, **metrics: Any) -> Path:
    make_run(folder, [], manifest=MANIFEST, recipe="task: cls", metrics=metrics)
    (folder / "log.jsonl").unlink()
    return folder


def make_part(accuracy: float) -> dict[str, Any]:
    found = {"task": "cls", "label_type": "single_label", "accuracy": accuracy, "f1_macro": accuracy, "kappa": 0.3}
    custom = {"kappa": {"higher_is_better": True}}
    return {"validation": found | {"custom_metrics": custom}, "training": {"seconds": 65.0, "best_step": 7}}


def test_series_shows_statistics_runs_and_curves(tmp_path: Path) -> None:
    runs = {f"fold-{n}": make_part(0.8 + n / 10) for n in range(2)}
    figures = {"mean": 0.85, "std": 0.0707, "min": 0.8, "max": 0.9, "interval": [0.2147, 1.4853]}
    series = make_series(tmp_path / "s", runs=runs, summary={"validation": {"accuracy": figures, "kappa": figures}})
    for name in runs:
        log = [{"kind": "eval", "step": step, "split": "validation", "loss": 1 / step} for step in (1, 2)]
        make_run(series / name, log, manifest={"task": "cls"})
    page = read_report(series)
    for expected in ("85.00% ± 7.07%", "21.47% to 100.00%", "2 runs: 2 folds", "are too narrow", "1 min 5 s"):
        assert expected in page.text
    assert {"fold-0", "fold-1", "90.00%", "kappa"} <= {each for tag in ("td", "th", "a") for each in page.contents[tag]}
    assert len(page.get_curves("Held-out loss")) == 2
    assert "This report is incomplete" not in page.text
    names = {path.name for path in export_report(series, tmp_path / "out", overwrite=False)}
    assert {"metrics-on-validation.csv", "runs-on-validation.tex", "held-out-loss.svg"} <= names


def test_series_that_has_not_ended_says_so(tmp_path: Path) -> None:
    page = read_report(make_series(tmp_path / "s"))
    assert "The series has not ended" in page.text
    assert is_series(read_run(tmp_path / "s"))


def test_edited_metrics_do_not_break_the_report(tmp_path: Path) -> None:
    runs: dict[str, Any] = {"fold-0": {"validation": 3}, "fold-1": "x"}
    read_report(make_series(tmp_path / "s", runs=runs, summary={"validation": {"accuracy": {"mean": 0.5}}}))


TASK = TASKS["cls"]


def entry(n_rows: int, value: float, n_runs: int = 1, wanted: int | None = 0) -> dict[str, Any]:
    figure = {"mean": value, "std": 0.0, "min": value - 0.1, "max": value + 0.1}
    if n_runs == 1:
        figure["interval"] = [value - 0.05, value + 0.05]
    scores = dict.fromkeys(("accuracy", "ngram_baseline_accuracy", "f1_macro", "mcc"), figure)
    wanted = n_rows if wanted == 0 else wanted
    return {"max_rows": wanted, "n_train_rows": n_rows, "n_runs": n_runs, "validation": scores, "test": scores}


def metrics(*entries: Any) -> dict[str, Any]:
    first = {"test": {"label_type": "single_label"}, "validation": {"label_type": "single_label"}}
    return {"runs": {"rows-10": first}, "learning_curve": list(entries)}


def test_table_has_the_95_percent_interval_of_one_run_and_the_range_of_several() -> None:
    metric = TASK.metrics({}).headlines[0]
    table = make_table(metric, [entry(10, 0.5), entry(1234, 0.8, wanted=5000)], "test")
    assert list(table.header) == ["train rows", "accuracy", "95% interval", "n-gram baseline", "95% interval"]
    assert table.rows[0] == ["10", "50.00%", "45.00% to 55.00%", "50.00%", "45.00% to 55.00%"]
    assert table.rows[1][0] == "1,234 (all)"
    several = make_table(metric, [entry(10, 0.5, n_runs=3)], "test")
    assert several.header[2] == "min to max" and several.rows[0][2] == "40.00% to 60.00%"
    assert several.title == "accuracy on test rows, mean of runs"
    measured = entry(10, 0.5, n_runs=3)
    measured["test"]["accuracy"] = measured["test"]["accuracy"] | {"interval": [0.3, 1.7]}
    table = make_table(metric, [measured], "test")
    assert table.header[2] == "95% interval" and table.rows[0][2] == "30.00% to 100.00%"


def test_terminal_has_one_table_per_split_and_the_report_one_chart_per_metric() -> None:
    found = metrics(entry(10, 0.5), entry(100, 0.7), entry(800, 0.9, wanted=None))
    assert [table.title for table in make_tables(found, TASK)] == [
        "accuracy on test rows",
        "accuracy on validation rows",
    ]
    sections = make_learning_curve(found, TASK)
    assert [section.title for section in sections] == [
        "Learning curve on test rows",
        "Learning curve on validation rows",
        "Runs",
    ]
    charts = next(block for block in sections[0].blocks if isinstance(block, Charts)).charts
    assert [chart.title for chart in charts if isinstance(chart, LineChart)] == [
        "accuracy", "F1, macro", "Matthews correlation"
    ]  # fmt: skip
    first = charts[0]
    assert isinstance(first, LineChart) and first.is_log and first.along == "train rows"
    assert [curve.name for curve in first.curves] == ["this model", "n-gram baseline"]
    assert list(first.curves[0].steps) == [10, 100, 800]
    assert sum(isinstance(block, Table) for block in sections[0].blocks) == len(charts)


def test_page_is_written_and_damaged_entries_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("task: cls\n")
    (tmp_path / "manifest.json").write_text('{"task": "cls", "series": {"seeds": 1, "sizes": [10]}}')
    found = metrics(entry(10, 0.5), "<script>", {"n_train_rows": "x"}, {"n_train_rows": 5, "test": 3})
    (tmp_path / "metrics.json").write_text(json.dumps(found))
    page = write_report(tmp_path, title="<b>").read_text()
    assert "Learning curve on test rows" in page and "&lt;b&gt;" in page and "<svg" in page
    for broken in ("{}", '{"learning_curve": 3}', '{"runs": {"a": {}}, "learning_curve": []}'):
        (tmp_path / "metrics.json").write_text(broken)
        assert "Learning curve on" not in write_report(tmp_path).read_text()


@pytest.mark.parametrize("entries", [[], [3], [{"max_rows": 4}]])
def test_nothing_measured_gives_no_section(entries: list[Any]) -> None:
    assert make_learning_curve(metrics(*entries), TASK) == []


def test_page_lists_all_runs_with_links_to_their_reports(tmp_path: Path) -> None:
    found = metrics(entry(10, 0.5), entry(20, 0.75))
    found["runs"]["rows-10"]["test"] = {"label_type": "single_label", "accuracy": 0.5}
    found["runs"]["rows-20"] = {"test": {"label_type": "single_label", "accuracy": 0.75}}
    found["runs"]["javascript:alert(1)"] = {}
    (tmp_path / "metrics.json").write_text(json.dumps(found))
    (tmp_path / "manifest.json").write_text(json.dumps({"task": "cls", "series": {"sizes": [10, 20], "seeds": 1}}))
    page = write_report(tmp_path).read_text()
    assert '<a href="./rows-10/report.html">rows-10</a>' in page and "75.00%" in page
    assert 'href="javascript' not in page
