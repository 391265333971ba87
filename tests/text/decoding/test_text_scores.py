"""Correctly decoded text scores higher than text decoded with a wrong encoding; comments name the evidence."""

import pytest
from languages import TEXTS

from llmkit.text.decoding.text_scores import is_plausible, score_texts


def scores_higher(right: str, wrong: str) -> bool:
    first, second = score_texts([right, wrong], [frozenset(), frozenset()])
    return first.score > second.score


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("jsme přišli k řece", "jsme pøišli k øece"),  # letters of the language
        ("привет всем", "рПХБЕР БЯЕЛ"),  # upper case after lower case
        ("café", "cafй"),  # two scripts in a word
        ("it’s", "it\x92s"),  # a control character
        ("größe", "gr”áe"),  # a quotation mark between letters
        ("café noir", "caf‚ noir"),  # an opening mark after a letter
        ("müde", "m｜de"),  # a full-width sign between letters
        ("tornaríem", "tornar〔m"),
        ("私たちが川に", "讳たちが李に"),  # frequent characters
        ("naïve", "na\ufffdve"),
        ("═══ Menu", "ЭЭЭ Menu"),  # three times the same letter
    ],
)
def test_correctly_decoded_text_scores_higher(right: str, wrong: str) -> None:
    assert scores_higher(right, wrong)


def test_language_of_most_texts_is_found() -> None:
    names = {name: name for name in TEXTS} | {"en": ""}  # English has almost no letters beyond ASCII
    found = score_texts(list(TEXTS.values()), [frozenset(TEXTS)] * len(TEXTS))
    wrong = {name for name, score in zip(TEXTS, found, strict=True) if names[name] and score.language != name}
    assert len(wrong) <= 4  # neighbours, such as Danish and Norwegian


def test_expected_language_scores_higher_and_ascii_text_has_no_language() -> None:
    expected, other = score_texts(["přišli"] * 2, [frozenset(["cs"]), frozenset(["en"])])
    assert expected.score > other.score
    assert score_texts(["plain"], [frozenset()])[0].language == ""


@pytest.mark.parametrize("text", ["", "\n", "\ufffd", "\ud800", "😀", "a" * 5000])
def test_every_text_has_a_score(text: str) -> None:
    assert score_texts([text], [frozenset()])[0].score <= 0


def test_a_text_is_plausible_unless_its_characters_are_rare() -> None:
    assert all(is_plausible(text) for text in TEXTS.values())
    assert not is_plausible("ࠧⶠ") and not is_plausible("a\0b\0c\0")
