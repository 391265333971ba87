"""Prompts come from files of any encoding, one per line."""

import gzip
import zipfile
from pathlib import Path

import pytest

from llmkit.config.prepare import Read
from llmkit.core.errors import DataError
from llmkit.generating.prompts import read_prompts, split_prompts

FRENCH = "très bien, où étiez-vous à Noël ?\n\nles élèves sont déjà arrivés à l'école\n"


@pytest.mark.parametrize(
    ("given", "prompts"),
    [("a", ["a"]), ("a\n", ["a"]), ("a\n\n", ["a", ""]), ("\n", [""]), ("", []), ("a\rb\r\nc", ["a", "b", "c"])],
)
def test_there_are_as_many_prompts_as_lines(given: str, prompts: list[str]) -> None:
    assert split_prompts(given) == prompts


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("packed", [False, True])
def test_prompts_are_the_same_in_every_encoding_and_a_guess_is_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], encoding: str, packed: bool
) -> None:
    data = FRENCH.encode(encoding)
    path = tmp_path / ("p.txt.gz" if packed else "p.txt")
    path.write_bytes(gzip.compress(data) if packed else data)
    assert read_prompts(str(path), Read()) == FRENCH.split("\n")[:-1]
    output = capsys.readouterr().err
    assert ('read as cp1252 (prepare.read.encoding), for example "très bien' in output) == (encoding == "cp1252")


def test_the_named_encoding_beats_the_guess(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "p.txt").write_bytes("où\n".encode("cp1252"))
    assert read_prompts(str(tmp_path / "p.txt"), Read(encoding="cp437")) == ["o\u2219"]
    assert "such as" not in capsys.readouterr().err


def test_table_of_prompts_is_read_by_lines_and_that_is_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = '{"prompt": "a"}'
    (tmp_path / "p.jsonl").write_text(line + "\n")
    assert read_prompts(str(tmp_path / "p.jsonl"), Read()) == [line]
    assert "p.jsonl is read as plain text: each line is a prompt" in capsys.readouterr().err


def test_prompts_that_are_not_plain_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "i.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(range(99)))
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as packed:
        packed.writestr("a.txt", "one\n")
    for name, what in (
        ("", "Is a directory"),
        ("no.txt", "No such file"),
        ("i.png", "PNG"),
        ("z.zip", "not plain text"),
    ):
        with pytest.raises(DataError, match=what):
            read_prompts(str(tmp_path / name), Read())
