"""The report of a series shows mean, spread and interval of each metric, each run and its curves."""

from pathlib import Path
from typing import Any

from reporting.test_report import make_run, read_report

from llmkit.reporting.export import export_report
from llmkit.reporting.series import is_series
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
