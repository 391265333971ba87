"""Cleaning: each step does what it says, counts it, and does not depend on where parts are cut."""

import random
import sys
import unicodedata
from collections import Counter

import pytest

from llmkit.config.prepare import Clean, Quality
from llmkit.core.errors import DataError
from llmkit.text.cleaners import clean_documents, normalize_nfc, remove_controls, repair_mojibake
from llmkit.text.documents import Document, StepCounts, make_documents

NOTHING = Clean(unicode="none", mojibake=False, gutenberg=False, whitespace=False)


def clean(text: str, settings: Clean = NOTHING, strict: bool = False) -> tuple[str, dict[str, StepCounts]]:
    counts: dict[str, StepCounts] = {}
    documents = list(clean_documents([Document(text, "a.txt")], settings, strict, counts))
    assert len(documents) <= 1
    return "".join(document.text for document in documents), counts


def with_step(**steps: object) -> Clean:
    return NOTHING.model_copy(update=steps)


@pytest.mark.parametrize("end", ["\r\n", "\r", "\n", "\u2028", "\f"])
def test_every_line_end_becomes_one_line_feed(end: str) -> None:
    assert clean(f"一{end}二{end}")[0] == "一\n二\n"


def test_control_characters_are_removed_and_counted_by_kind() -> None:
    text, counts = clean("a\0b\x07c\x9fd\ufeffe\ud800f\ufffeg\th\n")
    assert text == "abcdefg\th\n"
    assert counts["controls"].removed == {
        "NUL": 1,
        "control character": 2,
        "byte order mark": 1,
        "lone surrogate": 1,
        "noncharacter": 1,
    }
    assert counts["controls"].changed == 1


def test_what_is_no_control_character_stays() -> None:
    text = "tab\tsoft\xadhyphen zero\u200bwidth 👩\u200d💻 full－width　space，。\ufffd"
    assert clean(text)[0] == text


@pytest.mark.parametrize("bad", ["\0", "\x07", "\ud800", "\ufeff"])
def test_strict_makes_a_control_character_an_error_that_names_its_place(bad: str) -> None:
    with pytest.raises(DataError) as caught:
        clean(f"fine so far{bad}", strict=True)
    assert "a.txt, document 0, character 11" in caught.value.problems[0].where


def test_strict_lets_a_sound_text_through() -> None:
    assert clean("fine\r\n\ttext", strict=True)[0] == "fine\n\ttext"


def test_characters_and_their_marks_are_composed() -> None:
    assert clean("e\u0301 ①Ａ", with_step(unicode="NFC"))[0] == "é ①Ａ"
    assert clean("e\u0301 ①Ａ", with_step(unicode="NFKC"))[0] == "é 1A"


def test_broken_lines_are_repaired_where_that_is_asked_for_and_counted() -> None:
    text, counts = clean("sound\nclichÃ©s and cafÃ©", with_step(mojibake=True))
    assert (text, counts["mojibake"].removed) == ("sound\nclichés and café", {"broken lines": 1})
    assert clean("clichÃ©s")[0] == "clichÃ©s"


def test_white_space_is_tidied() -> None:
    text = "\n\n  \n　　话说天下大势，\u3000分久必合。 \n\n\n\n\n\tcode\n    verse   \n   \nend\n\n"
    tidy = "话说天下大势，\u3000分久必合。\n\n\n\tcode\n    verse\n\nend\n"
    assert clean(text, with_step(whitespace=True))[0] == tidy


def test_an_indent_goes_before_chinese_and_stays_before_other_text() -> None:
    text = "    话说天下\n    “却说”\n  \t——调寄\n    verse “话”\n\tcode = '字'\n"
    assert clean(text, with_step(whitespace=True))[0] == "话说天下\n“却说”\n——调寄\n    verse “话”\n\tcode = '字'\n"


@pytest.mark.parametrize(
    "text", ["And  \nTwice being  \nwas\n\n\nSAMPSON:\n", "no final line feed", "  indented start\n"]
)
def test_a_tidy_text_is_left_as_it_is_and_not_counted_as_changed(text: str) -> None:
    tidied, counts = clean(text, with_step(whitespace=True))
    assert (tidied, counts["whitespace"].changed) == (text, 0)


