"""UTF-16 and UTF-32 without a mark, encodings that switch character sets, EBCDIC and binary data."""

import pytest

from llmkit.core.errors import DataError
from llmkit.text.decoding.unmarked_encodings import detect_escapes, detect_wide, reject_binary, reject_ebcdic


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize(
    "text", ["plain\n", "Мы пришли к реке.\n", "老教师每天早晨都走到街上。\n", "先生は毎朝通りに出た。\n"]
)
def test_wide_encodings_are_detected_without_a_mark(encoding: str, text: str) -> None:
    assert detect_wide(text.encode(encoding)) == encoding


def test_text_of_other_encodings_is_not_wide() -> None:
    assert detect_wide(b"plain") == detect_wide("café".encode("cp1252")) == detect_wide("老教师".encode()) == ""


@pytest.mark.parametrize("encoding", ["hz", "utf-7", "iso2022_jp"])
def test_escapes_are_detected_only_where_they_are(encoding: str) -> None:
    text = "先生は毎朝通りに出た。\n" if encoding == "iso2022_jp" else "他坐在长椅上，喝茶。\n"
    assert detect_escapes(text.encode(encoding)) == encoding
    assert detect_escapes(b"a+bcd-1 ~{x~}\n") == ""


def test_ebcdic_and_binary_data_are_refused() -> None:
    with pytest.raises(DataError, match="EBCDIC"):
        reject_ebcdic("every morning he walked to the street".encode("cp037"), "a.txt")
    with pytest.raises(DataError, match="looks binary"):
        reject_binary(b"a\0b\0\1", 0, "ascii", "a.txt")
