"""Load the tokenizer of a folder, a run or a hub model.

Code that comes with a tokenizer is never run; files are checked before a library opens them (tokenizer_check.py). Local
folders and cached hub tokenizers need no network.
"""

import importlib.util
import json
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from llmkit.core.console import first_line
from llmkit.core.errors import EnvironmentFault, ModelError
from llmkit.core.output_paths import expand_home
from llmkit.core.untrusted import check_model_files
from llmkit.tokens.tokenizer_check import catch_panics, check_tokenizer_files, hide_panic_traces

if TYPE_CHECKING:  # transformers takes a second to load, and its AutoTokenizer loads torch, which takes three more
    from transformers import PreTrainedTokenizerBase

HUB_TIMEOUT_SECONDS = 10
PLAIN_CLASSES = ("TokenizersBackend", "PreTrainedTokenizerFast", "GPT2Tokenizer", "BertTokenizer")
"""Classes that AutoTokenizer uses if tokenizer_config.json names them, without reading other files."""
_TOKENIZER_FILES = ("tokenizer.json", "vocab.json", "vocab.txt", "*.model", "*.tiktoken", "tekken.json")


def load_tokenizer(path_or_name: str) -> "PreTrainedTokenizerBase":
    """Load the tokenizer of a folder, a run or a hub model, without running code that comes with it.

    A local folder and a cached hub tokenizer need no network.

    Raises:
        ModelError: there is no tokenizer, or it is damaged or has no fast backend.
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
            hint=f"give a local folder, or run `hf download {name}` with network and then set HF_HUB_OFFLINE=1",
        ) from error
