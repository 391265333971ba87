"""Plain text: a file, its lines or its paragraphs, for any chunks of bytes."""

from pathlib import Path

import pytest

from llmkit.config.prepare import Read
from llmkit.core.errors import DataError
from llmkit.text import boundaries, lines
from llmkit.text.documents import Document
from llmkit.text.entries import find_entries
from llmkit.text.formats.plain import read_plain
from llmkit.text.sources import Source


def read(path: Path, text: str, **options: object) -> list[Document]:
    path.write_bytes(text.encode())
    [entry] = find_entries(str(path), Source(str(path)))
    return list(read_plain(entry, Source(str(path)), Read(**options)))  # type: ignore[arg-type]


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
    monkeypatch.setattr(boundaries, "MAX_ROW_CHARS", 100)
    monkeypatch.setattr(lines, "MAX_ROW_CHARS", 100)
    with pytest.raises(DataError, match="longer than 100 characters") as caught:
        read(tmp_path / "a.txt", "one\ntwo\n" + "x" * 101, documents=documents)
    assert caught.value.problems[0].where == f"{tmp_path / 'a.txt'}, {place}"
