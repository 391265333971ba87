"""Prepare a tokenizer for training, and encode texts.

A literal special token in a text, such as `<|endoftext|>`, is encoded as ordinary text.

Independent of text files, blocks or models; loading.py loads tokenizers, training_tokenizers.py trains new ones.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from llmkit.core.batching import batch_by_size
from llmkit.core.errors import ModelError
from llmkit.tokens.normalization import own_normalizer
from llmkit.tokens.time_limit import EncodingTooSlow, run_limited
from llmkit.tokens.tokenizer_check import catch_panics

if TYPE_CHECKING:  # transformers takes a second to load, and its AutoTokenizer loads torch, which takes three more
    from transformers import PreTrainedTokenizerBase

END_OF_TEXT = "<|endoftext|>"
CHARACTERS_AT_ONCE = 4_000_000
"""Batch size in characters, limited because an Encoding needs far more memory than its ids."""

EncodedTexts: TypeAlias = tuple[NDArray[np.unsignedinteger[Any]], NDArray[np.int64]]
"""(concatenated ids of all texts, number of ids of each text)."""
AlignedIds: TypeAlias = tuple[NDArray[np.unsignedinteger[Any]], NDArray[np.int64], NDArray[np.int64]]
"""For one text: (ids, start of each token in characters, word number of each token)."""


class AnyTokenizer(Protocol):
    """The attributes that encoding needs; transformers' tokenizers and EncodingTokenizer (fast_encoding.py) have
    them.
    """

    def __len__(self) -> int: ...
    @property
    def backend_tokenizer(self) -> Any: ...
    @property
    def eos_token_id(self) -> Any: ...
    @property
    def unk_token_id(self) -> Any: ...
    @property
    def all_special_tokens(self) -> list[str]: ...
    @property
    def name_or_path(self) -> str: ...


def ensure_special_tokens(tokenizer: "PreTrainedTokenizerBase") -> list[str]:
    """Add an end-of-text token and a separate pad token if they are missing; returns one sentence per change.

    A new token has an id beyond the embeddings of the tokenizer's model. Pad must differ from eos, so that the end of a
    text is not masked as padding.
    """
    changes = []
    if tokenizer.eos_token is None and tokenizer.sep_token is not None:
        tokenizer.eos_token = tokenizer.sep_token  # BERT: [SEP] ends a text
        changes.append(f"the tokenizer had no end-of-text token: {tokenizer.sep_token} ends a text")
    elif tokenizer.eos_token is None:
        changes.append(_add_special_token(tokenizer, "eos_token", END_OF_TEXT, "had no end-of-text token"))
    if tokenizer.pad_token is None:
        changes.append(_add_special_token(tokenizer, "pad_token", "[PAD]", "had no pad token"))
    elif tokenizer.pad_token == tokenizer.eos_token:
        changes.append(_add_special_token(tokenizer, "pad_token", "[PAD]", "padded with its end-of-text token"))
    return changes


def _add_special_token(tokenizer: "PreTrainedTokenizerBase", role: str, token: str, reason: str) -> str:
    is_new = tokenizer.add_special_tokens({role: token}) > 0
    token_id = tokenizer.convert_tokens_to_ids(token)
    return f"the tokenizer {reason}: {token} (id {token_id}{', new' if is_new else ''}) is used"


def match_tokenizer(
    tokenizer: "PreTrainedTokenizerBase", max_length: int, *, token_types: bool
) -> "PreTrainedTokenizerBase":
    """Configure a tokenizer that is saved with a model to encode as llmkit does: at most `max_length` tokens, literal
    special tokens as ordinary text, token types only if the model reads them.
    """
    tokenizer.model_max_length = max_length
    names = [name for name in tokenizer.model_input_names if token_types or name != "token_type_ids"]
    tokenizer.model_input_names = names
    tokenizer.split_special_tokens = True
    tokenizer.init_kwargs |= {"model_input_names": names, "split_special_tokens": True}
    return tokenizer


def end_of_text_id(tokenizer: AnyTokenizer) -> int:
    """Return the id that ends every document. Raises ModelError if there is none; `ensure_special_tokens` adds one."""
    if tokenizer.eos_token_id is None:
        raise ModelError(
            "the tokenizer has no end-of-text token",
            where=tokenizer.name_or_path or "tokenizer",
            hint="set eos_token in its tokenizer_config.json",
        )
    return int(tokenizer.eos_token_id)


def line_end_id(tokenizer: "PreTrainedTokenizerBase") -> int | None:
    """Return the id of a line end if it is the end-of-text token, as in word-level text; else None."""
    ids = encode_texts(tokenizer, ["\n"])[0].tolist()
    return ids[0] if ids == [tokenizer.eos_token_id] else None


def fingerprint_tokenizer(tokenizer: "PreTrainedTokenizerBase") -> str:
    """Return the SHA-256, in hex, of everything that affects ids: vocabulary, merges, pipeline, added and special
    tokens.

    Does not include truncation, padding, decoder and post-processor. Does not include settings that are off, so a new
    setting of a newer `tokenizers` does not change the fingerprint. Does not include the prepended normalizers of a
    trained model's tokenizer (normalization.py), which do not change the ids of text that `prepare` has cleaned.
    """
    state = json.loads(backend_of(tokenizer).to_str())
    parts = {key: state.get(key) for key in ("model", "normalizer", "pre_tokenizer", "added_tokens")}
    parts["normalizer"] = own_normalizer(state, tokenizer)
    parts["special"] = {role: str(token) for role, token in tokenizer.special_tokens_map.items()}
    canonical = json.dumps(_without_off_settings(parts), sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def _without_off_settings(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: part if key in ("vocab", "merges") else _without_off_settings(part)  # long, and no settings in them
            for key, part in value.items()
            if part is not None and part is not False
        }
    return [_without_off_settings(part) for part in value] if isinstance(value, list) else value


def id_dtype(tokenizer: AnyTokenizer) -> np.dtype[np.unsignedinteger[Any]]:
    """Return the smallest unsigned dtype for the ids of the tokenizer."""
    return np.min_scalar_type(max(len(tokenizer) - 1, 0))


def count_ids(tokenizer: "PreTrainedTokenizerBase") -> int:
    """Return the largest id plus one: the number of embeddings that the tokenizer needs.

    It is larger than `len(tokenizer)` if the ids have gaps. The tokenizer of `plan`'s random tokens has no
    vocabulary, so its length is returned.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    ids = [] if backend is None else backend.get_vocab(with_added_tokens=True).values()
    return max(max(ids, default=-1) + 1, len(tokenizer))


