"""`llmkit eval` refuses options that the model's task does not read."""

import json
from pathlib import Path

import pytest
from cli.test_app import run
from tiny import save_gpt2


def test_columns_for_a_run_of_a_language_model_are_refused_by_the_option_that_was_typed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "recipe.yaml").write_text("task: clm\n")
    code, _, err = run(monkeypatch, capsys, "eval", str(tmp_path), "--data", "rows.csv", "--text", "a")
    assert code == 2
    assert "where: --text" in err


def test_figures_of_a_text_are_lines_or_json(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "t.txt").write_text("free cash at home " * 20)
    command = ("eval", save_gpt2(tmp_path / "gpt2"), "--data", str(tmp_path / "t.txt"))
    code, out, _ = run(monkeypatch, capsys, *command)
    assert code == 0
    assert out.startswith("bits per byte ")
    found = json.loads(run(monkeypatch, capsys, *command, "--json")[1])
    assert f"{found['bits_per_byte']:.4f}" in out
    assert found["task"] == "clm"
