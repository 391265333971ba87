"""Rich text gives its visible characters in any code page, without hidden text."""

import time
from pathlib import Path

import pytest

from llmkit.config.prepare import Read
from llmkit.core.errors import DataError
from llmkit.text.readers import read_documents

FONTS = rb"{\fonttbl{\f0\fnil\fcharset134 SimSun;}{\f1\fcharset204 A;}{\f2\fcharset0 T;}{\f3\fcharset128 M;}}"


def read(folder: Path, data: bytes, name: str = "a.rtf") -> str:
    (folder / name).write_bytes(data)
    return "".join(document.text for document in read_documents([str(folder / name)], Read(), []))


def test_plain_paragraphs_are_read_whatever_the_name(tmp_path: Path) -> None:
    data = b"{\\rtf1\\ansi\\f0 The ferry left.\\par\n" + b"\\pard\\plain The lamps burned.\\par\n" * 2 + b"}"
    for name in ("n.rtf", "n.txt", "n.doc"):
        assert read(tmp_path, data, name) == "The ferry left.\n\nThe lamps burned.\n\nThe lamps burned.\n"


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (rb"\f0 \'c4\'e3\'ba\'c3\f1 \'cf\'f0\'e8", "你好При"),
        (rb"\f3\'93\'fa\'96{", None),
        (rb"{\f2 caf\'e9} \'c4\'e3", "café 你"),
        (rb"\u20320?\u22909?\u-10179?\u-8704?", "你好😀"),
        (rb"{\uc2\u20320\'c4\'e3}x\uc0\u22909 y", "你x好y"),
        (
            rb"a{\v hidden}b{\deleted gone}c{\*\unknown d}{\info{e}}{\field{\*\fldinst X}{\fldrslt link}}",
            "abclink",
        ),
        (rb"one{\footnote A note.} two", "one two\n\nA note."),
        (rb"a\cell b\cell\row c\line d\tab e\~f\_g\emdash\{\}\\", "a\tb\nc\nd\te\u00a0f-g—{}\\"),
        (rb"10 m{\super 2} H\sub 2\nosupersub O 1{\super st}", "10 m² H₂O 1st"),
        (rb"x{\pict 0102}{\*\shppict{\pict 03}}{\bin3 {}{y}z", "xyz"),
    ],
)
def test_visible_text_is_read_and_hidden_parts_are_not(tmp_path: Path, body: bytes, text: str | None) -> None:
    data = rb"{\rtf1\ansi\ansicpg936" + FONTS + body + b"}"
    if text is None:
        with pytest.raises(DataError, match="cut off"):
            read(tmp_path, data)
    else:
        assert read(tmp_path, data) == text + "\n"


@pytest.mark.parametrize("data", [b"{\\rtf1 abc", b"{\\rtf1 {{a}", b"{\\rtf1 " + b"{" * 20_000])
def test_file_that_was_cut_off_or_is_hostile_is_an_error(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(DataError, match="not valid rich text"):
        read(tmp_path, data)


def test_code_page_that_is_none_is_the_western_one(tmp_path: Path) -> None:
    assert read(tmp_path, rb"{\rtf1\ansi\ansicpg468 caf\'e9}") == "café\n"


def test_name_alone_makes_no_rich_text(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not begin with"):
        read(tmp_path, b"plain text")


def test_raw_utf8_is_read_as_it_is(tmp_path: Path) -> None:
    assert read(tmp_path, "{\\rtf1\\ansi\\ansicpg1252 Žluť 渡船 😀\\par}".encode()) == "Žluť 渡船 😀\n"
    assert read(tmp_path, b"{\\rtf1\\ansi\\ansicpg936 " + "渡船".encode("gbk") + b"}") == "渡船\n"


def test_a_long_text_in_unicode_takes_linear_time(tmp_path: Path) -> None:
    started = time.process_time()
    text = read(tmp_path, b"{\\rtf1 " + b"\\u20320?" * 400_000 + b"}")
    assert len(text) == 400_001
    assert time.process_time() - started < 6
