"""Results are complete or absent, in the requested format."""

# ruff: noqa: F811 - fixtures of another file are used under their names

import csv
import io
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from tasks.cls.test_prediction import folder, label_rows, read_lines, recipe, run  # noqa: F401
from tiny import make_messages, write_table

from llmkit.cli import app
from llmkit.core.errors import DataError, EnvironmentFault, UsageError
from llmkit.core.lock import lock_output
from llmkit.evaluating.evaluate import evaluate
from llmkit.evaluating.predict import Format, predict
from llmkit.tasks.cls import prediction, row_format


@pytest.mark.parametrize("file_format", ["csv", "tsv", "jsonl"])
def test_result_is_read_back_with_all_columns_and_cells(run: str, tmp_path: Path, file_format: Format) -> None:
    odd = ['say "win", now', "home\r\nor, later", "cash\rprize", "tab\there", "", "NA", "却说 cash", "=1+1", " padded "]
    rows = [(n, text, f"x{n}", f'"{n}"') for n, text in enumerate(odd)]
    data = write_table(tmp_path / "new.csv", rows, ("id", "text", "other, one", "last"))
    out = tmp_path / f"out.{file_format}"
    counts = predict(recipe(), model=run, data=data, out=out, write=print)
    assert counts == {"n_rows": 9, "n_truncated": 0, "n_skipped": 0, "n_mostly_unknown": 1}
    content = out.read_bytes().decode()
    found: list[dict[str, Any]]
    if file_format == "jsonl":
        found = [json.loads(line) for line in content.split("\n")[:-1]]
    else:
        quoting = csv.QUOTE_NONE if file_format == "tsv" else csv.QUOTE_MINIMAL
        dialect: Any = {"delimiter": "\t" if file_format == "tsv" else ",", "quoting": quoting}
        found = list(csv.DictReader(io.StringIO(content, newline=""), **dialect))
    assert list(found[0]) == ["id", "text", "other, one", "last", "prediction", "probability"]
    tabular = file_format == "tsv"
    expected = [" ".join(text.split()) if tabular else text for text in odd]
    assert [row["text"] for row in found] == expected
    assert [(row["id"], row["other, one"], row["last"]) for row in found] == [(str(n), o, x) for n, _, o, x in rows]
    assert {row["prediction"] for row in found} <= {"ham", "spam"}
    again = evaluate(recipe("cls.label=prediction"), model=run, data=[str(out)])
    assert again["accuracy"] == 1


