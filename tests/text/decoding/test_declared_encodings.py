"""Declared charsets: believed unless they make unlikely text."""

import pytest

from llmkit.text.decoding.declared_encodings import decode_declared, detect_encoding

CZECH = "Paní Nováková šla do obchodu a koupila chléb, mléko a šest vajec.\n" * 4


@pytest.mark.parametrize("charset", ["windows-1250", "CP1250"])
def test_a_right_charset_is_believed(charset: str) -> None:
    assert decode_declared(CZECH.encode("cp1250"), charset) == (CZECH, charset.lower())


def test_latin_1_is_read_as_cp1252_as_in_browsers() -> None:
    assert decode_declared("it’s “good”\n".encode("cp1252"), "ISO-8859-1") == ("it’s “good”\n", "cp1252")


@pytest.mark.parametrize("charset", ["", "nonsense", "koi8-r", "idna", "utf-8"])
def test_a_charset_that_cannot_be_right_is_not_believed(charset: str) -> None:
    assert decode_declared(CZECH.encode("cp1250"), charset) is None


def test_a_byte_order_mark_and_utf_16_are_detected() -> None:
    assert detect_encoding(b"\xef\xbb\xbfa", complete=True) == "utf-8"
    assert detect_encoding("plain".encode("utf-16-be"), complete=True) == "utf-16-be"
    assert detect_encoding(b"plain", complete=True) == "ascii"
