"""`llmkit report` writes the page of a run again."""

from pathlib import Path

import pytest

from llmkit.config.evaluate import Report
from llmkit.core.errors import ModelError
from llmkit.reporting.rewrite import report


def test_page_is_written_again_with_the_title_that_is_given(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("task: clm\n")
    (tmp_path / "manifest.json").write_text("{}")
    (tmp_path / "report.html").write_text("old")
    assert report(Report(title="A & B"), run=tmp_path) == {"report": str(tmp_path / "report.html")}
    assert "<h1>A &amp; B</h1>" in (tmp_path / "report.html").read_text()


def test_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError):
        report(Report(), run=tmp_path)
    assert not (tmp_path / "report.html").exists()
