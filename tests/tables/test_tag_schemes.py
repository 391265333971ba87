"""Schemes are recognized from all tags, and every scheme gives the same entities; broken sequences are conlleval's."""

import pytest

from llmkit.tables.tag_schemes import (
    Scheme,
    count_violations,
    fold_prefixes,
    read_entities,
    read_strict_entities,
    recognize_scheme,
    to_bio,
)

ENTITIES = [(0, 2, "PER"), (2, 3, "PER"), (4, 7, "LOC")]
TAGS: dict[str, list[str]] = {
    "BIO": ["B-PER", "I-PER", "B-PER", "O", "B-LOC", "I-LOC", "I-LOC"],
    "IOB1": ["I-PER", "I-PER", "B-PER", "O", "I-LOC", "I-LOC", "I-LOC"],
    "BIOES": ["B-PER", "E-PER", "S-PER", "O", "B-LOC", "I-LOC", "E-LOC"],
    "BILOU": ["B-PER", "L-PER", "U-PER", "O", "B-LOC", "I-LOC", "L-LOC"],
    "BMES": ["B-PER", "E-PER", "S-PER", "O", "B-LOC", "M-LOC", "E-LOC"],
}


@pytest.mark.parametrize("name", TAGS)
def test_every_scheme_is_recognized_and_gives_the_same_entities(name: str) -> None:
    scheme = recognize_scheme([["O", "O"], TAGS[name]])
    assert scheme == ("BIOES" if name == "BILOU" else name)
    assert read_entities(TAGS[name], scheme) == ENTITIES
    assert count_violations(TAGS[name], scheme) == 0
    assert to_bio(ENTITIES, 7) == TAGS["BIO"]


def test_tags_without_prefixes_are_runs_of_one_type() -> None:
    tags = ["PER", "PER", "O", "person-name", "LOC"]
    assert recognize_scheme([tags]) == "IO"
    assert read_entities(tags, "IO") == [(0, 2, "PER"), (3, 4, "person-name"), (4, 5, "LOC")]


def test_tags_without_types_are_one_type() -> None:
    assert read_entities(["B", "I", "O", "B"], recognize_scheme([["B", "I", "O"]])) == [
        (0, 2, "ENTITY"),
        (3, 4, "ENTITY"),
    ]


def test_lower_case_prefixes_are_prefixes_only_if_all_tags_have_them() -> None:
    assert fold_prefixes([["b-per", "i-per", "o"], ["O"]]) == [["B-per", "I-per", "O"], ["O"]]
    assert fold_prefixes([["b-per", "e-mail", "person"]]) == [["b-per", "e-mail", "person"]]


def test_one_wrong_inside_tag_does_not_turn_bio_into_iob1() -> None:
    assert recognize_scheme([["B-A", "I-A", "O"], ["O", "I-A"], ["B-A"]]) == "BIO"


@pytest.mark.parametrize(
    ("scheme", "tags", "entities", "n_wrong"),
    [
        ("BIO", ["O", "I-A", "I-A"], [(1, 3, "A")], 1),
        ("BIO", ["B-A", "I-B", "I-B"], [(0, 1, "A"), (1, 3, "B")], 1),
        ("IOB1", ["O", "B-A", "I-A"], [(1, 3, "A")], 1),
        ("BIOES", ["B-A", "O", "E-A"], [(0, 1, "A"), (2, 3, "A")], 2),
        ("BIOES", ["B-A"], [(0, 1, "A")], 1),
        ("BIOES", ["I-A", "E-A", "E-A"], [(0, 2, "A"), (2, 3, "A")], 2),
    ],
)
def test_broken_sequences_are_read_as_conlleval_does_and_counted(
    scheme: Scheme, tags: list[str], entities: list[tuple[int, int, str]], n_wrong: int
) -> None:
    assert read_entities(tags, scheme) == entities
    assert count_violations(tags, scheme) == n_wrong


def test_strict_entities_begin_with_b() -> None:
    assert read_strict_entities(["I-A", "O", "B-A", "I-B", "I-B"]) == [(2, 3, "A")]


def test_tag_of_another_form_is_an_error_that_names_it() -> None:
    for tag in ("X-PER", "B-", "PER"):
        with pytest.raises(ValueError, match=f"'{tag}' is neither O nor"):
            read_entities([tag], "BIO")
