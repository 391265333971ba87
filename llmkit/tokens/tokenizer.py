"""Load a tokenizer, prepare it for training, and encode texts.

A literal special token in a text, such as `<|endoftext|>`, is encoded as ordinary text.

Independent of text files, blocks or models; training_tokenizers.py trains new tokenizers.
"""

import hashlib
import importlib.util
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from llmkit.core.batching import batch_by_size
from llmkit.core.console import first_line
from llmkit.core.errors import EnvironmentFault, ModelError
from llmkit.core.files import expand_home
from llmkit.core.untrusted import check_model_files
from llmkit.tokens.normalization import own_normalizer
from llmkit.tokens.tokenizer_check import catch_panics, check_tokenizer_files, hide_panic_traces

if TYPE_CHECKING:  # transformers takes a second to load, and its AutoTokenizer loads torch, which takes three more
    from transformers import PreTrainedTokenizerBase

END_OF_TEXT = "<|endoftext|>"
HUB_TIMEOUT_SECONDS = 10
CHARACTERS_AT_ONCE = 4_000_000
"""Batch size in characters, limited because an Encoding needs far more memory than its ids."""

EncodedTexts: TypeAlias = tuple[NDArray[np.unsignedinteger[Any]], NDArray[np.int64]]
"""(concatenated ids of all texts, number of ids of each text)."""
AlignedIds: TypeAlias = tuple[NDArray[np.unsignedinteger[Any]], NDArray[np.int64], NDArray[np.int64]]
"""For one text: (ids, start of each token in characters, word number of each token)."""

PLAIN_CLASSES = ("TokenizersBackend", "PreTrainedTokenizerFast", "GPT2Tokenizer", "BertTokenizer")
"""Classes that AutoTokenizer uses if tokenizer_config.json names them, without reading other files."""


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


_TOKENIZER_FILES = ("tokenizer.json", "vocab.json", "vocab.txt", "*.model", "*.tiktoken", "tekken.json")


def load_tokenizer(path_or_name: str) -> "PreTrainedTokenizerBase":
    """Load the tokenizer of a folder, a run or a hub model, without running code that comes with it.

    A local folder and a cached hub tokenizer need no network.

    Raises:
        ModelError: there is none, it is damaged, or it has no fast backend.
        EnvironmentFault: the hub cannot be reached.
    """
    folder = expand_home(path_or_name)
    if not (folder / "tokenizer.json").is_file() and (folder / "model" / "tokenizer.json").is_file():
        folder = folder / "model"  # of a run
        path_or_name = str(folder)
    check_model_files(path_or_name, fetch_from_hub(path_or_name, local_files_only=True), weights=False)
    if (vocabulary := _find_bare_vocabulary(folder)) is not None:
        return _load_wordpiece(path_or_name, vocabulary)
    if folder.is_dir():
        if not any(next(folder.glob(pattern), None) for pattern in _TOKENIZER_FILES):
            raise _cannot_load(path_or_name, "there is no tokenizer in this folder")
        return _load(path_or_name, str(folder), local_files_only=True)
    if folder.exists() or folder.is_absolute() or path_or_name.startswith((".", "~")):
        raise _cannot_load(path_or_name, "there is no such folder")
    try:
        return _load(path_or_name, path_or_name, local_files_only=True)
    except ModelError:
        if fetch_from_hub(path_or_name, local_files_only=True)("tokenizer.json") is not None:
            raise
        require_on_hub(path_or_name)
        check_model_files(path_or_name, fetch_from_hub(path_or_name), weights=False)
        return _load(path_or_name, path_or_name, local_files_only=False)


def _load(shown: str, source: str, *, local_files_only: bool) -> "PreTrainedTokenizerBase":
    import transformers

    folder = Path(source)
    fetch = fetch_from_hub(source, local_files_only=local_files_only)
    check_tokenizer_files(folder.joinpath if folder.is_dir() else fetch, shown)
    with hide_panic_traces() if local_files_only else nullcontext(), catch_panics(_cannot(shown), shown):
        tokenizer = _open(shown, source, local_files_only=local_files_only)
    if not isinstance(tokenizer, transformers.PreTrainedTokenizerFast):
        raise _cannot_load(shown, f"{type(tokenizer).__name__} is not backed by the tokenizers library")
    longest: object = tokenizer.model_max_length
    if isinstance(longest, bool) or not isinstance(longest, int | float) or not longest >= 1:
        raise _cannot_load(shown, f"model_max_length of tokenizer_config.json is {longest!r}, not a positive number")
    return tokenizer


def _open(shown: str, source: str, *, local_files_only: bool) -> object:
    import transformers

    try:
        loader = getattr(transformers, _plain_class(Path(source)) or "AutoTokenizer")
        return loader.from_pretrained(source, local_files_only=local_files_only, trust_remote_code=False)
    except Exception as error:  # tokenizers raises a bare Exception for a damaged file, transformers nearly any type
        if _needs_sentencepiece(Path(source)):
            hint = "pip install 'llmkit[sentencepiece]'"
            what = f"the tokenizer of {shown!r} is a sentencepiece model, and sentencepiece is not installed"
            raise EnvironmentFault(what, where=shown, hint=hint) from error
        raise _cannot_load(shown, first_line(error)) from error


