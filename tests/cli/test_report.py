"""`llmkit report` gives the path of the page."""

from pathlib import Path

import pytest
from cli.test_app import run


def test_path_of_the_page_is_shown_with_the_title_that_was_set(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "recipe.yaml").write_text("task: clm\n")
    code, out, _ = run(monkeypatch, capsys, "report", str(tmp_path), "-s", "report.title=Mine")
    assert (code, out.strip()) == (0, str(tmp_path / "report.html"))
    assert "<h1>Mine</h1>" in (tmp_path / "report.html").read_text()
