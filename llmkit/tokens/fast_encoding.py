"""Encode many times faster than `tokenizers`, with the same ids.

The package fastokens encodes byte-level BPE; chunk_encoding.py encodes WordPiece, words and characters. An encoder is
used only after a comparison, once per run: the encoder and `tokenizers` both encode a sample of the text, every
character of the text in several contexts, and a list of edge cases. If the ids differ, `tokenizers` encodes all texts,
or, if only a few characters cause the difference, the texts that contain them. The fast encoder therefore affects the
speed and never the result (see docs/decisions/0016-fast-tokenizing.md and 0021-one-road-through-prepare.md).

An EncodingTokenizer has the parts of a tokenizer that encoding needs; workers load it without transformers.

Independent of row storage or sampling.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, fields
from functools import lru_cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from tokenizers import Tokenizer

from llmkit.core.console import first_line
from llmkit.core.files import write_json
from llmkit.tokens.chunk_encoding import ChunkEncoder, can_encode_chunks
from llmkit.tokens.time_limit import EncodingTooSlow, run_limited
from llmkit.tokens.tokenizer import (
    AlignedIds,
    AnyTokenizer,
    EncodedTexts,
    backend_of,
    encode_texts,
    encode_with_offsets,
    id_dtype,
)
from llmkit.tokens.tokenizer_check import is_panic

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, eq=False)
class EncodingTokenizer:
    """The part of a tokenizer that encoding needs; loading it does not import transformers."""

    backend_tokenizer: Tokenizer
    state: str
    """tokenizer.json, without truncation and padding."""
    is_byte_level_bpe: bool
    """Whether the tokenizer is a byte-level BPE, like GPT-2's."""
    n_tokens: int
    """Size of the vocabulary, including added tokens."""
    eos_token_id: int | None
    unk_token_id: int | None
    all_special_tokens: list[str]
    name_or_path: str

    def __len__(self) -> int:
        return self.n_tokens


def make_encoding_tokenizer(tokenizer: "PreTrainedTokenizerBase") -> EncodingTokenizer:
    """Return a snapshot of the tokenizer. Raises ModelError if it has no fast backend."""
    backend = backend_of(tokenizer)
    state = json.loads(backend.to_str()) | {"truncation": None, "padding": None}
    steps = state["pre_tokenizer"] or {}
    kinds = {step["type"] for step in steps.get("pretokenizers", [steps]) if step}
    return EncodingTokenizer(
        backend,
        json.dumps(state, ensure_ascii=False),
        bool(state["model"]["type"] == "BPE" and "ByteLevel" in kinds),
        len(tokenizer),
        tokenizer.eos_token_id,
        tokenizer.unk_token_id,
        list(tokenizer.all_special_tokens),
        str(tokenizer.name_or_path),
    )


def save_encoding_tokenizer(tokenizer: "PreTrainedTokenizerBase", folder: Path) -> Path:
    """Write a JSON file for `load_encoding_tokenizer` to `folder`, named by its hash."""
    snapshot = make_encoding_tokenizer(tokenizer)
    names = [each.name for each in fields(snapshot) if each.name != "backend_tokenizer"]
    state = {name: getattr(snapshot, name) for name in names}
    path = folder / f"tokenizer-{hashlib.sha256(json.dumps(state).encode()).hexdigest()[:16]}.json"
    write_json(path, state)
    _cache.clear()
    _cache[path] = snapshot
    return path


def load_encoding_tokenizer(path: Path) -> EncodingTokenizer:
    """Load a tokenizer that `save_encoding_tokenizer` wrote; caches the last one saved or loaded."""
    if path not in _cache:
        state = json.loads(path.read_text(encoding="utf-8"))
        _cache.clear()
        _cache[path] = EncodingTokenizer(Tokenizer.from_str(state["state"]), **state)
    return _cache[path]


_cache: dict[Path, EncodingTokenizer] = {}


T = TypeVar("T")

MAX_MISMATCHED = 16
"""Maximum number of characters that the encoders may encode differently; `tokenizers` encodes the texts that contain
them. Of 43,000 characters, fastokens 0.3.5 differs in one: U+180E, a space in older versions of Unicode."""

