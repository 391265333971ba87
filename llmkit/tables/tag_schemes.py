"""Recognize the scheme of tags (BIO, IOB1, BIOES or BILOU, BMES, or types without prefixes), and read the entities.

Sequences that break the rules of their scheme are read as conlleval does: an inside tag without a beginning starts an
entity. They are counted by `count_violations`. Entities are (first word, word after the last, type); llmkit trains on
BIO tags made of them, whatever the scheme of the file.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Literal

Entity = tuple[int, int, str]
Scheme = Literal["BIO", "IOB1", "BIOES", "BMES", "IO"]

OUTSIDE = "O"
UNTYPED = "ENTITY"
"""Type of entities whose tags have a prefix and no type, such as B and I."""
_PREFIXES = {"B": "B", "I": "I", "E": "E", "S": "S", "L": "E", "U": "S", "M": "I"}
"""Maps the letters of all schemes to the letters of BIOES with the same meaning."""
_LOWER = re.compile(r"o|[biesulm]-.+")


def split_tag(tag: str, scheme: Scheme) -> tuple[str, str]:
    """Return (prefix, type): the prefix is O, B, I, E or S.

    Raises:
        ValueError: the tag has no prefix of the scheme.
    """
    if tag == OUTSIDE:
        return OUTSIDE, ""
    if scheme == "IO":
        return "I", tag
    letter, dash, kind = tag.partition("-")
    if letter not in _PREFIXES or (dash and not kind):
        raise ValueError(f"the tag {tag!r} is neither O nor of the form B-TYPE")
    return _PREFIXES[letter], kind or UNTYPED


def fold_prefixes(sequences: Sequence[Sequence[str]]) -> Sequence[Sequence[str]]:
    """Return the tags with upper-case prefixes if all tags of all sequences have lower-case ones, such as b-PER."""
    different = {tag for tags in sequences for tag in tags} - {OUTSIDE}
    if not all(_LOWER.fullmatch(tag) for tag in different) or not any(tag.startswith("b-") for tag in different):
        return sequences
    return [[tag[0].upper() + tag[1:] for tag in tags] for tags in sequences]


def recognize_scheme(sequences: Iterable[Sequence[str]]) -> Scheme:
    """Return the scheme of the tags of all sequences.

    IOB1 differs from BIO in that B- only separates adjacent entities of one type, so most entities begin with I-.
    """
    letters: Counter[str] = Counter()
    n_begin_with_i = n_needless_b = n_plain = 0
    for tags in sequences:
        before = OUTSIDE
        for tag in tags:
            letter, dash, kind = tag.partition("-")
            if tag != OUTSIDE and not (letter in _PREFIXES and (dash or not kind)):
                n_plain += 1
            elif tag != OUTSIDE:
                letters[letter] += 1
                continues = before != OUTSIDE and before.partition("-")[2] == kind
                n_begin_with_i += letter == "I" and not continues
                n_needless_b += letter == "B" and not continues
            before = tag
    if n_plain > letters.total():
        return "IO"
    if letters["M"]:
        return "BMES"
    if any(letters[letter] for letter in "ESLU"):
        return "BIOES"
    return "IOB1" if n_begin_with_i > n_needless_b else "BIO"


def read_entities(tags: Sequence[str], scheme: Scheme = "BIO") -> list[Entity]:
    """Return the entities of a sequence by the rule of conlleval.

    An entity begins at B or S, after the end of another, or where the type changes; it ends at E or S, or before a tag
    that begins or is outside.

    Raises:
        ValueError: a tag has no prefix of the scheme.
    """
    entities: list[Entity] = []
    start, before, kind_before = -1, OUTSIDE, ""
    for place, tag in enumerate([*tags, OUTSIDE]):
        prefix, kind = split_tag(tag, scheme)
        begins = prefix in "BS" or before in "OES" or kind != kind_before
        if start >= 0 and (prefix == OUTSIDE or begins):
            entities.append((start, place, kind_before))
            start = -1
        if prefix != OUTSIDE and begins:
            start = place
        before, kind_before = prefix, kind
    return entities


def read_strict_entities(tags: Sequence[str]) -> list[Entity]:
    """Return the entities of BIO tags that begin with B; others are left out, as in seqeval's strict mode."""
    return [entity for entity in read_entities(tags) if tags[entity[0]].startswith("B")]


def count_violations(tags: Sequence[str], scheme: Scheme) -> int:
    """Return the number of places where a sequence breaks the rules of its scheme."""
    if scheme == "IO":
        return 0
    n_wrong = 0
    before, kind_before = OUTSIDE, ""
    for tag in [*tags, OUTSIDE]:
        prefix, kind = split_tag(tag, scheme)
        same = kind == kind_before and before != OUTSIDE
        if scheme == "BIO":
            n_wrong += prefix == "I" and not same
        elif scheme == "IOB1":
            n_wrong += prefix == "B" and not same
        else:
            is_open = before in "BI"  # the entity before still needs its end
            n_wrong += not (prefix in "IE" and same) if is_open else prefix in "IE"
        before, kind_before = prefix, kind
    return n_wrong


def to_bio(entities: Iterable[Entity], n_words: int) -> list[str]:
    """Return BIO tags of entities that do not overlap."""
    tags = [OUTSIDE] * n_words
    for start, end, kind in entities:
        tags[start:end] = [f"B-{kind}", *[f"I-{kind}"] * (end - start - 1)]
    return tags
