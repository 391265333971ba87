"""docs/reference.md is up to date with the code."""

import importlib.util
from pathlib import Path

from llmkit.cli.app import COMMANDS

PAGE = Path(__file__).parents[1] / "docs/reference.md"


def test_page_is_the_one_that_the_script_makes() -> None:
    spec = importlib.util.spec_from_file_location("make_reference", PAGE.with_name("make_reference.py"))
    assert spec is not None and spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    text = PAGE.read_text(encoding="utf-8")
    assert text == script.make_reference(), "python docs/make_reference.py"
    assert all(f"### llmkit {name}\n" in text for name in COMMANDS)
    assert "mask_share" not in text, "old names are taken, but not shown"
