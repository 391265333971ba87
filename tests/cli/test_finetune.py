"""`llmkit finetune` goes by the recipe's task; `finetune-cls` names it."""

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
    assert "set `task: cls` in it" in err


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