EDGE_CASES = (
    "",
    " ",
    "\n",
    " " * 100 + "x" + "\n" * 100 + "y" + "\t \r\n\v\f " * 20 + "z",
    "end in spaces   ",
    *("a" * n + " " + "1" * n + " " + "!" * n + " " * n + "'" * n for n in (1, 2, 3, 4, 15, 16, 17, 31, 32, 33, 65)),
    *("中" * n + "e\u0301" * n + "。" * n + " 中" * 3 + "  中 \u3000中" for n in (1, 2, 15, 16, 17, 33)),
    "it's IT'S 'sit we'll've 'd'm're't ’s s' '''s",
    "\u0301a\u0301\u0302b \u0301\u0301" + "e" + "\u0301" * 20 + "हिन्दी ไทย العربية 한국어 \u1112\u1161\u11ab",
    "\ufeff\u200b\u200d\u00ad\u2028\u2029\x85\xa0\u3000\u180e\u202e\x00\x01\x1c\x1d\x1e\x1f\x7f",
    "👩\u200d👩\u200d👧🏽🇫🇷 𝔘𝔫𝔦 \U0001f9ff\U000e0001\U0010fffd\ue000\ufffd\ufffe\uffff",
    "3.14 1,000,000 2〇〇五 ½ ² ⅷ ٣٤ 1234567 3rd x2y",
    "<|endoftext|> <|pad|>[MASK]<s></s><|im_start|> <eos> <pad><unk> x<EOS>y [UNK][CLS] ##a\r\n\n \n",
    *(" ".join(c * n for n in (7, 8, 9, 15, 16, 17, 99, 100, 101, 201)) for c in ("a", "é", "ж", "e\u0301")),
    "ÉCOLE İÇ ΣΊΣΟΣ Œ ß ŉ ǰ a\x00b \x00 a\u200db \u200d(\u0301x a\u226eb a\u0338<\u0338 \ufb01 \u2126;\u037e",
)


@dataclass(frozen=True, slots=True)
class Encoder:
    """Encodes texts into ids."""

    encode: Callable[[Sequence[str]], EncodedTexts]
    """Encodes like `encode_texts`, for one tokenizer."""
    encode_with_offsets: Callable[[Sequence[str]], Iterable[AlignedIds]]
    name: str = "tokenizers"
    """Name of the encoder, and the version of fastokens."""
    finds_offsets: bool = True
    """Whether `encode_with_offsets` is fast too; otherwise `tokenizers` computes the offsets."""


@dataclass(frozen=True, slots=True)
class EncoderCheck:
    """Result of a comparison: the texts for which a fast encoder may be used."""

    mismatched: str | None = None
    """`tokenizers` encodes the texts that contain one of these characters. None: it encodes all texts."""
    encoder: str | None = None
    """Name of the fast encoder that was compared; another machine may have another version."""
    reason: str = field(default="", compare=False)
    """Why the fast encoder is rejected."""


def plain_encoder(tokenizer: AnyTokenizer) -> Encoder:
    """Return the encoder of `tokenizers`."""
    return Encoder(partial(encode_texts, tokenizer), partial(encode_with_offsets, tokenizer))


def check_encoder(
    tokenizer: EncodingTokenizer, sample: Sequence[str], characters: Iterable[str], *, with_offsets: bool = False
) -> EncoderCheck:
    """Compare the fast encoder with `tokenizers` on a sample of a text and on all of its characters."""
    try:
        fast = _open_fast(tokenizer)
        if fast is None or (with_offsets and not fast.finds_offsets):
            return EncoderCheck()
        differ = partial(find_differences, fast, plain_encoder(tokenizer), with_offsets=with_offsets)
        all_characters = sorted({*map(chr, range(128)), *characters})
        mismatched = sorted(text[1] for text in differ([_surround(char) for char in all_characters]))
        specials = tokenizer.all_special_tokens
        texts = [*EDGE_CASES, *specials, *map(_surround, specials), *sample]
        wrong = differ([text for text in texts if not any(char in text for char in mismatched)])
    except ImportError:
        return EncoderCheck(reason="fastokens, which is faster, is not installed (pip install fastokens)")
    except EncodingTooSlow:
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and not is_panic(error):
            raise
        return EncoderCheck(reason=f"the fast encoder does not support this tokenizer: {first_line(error)[:100]}")
    if wrong or len(mismatched) > MAX_MISMATCHED:
        text = wrong[0] if wrong else "".join(mismatched)
        return EncoderCheck(reason=f"{fast.name} returns different ids for {text[:40]!r}")
    return EncoderCheck("".join(mismatched), fast.name)


