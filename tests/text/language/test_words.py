"""The word count equals the tokens of the word tokenizer; scripts without spaces have no count."""

import random
import sys
from importlib.metadata import version

import pytest

from llmkit.core.errors import EnvironmentFault
from llmkit.text.language import words
from llmkit.text.language.words import (
    MAX_UNSPACED_SHARE,
    chinese_continuation_mask,
    chinese_mask,
    choose_segmenter,
    count_words,
    valid_word_count,
)


def count(text: str, *, ends_document: bool = True) -> dict[str, int]:
    return count_words(text, ends_document=ends_document) | {"characters": len(text)}


@pytest.mark.parametrize(
    ("text", "n_words"),
    [
        ("It was late.\n", 3 + 1 + 1),
        ("no line end", 3 + 1),
        ("", 1),
        ("\n\n\n", 3 + 1),
        (" \t wide\u3000space\xa0here \r\n", 3 + 1 + 1),
        ("a\x1cb c", 2 + 1),  # a control character, which is white space to Python alone
    ],
)
def test_words_line_ends_and_the_documents_end_are_counted(text: str, n_words: int) -> None:
    assert count(text)["words"] == n_words
    assert count(text, ends_document=False)["words"] == n_words - 1


@pytest.mark.parametrize("text", ["却说曹操引兵追至。", "むかしむかし", "กาลครั้งหนึ่ง", "曹操 said: " + "却说" * 20])
def test_script_without_spaces_has_no_words(text: str) -> None:
    assert valid_word_count(count(text * 10)) is None


@pytest.mark.parametrize("text", ["Er war spät dran.", "Было поздно.", "늦은 시간이었다.", "कल रात देर हो गई थी।"])
def test_script_with_spaces_has_words(text: str) -> None:
    assert valid_word_count(count(text)) == len(text.split(" ")) + 1


def test_a_quotation_in_chinese_takes_no_words_from_an_english_text() -> None:
    n_english = round(30 / MAX_UNSPACED_SHARE)
    assert valid_word_count(count("e" * (n_english - 29) + "国" * 29)) == 2
    assert valid_word_count(count("e" * (n_english - 31) + "国" * 31)) is None


@pytest.mark.parametrize("few_bytes", [0, 10**9])
def test_words_are_counted_alike_in_short_and_long_texts(few_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(words, "_FEW_BYTES", few_bytes)
    spaces = [char for char in map(chr, range(sys.maxunicode + 1)) if char.isspace() and char not in "\x1c\x1d\x1e\x1f"]
    draw = random.Random(0)
    for _ in range(200):
        text = "".join(draw.choices(["a", "bc", "é", "国", "\x1c", "\u200b", *spaces], k=draw.randrange(1, 60)))
        in_words = "".join(" " if char in spaces else "x" for char in text)
        assert count(text, ends_document=False)["words"] == len(in_words.split()) + text.count("\n")
        assert count(text)["unspaced"] == text.count("国")


MIXED = "曹操said大怒，将军何往？\U00020000\U00020001 3.14 かな却说"


def test_word_interiors_leave_everything_but_chinese_alone() -> None:
    assert not chinese_continuation_mask("3.14 C++ words, und Wörter かな").any()


def test_jieba_that_is_asked_for_and_missing_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jieba", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert choose_segmenter("auto") == choose_segmenter("characters") == "characters"
    with pytest.raises(EnvironmentFault, match="jieba"):
        choose_segmenter("jieba")


def test_words_begin_where_jieba_cuts_each_run_of_chinese() -> None:
    jieba = pytest.importorskip("jieba")
    inside = chinese_continuation_mask(MIXED)
    runs = ["曹操", "大怒", "将军何往", "\U00020000\U00020001", "却说"]
    for run in runs:
        start = MIXED.index(run)
        words = [word for word in jieba.cut(run) if word]
        expected = [place > 0 for word in words for place in range(len(word))]
        assert inside[start : start + len(run)].tolist() == expected
    assert inside.sum() == sum(len(run) - len(list(jieba.cut(run))) for run in runs)
    assert choose_segmenter("auto") == choose_segmenter("jieba") == f"jieba {version('jieba')}"


def test_only_chinese_characters_are_chinese() -> None:
    chinese = "".join(char for char, is_chinese in zip(MIXED, chinese_mask(MIXED), strict=True) if is_chinese)
    assert chinese == "曹操大怒将军何往\U00020000\U00020001却说"
