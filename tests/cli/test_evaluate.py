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
    (tmp_path / "config.json").write_text('{"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2"}')
    (tmp_path / "rows.csv").write_text("a,text\n1,b\n")
    data = str(tmp_path / "rows.csv")
    code, _, err = run(monkeypatch, capsys, "eval", str(tmp_path), "--data", data, "--label", "a")
    assert code == 2
    assert "where: --label" in err


@pytest.mark.parametrize("has_recipe", [False, True])
def test_text_option_names_the_column_that_a_language_model_is_scored_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, has_recipe: bool
) -> None:
    rows = [("free cash at home", "x"), ("see you at home", "y")]
    (tmp_path / "rows.csv").write_text("body,note\n" + "".join(f"{text},{note}\n" for text, note in rows * 10))
    model = Path(save_gpt2(tmp_path / "gpt2"))
    if has_recipe:
        (model / "recipe.yaml").write_text("task: clm\n")
    command = ("eval", str(model), "--data", str(tmp_path / "rows.csv"), "--json", "--text")
    n_bytes = [json.loads(run(monkeypatch, capsys, *command, name)[1])["n_bytes"] for name in ("body", "note")]
    assert n_bytes == [10 * sum(len(text) for text, _ in rows), 20]


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
