"""The table of letter pairs and its languages."""

import numpy as np
import pytest

from llmkit.text.decoding.letters import IDEOGRAPHIC, SCRIPTS, fold, load_letters, script_of


@pytest.mark.parametrize(
    ("char", "script"),
    [
        ("a", "latin"),
        ("Ř", "latin"),
        ("ж", "cyrillic"),
        ("ω", "greek"),
        ("ש", "hebrew"),
        ("ك", "arabic"),
        ("ก", "thai"),
    ],
)
def test_a_letter_has_the_script_it_is_written_in(char: str, script: str) -> None:
    assert script_of(char) == script


@pytest.mark.parametrize("char", ["1", " ", "×", "÷", "“", "中", "カ", "ª"])
def test_other_characters_have_no_script(char: str) -> None:
    assert script_of(char) == ""


def test_letters_that_older_encodings_lack_are_those_that_replace_them() -> None:
    assert [fold(char) for char in "ȘțیکΣİ"] == ["ş", "ţ", "ي", "ك", "σ", "i"]


def test_probabilities_of_all_second_letters_add_up_to_one() -> None:
    for table in load_letters().pairs:
        sums = np.exp(table.log_p).sum(axis=2)
        assert np.all(sums > 0.9) and np.all(sums < 1.1)


def test_a_pair_is_likeliest_in_the_language_that_has_it() -> None:
    tables = load_letters()
    latin = tables.pairs[SCRIPTS.index("latin")]
    for pair, language in [("př", "cs"), ("ał", "pl"), ("eğ", "tr"), ("lő", "hu")]:
        first, second = (tables.letter[ord(char)] for char in pair)
        assert latin.languages[int(latin.log_p[:, first, second].argmax())] == language


def test_simplified_and_traditional_characters_belong_to_different_languages() -> None:
    tables = load_letters()
    for char, language in [("们", "zh-hans"), ("們", "zh-hant"), ("の", "ja"), ("는", "ko")]:
        log_p = tables.ideograph_log_p[:, tables.ideograph[ord(char)]]
        assert IDEOGRAPHIC[int(log_p.argmax())] == language
