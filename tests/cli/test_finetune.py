"""`llmkit finetune` takes the task from the recipe; `finetune-cls` sets it."""

from pathlib import Path

import pytest
from cli.test_app import run
from tiny import make_messages, save_bert, write_table


def test_recipe_without_a_task_for_rows_is_refused_with_what_to_write(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code, _, err = run(
        monkeypatch, capsys, "finetune", "--data", "rows.csv", "--model", "m", "--out", str(tmp_path / "o")
    )
    assert code == 2
    assert "set `task: cls or ner or qa` in the recipe" in err


def test_options_on_columns_beat_the_recipe_and_a_dry_run_writes_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    rows = [(label, text) for text, label in make_messages(40)]
    data, model = write_table(tmp_path / "rows.csv", rows, ("a", "b")), save_bert(tmp_path / "bert")
    (tmp_path / "r.yaml").write_text("task: cls\ncls: {text: a, label: b}\n")
    columns = ("--text", "b", "--label", "a")
    code, out, _ = run(
        monkeypatch, capsys, "finetune", str(tmp_path / "r.yaml"), "--data", data, "--model", model, "--out",
        str(tmp_path / "out"), "--dry-run", *columns,
    )  # fmt: skip
    assert code == 0
    assert "  text: b\n" in out
    assert "rows per epoch" in out
    assert not (tmp_path / "out").exists()


def test_a_series_needs_two_folds(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code, _, err = run(
        monkeypatch, capsys, "finetune-cls", "--data", "rows.csv", "--out", str(tmp_path / "o"), "--folds", "1"
    )
    assert code == 2
    assert "folds" in err


def test_learning_curve_ends_with_a_table_and_its_report_is_written_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    data, model = write_table(tmp_path / "rows.csv", make_messages(40)), save_bert(tmp_path / "bert")
    out = tmp_path / "out"
    tiny = ("-s", "train.max_steps=1", "-s", "train.precision=fp32", "-s", "train.global_batch_size=8")
    command = ("finetune-cls", "--data", data, "--model", model, "--out", str(out))
    code, shown, _ = run(monkeypatch, capsys, *command, *tiny, "--learning-curve", "8,16")
    assert code == 0
    assert "train rows  accuracy  95% interval" in shown and str(out / "report.html") in shown
    (out / "report.html").unlink()
    code, shown, _ = run(monkeypatch, capsys, "report", str(out))
    assert code == 0 and "Learning curve on validation rows" in (out / "report.html").read_text()
    code, shown, _ = run(monkeypatch, capsys, "finetune-cls", "--out", str(out), "--resume")
    assert code == 0 and "train rows  accuracy" in shown
    code, _, err = run(monkeypatch, capsys, *command, "--learning-curve", "8,many")
    assert code == 2 and "'many' in --learning-curve is not a number of rows" in err
