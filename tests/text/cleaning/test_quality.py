"""Quality rules: fractions equal those of plain counting."""

import random
import unicodedata
from collections.abc import Callable

import pytest

from llmkit.config.prepare import Quality
from llmkit.text.cleaning.quality import TOKEN, find_broken_rule


def count_digits(text: str) -> tuple[int, int]:
    return sum(unicodedata.category(c) == "Nd" for c in text), sum(not c.isspace() for c in text)


def count_in_seen_lines(text: str) -> tuple[int, int]:
    lines = ["".join(line.split()) for line in text.split("\n")]
    repeated = sum(len(line) for place, line in enumerate(lines) if line in lines[:place])
    return repeated, sum(not c.isspace() for c in text)


def count_in_repeated_grams(text: str) -> tuple[int, int]:
    tokens = TOKEN.findall(text.casefold())
    grams = [tuple(tokens[place : place + 5]) for place in range(len(tokens) - 4)]
    covered = {
        place + inside for place, gram in enumerate(grams) if gram in grams[:place] for inside in range(5)
    }  # fmt: skip
    return sum(len(tokens[place]) for place in covered), sum(map(len, tokens))


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize(
    ("rule", "count", "reason"),
    [
        ("max_digit_share", count_digits, "too many digits"),
        ("max_repeated_line_share", count_in_seen_lines, "repeated lines"),
        ("max_repeated_ngram_share", count_in_repeated_grams, "repeated 5-grams"),
    ],
)
def test_fraction_equal_to_the_limit_passes_and_a_larger_one_breaks_the_rule(
    rule: str, count: Callable[[str], tuple[int, int]], reason: str, seed: int
) -> None:
    draw = random.Random(seed)
    pieces = ["字", "话说天下", "word ", "Word ", "1", "９", "\n", "\n", "  ", "，"]
    line = "".join(draw.choices(pieces, k=8)) + "字\n"
    text = line + "".join(draw.choices(pieces, k=100)) + "\n" + line
    bad, of_all = count(text)
    share = bad / of_all
    assert share > 0
    assert find_broken_rule([text], Quality(**{rule: share})) == ""
    assert find_broken_rule([text], Quality(**{rule: share * (1 - 1e-9)})) == reason


@pytest.mark.parametrize(
    ("rule", "bad", "good", "reason"),
    [
        ({"min_chars": 20}, "短。" * 5, "这是一个足够长的句子，有二十个以上的字符。", "too short"),
        ({"max_symbol_share": 0.2}, "#$%^&*好的", "“你好，”他说：《书名》！（真的？）", "too many symbols"),
        ({"max_digit_share": 0.3}, "１２３４567 年", "1949年10月，在北京的天安门广场上举行", "too many digits"),
        (
            {"max_repeated_line_share": 0.3},
            "同一行的文字\n" * 5,
            "第一行的文字\n第二行的不同\n第三行又不同\n",
            "repeated lines",
        ),
        ({"max_repeated_ngram_share": 0.3}, "买一送一快来抢购" * 9, "话说天下大势分久必合合久必分", "repeated 5-grams"),
        (
            {"max_repeated_ngram_share": 0.3},
            "buy it now at once " * 9,
            "the quick brown fox jumps over it",
            "repeated 5-grams",
        ),
    ],
)
def test_each_rule_finds_what_breaks_it_and_passes_what_does_not(
    rule: dict[str, float], bad: str, good: str, reason: str
) -> None:
    assert find_broken_rule([good], Quality(**rule)) == ""  # type: ignore[arg-type]
    assert find_broken_rule([bad], Quality(**rule)) == reason  # type: ignore[arg-type]


def test_document_in_parts_is_judged_as_a_whole() -> None:
    parts = ["one line of words\n", "1234567890\n", "one line of words\n"]
    for rule in ({"min_chars": 30}, {"max_digit_share": 0.3}, {"max_repeated_line_share": 0.3}):
        rules = Quality(**rule)  # type: ignore[arg-type]
        assert find_broken_rule(parts, rules) == find_broken_rule(["".join(parts)], rules)
    assert find_broken_rule(parts, Quality(max_repeated_line_share=0.3)) == "repeated lines"
    assert find_broken_rule(parts, Quality(max_digit_share=0.3)) == ""
    assert find_broken_rule(parts[1:2], Quality(max_digit_share=0.3)) == "too many digits"


def test_rules_that_are_off_refuse_nothing() -> None:
    for text in ("", "#" * 50, "1" * 50, "a\n" * 50, "\ud800\U0010ffff"):
        assert find_broken_rule([text], Quality()) == ""
    assert find_broken_rule([""], Quality(min_chars=1)) == "too short"