def test_cleaning_does_not_depend_on_where_the_parts_are_cut() -> None:
    draw = random.Random(0)
    pieces = ["word ", "字。", "\n", "\r\n", "\n\n", "  ", "　　", " \n", "\t", "e\u0301", "\0", "clichÃ©", "x"]
    steps = Clean(lowercase=True, strip_punctuation=True)
    for _ in range(40):
        text = "".join(draw.choices(pieces, k=2000))
        whole = "".join(d.text for d in clean_documents([Document(text, "a")], steps, False, {}))
        parts = list(clean_documents(make_documents([text], "a", 0, 1000), steps, False, {}))
        assert len(parts) > 1
        assert "".join(document.text for document in parts) == whole
        assert [document.part for document in parts] == list(range(len(parts)))
        assert [document.last for document in parts] == [False] * (len(parts) - 1) + [True]


def test_lower_case_and_punctuation_are_right_for_chinese_too() -> None:
    text = "“Hello,” SHE said -- 你好，世界！（再见。）\n《书》 done.\n"
    steps = with_step(lowercase=True, strip_punctuation=True)
    assert clean(text, steps)[0] == "hello she said 你好 世界 再见\n书 done\n"


def test_traditional_characters_become_simplified() -> None:
    pytest.importorskip("opencc")
    assert clean("漢字與國家，頭髮與發展", with_step(simplify_chinese=True))[0] == "汉字与国家，头发与发展"


def test_documents_without_any_text_left_are_dropped_and_counted() -> None:
    counts: dict[str, StepCounts] = {}
    documents = [
        Document(" \n\0", "a"),
        Document("text", "b"),
        Document("\n", "c", 0, 0, False),
        Document(" ", "c", 0, 1),
    ]
    kept = list(clean_documents(documents, Clean(), False, counts))
    assert [document.source for document in kept] == ["b"]
    assert counts["empty"].dropped == {"nothing left after cleaning": 2}
    assert (counts["empty"].documents_in, counts["empty"].documents_out) == (3, 1)


def test_document_that_breaks_a_rule_of_quality_is_dropped_and_counted() -> None:
    settings = with_step(quality=Quality(max_digit_share=0.3))
    assert clean("1949年10月，在北京的天安门广场上举行", settings)[1]["quality"].dropped == {}
    text, counts = clean("１２３４567 年", settings)
    assert (text, counts["quality"].dropped) == ("", {"too many digits": 1})


def test_a_document_in_parts_is_judged_as_a_whole() -> None:
    counts: dict[str, StepCounts] = {}
    parts = list(make_documents(["一行好的文字\n" * 400], "a", 0, 1000))
    settings = with_step(quality=Quality(min_chars=2000))
    assert list(clean_documents(parts, settings, False, counts)) == parts


def test_the_counts_stand_in_the_order_of_the_steps() -> None:
    assert list(clean("text", Clean())[1]) == [
        "line ends", "mojibake", "controls", "unicode NFC", "gutenberg", "whitespace", "empty",
    ]  # fmt: skip


def test_whatever_can_be_composed_is_composed() -> None:
    for char in map(chr, range(sys.maxunicode + 1)):
        if (apart := unicodedata.normalize("NFD", char)) != char:
            for text in (apart, char, f"a{apart}b", apart[1:], "".join(reversed(apart))):
                assert normalize_nfc(text, Counter()) == unicodedata.normalize("NFC", text)


def test_every_control_character_is_found_and_nothing_else() -> None:
    for code in [*range(0x3000), *range(0xD7F0, 0xE010), *range(0xFDB0, 0x10010)]:
        char = chr(code)
        is_noncharacter = 0xFDD0 <= code <= 0xFDEF or code in (0xFFFE, 0xFFFF)
        bad = unicodedata.category(char) in ("Cc", "Cs") and char not in "\t\n\v\f\r"
        expected = "\n" if char == "\x85" else "" if bad or is_noncharacter or char == "\ufeff" else char
        assert remove_controls(f"a{char}b", Counter()) == f"a{expected}b"


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
