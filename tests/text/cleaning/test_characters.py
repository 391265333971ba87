"""Broken characters are repaired, and correct ones are not changed."""

import sys
import unicodedata
from collections import Counter

import pytest

from llmkit.text.cleaning.characters import normalize_nfc, remove_controls, repair_mojibake


def test_whatever_can_be_composed_is_composed() -> None:
    for char in map(chr, range(sys.maxunicode + 1)):
        if (apart := unicodedata.normalize("NFD", char)) != char:
            for text in (apart, char, f"a{apart}b", apart[1:], "".join(reversed(apart))):
                assert normalize_nfc(text) == unicodedata.normalize("NFC", text)


def test_every_control_character_is_found_and_nothing_else() -> None:
    for code in [*range(0x3000), *range(0xD7F0, 0xE010), *range(0xFDB0, 0x10010)]:
        char = chr(code)
        is_noncharacter = 0xFDD0 <= code <= 0xFDEF or code in (0xFFFE, 0xFFFF)
        bad = unicodedata.category(char) in ("Cc", "Cs") and char not in "\t\n\v\f\r"
        expected = "\n" if char == "\x85" else "" if bad or is_noncharacter or char == "\ufeff" else char
        assert remove_controls(f"a{char}b", Counter()) == f"a{expected}b"


def test_escape_sequences_of_terminals_are_removed_as_a_whole() -> None:
    removed: Counter[str] = Counter()
    assert remove_controls("a\x1b[1;31mred\x1b[0m\x1b[K [31m \x1b", removed) == "ared [31m "
    assert removed == {"terminal escape": 3, "control character": 1}


@pytest.mark.parametrize(
    ("broken", "whole"),
    [
        ("l’humour â€œnoirâ€\x9d", "l’humour “noir”"),
        ("clichÃ©s and cafÃ©", "clichés and café"),
        ("中文乱码很难看，真的".encode().decode("latin-1"), "中文乱码很难看，真的"),
        ("ÐŸÑ€Ð¸Ð²ÐµÑ‚, Ð¼Ð¸Ñ€", "Привет, мир"),
    ],
)
def test_mojibake_is_repaired_and_its_lines_counted(broken: str, whole: str) -> None:
    removed: Counter[str] = Counter()
    assert repair_mojibake(f"a sound line\n{broken}\nanother\n{broken}", removed) == (
        f"a sound line\n{whole}\nanother\n{whole}"
    )
    assert removed == {"broken lines": 2}


@pytest.mark.parametrize(
    "sound",
    [
        "全角！＂＃ＡＢＣ１２３　　“引号”‘’——……《书名》",
        "ﬁne ﬂower ½ &amp; &lt;b&gt; “curly” ‘quotes’ … – — ™",
        "Il était là-bas à l’été, où «Ça» coûte 5€ – naïve façade”",
        "São Paulo à noite: Ã é uma letra",
        "ÀÉÎÕÜ àéîõü ßæøå ÆØÅ",
    ],
)
def test_sound_text_is_not_touched_by_the_repair(sound: str) -> None:
    removed: Counter[str] = Counter()
    assert repair_mojibake(f"{sound}\n" * 3, removed) == f"{sound}\n" * 3
    assert not +removed


@pytest.mark.parametrize("codec", ["latin-1", "windows-1252", "windows-1251", "mac_roman", "cp437"])
def test_punctuation_of_books_is_found_under_every_codec_that_ftfy_repairs(codec: str) -> None:
    whole = "“It’s there—” she said… “really”"
    broken = whole.encode().decode(codec, "ignore" if codec == "windows-1252" else "strict")
    if codec == "windows-1252":
        broken = "â€œIt’s thereâ€” she said"
        whole = "“It’s there— she said"
    assert repair_mojibake(broken, Counter()) == whole


def test_line_ends_and_lines_without_a_fault_are_kept_to_the_byte() -> None:
    text = "\n\nﬁne “curly”  \ncafÃ©\r\n\n  indented\nÃ alone\n"
    assert repair_mojibake(text, Counter()) == text.replace("cafÃ©", "café")