def encode_texts(tokenizer: AnyTokenizer, texts: Sequence[str]) -> EncodedTexts:
    """Return (concatenated ids of all texts in `id_dtype`, number of ids of each), without special tokens."""
    dtype = id_dtype(tokenizer)
    pieces = [np.zeros(0, dtype)]
    with plain_encoding(backend_of(tokenizer)) as backend:
        for batch in batch_by_size(texts, len, CHARACTERS_AT_ONCE):
            encode = partial(backend.encode_batch_fast, batch, add_special_tokens=False)
            encodings = run_limited(encode, batch, tokenizer.name_or_path)
            pieces += [np.array(encoding.ids, dtype) for encoding in encodings]
    lengths = np.array([len(piece) for piece in pieces[1:]], np.int64)
    return np.concatenate(pieces), lengths


def encode_with_offsets(tokenizer: AnyTokenizer, texts: Sequence[str]) -> Iterator[AlignedIds]:
    """Yield for each text: its ids as in `encode_texts`, the start of each token in characters, its word number.

    Words are the pieces of the pre-tokenizer.
    """
    dtype = id_dtype(tokenizer)
    with plain_encoding(backend_of(tokenizer)) as backend:
        for batch in batch_by_size(texts, len, CHARACTERS_AT_ONCE):
            encode = partial(backend.encode_batch, batch, add_special_tokens=False)
            for encoding in run_limited(encode, batch, tokenizer.name_or_path):
                n_tokens = len(encoding.ids)
                starts = np.fromiter((start for start, _ in encoding.offsets), np.int64, n_tokens)
                yield np.array(encoding.ids, dtype), starts, np.array(encoding.word_ids, np.int64)


def encode_with_spans(tokenizer: AnyTokenizer, texts: Sequence[str]) -> Iterator[AlignedIds]:
    """Yield for each text: its ids as in `encode_texts`, the first character of each token, and the one after it."""
    dtype = id_dtype(tokenizer)
    with plain_encoding(backend_of(tokenizer)) as backend:
        for batch in batch_by_size(texts, len, CHARACTERS_AT_ONCE):
            for encoding in backend.encode_batch(batch, add_special_tokens=False):
                spans = np.array(encoding.offsets, np.int64).reshape(-1, 2)
                yield np.array(encoding.ids, dtype), spans[:, 0], spans[:, 1]


@contextmanager
def plain_encoding(backend: Tokenizer) -> Iterator[Tokenizer]:
    """Yield the backend without truncation, padding and recognition of special tokens; restores them at the end.

    Does not restore them after an interruption or a time limit: the encoding thread may still run, and a change would
    wait for it.
    """
    truncation, padding, as_text = backend.truncation, backend.padding, backend.encode_special_tokens
    backend.no_truncation()
    backend.no_padding()
    backend.encode_special_tokens = True  # True means: encode them as ordinary text
    try:
        with catch_panics("the tokenizer cannot encode a text", "tokenizer.json"):
            yield backend
    except BaseException as error:
        is_running = isinstance(error, EncodingTooSlow) or not isinstance(error, Exception)
        if not is_running:
            _restore(backend, truncation, padding, as_text)
        raise
    _restore(backend, truncation, padding, as_text)


def _restore(
    backend: Tokenizer, truncation: dict[str, Any] | None, padding: dict[str, Any] | None, as_text: bool
) -> None:
    backend.encode_special_tokens = as_text
    backend.no_truncation()
    if truncation is not None:
        backend.enable_truncation(**truncation)
    if padding is not None:
        backend.enable_padding(**padding)


def backend_of(tokenizer: AnyTokenizer) -> Tokenizer:
    """Return the tokenizer of the tokenizers library. Raises ModelError if there is none."""
    backend: object = getattr(tokenizer, "backend_tokenizer", None)
    if not isinstance(backend, Tokenizer):
        what = f"{type(tokenizer).__name__} is not backed by the tokenizers library"
        hint = "use a tokenizer with a tokenizer.json, as written by save_pretrained"
        raise ModelError(what, where=tokenizer.name_or_path or "tokenizer", hint=hint)
    return backend
