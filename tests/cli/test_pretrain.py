"""`llmkit pretrain` goes by the recipe's task; its siblings name theirs."""

from pathlib import Path

import pytest
from cli.test_app import run


@pytest.mark.parametrize(
    ("command", "recipe", "way_out"),
    [
        ("pretrain", "task: cls", "llmkit finetune-cls"),
        ("pretrain-clm", "task: mlm", "llmkit pretrain-mlm"),
        ("pretrain-mlm", "task: clm", "llmkit pretrain-clm"),
    ],
)
def test_recipe_of_another_task_is_refused_with_the_command_that_trains_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path,
    command: str, recipe: str, way_out: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    Path("r.yaml").write_text(recipe)
    code, _, err = run(monkeypatch, capsys, command, "r.yaml", "--data", "data", "--out", "out")
    assert code == 2
    assert way_out in err
    assert "where: r.yaml, task" in err
