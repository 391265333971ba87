"""Find the characters of a text that a tokenizer does not know, and count them over prompts, rows and documents.

A model returns a result even for a text of unknown tokens, so llmkit must warn the user. Characters are counted instead
of tokens, because one unknown token may be a word or one letter. White space does not count.

A tokenizer without an unknown token that is not byte-level drops unknown characters; these are counted too.
"""

import string
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmkit.core.console import clean_line
from llmkit.tokens.tokenizer import AnyTokenizer, backend_of, encode_texts, encode_with_offsets

MOSTLY = 0.5
"""Minimum fraction of unknown characters for a text to count as mostly unknown."""
MIN_SHARE = 0.05
"""Minimum fraction of unknown characters over all rows to show a note although no row is mostly unknown."""
N_EXAMPLES = 3
MAX_EXAMPLE_CHARACTERS = 30


@dataclass(frozen=True, slots=True)
class UnknownPart:
    """Unknown characters of one text."""

    n_characters: int
    """Number of characters, not counting white space."""
    texts: tuple[str, ...] = ()
    """The texts that the unknown tokens replace, in order."""

    @property
    def n_unknown(self) -> int:
        return sum(map(_count_visible, self.texts))

    @property
    def is_mostly_unknown(self) -> bool:
        return self.n_unknown > 0 and self.n_unknown >= MOSTLY * self.n_characters


def unknown_id(tokenizer: AnyTokenizer) -> int | None:
    """Return the id that the tokenizer assigns to unknown characters; None for a byte-level tokenizer.

    This is not always `unk_token_id`: in GPT-2 `unk_token_id` is the end-of-text token, which encoding never produces.
    """
    model: Any = backend_of(tokenizer).model
    token = getattr(model, "unk_token", None)
    if isinstance(token, str):
        return backend_of(tokenizer).token_to_id(token)
    number = getattr(model, "unk_id", None)
    return number if isinstance(number, int) else None


def unknown_texts(
    text: str, ids: NDArray[np.unsignedinteger[Any]], starts: NDArray[np.int64], unknown_id: int | None
) -> list[str]:
    """Return the text that each unknown token replaces; `starts` are the starts of all tokens in characters, as in
    AlignedIds.
    """
    if unknown_id is None:
        return []
    indices = np.flatnonzero(ids == unknown_id)
    stops = np.append(starts[1:], len(text))[indices]
    pieces = [text[start:stop] for start, stop in zip(starts[indices].tolist(), stops.tolist(), strict=True)]
    return [piece.rstrip() or piece for piece in pieces]


def find_unknown(tokenizer: AnyTokenizer, texts: Sequence[str]) -> Iterator[UnknownPart]:
    """Yield the unknown characters of each text."""
    unknown = unknown_id(tokenizer)
    if unknown is not None:
        for text, (ids, starts, _) in zip(texts, encode_with_offsets(tokenizer, texts), strict=True):
            found = unknown_texts(text, ids, starts, unknown)
            yield UnknownPart(_count_visible(text), tuple(each for each in found if not each.isspace()))
        return
    left_out = set() if _works_on_bytes(tokenizer) else _find_left_out(tokenizer, texts)
    for text in texts:
        yield UnknownPart(_count_visible(text), tuple(char for char in text if char in left_out))


def _find_left_out(tokenizer: AnyTokenizer, texts: Sequence[str]) -> set[str]:
    """Return the characters that get no id. Encodes them one by one, because the offsets of `tokenizers` are wrong
    after a dropped character.
    """
    letters = sorted(set().union(*texts) - set(string.whitespace))
    lengths = encode_texts(tokenizer, letters)[1].tolist()
    return {letter for letter, length in zip(letters, lengths, strict=True) if not length}


