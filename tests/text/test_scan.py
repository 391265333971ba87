"""scan_text finds the characters of a text and folds its case like plain Python code."""

import random
import sys

import pytest

from llmkit.text.scan import casefold_utf8, decode, scan_text

CASED = [char for char in map(chr, range(sys.maxunicode + 1)) if char.casefold() != char]
POOLS = [
    "abc XYZ \n\t.,",
    "Abc “”’—…é",
    "中国的。，　",
    "ÀÉßſİıΣσςK\u0301가\xa0\x85\x1c\x7f\ufeff\ud800😀",
    "АБВГДЕЖЗИЙКЛМНОП",
]


def draw_texts(n: int) -> list[str]:
    draw = random.Random(0)
    return ["".join(draw.choices("".join(draw.sample(POOLS, 2)), k=draw.randrange(200))) for _ in range(n)]


def test_others_are_all_characters_but_ordinary_ascii() -> None:
    for text in draw_texts(200):
        ordinary = {char for char in text if char in "\t\n\v\f\r" or " " <= char <= "~"}
        assert scan_text(text).others == set(text) - ordinary


def test_others_of_a_long_text_with_thousands_of_characters_are_the_same_ones() -> None:
    text = "".join(map(chr, (*range(0x4E00, 0x6000), 0x1F600, 0xD800))) + "\r\vabc" * 10
    assert scan_text(text).others == set(text) - set("\r\vabc")


def test_case_is_folded_as_str_folds_it() -> None:
    for text in [*draw_texts(200), "".join(CASED), *(f"x{char}Y{char}\u0301" for char in CASED)]:
        assert casefold_utf8(text).decode("utf-8", "surrogatepass") == text.casefold()


def test_characters_of_ascii_are_left_out_while_case_is_folded() -> None:
    for text in draw_texts(200):
        expected = "".join(char for char in text.casefold() if char not in " \n\t")
        assert casefold_utf8(text, b" \n\t").decode("utf-8", "surrogatepass") == expected


@pytest.mark.parametrize("text", ["", "plain", "é中😀"])
def test_a_decoded_text_is_not_encoded_again(text: str) -> None:
    data = text.encode()
    decoded = decode(data)
    assert decoded == text
    assert scan_text(decoded).utf8 is data


def test_scan_text_returns_the_scan_of_its_argument() -> None:
    one, two = "é" * 5, "ß" * 5
    assert [scan_text(text).others for text in (one, two, one)] == [{"é"}, {"ß"}, {"é"}]
