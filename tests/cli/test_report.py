"""`llmkit report` prints the path of the page."""

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


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("metrics.json", '{"training": {', "the run's metrics file is damaged"),
        ("metrics.json", "[]", "the run's metrics file is damaged"),
        ("metrics.json", "", "the run's metrics file is damaged"),
        ("manifest.json", '{"task": 7}', "the run's manifest is damaged: task"),
        ("log.jsonl", '{"kind": "tr\n{"kind": "train", "step": 1}\n', "line 1 of the run's log is damaged"),
        ("log.jsonl", "\0" * 100 + "\n", "line 1 of the run's log is damaged"),
        ("recipe.yaml", "task: [", "the run's recipe is damaged"),
        ("recipe.yaml", "\0" * 20, "the run's recipe is damaged"),
        ("recipe.yaml", "", "the run's recipe is damaged: it has no sections"),
        ("recipe.yaml", "a: " + "[" * 100_000, "the run's recipe is damaged"),
    ],
)
def test_damaged_file_of_the_run_is_an_error_and_the_old_report_stays(
    name: str, content: str, what: str,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path,
) -> None:  # fmt: skip
    (tmp_path / "recipe.yaml").write_text("task: clm\n")
    (tmp_path / "report.html").write_text("old")
    (tmp_path / name).write_text(content)
    code, out, err = run(monkeypatch, capsys, "report", str(tmp_path))
    lines = err.strip().splitlines()
    assert code == 6 and not out and (tmp_path / "report.html").read_text() == "old"
    assert [line.split(":")[0] for line in lines] == ["error", "where", "hint"]
    assert what in lines[0] and lines[1].endswith(str(tmp_path / name))


def test_killed_run_has_a_report(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "recipe.yaml").write_text("task: clm\n")
    (tmp_path / "log.jsonl").write_text('{"kind": "train", "step": 1, "loss": 2.0}\n{"kind": "trai')
    code, out, err = run(monkeypatch, capsys, "report", str(tmp_path))
    assert code == 0 and out.strip() == str(tmp_path / "report.html") and "cut off when the process was killed" in err


def test_a_folder_of_runs_leads_to_its_runs_and_a_wrong_name_to_the_nearest(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for name in ("spam", "stars"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "recipe.yaml").write_text("task: clm\n")
    code, _, err = run(monkeypatch, capsys, "report", str(tmp_path))
    assert code == 6 and f"the folder holds 2 runs: {tmp_path / 'spam'}, {tmp_path / 'stars'}" in err
    code, _, err = run(monkeypatch, capsys, "report", str(tmp_path / "star"))
    assert code == 6 and f"did you mean '{tmp_path / 'stars'}'?" in err