def test_objects_of_a_jsonl_keep_their_types(run: str, tmp_path: Path) -> None:
    rows = [{"text": "win", "n": 3, "tags": ["a", "b"], "deep": {"x": None}}, {"text": "home", "n": 4.5}]
    (tmp_path / "new.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = read_lines(label_rows(run, str(tmp_path / "new.jsonl")))
    assert [{key: row[key] for key in given} for row, given in zip(found, rows, strict=True)] == rows
    table = list(csv.DictReader(io.StringIO(label_rows(run, str(tmp_path / "new.jsonl"), "csv"))))
    assert (table[0]["tags"], table[0]["deep"], table[1]["deep"]) == ("a|b", '{"x": null}', "")


def test_options_for_spreadsheets_change_the_csv_and_are_refused_elsewhere(run: str, tmp_path: Path) -> None:
    data = write_table(tmp_path / "new.csv", [("0012", "=1+1 cash"), ("12", "win 好")], ("id", "text"))
    out = tmp_path / "out.csv"
    counts = predict(recipe(), model=run, data=data, out=out, write=print, safe_csv=True, excel=True)
    assert counts["n_escaped"] == 1
    assert out.read_bytes().startswith(b"\xef\xbb\xbfid,text,")
    found = list(csv.reader(io.StringIO(out.read_text("utf-8-sig"))))
    assert [row[:2] for row in found[1:]] == [['="0012"', "'=1+1 cash"], ["12", "win 好"]]
    for options, name in (({"excel": True}, "--excel"), ({"safe_csv": True}, "--safe-csv")):
        with pytest.raises(UsageError, match=f"{name} does not apply to the format jsonl"):
            predict(recipe(), model=run, data=data, out=None, write=print, file_format="jsonl", **options)


def test_result_is_whole_or_absent(run: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = write_table(tmp_path / "new.csv", make_messages(20))
    out = tmp_path / "out.csv"
    monkeypatch.setattr(row_format, "ROWS_AT_ONCE", 5)
    scored = []

    def stop(*arguments: Any) -> Any:
        if len(scored) == 2:
            raise KeyboardInterrupt
        scored.append(arguments)
        return encode(*arguments)

    encode = prediction.encode_chunk
    monkeypatch.setattr(prediction, "encode_chunk", stop)
    with pytest.raises(KeyboardInterrupt):
        predict(recipe(), model=run, data=data, out=out, write=print)
    assert [path.name for path in tmp_path.iterdir()] == ["new.csv"]


def test_terminal_gets_no_control_characters_and_a_pipe_gets_every_byte(
    run: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_table(tmp_path / "new.csv", [("win \x1b[2J cash \x9b1m",)], ("text",))
    monkeypatch.setattr(sys, "argv", ["llmkit", "predict", run, "--data", data])
    monkeypatch.setattr(app.signal, "signal", lambda *_: None)
    for terminal in (False, True):
        monkeypatch.setattr(sys.stdout, "isatty", lambda terminal=terminal: terminal)
        with pytest.raises(SystemExit):
            app.main()
        out, err = capsys.readouterr()
        assert ("\x1b" in out) == ("\x9b" in out) == (not terminal)
        assert "\x1b" not in err
        assert "cash" in out


def test_input_and_folders_are_never_overwritten(tmp_path: Path) -> None:
    data = write_table(tmp_path / "new.csv", make_messages(4))
    (tmp_path / "link.csv").symlink_to(data)
    (tmp_path / "folder.csv").mkdir()
    before = Path(data).read_bytes()
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "null.csv").symlink_to(os.devnull)
    device = "is not a regular file but a device"
    wrong = {"new.csv": "is the input", "link.csv": "is the input", "folder.csv": "is a folder"}
    for name, what in (wrong | {"pipe.csv": device, "null.csv": device}).items():
        with pytest.raises(UsageError, match=what):
            predict(recipe(), model="none", data=data, out=tmp_path / name, write=print, overwrite=True)
    assert Path(data).read_bytes() == before


def test_existing_result_is_kept_unless_it_may_be_overwritten(run: str, tmp_path: Path) -> None:
    data = write_table(tmp_path / "new.csv", make_messages(4))
    out = tmp_path / "out.csv"
    out.write_text("mine")
    with pytest.raises(UsageError, match="exists"):
        predict(recipe(), model=run, data=data, out=out, write=print)
    with pytest.raises(DataError):
        predict(recipe(), model=run, data=str(tmp_path / "nowhere.csv"), out=out, write=print, overwrite=True)
    assert out.read_text() == "mine"
    predict(recipe(), model=run, data=data, out=out, write=print, overwrite=True)
    assert len(out.read_text().splitlines()) == 5


def test_second_command_for_one_result_is_refused_and_the_first_one_writes_it(run: str, tmp_path: Path) -> None:
    data, out = write_table(tmp_path / "new.csv", make_messages(4)), tmp_path / "out.csv"
    with lock_output(out), pytest.raises(EnvironmentFault, match="is in use by process"):
        predict(recipe(), model=run, data=data, out=out, write=print)
    predict(recipe(), model=run, data=data, out=out, write=print)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new.csv", "out.csv"]


def test_link_keeps_its_place_and_its_target_gets_the_result(run: str, tmp_path: Path) -> None:
    data, link = write_table(tmp_path / "new.csv", make_messages(4)), tmp_path / "link.csv"
    (tmp_path / "results").mkdir()
    link.symlink_to("results/out.csv")
    predict(recipe(), model=run, data=data, out=link, write=print)
    assert link.is_symlink() and len((tmp_path / "results/out.csv").read_text().splitlines()) == 5


def test_table_that_grows_while_it_is_predicted_is_an_error_and_leaves_no_result(
    run: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = Path(write_table(tmp_path / "new.csv", make_messages(3000)))
    monkeypatch.setattr(row_format, "ROWS_AT_ONCE", 500)

    def grow(*arguments: Any) -> Any:
        with data.open("a") as file:
            file.write("more,ham\n")
        return encode(*arguments)

    encode = prediction.encode_chunk
    monkeypatch.setattr(prediction, "encode_chunk", grow)
    with pytest.raises(DataError, match="changed while it was read"):
        predict(recipe(), model=run, data=str(data), out=tmp_path / "out.csv", write=print)
    assert [path.name for path in tmp_path.iterdir()] == ["new.csv"]
