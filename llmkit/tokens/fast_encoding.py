"""Encode many times as fast as `tokenizers`, wherever that gives the same ids.

Byte-level BPE is left to fastokens; BERT's WordPiece, words and characters to chunk_encoding.py. Either is used for
one tokenizer and one text only after a comparison, once a run: both ways encode an even sample of that text, every
character the text has next to letters, digits, punctuation, Chinese and white space, and texts that are hard on
purpose. After one difference `tokenizers` does the work; where it comes from a rare character, that of the texts that
have it. So the fast encoder decides how long it takes and no byte of the result (see
docs/decisions/0016-fast-tokenizing.md and 0021-one-road-through-prepare.md).

Knows nothing of how rows are stored, nor how the sample is drawn.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from tokenizers import Tokenizer

from llmkit.core import console
from llmkit.core.files import write_json
from llmkit.tokens.chunk_encoding import ChunkEncoder, can_encode_chunks
from llmkit.tokens.tokenizer import AlignedIds, EncodedTexts, backend_of, encode_texts, encode_with_offsets, id_dtype

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, eq=False)
class EncodingTokenizer:
    """What turning text into ids needs of a tokenizer, which workers load without transformers."""

    backend_tokenizer: Tokenizer
    state: str
    """The backend as JSON; it neither cuts nor pads a text."""
    is_byte_level_bpe: bool
    """Whether the tokenizer is of GPT-2's kind."""
    n_tokens: int
    """Added ones too."""
    eos_token_id: int | None
    unk_token_id: int | None
    all_special_tokens: list[str]
    name_or_path: str

    def __len__(self) -> int:
        return self.n_tokens


def make_encoding_tokenizer(tokenizer: "PreTrainedTokenizerBase") -> EncodingTokenizer:
    """The same tokenizer, as it is now. ModelError if it has no fast backend."""
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
    """Write a file in `folder` for `load_encoding_tokenizer`; its name is unique to the tokenizer."""
    bare = make_encoding_tokenizer(tokenizer)
    kept = {field.name: getattr(bare, field.name) for field in fields(bare) if field.name != "backend_tokenizer"}
    path = folder / f"tokenizer-{hashlib.sha256(json.dumps(kept).encode()).hexdigest()[:16]}.json"
    write_json(path, kept)
    _loaded.clear()
    _loaded[path] = bare
    return path


def load_encoding_tokenizer(path: Path) -> EncodingTokenizer:
    """What `save_encoding_tokenizer` wrote; the process that wrote it keeps it, another one reads it once."""
    if path not in _loaded:
        kept = json.loads(path.read_text(encoding="utf-8"))
        _loaded.clear()
        _loaded[path] = EncodingTokenizer(Tokenizer.from_str(kept["state"]), **kept)
    return _loaded[path]


_loaded: dict[Path, EncodingTokenizer] = {}
"""The last one."""


if TYPE_CHECKING:
    from llmkit.tokens.tokenizer import AnyTokenizer

T = TypeVar("T")

MAX_MISMATCHED = 16
"""Characters on which the two disagree; texts with one of so few are left to `tokenizers`. Of 43,000 characters tried,
fastokens 0.3.5 had one: U+180E, which older Unicode called a space."""