def count_unknown_rows(
    tokenizer: AnyTokenizer, texts: Sequence[str], may_have: NDArray[np.bool_], numbers: Sequence[int],
    count: "UnknownCount",
) -> None:  # fmt: skip
    """Add rows to `count`. `may_have` says whether each row may have an unknown id; the other rows are not encoded
    again.
    """
    if unknown_id(tokenizer) is None:
        may_have = np.full(len(texts), not _works_on_bytes(tokenizer))
    found = find_unknown(tokenizer, [text for text, may in zip(texts, may_have, strict=True) if may])
    for text, may, number in zip(texts, may_have, numbers, strict=True):
        count.add(next(found) if may else UnknownPart(_count_visible(text)), number)


def _count_visible(text: str) -> int:
    return len("".join(text.split()))


def _works_on_bytes(tokenizer: AnyTokenizer) -> bool:
    """Whether the tokenizer knows every character."""
    backend = backend_of(tokenizer)
    model: Any = backend.model
    if getattr(model, "byte_fallback", False):
        return True
    pieces = backend.pre_tokenizer.pre_tokenize_str("é") if backend.pre_tokenizer is not None else []
    normalized = backend.normalizer.normalize_str("é") if backend.normalizer is not None else ""
    return [piece for piece, _ in pieces] == ["Ã©"] or normalized == "Ã©"


def has_exact_offsets(tokenizer: AnyTokenizer) -> bool:
    """Whether the offsets of tokens are right for every text: `tokenizers` shifts them after a dropped character."""
    return unknown_id(tokenizer) is not None or _works_on_bytes(tokenizer)


def describe_unknown(n_unknown: int, n_characters: int, examples: Sequence[str]) -> str:
    """Format a note, such as `2 of 13 characters (15%) are unknown to the tokenizer, such as é, 火`."""
    shown = ", such as " + ", ".join(map(clean_line, examples)) if examples else ""
    if n_unknown == n_characters:
        return f"all {n_characters:,} characters are unknown to the tokenizer{shown}"
    share = n_unknown / max(1, n_characters)
    percent = f"{share:.0%}" if share >= 0.01 else f"{share:.2%}"
    return f"{n_unknown:,} of {n_characters:,} characters ({percent}) are unknown to the tokenizer{shown}"


@dataclass(slots=True)
class UnknownCount:
    """Unknown characters over many texts, such as prompts or the rows of a file."""

    n_texts: int = 0
    n_characters: int = 0
    n_unknown: int = 0
    n_mostly: int = 0
    """Number of texts that are mostly unknown."""
    numbers: list[int] = field(default_factory=list)
    """Line or row numbers of the first mostly unknown texts."""
    examples: list[str] = field(default_factory=list)

    def add(self, part: UnknownPart, number: int) -> None:
        """Count a text; `number` identifies it in notes."""
        self.n_texts += 1
        self.n_characters += part.n_characters
        self.n_unknown += part.n_unknown
        if part.is_mostly_unknown:
            self.n_mostly += 1
            if len(self.numbers) < N_EXAMPLES and number not in self.numbers:
                self.numbers.append(number)
        for text in part.texts:
            if len(self.examples) < N_EXAMPLES and text[:MAX_EXAMPLE_CHARACTERS] not in self.examples:
                self.examples.append(text[:MAX_EXAMPLE_CHARACTERS])

    @property
    def share(self) -> float:
        return self.n_unknown / max(1, self.n_characters)

    @property
    def needs_note(self) -> bool:
        """Whether to show a note: a text is mostly unknown, or the fraction over all texts is high."""
        return self.n_mostly > 0 or self.share >= MIN_SHARE

    def describe(self) -> str:
        return describe_unknown(self.n_unknown, self.n_characters, self.examples)

    def describe_rows(self, path: str, unit: str = "line") -> list[str]:
        """Return a note on the rows of a file if `needs_note`; `unit` is the unit of the row numbers."""
        if not self.needs_note:
            return []
        note = f"{path}: {self.describe()}"
        if self.n_mostly:
            first = ", ".join(map(str, self.numbers)) + (", ..." if self.n_mostly > len(self.numbers) else "")
            places = f"{unit}{'s' * (self.n_mostly > 1)} {first}"
            note += f"; predictions are unreliable for the rows that are mostly unknown: {self.n_mostly:,} of "
            note += f"{self.n_texts:,} ({places})"
        return [note]
