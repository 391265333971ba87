"""`llmkit demo` takes a recipe in place of its own."""

from pathlib import Path

import pytest
from cli.test_app import run


def test_recipe_of_another_task_is_refused_before_anything_is_prepared(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "r.yaml").write_text("task: mlm\n")
    code, _, err = run(monkeypatch, capsys, "demo", "--recipe", str(tmp_path / "r.yaml"), "--out", str(tmp_path / "o"))
    assert code == 2
    assert "the demo trains a causal language model" in err
    assert not (tmp_path / "o").exists()
