"""`llmkit pretrain` takes the task from the recipe; pretrain-clm and pretrain-mlm accept only their own."""

from pathlib import Path

import pytest
from cli.test_app import run


@pytest.mark.parametrize(
    ("command", "recipe", "suggested"),
    [
        ("pretrain", "task: cls", "llmkit finetune-cls"),
        ("pretrain-clm", "task: mlm", "llmkit pretrain-mlm"),
        ("pretrain-mlm", "task: clm", "llmkit pretrain-clm"),
    ],
)
def test_recipe_of_another_task_is_refused_and_the_right_command_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path,
    command: str, recipe: str, suggested: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    Path("r.yaml").write_text(recipe)
    code, _, err = run(monkeypatch, capsys, command, "r.yaml", "--data", "data", "--out", "out")
    assert code == 2
    assert suggested in err
    assert "where: r.yaml, task" in err
