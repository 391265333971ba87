"""Read data sets through `datasets`: `hf:NAME`, `hf:FOLDER`, with `:CONFIG` and `@SPLIT` where needed.

A hub data set is streamed; a folder may be one of `save_to_disk`, or hold data files. Without `@SPLIT` the train
split is taken, or the only one there is: prepare makes its own held-out splits.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, constants
from huggingface_hub.errors import HfHubHTTPError, HFValidationError

from llmkit.config.prepare import Read
from llmkit.core.console import first_line
from llmkit.core.errors import DataError, EnvironmentFault, did_you_mean
from llmkit.text.columns import choose_column
from llmkit.text.documents import Document
from llmkit.text.parts import make_documents
from llmkit.text.sources import Source, log

HUB_TIMEOUT_SECONDS = 10


def read_dataset(name: str, source: Source, read: Read) -> Iterator[Document]:
    """Documents of a data set, one a row."""
    digest = hashlib.sha256()
    column: str | None = None
    for index, row in enumerate(open_dataset(name)):
        if column is None:
            column = choose_column(list(row), read.text_column, [row], name)
        text = row[column]
        if text is None or text == "":
            source.skipped["empty"] += 1
            continue
        if not isinstance(text, str):
            raise DataError(
                f"column {column!r} holds {type(text).__name__}, not text",
                where=f"{name}, row {index}",
                hint="say which column holds the text: -s prepare.read.text_column=NAME",
            )
        data = text.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "little") + data)
        source.n_bytes += len(data)
        yield from make_documents([text], name, index, read.max_doc_chars)
    source.sha256 = digest.hexdigest()


def open_dataset(name: str) -> Iterable[Mapping[str, object]]:
    """The rows of `hf:NAME[:CONFIG][@SPLIT]`, read when they are asked for."""
    rest, _, split = name.removeprefix("hf:").partition("@")
    path, _, config = rest.partition(":")
    return _choose_split(_load(path, config or None, name), split, name)


def find_class_names(rows: Iterable[Mapping[str, object]]) -> dict[str, list[str]]:
    """The names behind the numbers of each ClassLabel column, or column of lists of them, of `open_dataset`'s rows."""
    import datasets

    found: dict[str, list[str]] = {}
    for column, feature in (getattr(rows, "features", None) or {}).items():
        inner = getattr(feature, "feature", feature)
        if isinstance(inner, datasets.ClassLabel) and inner.names:
            found[column] = list(inner.names)
    return found


def _load(path: str, config: str | None, name: str) -> Any:
    import datasets

    folder = Path(path).expanduser()
    try:
        if (folder / "dataset_dict.json").exists() or (folder / "state.json").exists():
            return datasets.load_from_disk(str(folder))
        if not folder.exists():
            _ask_once(path)
        return datasets.load_dataset(str(folder) if folder.exists() else path, config, streaming=True)
    except (datasets.exceptions.DatasetNotFoundError, FileNotFoundError, ValueError) as error:
        raise DataError(
            f"no such data set: {first_line(error)[:300]}",
            where=name,
            hint="hf:FOLDER, hf:NAME or hf:NAME:CONFIG@SPLIT; a private one needs `hf auth login`",
        ) from None
    except (ConnectionError, OSError) as error:
        raise EnvironmentFault(
            f"the hub cannot be reached: {first_line(error)[:300]}",
            where=name,
            hint="check the network, or set HF_HUB_OFFLINE=1 to use what is in the cache",
        ) from None


def _ask_once(path: str) -> None:
    """Ask the hub briefly: `datasets` would try for half a minute and more where it cannot be reached.

    Raises:
        ConnectionError: no answer. What an answer says is left to `datasets`.
    """
    if constants.HF_HUB_OFFLINE:
        return
    try:
        HfApi().dataset_info(path, timeout=HUB_TIMEOUT_SECONDS)
    except (HfHubHTTPError, HFValidationError):
        return
    except Exception as error:  # the HTTP library's own types, which differ between versions of huggingface_hub
        raise ConnectionError(first_line(error)[:300]) from error


def _choose_split(loaded: Any, split: str, name: str) -> Iterable[Mapping[str, object]]:
    import datasets

    if not isinstance(loaded, (datasets.DatasetDict, datasets.IterableDatasetDict)):
        return loaded  # type: ignore[no-any-return]  # datasets' own class, Any here
    names = [str(each) for each in loaded]
    chosen = split or ("train" if "train" in names else names[0] if len(names) == 1 else "")
    if chosen not in names:
        raise DataError(
            f"no split {chosen!r}" if chosen else "which split? There is no train split",
            where=name,
            hint=f"{did_you_mean(chosen, names)}; write {name.partition('@')[0]}@{names[0]}",
        )
    if not split and len(names) > 1:
        log.warning("%s: split %s is read; left out: %s", name, chosen, ", ".join(n for n in names if n != chosen))
    return loaded[chosen]  # type: ignore[no-any-return]  # as above
