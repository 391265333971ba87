"""`llmkit report` gives the path of the page."""

import json
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


def test_tables_are_written_to_the_folder_and_listed_as_json(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "recipe.yaml").write_text("task: clm\n")
    (folder / "metrics.json").write_text('{"validation": {"loss": 1.5, "bits_per_byte": 2.0}}')
    command = ("report", str(folder), "--tables", str(tmp_path / "out"))
    code, out, _ = run(monkeypatch, capsys, *command, "--json")
    listed = json.loads(out)
    assert code == 0 and listed["report"] == str(folder / "report.html")
    assert sorted(listed["tables"]) == sorted(map(str, (tmp_path / "out").iterdir())) != []
    code, _, err = run(monkeypatch, capsys, *command)
    assert code == 2 and "--overwrite" in err
    code, out, _ = run(monkeypatch, capsys, *command, "--overwrite")
    assert code == 0 and f"{len(listed['tables'])} files" in out


def test_a_folder_of_runs_leads_to_its_runs_and_a_wrong_name_to_the_nearest(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for name in ("spam", "stars"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "recipe.yaml").write_text("task: clm\n")
    code, _, err = run(monkeypatch, capsys, "report", str(tmp_path))
    assert code == 6 and f"it holds 2 runs: {tmp_path / 'spam'}, {tmp_path / 'stars'}" in err
    code, _, err = run(monkeypatch, capsys, "report", str(tmp_path / "star"))
    assert code == 6 and f"did you mean '{tmp_path / 'stars'}'?" in err
