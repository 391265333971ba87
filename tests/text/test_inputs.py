"""The files that inputs name, their order, and the errors if there are none."""

import logging
import os
import socket
from pathlib import Path

import pytest

from llmkit.core.errors import DataError
from llmkit.text import inputs
from llmkit.text.inputs import (
    Skipped,
    display_name,
    file_size,
    find_files,
    is_hidden,
    is_readable,
    is_stream,
    list_counts,
    split_endings,
)


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)


def names_of(folder: Path, *inputs: str) -> list[str]:
    return [str(Path(name).relative_to(folder)) for name in find_files([str(folder / each) for each in inputs])]


def test_folders_are_read_deeply_sorted_and_without_hidden_files(tmp_path: Path) -> None:
    touch(tmp_path, "b.txt", "a/z.md", "a/.hidden.txt", ".git/c.txt", "picture.jpg", "a.txt")
    assert names_of(tmp_path, "") == ["a.txt", "a/z.md", "b.txt"]


def test_order_is_that_of_the_inputs_and_a_file_named_twice_is_taken_once(tmp_path: Path) -> None:
    touch(tmp_path, "a1.txt", "a2.txt", "b.txt", "sub/a3.txt")
    assert names_of(tmp_path, "a*.txt", "a2.txt") == ["a1.txt", "a2.txt"]
    assert names_of(tmp_path, "b.txt", "") == ["b.txt", "a1.txt", "a2.txt", "sub/a3.txt"]
    assert names_of(tmp_path, "**/a*.txt") == ["a1.txt", "a2.txt", "sub/a3.txt"]
    assert names_of(tmp_path, "s*") == ["sub/a3.txt"], "a folder that matches gives its files"


def test_file_named_by_the_user_is_taken_whatever_its_ending_and_whatever_its_signs(tmp_path: Path) -> None:
    touch(tmp_path, "wiki.train.tokens", "a[1].txt", ".hidden.txt")
    assert names_of(tmp_path, "wiki.train.tokens", "a[1].txt", ".hidden.txt") == [
        "wiki.train.tokens", "a[1].txt", ".hidden.txt"
    ]  # fmt: skip


def test_names_that_are_no_files_are_passed_on_as_they_are() -> None:
    special = ["-", "hf:imdb@train", "builtin:python-docs"]
    assert find_files([*special, "-"]) == special


@pytest.mark.parametrize("name", ["a", "a.TXT", "a.b.txt", ".txt", "a.", "x.y/a", "x/.a.gz", "a.tar.gz", "中.md"])
def test_endings_are_those_of_pathlib(name: str) -> None:
    assert inputs._suffix(name) == Path(name).suffix


def test_size_is_that_of_a_file_and_nothing_else_has_one(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"12345")
    assert file_size(str(tmp_path / "a.txt")) == 5
    assert [file_size(name) for name in (str(tmp_path), str(tmp_path / "b"), "builtin:x", "a\0b")] == [None] * 4


def test_other_files_in_an_input_folder_are_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "a.txt").write_text("a")
    touch(tmp_path, "b.jpg", "c.JPG", ".d.txt", ".e/f.txt", "g", "h. a long ending that is none")
    with caplog.at_level(logging.WARNING):
        find_files([str(tmp_path)])
    counts = {".jpg file": 2, "hidden file": 1, "hidden folder": 1, "file without a known suffix": 2}
    assert f"skipped in {tmp_path}: 2 .jpg file" in caplog.text
    caplog.clear()
    skipped: Skipped = {}
    find_files([str(tmp_path)], skipped)
    assert skipped == {str(tmp_path): counts}
    assert not caplog.text


def test_many_reasons_for_skipping_are_listed_shortly() -> None:
    listed = list_counts({f".{n} file": n for n in range(1, 30)})
    assert listed.startswith("29 .29 file, 28 .28 file")
    assert listed.endswith(f"{sum(range(1, 10))} for other reasons")


def test_a_missing_file_is_a_data_error_with_the_nearest_name(tmp_path: Path) -> None:
    (tmp_path / "emma.txt").write_text("x")
    with pytest.raises(DataError) as caught:
        find_files([str(tmp_path / "ema.txt")])
    assert caught.value.exit_code == 3
    assert "emma.txt" in caught.value.problems[0].hint


def test_a_folder_without_a_readable_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "b.jpg").write_text("b")
    with pytest.raises(DataError, match=r"1 \.jpg file"):
        find_files([str(tmp_path)])


def test_pattern_that_matches_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothing matches"):
        find_files([str(tmp_path / "*.txt")])


