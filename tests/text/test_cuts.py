"""Cuts between train and held-out text: at the best boundary near the target, and never inside a word."""

import pytest

from llmkit.text.cuts import choose_cuts, window_around


def cut(text: str, *targets: float) -> list[str]:
    windows = [window_around(text, int(len(text) * target), len(text)) for target in targets]
    ends = choose_cuts(windows, len(text))
    return [text[start:end] for start, end in zip([0, *ends], [*ends, len(text)], strict=True)]


SENTENCES = "One is here. Two is there. Three is far. Four is near. "


@pytest.mark.parametrize(
    ("text", "begins"),
    [
        (SENTENCES * 3 + "\n\n" + SENTENCES, SENTENCES),
        (SENTENCES * 4, "One is here."),
        ("a line of verse without a mark\n" * 20, "a line of verse"),
        ("word " * 100, "word"),
        ("नदी के पास अँधेरा था। " * 20, "नदी"),
        ("江上的船在哪里。" * 40, "江"),
    ],
)
def test_a_tail_begins_a_paragraph_or_else_a_sentence_line_or_word(text: str, begins: str) -> None:
    pieces = cut(text, 0.75)
    assert "".join(pieces) == text
    assert pieces[1].startswith(begins)


def test_two_cuts_leave_text_in_all_three_parts() -> None:
    assert cut("Sentence number 1 stands alone.", 0.9, 0.95) == ["Sentence number 1 ", "stands ", "alone."]
    assert cut("One is. Two is. Three is.", 0.9, 0.95) == ["One is. ", "Two is. ", "Three is."]
    assert {type(end) for end in choose_cuts([window_around(SENTENCES, 30, len(SENTENCES))], len(SENTENCES))} == {int}


def test_one_word_is_not_cut_and_a_long_run_is() -> None:
    assert cut("hello", 0.9, 0.95) == ["hello", "", ""]
    assert [len(piece) for piece in cut("x" * 1000, 0.9, 0.95)] == [900, 50, 50]
    assert [len(piece) for piece in cut("船" * 20, 0.9, 0.95)] == [18, 1, 1]


def test_marks_stay_with_their_letter() -> None:
    assert cut("ก่" * 200, 0.5025)[1][0] == "ก"
    assert cut("e\u0301" * 200, 0.5025)[1][0] == "e"


@pytest.mark.parametrize(
    "cluster",
    [
        "مُحَمَّدٌ",
        "שָׁל",
        "e\u0301\u0323",
        "\u1112\u1161\u11ab",
        "👩\u200d👩\u200d👧",
        "👍🏽",
        "🇨🇳",
        "क्ष",
        "কিন্তু",
        "நி",
        "ကျွ",
        "ខ្ញុំ",
        "น้ำ",
    ],
)
def test_a_cut_without_a_boundary_parts_no_letter_from_its_marks(cluster: str) -> None:
    text = cluster * 60
    for n in range(10, 50):
        (_, tail) = cut(text, n / 60.5)
        letters = {"مُحَمَّدٌ": "محمد", "שָׁל": "של", "কিন্তু": "কন"}.get(cluster, cluster[0])
        assert tail[0] in letters, (n, tail[:3])
        if cluster[0] in "🇨👩क":
            assert tail.startswith(cluster)
