"""Plain text: the file, its lines or its paragraphs, however its bytes come in."""

import random
from pathlib import Path

import pytest

from llmkit.config.prepare import Read
from llmkit.core.errors import DataError
from llmkit.text import plain
from llmkit.text.documents import Document
from llmkit.text.plain import read_plain, split_lines, unify_line_ends
from llmkit.text.sources import Source, find_entries


def read(path: Path, text: str, **options: object) -> list[Document]:
    path.write_bytes(text.encode())
    [entry] = find_entries(str(path), Source(str(path)))
    return list(read_plain(entry, Source(str(path)), Read(**options)))  # type: ignore[arg-type]


def cut_anyhow(text: str, draw: random.Random) -> list[str]:
    places = sorted(draw.randint(0, len(text)) for _ in range(draw.randint(0, 12)))
    return [text[start:end] for start, end in zip([0, *places], [*places, len(text)], strict=True)]


@pytest.mark.parametrize("seed", range(30))
def test_lines_and_their_ends_do_not_depend_on_where_the_stream_is_cut(seed: int) -> None:
    draw = random.Random(seed)
    text = "".join(draw.choices(["a", "字", "\n", "\r\n", "\r", "\u2028", ""], k=40))
    unified = "".join(unify_line_ends(cut_anyhow(text, draw)))
    assert unified == text.replace("\r\n", "\n").replace("\r", "\n")
    lines = list(split_lines(cut_anyhow(unified, draw), "a.txt"))
    expected = unified.split("\n")
    assert lines == (expected if expected[-1] else expected[:-1]), "only line feeds end a line"


def test_lines_and_paragraphs_can_be_documents_numbered_without_the_empty_ones(tmp_path: Path) -> None:
    text = "一\r\n二\r\n\r\n三\r\n"
    lines = read(tmp_path / "a.txt", text, documents="line")
    assert [(each.text, each.index) for each in lines] == [("一", 0), ("二", 1), ("三", 2)]
    paragraphs = read(tmp_path / "a.txt", text, documents="paragraph")
    assert [(each.text, each.index) for each in paragraphs] == [("一\n二", 0), ("三", 1)]
    assert [each.text for each in read(tmp_path / "a.txt", text)] == [text]


def test_long_line_comes_in_parts_of_one_document(tmp_path: Path) -> None:
    found = read(tmp_path / "a.txt", "x" * 2500 + "\ny", documents="line", max_doc_chars=1000)
    places = [(each.index, each.part, each.last) for each in found]
    assert places == [(0, 0, False), (0, 1, False), (0, 2, True), (1, 0, True)]
    assert "".join(each.text for each in found) == "x" * 2500 + "y"


@pytest.mark.parametrize(("documents", "place"), [("line", "line 3"), ("paragraph", "paragraph 1")])
def test_row_beyond_all_bounds_is_an_error_with_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, documents: str, place: str
) -> None:
    monkeypatch.setattr(plain, "MAX_ROW_CHARS", 100)
    with pytest.raises(DataError, match="longer than 100 characters") as caught:
        read(tmp_path / "a.txt", "one\ntwo\n" + "x" * 101, documents=documents)
    assert caught.value.problems[0].where == f"{tmp_path / 'a.txt'}, {place}"
    with pytest.raises(DataError) as caught:
        list(split_lines(["a\nb\n", "c" * 60, "c" * 60], "a.csv"))
    assert caught.value.problems[0].where == "a.csv, line 3"