def _needs_sentencepiece(folder: Path) -> bool:
    """Whether the folder has only a sentencepiece model, such as spiece.model, and its package is not installed."""
    has_model = any(folder.glob("*.model")) and not (folder / "tokenizer.json").is_file()
    return has_model and importlib.util.find_spec("sentencepiece") is None


def _plain_class(folder: Path) -> str | None:
    """Return the class that AutoTokenizer would choose for a folder with a tokenizer and without a model config.

    Avoids AutoTokenizer, which imports torch (three seconds).
    """
    if not (folder / "tokenizer.json").is_file() or (folder / "config.json").exists():
        return None
    try:
        config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):  # AutoTokenizer raises the error
        return None
    if not isinstance(config, dict) or "auto_map" in config or config.get("tokenizer_class") not in PLAIN_CLASSES:
        return None
    return str(config["tokenizer_class"])


def _find_bare_vocabulary(path: Path) -> Path | None:
    """Return the path of a `vocab.txt` without other tokenizer files, as in BERT's first releases. `path` is this file
    or its folder.
    """
    if path.is_file() and path.name.endswith("vocab.txt"):
        return path
    others = ("tokenizer.json", "tokenizer_config.json", "config.json")
    if (path / "vocab.txt").is_file() and not any((path / name).is_file() for name in others):
        return path / "vocab.txt"
    return None


def _load_wordpiece(shown: str, vocabulary: Path) -> "PreTrainedTokenizerBase":
    """Load BERT's tokenizer with this vocabulary; it lower-cases if no entry has a capital letter."""
    try:
        tokens = vocabulary.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise _cannot_load(shown, f"vocab.txt cannot be read: {error}") from None
    missing = [token for token in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]") if token not in tokens]
    if missing:
        raise _cannot_load(shown, f"its vocab.txt has no {', '.join(missing)}")
    from transformers import BertTokenizer

    has_capitals = any(token != token.lower() for token in tokens if not token.startswith("["))
    return BertTokenizer({token: number for number, token in enumerate(tokens)}, do_lower_case=not has_capitals)


def _cannot(path_or_name: str) -> str:
    return f"cannot load a tokenizer from {path_or_name!r}"


def _cannot_load(path_or_name: str, reason: str) -> ModelError:
    return ModelError(
        f"{_cannot(path_or_name)}: {reason}",
        where=path_or_name,
        hint="give a folder with a tokenizer.json, as written by save_pretrained, or the name of a hub model",
    )


def fetch_from_hub(name: str, *, local_files_only: bool = False) -> Callable[[str], Path | None]:
    """Return a function that maps a file of a hub model to its local path, and to None if the file is not available."""
    from transformers.utils.hub import cached_file

    def fetch(file: str) -> Path | None:
        try:
            found = cached_file(
                name, file, local_files_only=local_files_only, _raise_exceptions_for_missing_entries=False,
                _raise_exceptions_for_connection_errors=False, _raise_exceptions_for_gated_repo=False,
            )  # fmt: skip
        except (OSError, ValueError):  # from_pretrained raises the error
            return None
        return None if found is None else Path(found)

    return fetch


def require_on_hub(name: str) -> None:
    """Check that the hub has the model; from_pretrained would retry for 45 seconds.

    Raises:
        ModelError: there is no such model.
        EnvironmentFault: the hub does not answer in time.
    """
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError

    try:
        HfApi().model_info(name, timeout=HUB_TIMEOUT_SECONDS)
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise _cannot_load(name, "it is neither a folder here nor a model on the hub") from error
    except Exception as error:  # the HTTP library's own types, which differ between versions of huggingface_hub
        raise EnvironmentFault(
            f"{name!r} is not a local folder, is not in the cache, and the hub cannot be reached: {error}",
            where=constants.ENDPOINT,
            hint="give a local folder, or fetch it once with network (`hf download`), then run with HF_HUB_OFFLINE=1",
        ) from error


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

    It is larger than `len(tokenizer)` if ids were left out of the vocabulary. The random tokens of `plan` have no
    vocabulary.
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
            encodings = backend.encode_batch_fast(batch, add_special_tokens=False)
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
            for encoding in backend.encode_batch(batch, add_special_tokens=False):
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
    """Yield the backend without truncation, padding and recognition of special tokens; restores them at the end."""
    truncation, padding, as_text = backend.truncation, backend.padding, backend.encode_special_tokens
    backend.no_truncation()
    backend.no_padding()
    backend.encode_special_tokens = True  # True means: encode them as ordinary text
    try:
        with catch_panics("the tokenizer cannot encode a text", "tokenizer.json"):
            yield backend
    finally:
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
        raise _cannot_load(
            tokenizer.name_or_path, f"{type(tokenizer).__name__} is not backed by the tokenizers library"
        )
    return backend
