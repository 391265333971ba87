"""Where Chinese words begin."""

import sys
from importlib.metadata import version

import pytest

from llmkit.core.errors import EnvironmentFault
from llmkit.text.chinese_words import choose_word_cutter, find_chinese, find_word_interiors

MIXED = "曹操said大怒，将军何往？\U00020000\U00020001 3.14 かな却说"


def test_word_interiors_leave_everything_but_chinese_alone() -> None:
    assert not find_word_interiors("3.14 C++ words, und Wörter かな").any()


def test_jieba_that_is_asked_for_and_missing_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jieba", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert choose_word_cutter("auto") == choose_word_cutter("characters") == "characters"
    with pytest.raises(EnvironmentFault, match="jieba"):
        choose_word_cutter("jieba")


def test_words_begin_where_jieba_cuts_each_run_of_chinese() -> None:
    jieba = pytest.importorskip("jieba")
    inside = find_word_interiors(MIXED)
    runs = ["曹操", "大怒", "将军何往", "\U00020000\U00020001", "却说"]
    for run in runs:
        start = MIXED.index(run)
        words = [word for word in jieba.cut(run) if word]
        expected = [place > 0 for word in words for place in range(len(word))]
        assert inside[start : start + len(run)].tolist() == expected
    assert inside.sum() == sum(len(run) - len(list(jieba.cut(run))) for run in runs)
    assert choose_word_cutter("auto") == choose_word_cutter("jieba") == f"jieba {version('jieba')}"


def test_only_chinese_characters_are_chinese() -> None:
    chinese = "".join(char for char, is_chinese in zip(MIXED, find_chinese(MIXED), strict=True) if is_chinese)
    assert chinese == "曹操大怒将军何往\U00020000\U00020001却说"
