"""The function that all commands for rows share; tests/cli/test_finetune.py runs it with options."""

from pathlib import Path

import pytest
from tiny import make_messages, save_bert, write_table

from llmkit.cli.row_training import RowTraining
from llmkit.core.errors import UsageError


def test_arguments_are_checked_for_the_task_that_the_command_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, model = write_table(tmp_path / "rows.csv", make_messages(40)), save_bert(tmp_path / "bert")
    training = RowTraining(
        out=tmp_path / "out", recipe=None, model=model, data=data, validation=None, test=None, dry_run=True
    )
    training.run("cls")
    assert "rows per epoch" in capsys.readouterr().out and not (tmp_path / "out").exists()
    with pytest.raises(UsageError, match="does not train"):
        training.run(None)  # the recipe names no task
