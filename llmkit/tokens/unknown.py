"""Find the characters that are unknown to a tokenizer, and count them over prompts and rows.

A model returns a result for a text of unknown tokens too, so the user must be told. Characters are counted and not
tokens, as one unknown token may be a whole word or one letter. White space does not count.

A tokenizer without an unknown token that is not byte-level drops unknown characters; these are counted too.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmkit.core.console import clean_line
from llmkit.tokens.tokenizer import CHARACTERS_AT_ONCE, AnyTokenizer, backend_of, batch_texts, plain_encoding

MOSTLY = 0.5
"""Minimum fraction of unknown characters of a text that counts as mostly unknown."""
MIN_SHARE = 0.05
"""Minimum fraction of unknown characters over all rows for a note, if no row is mostly unknown."""
N_EXAMPLES = 3
MAX_EXAMPLE_CHARACTERS = 20


@dataclass(frozen=True, slots=True)
class UnknownPart:
    """Unknown characters of one text."""

    n_characters: int
    """Number of characters without white space."""
    n_unknown: int
    stretches: tuple[str, ...]
    """The unknown pieces of the text, in order."""

    @property
    def is_mostly_unknown(self) -> bool:
        return self.n_unknown > 0 and self.n_unknown >= MOSTLY * self.n_characters


def unknown_id(tokenizer: AnyTokenizer) -> int | None:
    """The id that the tokenizer assigns to unknown characters; None for a byte-level tokenizer.

    This is not always `unk_token_id`: for GPT-2 that is the end-of-text token, which encoding never produces.
    """
    model: Any = backend_of(tokenizer).model
    token = getattr(model, "unk_token", None)
    if isinstance(token, str):
        return backend_of(tokenizer).token_to_id(token)
    number = getattr(model, "unk_id", None)
    return number if isinstance(number, int) else None


def find_unknown(tokenizer: AnyTokenizer, texts: Sequence[str]) -> Iterator[UnknownPart]:
    """Yield the unknown characters of each text."""
    unknown = unknown_id(tokenizer)
    if unknown is None and _works_on_bytes(tokenizer):
        yield from (UnknownPart(_count_visible(text), 0, ()) for text in texts)
        return
    with plain_encoding(backend_of(tokenizer)) as backend:
        for batch in batch_texts(texts, CHARACTERS_AT_ONCE):
            if unknown is None:  # offsets after a dropped character are wrong in tokenizers
                letters = sorted(set().union(*batch))
                alone = backend.encode_batch(letters, add_special_tokens=False)
                left_out = {letter for letter, encoding in zip(letters, alone, strict=True) if not encoding.ids}
                yield from (_describe(text, np.array([char in left_out for char in text], bool)) for text in batch)
                continue
            for text, encoding in zip(batch, backend.encode_batch(batch, add_special_tokens=False), strict=True):
                offsets, is_unknown = encoding.offsets, np.zeros(len(text), bool)
                for place in np.flatnonzero(np.array(encoding.ids, np.int64) == unknown).tolist():
                    is_unknown[slice(*offsets[place])] = True
                yield _describe(text, is_unknown)


def count_unknown_rows(
    tokenizer: AnyTokenizer, texts: Sequence[str], may_have: NDArray[np.bool_], numbers: Sequence[int],
    count: "UnknownCount",
) -> None:  # fmt: skip
    """Add rows to `count`. `may_have` is whether a row has an unknown id; rows without are not encoded again."""
    if unknown_id(tokenizer) is None:
        may_have = np.full(len(texts), not _works_on_bytes(tokenizer))
    found = find_unknown(tokenizer, [text for text, may in zip(texts, may_have, strict=True) if may])
    for text, may, number in zip(texts, may_have, numbers, strict=True):
        count.add(next(found) if may else UnknownPart(_count_visible(text), 0, ()), number)


def _describe(text: str, is_unknown: NDArray[np.bool_]) -> UnknownPart:
    if not is_unknown.any():
        return UnknownPart(_count_visible(text), 0, ())
    edges = np.flatnonzero(np.diff(is_unknown, prepend=False, append=False))
    stretches = [text[start:end].strip() for start, end in list(pairwise(edges.tolist()))[::2]]
    n_unknown = sum(map(_count_visible, stretches))
    return UnknownPart(_count_visible(text), n_unknown, tuple(filter(None, stretches)))


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


@dataclass(slots=True)
class UnknownCount:
    """Unknown characters over many texts, such as prompts or the rows of a file."""

    n_texts: int = 0
    n_characters: int = 0
    n_unknown: int = 0
    n_mostly: int = 0
    """Number of texts that are mostly unknown."""
    numbers: list[int] = field(default_factory=list)
    """Lines or numbers of the first of them."""
    examples: list[str] = field(default_factory=list)

    def add(self, part: UnknownPart, number: int) -> None:
        """Count a text; `number` identifies it in notes."""
        self.n_texts += 1
        self.n_characters += part.n_characters
        self.n_unknown += part.n_unknown
        if part.is_mostly_unknown:
            self.n_mostly += 1
            if len(self.numbers) < N_EXAMPLES:
                self.numbers.append(number)
        for stretch in part.stretches:
            if len(self.examples) == N_EXAMPLES:
                break
            short = clean_line(stretch[:MAX_EXAMPLE_CHARACTERS]) + "…" * (len(stretch) > MAX_EXAMPLE_CHARACTERS)
            if short not in self.examples:
                self.examples.append(short)

    @property
    def share(self) -> float:
        return self.n_unknown / max(1, self.n_characters)

    @property
    def is_worth_a_note(self) -> bool:
        """Whether to show a note: a text is mostly unknown, or the fraction over all texts is high."""
        return self.n_mostly > 0 or self.share >= MIN_SHARE

    def describe(self, verb: str = " are unknown to the tokenizer") -> str:
        """A note such as `2 of 13 characters (15%) are unknown to the tokenizer, such as é, 火`."""
        shown = ", ".join(self.examples)
        percent = f"{self.share:.0%}" if self.share >= 0.01 else f"{self.share:.2%}"
        all_of = "all" if self.n_unknown == self.n_characters else f"{self.n_unknown:,} of"
        more = "" if self.n_unknown == self.n_characters else f" ({percent})"
        return f"{all_of} {self.n_characters:,} characters{more}{verb}, such as {shown}"

    def describe_rows(self, path: str) -> list[str]:
        """A note on the rows of a file, if `is_worth_a_note`."""
        if not self.is_worth_a_note:
            return []
        note = f"{path}: {self.describe()}"
        if self.n_mostly:
            lines = ", ".join(map(str, self.numbers)) + (", ..." if self.n_mostly > len(self.numbers) else "")
            note += f"; {self.n_mostly:,} of {self.n_texts:,} rows are mostly unknown (lines {lines})"
            note += ": their predictions are unreliable"
        return [note]
