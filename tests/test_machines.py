"""Variables, names, devices and sizes for which a command once lost data, hung or ended in a traceback.

Each test is one command line as it was typed. Two commands on one result, results in UTF-8 and closed streams are in
cli/test_app.py and evaluating/test_predict.py; several users and jobs are in shared_machine.py.
"""

import json
import os
from pathlib import Path

import pytest
from cli.test_app import run
from tiny import make_messages, write_table

Monkeypatch = pytest.MonkeyPatch
Capture = pytest.CaptureFixture[str]


def assert_refused(result: tuple[int, str, str], code: int, words: str) -> None:
    """Three lines on stderr, nothing on stdout."""
    assert result[:2] == (code, "")
    assert words in result[2]
    lines = [line for line in result[2].splitlines() if not line.startswith("ignoring")]
    assert [line.split(":")[0] for line in lines] == ["error", "where", "hint"]


@pytest.mark.parametrize("given", ["RANK=1", "WORLD_SIZE=abc", "LOCAL_RANK=1", "RANK=3 LOCAL_RANK=x"])
def test_leftover_variable_of_a_rank_is_named_and_the_result_is_shown(
    monkeypatch: Monkeypatch, capsys: Capture, given: str
) -> None:
    for word in given.split():
        monkeypatch.setenv(*word.split("=", 1))
    code, out, err = run(monkeypatch, capsys, "schema")
    assert code == 0 and json.loads(out)["title"]
    assert err.startswith("running one process: ignoring ") and all(word in err for word in given.split())


def test_prepare_never_deletes_its_input_through_a_relative_out(
    monkeypatch: Monkeypatch, capsys: Capture, tmp_path: Path
) -> None:
    folder = tmp_path / "d2"
    folder.mkdir()
    (folder / "src.txt").write_text("A text that must stay.\n" * 20)
    (folder / "notes.md").write_text("mine")
    monkeypatch.chdir(folder)
    for more in ([], ["--overwrite"]):
        found = run(monkeypatch, capsys, "prepare", "src.txt", "--out", "../d2", *more)
        assert_refused(found, 2, "is in the output folder")
    assert sorted(path.name for path in folder.iterdir()) == ["notes.md", "src.txt"]


@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_predict_replaces_no_pipe_device_or_folder_whatever_the_options(
    monkeypatch: Monkeypatch, capsys: Capture, tmp_path: Path, kind: str
) -> None:
    data, out = write_table(tmp_path / "x.csv", make_messages(4)), tmp_path / "dev"
    if kind == "pipe":
        os.mkfifo(out)
    elif kind == "folder":
        out.mkdir()
    else:
        out.symlink_to(os.devnull)
    before = out.lstat().st_ino
    words = ["predict", str(tmp_path), "--data", data, "--out", str(out), "--overwrite", "--format", "csv"]
    assert_refused(run(monkeypatch, capsys, *words), 2, "is a folder" if kind == "folder" else "is not a regular file")
    assert out.lstat().st_ino == before


@pytest.mark.parametrize("out", [".", "..", "/", ""])
def test_prepare_refuses_an_out_without_a_name(
    monkeypatch: Monkeypatch, capsys: Capture, tmp_path: Path, out: str
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.txt").write_text("A text.")
    monkeypatch.chdir(tmp_path)
    assert_refused(run(monkeypatch, capsys, "prepare", "in", "--out", out), 2, "is not a name")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_lock_file_of_an_office_program_is_no_document(
    monkeypatch: Monkeypatch, capsys: Capture, tmp_path: Path
) -> None:
    (tmp_path / "~$doc.txt").write_text("ann")
    monkeypatch.chdir(tmp_path)
    assert_refused(run(monkeypatch, capsys, "prepare", "~$doc.txt", "--out", "o"), 3, "lock file of an office program")


@pytest.mark.parametrize("name", ["in", "in/p.txt"])
def test_pipe_among_the_inputs_never_hangs(
    monkeypatch: Monkeypatch, capsys: Capture, tmp_path: Path, name: str
) -> None:
    (tmp_path / "in").mkdir()
    os.mkfifo(tmp_path / "in/p.txt")
    monkeypatch.chdir(tmp_path)
    assert_refused(run(monkeypatch, capsys, "prepare", name, "--out", "o"), 3, "pipe")


@pytest.mark.parametrize("damage", ["manifest.json", "recipe.yaml"])
def test_damaged_state_of_a_run_is_named_before_its_inputs_are_opened(
    monkeypatch: Monkeypatch, capsys: Capture, tmp_path: Path, damage: str
) -> None:
    """The prepared folder does not exist: opening it would be another error."""
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "recipe.yaml").write_text("task: clm\n")
    (folder / "manifest.json").write_text(json.dumps({"task": "clm", "data_path": "nowhere"}))
    (folder / "checkpoints").mkdir()
    (folder / damage).write_text('training": {')
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    found = run(monkeypatch, capsys, "pretrain-clm", "--out", str(folder), "--resume")
    assert_refused(found, 6, damage)
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before


@pytest.mark.parametrize("setting", ["model.n_embd=1000000000000", "model.n_layer=1e9", "train.block_size=1e12"])
def test_absurd_size_of_a_new_model_is_refused_before_data_is_opened(
    monkeypatch: Monkeypatch, capsys: Capture, tmp_path: Path, setting: str
) -> None:
    words = ["pretrain-clm", "--data", str(tmp_path / "none"), "--out", str(tmp_path / "run"), "-s", setting]
    assert_refused(run(monkeypatch, capsys, *words), 2, "less than or equal to")


def test_absurd_number_of_samples_is_refused_before_the_model_is_opened(
    monkeypatch: Monkeypatch, capsys: Capture, tmp_path: Path
) -> None:
    words = ["generate", str(tmp_path), "--prompt", "a", "-s", "generate.num_samples=1000000000"]
    assert_refused(run(monkeypatch, capsys, *words), 2, "less than or equal to 10000")
