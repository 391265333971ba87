"""Which files a user's words name, in which order, and what is said where there are none."""

import logging
from collections import Counter
from pathlib import Path

import pytest

from llmkit.core.errors import DataError
from llmkit.text import sources
from llmkit.text.documents import StepCounts
from llmkit.text.sources import Source, file_size, find_files, is_readable, require_documents, split_endings


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
    assert sources._suffix(name) == Path(name).suffix


def test_size_is_that_of_a_file_and_nothing_else_has_one(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"12345")
    assert file_size(str(tmp_path / "a.txt")) == 5
    assert [file_size(name) for name in (str(tmp_path), str(tmp_path / "b"), "builtin:x", "a\0b")] == [None] * 4


def test_what_a_folder_has_beside_readable_files_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "b.pdf").write_text("b")
    with caplog.at_level(logging.WARNING):
        find_files([str(tmp_path)])
    assert ".pdf 1" in caplog.text


def test_a_missing_file_is_a_data_error_with_the_nearest_name(tmp_path: Path) -> None:
    (tmp_path / "emma.txt").write_text("x")
    with pytest.raises(DataError) as caught:
        find_files([str(tmp_path / "ema.txt")])
    assert caught.value.exit_code == 3
    assert "emma.txt" in caught.value.problems[0].hint


def test_a_folder_without_a_readable_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "b.pdf").write_text("b")
    with pytest.raises(DataError, match=r"\.pdf 1"):
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
        ("books.zip", "", ".zip"),
        ("a.pdf", "", ""),
        ("a.gz", "", ".gz"),
        ("a.txt.zip", "", ".zip"),
        (".txt", "", ""),
    ],
)
def test_name_says_what_the_text_is_and_how_it_is_packed(name: str, ending: str, packing: str) -> None:
    assert split_endings(name) == (ending, packing)
    assert is_readable(name) == (ending != "" or packing == ".zip")


def test_all_that_is_skipped_is_counted_and_only_the_first_few_are_said(caplog: pytest.LogCaptureFixture) -> None:
    source = Source("a.csv")
    with caplog.at_level(logging.WARNING):
        for row in range(100):
            source.skip("bad row", f"a.csv:{row}")
        source.skip("empty text", "a.csv:100")
    assert source.skipped == Counter({"bad row": 100, "empty text": 1})
    assert len(caplog.records) == 6
    assert "a.csv:100 (empty text)" in caplog.text


def test_error_where_nothing_is_left_adds_up_all_sources_and_steps() -> None:
    records = [Source(f"{n}.txt", documents=2, skipped=Counter({"bad row": 3})) for n in range(7)]
    counts = {"quality": StepCounts(dropped=Counter({"too short": 14}))}
    with pytest.raises(DataError) as caught:
        require_documents(records, counts, 0)
    [problem] = caught.value.problems
    assert "14 read from 7 sources, 0 left (bad row: 21; quality: too short: 14)" in problem.what
    assert problem.where == "0.txt, 1.txt, 2.txt, 3.txt, 4.txt, ..."
    require_documents(records, counts, 1)