def make_encoder(tokenizer: EncodingTokenizer, check: EncoderCheck) -> Encoder:
    """Return the fast encoder for the texts that the check allows; `tokenizers` if this machine has another version."""
    slow = plain_encoder(tokenizer)
    try:
        fast = None if check.mismatched is None else _open_fast(tokenizer)
    except ImportError:  # fastokens is not installed on this machine
        return slow
    if fast is None or fast.name != check.encoder:
        return slow
    with_fallback = partial(_with_fallback, mismatched=check.mismatched or "")
    return Encoder(
        with_fallback(fast.encode, slow.encode),
        with_fallback(fast.encode_with_offsets, slow.encode_with_offsets),
    )


def _with_fallback(
    fast: Callable[[Sequence[str]], T], slow: Callable[[Sequence[str]], T], mismatched: str
) -> Callable[[Sequence[str]], T]:
    def encode(texts: Sequence[str]) -> T:
        if any(char in text for char in mismatched for text in texts):
            return slow(texts)
        try:
            return fast(texts)
        except BaseException as error:  # fastokens' regular expressions have limits
            if not isinstance(error, RuntimeError) and not is_panic(error):
                raise
            return slow(texts)

    return encode


def find_differences(fast: Encoder, slow: Encoder, texts: Sequence[str], *, with_offsets: bool) -> list[str]:
    """Return the texts for which the encoders differ."""
    if with_offsets and fast.finds_offsets:
        aligned = zip(texts, fast.encode_with_offsets(texts), slow.encode_with_offsets(texts), strict=True)
        return [text for text, one, other in aligned if not all(map(np.array_equal, one, other))]
    ids, lengths = fast.encode(texts)
    expected, expected_lengths = slow.encode(texts)
    if np.array_equal(ids, expected) and np.array_equal(lengths, expected_lengths):
        return []
    found, expected_found = np.split(ids, np.cumsum(lengths)), np.split(expected, np.cumsum(expected_lengths))
    pairs = zip(texts, found, expected_found, strict=False)  # np.split adds an empty piece at the end
    return [text for text, one, other in pairs if not np.array_equal(one, other)]


def _surround(c: str) -> str:
    """Return the character (or special token) next to letters, digits, punctuation, Chinese and white space.

    The character itself is at index 1.
    """
    return f"x{c}y{c}{c} {c}1{c}2{c}.{c}'s  {c}中{c}\n{c} "


@lru_cache(maxsize=1)
def _open_fast(tokenizer: EncodingTokenizer) -> Encoder | None:
    """Return the fast encoder for this kind of tokenizer, or None. Raises ImportError without fastokens.

    The last encoder is cached: fastokens takes 0.3 s to load 50,000 tokens, and a ChunkEncoder fills a cache of chunks.
    """
    if tokenizer.is_byte_level_bpe:
        import fastokens

        backend = fastokens.Tokenizer.from_json_str(tokenizer.state)
        with_offsets = plain_encoder(tokenizer).encode_with_offsets
        name = f"fastokens {version('fastokens')}"
        return Encoder(partial(_encode_fastokens, backend, tokenizer), with_offsets, name, finds_offsets=False)
    state = json.loads(tokenizer.state)
    if not can_encode_chunks(state):
        return None
    chunks = ChunkEncoder(tokenizer, state)
    return Encoder(chunks.encode, chunks.encode_with_offsets, "chunk encoding")


def _encode_fastokens(backend: Any, tokenizer: EncodingTokenizer, texts: Sequence[str]) -> EncodedTexts:
    """Return the same result as `encode_texts`, computed by fastokens."""
    encode = partial(backend.encode_batch_flat, list(texts), add_special_tokens=False, split_special_tokens=True)
    ids, offsets = run_limited(encode, texts, tokenizer.name_or_path)
    lengths = np.diff(np.frombuffer(offsets, "<u8")).astype(np.int64)
    return np.frombuffer(ids, "<u4").astype(id_dtype(tokenizer)), lengths