@pytest.mark.parametrize(
    ("name", "ending", "packing"),
    [
        ("a.txt", ".txt", ""),
        ("A.TXT.GZ", ".txt", ".gz"),
        ("a.jsonl.zst", ".jsonl", ".zst"),
        ("books.zip", ".zip", ""),
        ("a.pdf", ".pdf", ""),
        ("a.jpg", "", ""),
        ("b.tar.gz", ".tar", ".gz"),
        ("b.TGZ", ".tar", ".gz"),
        ("page.mht", ".eml", ""),
        ("a.ndjson.gz", ".jsonl", ".gz"),
        ("b.txz", ".tar", ".xz"),
        ("enwiki.xml.bz2", ".xml", ".bz2"),
        ("x.warc.wet.gz", ".wet", ".gz"),
        ("a.gz", "", ".gz"),
        ("a.txt.zip", ".zip", ""),
        (".txt", "", ""),
    ],
)
def test_name_says_what_the_text_is_and_how_it_is_packed(name: str, ending: str, packing: str) -> None:
    assert split_endings(name) == (ending, packing)
    assert is_readable(name) == (ending != "")


def test_a_linked_folder_is_read_once_and_loops_end(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    touch(tmp_path, "f/a.txt", "f/z/c.txt", "g/b.txt")
    for name, target in (("link", "../g"), ("again", "../g"), ("loop", "."), ("up", ".."), ("a-z", "z")):
        (tmp_path / "f" / name).symlink_to(target)
    with caplog.at_level(logging.WARNING):
        assert names_of(tmp_path, "f") == ["f/a.txt", "f/again/b.txt", "f/z/c.txt"]
    assert "4 link to a folder that is read already" in caplog.text
    assert names_of(tmp_path, "f/**/*.txt") == ["f/a.txt", "f/again/b.txt", "f/z/c.txt"]


def test_link_to_nothing_is_found_so_that_reading_it_can_say_so(tmp_path: Path) -> None:
    (tmp_path / "x.txt").symlink_to("none")
    assert names_of(tmp_path, "") == ["x.txt"]
    (tmp_path / "self.txt").symlink_to("self.txt")
    with pytest.raises(DataError, match="cannot be opened"):
        find_files([str(tmp_path / "self.txt")])


def test_pipes_sockets_and_devices_are_refused_by_name_and_skipped_in_folders(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    touch(tmp_path, "a.txt")
    os.mkfifo(tmp_path / "p.txt")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s.txt"))
        for name, kind in (("p.txt", "a named pipe"), ("s.txt", "a socket"), ("/dev/zero", "a device")):
            with pytest.raises(DataError, match=f"this is {kind}"):
                find_files([str(tmp_path / name)])
        with caplog.at_level(logging.WARNING):
            assert names_of(tmp_path, "") == ["a.txt"]
    assert "2 pipe, socket or device" in caplog.text
    assert is_stream(str(tmp_path / "p.txt"))
    assert not is_stream(str(tmp_path / "a.txt"))


@pytest.mark.parametrize(
    ("name", "problem"), [("", "empty"), (" ", "empty"), ("a\0b", "NUL"), ("/", "root of the file system")]
)
def test_names_that_are_no_place_are_refused(name: str, problem: str) -> None:
    with pytest.raises(DataError, match=problem):
        find_files([name])


def test_lock_files_of_office_programs_are_counted_and_refused_by_name(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "doc.txt", "~$doc.txt", "~$b.docx")
    with caplog.at_level(logging.WARNING):
        assert names_of(tmp_path, "") == ["doc.txt"]
    assert "2 lock file of an office program" in caplog.text
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="lock file of an office program"):
        find_files(["~$doc.txt"])
    with pytest.raises(DataError, match="no such file"):
        find_files(["~$none.txt"])


def test_name_that_is_no_utf8_is_shown_with_its_bytes() -> None:
    assert display_name(os.fsdecode(b"caf\xe9.txt")) == "caf\\xe9.txt"
    assert display_name("caf\u00e9.txt") == "caf\u00e9.txt"


def test_xml_is_text_only_if_it_is_a_dump(tmp_path: Path) -> None:
    touch(tmp_path, "a.xml", "b.txt")
    (tmp_path / "w.xml").write_text("<mediawiki>")
    assert names_of(tmp_path, "") == ["b.txt", "w.xml"]


def test_hidden_members_begin_with_a_dot_that_is_not_a_relative_path() -> None:
    assert [is_hidden(name) for name in ("./a.txt", "a/../b.txt", ".git/a.txt", "a\\.b.txt", "__MACOSX/a")] == [
        *(False, False, True, True, True)
    ]