HARD_TEXTS = (
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
    """What turns texts into ids."""

    encode: Callable[[Sequence[str]], EncodedTexts]
    """As `encode_texts` with its tokenizer given."""
    encode_with_offsets: Callable[[Sequence[str]], Iterable[AlignedIds]]


@dataclass(frozen=True, slots=True)
class FastEncoder:
    """An encoder that takes the place of `tokenizers` where it agrees with it."""

    name: str
    """With its release."""
    encode: Callable[[Sequence[str]], EncodedTexts]
    encode_with_offsets: Callable[[Sequence[str]], Iterable[AlignedIds]] | None
    """None: it has no offsets."""


@dataclass(frozen=True, slots=True)
class EncoderCheck:
    """What a fast encoder may do for a text."""

    mismatched: str | None = None
    """Texts with one of these characters are left to `tokenizers`. None: all are."""
    encoder: str | None = None
    """The fast encoder that was compared: on another machine may be another release."""


def plain_encoder(tokenizer: "AnyTokenizer") -> Encoder:
    """That of `tokenizers`."""
    return Encoder(partial(encode_texts, tokenizer), partial(encode_with_offsets, tokenizer))


def check_encoder(
    tokenizer: EncodingTokenizer, sample: Sequence[str], characters: Iterable[str], *, with_offsets: bool = False
) -> EncoderCheck:
    """Compare the fast encoder with `tokenizers` on a sample of a text and on all characters that the text has.

    One line says so where the fast encoder is refused.
    """
    try:
        fast = _open_fast(tokenizer)
        if fast is None or (with_offsets and fast.encode_with_offsets is None):
            return EncoderCheck()
        differ = partial(find_differences, fast, plain_encoder(tokenizer), with_offsets=with_offsets)
        all_characters = sorted({*map(chr, range(128)), *characters})
        mismatched = sorted(text[1] for text in differ([_surround(char) for char in all_characters]))
        specials = tokenizer.all_special_tokens
        texts = [*HARD_TEXTS, *specials, *map(_surround, specials), *sample]
        wrong = differ([text for text in texts if not any(char in text for char in mismatched)])
    except ImportError:
        return _refuse("fastokens, which is faster, is not installed (pip install fastokens)")
    except BaseException as error:
        if not isinstance(error, Exception) and not _is_panic(error):
            raise
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        return _refuse(f"the fast encoder cannot take this tokenizer: {reason[:100]}")
    if wrong or len(mismatched) > MAX_MISMATCHED:
        text = wrong[0] if wrong else "".join(mismatched)
        return _refuse(f"{fast.name} gives other ids for {text[:40]!r}")
    return EncoderCheck("".join(mismatched), fast.name)


def _refuse(reason: str) -> EncoderCheck:
    console.info(f"tokenizing with tokenizers: {reason}")
    return EncoderCheck()


def make_encoder(tokenizer: EncodingTokenizer, check: EncoderCheck) -> Encoder:
    """What encodes texts for which the check holds."""
    slow = plain_encoder(tokenizer)
    try:
        fast = None if check.mismatched is None else _open_fast(tokenizer)
    except ImportError:  # fastokens is not on this machine
        return slow
    if fast is None or fast.name != check.encoder:
        return slow
    with_fallback = partial(_with_fallback, mismatched=check.mismatched or "")
    return Encoder(
        with_fallback(fast.encode, slow.encode),
        slow.encode_with_offsets
        if fast.encode_with_offsets is None
        else with_fallback(fast.encode_with_offsets, slow.encode_with_offsets),
    )


def _with_fallback(
    fast: Callable[[Sequence[str]], T], slow: Callable[[Sequence[str]], T], mismatched: str
) -> Callable[[Sequence[str]], T]:
    def encode(texts: Sequence[str]) -> T:
        if any(char in text for char in mismatched for text in texts):
            return slow(texts)
        try:
            return fast(texts)
        except BaseException as error:  # fastokens' regular expressions have limits; the ids are the same either way
            if not isinstance(error, RuntimeError) and not _is_panic(error):
                raise
            return slow(texts)

    return encode


def _is_panic(error: BaseException) -> bool:
    """Rust's, which is no Exception and has no public name."""
    return type(error).__name__ == "PanicException"


def find_differences(
    fast: "Encoder | FastEncoder", slow: Encoder, texts: Sequence[str], *, with_offsets: bool
) -> list[str]:
    """Those of the texts that the two encode differently."""
    if with_offsets and fast.encode_with_offsets is not None:
        aligned = zip(texts, fast.encode_with_offsets(texts), slow.encode_with_offsets(texts), strict=True)
        return [text for text, one, other in aligned if not all(map(np.array_equal, one, other))]
    ids, lengths = fast.encode(texts)
    expected, expected_lengths = slow.encode(texts)
    if np.array_equal(ids, expected) and np.array_equal(lengths, expected_lengths):
        return []
    found, expected_found = np.split(ids, np.cumsum(lengths)), np.split(expected, np.cumsum(expected_lengths))
    pairs = zip(texts, found, expected_found, strict=False)  # behind the last text stands an empty piece
    return [text for text, one, other in pairs if not np.array_equal(one, other)]


def _surround(c: str) -> str:
    """The character (or special token), second, next to letters, digits, punctuation, Chinese and white space."""
    return f"x{c}y{c}{c} {c}1{c}2{c}.{c}'s  {c}中{c}\n{c} "


@lru_cache(maxsize=1)
def _open_fast(tokenizer: EncodingTokenizer) -> FastEncoder | None:
    """The fast encoder for this kind of tokenizer, once for the check and all texts: fastokens takes 0.3 s for 50,000
    tokens, and chunks are remembered. None where there is none. ImportError without fastokens."""
    if tokenizer.is_byte_level_bpe:
        import fastokens

        backend = fastokens.Tokenizer.from_json_str(tokenizer.state)
        return FastEncoder(f"fastokens {version('fastokens')}", partial(_encode_fastokens, backend, tokenizer), None)
    state = json.loads(tokenizer.state)
    if not can_encode_chunks(state):
        return None
    chunks = ChunkEncoder(tokenizer, state)
    return FastEncoder("chunk encoding", chunks.encode, chunks.encode_with_offsets)


def _encode_fastokens(backend: Any, tokenizer: EncodingTokenizer, texts: Sequence[str]) -> EncodedTexts:
    """As `encode_texts`: no special token is added, and none comes from the text."""
    ids, offsets = backend.encode_batch_flat(list(texts), add_special_tokens=False, split_special_tokens=True)
    lengths = np.diff(np.frombuffer(offsets, "<u8")).astype(np.int64)
    return np.frombuffer(ids, "<u4").astype(id_dtype(tokenizer)), lengths
