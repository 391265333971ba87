"""Encode text with a cache: split it into chunks, and encode each distinct chunk once with `tokenizers`.

A chunk is a character that the pre-tokenizer isolates (punctuation, Chinese, a line end), or a run of other characters
between these and white space. Its ids do not depend on other chunks. `tokenizers` classifies the characters; this
module has no Unicode rules.

fast_encoding.py compares the ids with those of `tokenizers` before it uses them.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding

from llmkit.core.batching import batch_by_size
from llmkit.tokens.key_table import KeyTable
from llmkit.tokens.time_limit import run_limited
from llmkit.tokens.tokenizer import AlignedIds, AnyTokenizer, EncodedTexts, id_dtype, plain_encoding
from llmkit.tokens.tokenizer_check import LATIN_ACCENTS, UNSPACED_RUN

SEPARATOR, ALONE, LETTER, UNSEEN = 0, 1, 2, 255
"""Kinds of characters: a separator without a token, a complete chunk, a part of a chunk, not classified yet. The first
252 characters of kind LETTER get codes of their own, above LETTER; runs of up to 16 such characters are looked up by
these codes.
"""

N_CODE_POINTS = 0x110000
STRETCH = 100_000
"""Number of characters encoded at a time, so that the arrays fit into the CPU cache."""
CHUNKS_PER_CALL = 500
KEY_LETTERS = 16
TABLE_BITS = 19
MAX_CHUNKS = 200_000
MAX_CHARACTERS = 4_000_000
"""Limits of the cache, which is cleared when it exceeds one of them; about 60 MB."""

_MASKS = np.array([(1 << 8 * n) - 1 for n in range(9)], np.uint64)
"""Masks of the first n bytes."""


def can_encode_chunks(state: Mapping[str, Any]) -> bool:
    """Whether the ids of a chunk are independent of other chunks, for the parsed tokenizer.json `state`.

    True for BERT's pipeline and for words between white space, if the normalizers work on single characters or replace
    strings; and for BPE without merges, whose tokens are characters.
    """
    if any(not token["special"] for token in state["added_tokens"]):
        return False  # these tokens are matched before the text is split
    model, pre_tokenizer = state["model"], (state["pre_tokenizer"] or {}).get("type")
    if model["type"] == "BPE":
        settings = ("merges", "ignore_merges", "dropout", "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk")
        is_plain = not any(model.get(name) for name in settings)
        return is_plain and state["normalizer"] is None and pre_tokenizer is None
    if pre_tokenizer == "Sequence":
        first, *others = state["pre_tokenizer"]["pretokenizers"]
        is_run = first.get("pattern") == {"Regex": UNSPACED_RUN} and first.get("behavior") == "Isolated"
        pre_tokenizer = others[0]["type"] if is_run and not first["invert"] and len(others) == 1 else None
    if model["type"] not in ("WordPiece", "WordLevel") or pre_tokenizer not in ("BertPreTokenizer", "WhitespaceSplit"):
        return False
    steps = _normalizer_steps(state)
    kinds = [step["type"] for step in steps]
    if "NFD" in kinds:  # NFC composes only what NFD decomposed, as no U+0338 is left in between
        at = kinds.index("NFD")
        is_stripping = kinds[at + 1 : at + 3] == ["Replace", "NFC"] and steps[at + 1]["content"] == ""
        if is_stripping and steps[at + 1]["pattern"] == {"Regex": LATIN_ACCENTS}:
            del steps[at : at + 3]
    return all(step["type"] in ("BertNormalizer", "Lowercase") or "String" in step.get("pattern", ()) for step in steps)


def _normalizer_steps(state: Mapping[str, Any]) -> list[dict[str, Any]]:
    normalizer = state["normalizer"]
    if normalizer is None:
        return []
    return list(normalizer["normalizers"]) if normalizer["type"] == "Sequence" else [normalizer]


@dataclass(frozen=True, slots=True)
class _Stretch:
    """An encoded range of the joined texts."""

    chunk_starts: NDArray[np.int64]
    """Start of each chunk in the joined texts, in characters."""
    counts: NDArray[np.int64]
    """Number of tokens of each chunk."""
    ids: NDArray[np.unsignedinteger[Any]]
    starts: NDArray[np.int64]
    """Start of each token in characters; `starts` and `words` are empty without offsets."""
    words: NDArray[np.int64]


class ChunkEncoder:
    """Encodes with the same results as `encode_texts` and `encode_with_offsets`; not thread-safe.

    Raises ValueError if a space does not separate words, or if the tokenizer replaces a string that may span chunks.
    """

    def __init__(self, tokenizer: AnyTokenizer, state: Mapping[str, Any]) -> None:
        self._backend, self._name = tokenizer.backend_tokenizer, tokenizer.name_or_path
        self._dtype = id_dtype(tokenizer)
        self._kinds = np.full(N_CODE_POINTS, UNSEEN, np.uint8)
        self._n_letters = 0
        self._splits_words = state["pre_tokenizer"] is not None
        self._joiner = " " if self._splits_words else ""
        self._clear()
        if self._splits_words and self._classify(" ") != SEPARATOR:
            raise ValueError("a space does not separate words")
        for step in _normalizer_steps(state):
            replaced = step.get("pattern", {}).get("String", "")
            if len(replaced) > 1 and any(self._classify(char) != LETTER for char in replaced):
                raise ValueError(f"it replaces {replaced!r}")

    def encode(self, texts: Sequence[str]) -> EncodedTexts:
        """Return (concatenated ids of all texts, number of ids of each)."""
        ids, lengths = [np.zeros(0, self._dtype)], [np.zeros(0, np.int64)]
        for batch in batch_by_size(texts, len, STRETCH):
            joined, text_starts = self._join(batch)
            stretches = list(self._encode_joined(joined, with_offsets=False))
            ids += [stretch.ids for stretch in stretches]
            lengths.append(np.diff(_token_bounds(stretches, text_starts)))
        return np.concatenate(ids), np.concatenate(lengths)

    def encode_with_offsets(self, texts: Sequence[str]) -> list[AlignedIds]:
        """Return for each text the ids, the start of each token in characters, and the number of its word."""
        aligned = []
        for batch in batch_by_size(texts, len, STRETCH):
            joined, text_starts = self._join(batch)
            stretches = list(self._encode_joined(joined, with_offsets=True))
            bounds = _token_bounds(stretches, text_starts).tolist()
            ids = np.concatenate([np.zeros(0, self._dtype), *(stretch.ids for stretch in stretches)])
            starts = np.concatenate([np.zeros(0, np.int64), *(stretch.starts for stretch in stretches)])
            words = np.concatenate([np.zeros(0, np.int64), *(stretch.words for stretch in stretches)])
            for start, begin, stop in zip(text_starts[:-1].tolist(), bounds[:-1], bounds[1:], strict=True):
                first_word = words[begin : begin + 1]  # empty for a text without tokens
                aligned.append((ids[begin:stop], starts[begin:stop] - start, words[begin:stop] - first_word))
        return aligned

    def _join(self, texts: Sequence[str]) -> tuple[str, NDArray[np.int64]]:
        """Join texts so that no chunk spans two; returns the joined text, all starts and the last end."""
        lengths = np.fromiter(map(len, texts), np.int64, len(texts)) + len(self._joiner)
        return self._joiner.join(texts), np.append(0, lengths.cumsum())

    def _encode_joined(self, text: str, *, with_offsets: bool) -> Iterator[_Stretch]:
        begin = n_words = 0
        while begin < len(text):
            stop = self._find_boundary(text, begin + STRETCH)
            if len(self._counts) > MAX_CHUNKS or self._n_characters > MAX_CHARACTERS:
                self._clear()
            chunk_starts, numbers = self._split(text[begin:stop])
            chunk_starts += begin
            counts = self._counts.take(numbers)
            indices = self._firsts.take(numbers)
            if not (counts == 1).all():
                indices = np.repeat(indices - (counts.cumsum() - counts), counts)
                indices += np.arange(len(indices))
            starts = words = np.zeros(0, np.int64)
            if with_offsets:
                chunk_words = self._n_words.take(numbers)
                words_before = chunk_words.cumsum() - chunk_words + n_words
                n_words += int(chunk_words.sum())
                starts = np.repeat(chunk_starts, counts) + self._starts.take(indices)
                words = np.repeat(words_before, counts) + self._words.take(indices)
            yield _Stretch(chunk_starts, counts, self._ids.take(indices), starts, words)
            begin = stop

    def _find_boundary(self, text: str, start: int) -> int:
        """Return the first offset at or after `start` that is not inside a chunk."""
        while start < len(text) and self._splits_words:
            kinds = self._find_kinds(_code_points(text[start : start + 1000]))
            boundaries = np.flatnonzero(kinds < LETTER)
            if len(boundaries):
                return start + int(boundaries[0])
            start += 1000
        return min(start, len(text))

    def _split(self, text: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the start of each chunk of the text, and the chunk's number in the cache."""
        codes = _code_points(text)
        if not self._splits_words:
            return np.arange(len(codes)), self._number_characters(codes)
        kinds = np.zeros(1 + len(codes) + KEY_LETTERS, np.uint8)  # with a separator at both ends
        kinds[1 : len(codes) + 1] = self._find_kinds(codes)
        is_letter = kinds >= LETTER
        edges = np.flatnonzero(is_letter[1:] != is_letter[:-1])
        run_starts, run_stops = edges[::2], edges[1::2]
        kinds = kinds[1:]
        begins = kinds == ALONE
        begins[run_starts] = True
        chunk_starts = np.flatnonzero(begins)
        is_alone = kinds[chunk_starts] == ALONE
        numbers = np.empty(len(chunk_starts), np.int64)
        numbers[~is_alone] = self._number_runs(text, kinds, run_starts, run_stops - run_starts)
        numbers[is_alone] = self._number_characters(codes[chunk_starts[is_alone]])
        return chunk_starts, numbers

    def _find_kinds(self, codes: NDArray[np.int64]) -> NDArray[np.uint8]:
        kinds = self._kinds.take(codes, mode="clip")  # no code is out of range; this mode is the fastest
        if (kinds == UNSEEN).any():
            for code in np.unique(codes[kinds == UNSEEN]).tolist():
                kind = self._classify(chr(code))
                if kind == LETTER and self._n_letters < UNSEEN - LETTER - 1:
                    self._n_letters += 1
                    kind = LETTER + self._n_letters
                self._kinds[code] = kind
            kinds = self._kinds.take(codes, mode="clip")
        return kinds

    def _classify(self, char: str) -> int:
        normalizer, pre_tokenizer = self._backend.normalizer, self._backend.pre_tokenizer
        text = f"a{char}b{char}{char}a"
        normalized = text if normalizer is None else normalizer.normalize_str(text)
        pieces = [piece for piece, _ in pre_tokenizer.pre_tokenize_str(normalized)]
        inner = pieces[1 : len(pieces) // 3]
        if pieces != ["a", *inner, "b", *inner, *inner, "a"]:
            return LETTER
        return ALONE if inner else SEPARATOR

    def _number_runs(
        self, text: str, kinds: NDArray[np.uint8], starts: NDArray[np.int64], lengths: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Return the numbers of runs of letters: short runs of coded letters are in the table, others in a dict."""
        eights = np.ndarray((len(kinds) - 7,), "<u8", kinds, strides=(1,))  # 8 kinds from each character on
        lows = eights[starts] & _MASKS.take(lengths, mode="clip")
        highs = np.zeros(len(starts), np.uint64)
        over = np.flatnonzero(lengths > 8)
        highs[over] = eights[starts[over] + 8] & _MASKS.take(lengths[over] - 8, mode="clip")
        numbers = self._table.find(lows, highs)
        has_no_key = (lengths > KEY_LETTERS) | _has_byte(lows, LETTER)
        has_no_key[over] |= _has_byte(highs[over], LETTER)
        if len(others := np.flatnonzero(has_no_key)):
            runs = _slice(text, starts[others], lengths[others])
            if unknown := [run for run in dict.fromkeys(runs) if run not in self._numbers]:
                self._numbers.update(zip(unknown, self._add_chunks(unknown).tolist(), strict=True))
            numbers[others] = [self._numbers[run] for run in runs]
        if len(missing := np.flatnonzero(numbers == 0)):
            runs = _slice(text, starts[missing], lengths[missing])
            firsts = dict(zip(reversed(runs), reversed(range(len(runs))), strict=True))  # first index of each run
            new = missing[list(firsts.values())]
            added = self._add_chunks(list(firsts))
            self._table.add(lows[new], highs[new], added)
            known = dict(zip(firsts, added.tolist(), strict=True))
            numbers[missing] = [known[run] for run in runs]
        return numbers

    def _number_characters(self, codes: NDArray[np.int64]) -> NDArray[np.int64]:
        numbers = self._character_numbers.take(codes, mode="clip")
        if not numbers.all():
            unknown = np.unique(codes[numbers == 0])
            self._character_numbers[unknown] = self._add_chunks([chr(code) for code in unknown.tolist()])
            numbers = self._character_numbers.take(codes, mode="clip")
        return numbers

    def _clear(self) -> None:
        """Clear the cache of chunks, but not the kinds of characters. Number 0 means: not in the cache."""
        self._table = KeyTable(TABLE_BITS, MAX_CHUNKS + STRETCH)
        self._numbers: dict[str, int] = {}
        self._character_numbers = np.zeros(N_CODE_POINTS, np.int64)
        self._n_characters = 0
        self._firsts = self._counts = self._n_words = np.zeros(1, np.int64)
        self._ids = np.zeros(0, self._dtype)
        self._starts = self._words = np.zeros(0, np.int64)

    def _add_chunks(self, chunks: Sequence[str]) -> NDArray[np.int64]:
        """Encode the chunks with `tokenizers` and cache the result; returns their numbers."""
        groups = [chunks[first : first + CHUNKS_PER_CALL] for first in range(0, len(chunks), CHUNKS_PER_CALL)]
        with plain_encoding(self._backend) as backend:
            joined = [self._joiner.join(group) for group in groups]
            encode = partial(backend.encode_batch, joined, add_special_tokens=False)
            encodings = run_limited(encode, joined, self._name)
        parts = [self._split_encoding(group, encoding) for group, encoding in zip(groups, encodings, strict=True)]
        ids, starts, words, counts, n_words = (np.concatenate(part) for part in zip(*parts, strict=True))
        self._ids = np.concatenate([self._ids, ids])
        self._starts = np.concatenate([self._starts, starts])
        self._words = np.concatenate([self._words, words])
        self._n_words = np.concatenate([self._n_words, n_words])
        self._counts = np.concatenate([self._counts, counts])
        self._firsts = self._counts.cumsum() - self._counts
        self._n_characters += sum(map(len, chunks))
        return np.arange(len(self._counts) - len(chunks), len(self._counts))

    def _split_encoding(self, chunks: Sequence[str], encoding: Encoding) -> tuple[NDArray[Any], ...]:
        """Split the encoding of joined chunks.

        Returns for each token the id, its start and the number of its word within the chunk; for each chunk the number
        of tokens and of words.
        """
        n_tokens = len(encoding.ids)
        lengths = np.fromiter(map(len, chunks), np.int64, len(chunks)) + len(self._joiner)
        begins = lengths.cumsum() - lengths
        starts = np.fromiter((start for start, _ in encoding.offsets), np.int64, n_tokens)
        words = np.array(encoding.word_ids, np.int64)
        owners = np.searchsorted(begins, starts, side="right") - 1
        counts = np.bincount(owners, minlength=len(chunks))
        n_words = np.zeros(len(chunks), np.int64)
        if self._splits_words:
            stops = counts.cumsum()
            has_token = counts > 0
            first_words = np.zeros(len(chunks), np.int64)
            first_words[has_token] = words[(stops - counts)[has_token]]
            n_words[has_token] = words[stops[has_token] - 1] - first_words[has_token] + 1
            words -= first_words[owners]
        return np.array(encoding.ids, self._dtype), starts - begins[owners], words, counts, n_words


def _code_points(text: str) -> NDArray[np.int64]:
    return np.frombuffer(text.encode("utf-32-le"), "<u4").astype(np.int64)  # `take` is fastest with int64


def _slice(text: str, starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> list[str]:
    return [text[start:stop] for start, stop in zip(starts.tolist(), (starts + lengths).tolist(), strict=True)]


def _has_byte(words: NDArray[np.uint64], byte: int) -> NDArray[np.bool_]:
    """Whether one of the eight bytes of each word equals `byte`: XOR makes it 0, and subtracting 1 sets its top bit."""
    ones, tops = np.uint64(0x0101010101010101), np.uint64(0x8080808080808080)
    zeroed = words ^ (ones * np.uint64(byte))
    found: NDArray[np.bool_] = ((zeroed - ones) & ~zeroed & tops) != 0
    return found


def _token_bounds(stretches: Sequence[_Stretch], text_starts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the cumulative number of tokens before each text, and the total."""
    chunk_starts = np.concatenate([np.zeros(0, np.int64), *(stretch.chunk_starts for stretch in stretches)])
    counts = np.concatenate([np.zeros(0, np.int64), *(stretch.counts for stretch in stretches)])
    return np.append(0, counts.cumsum())[np.searchsorted(chunk_starts, text_starts)]
