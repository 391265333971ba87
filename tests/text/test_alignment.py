"""Characters of a normalized text lead back to the given text."""

import pytest

from llmkit.text.alignment import align_characters


def read_back(given: str, normalized: str, part: str) -> str:
    start = normalized.index(part)
    found = align_characters(given, normalized)
    if found is None:
        return given[start : start + len(part)]
    return given[found.starts[start] : found.ends[start + len(part) - 1]]


@pytest.mark.parametrize(
    ("given", "normalized", "part", "expected"),
    [
        ("ＡＢＣ　文", "ABC 文", "文", "文"),
        ("a\r\nb c\r\nd", "a\nb c\nd", "c", "c"),
        ("soft\xadware runs", "software runs", "runs", "runs"),
        ("soft\xadware runs", "software runs", "software", "soft\xadware"),
        ("the \ufb01sh swims", "the fish swims", "swims", "swims"),
        ("the \ufb01sh swims", "the fish swims", "fish", "\ufb01sh"),
        ("1½ cups", "11⁄2 cups", "cups", "cups"),
        ("x\x00y z", "xy z", "z", "z"),
        ("é́ end", "é end", "end", "end"),
    ],
)
def test_part_of_the_normalized_text_is_found_in_the_given_text(
    given: str, normalized: str, part: str, expected: str
) -> None:
    assert read_back(given, normalized, part) == expected


def test_texts_of_equal_length_need_no_map() -> None:
    assert align_characters("ABC", "abc") is None
    nothing = align_characters("\xad", "")
    assert nothing is not None and len(nothing.starts) == 0
