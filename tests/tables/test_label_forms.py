"""Lists as text, decimal commas and variants of a name are recognized, and nothing that only resembles them."""

import math

import pytest

from llmkit.tables.label_forms import fold_label, label_map_option, parse_list, to_decimal


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("['joy', 'love']", ["joy", "love"]), ('["joy"]', ["joy"]), ("['joy' 'love']", ["joy", "love"]),
        ("('joy', 'love')", ["joy", "love"]), ("{'joy', 'love'}", ["joy", "love"]), ("[1, 2]", ["1", "2"]), ("[]", []),
        ("joy", None), ("(other)", None), ("{'joy': 1}", None), ("{joy}", None), ("()", None),
        ("[sic]", None), ("[", None),
    ],
)  # fmt: skip
def test_lists_that_were_written_as_text_are_distinguished_from_words(text: str, labels: list[str] | None) -> None:
    assert parse_list(text) == labels


@pytest.mark.parametrize(
    ("word", "number"),
    [
        ("3,5", 3.5),
        ("-0,25", -0.25),
        ("1.234,5", 1234.5),
        ("\u22123.5", -3.5),
        ("3.5", 3.5),
        ("12345,6789", 12345.6789),
    ],
)
def test_a_decimal_comma_is_read(word: str, number: float) -> None:
    assert to_decimal(word) == number


@pytest.mark.parametrize("word", ["1,200", "1,2,3", "12 %", "1_000", "3,", "nan", "inf", "1.23,5"])
def test_a_comma_that_may_separate_thousands_is_no_number(word: str) -> None:
    assert math.isnan(to_decimal(word))


def test_names_that_differ_in_form_are_equal_and_others_are_not() -> None:
    assert len({fold_label(each) for each in ("Neg", "NEG", "neg.", "ｎｅｇ", "neg\u200b")}) == 1
    assert len({fold_label(each) for each in ("1", "1.0", "True")}) == 1
    assert fold_label("neg") != fold_label("negative") and fold_label(".") == "."


def test_names_that_pairs_cannot_have_are_given_in_a_file() -> None:
    assert label_map_option({"Pos": "pos"}) == "--label-map 'Pos=pos'"
    assert label_map_option({"a,b": "c"}).startswith('--label-map FILE, a JSON file with {"a,b": "c"}')
