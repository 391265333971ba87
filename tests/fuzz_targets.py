"""What strangers' bytes reach first, each as a function of bytes: it returns, or the code has a bug.

`tests/test_fuzz.py` runs them on a few inputs with every test run, `benchmarks/fuzz.py` on as many as time allows.
"""

import gzip
import io
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openpyxl
import pyarrow
import pyarrow.parquet

from llmkit.config.loading import dump_recipe, load_recipe
from llmkit.config.prepare import Read
from llmkit.core.errors import DataError, UsageError
from llmkit.tables.rows import open_rows
from llmkit.text.readers import READERS, read_documents
from llmkit.text.sources import Source

ENDINGS = [ending or ".log" for ending in READERS]
PACKINGS = ["", "", "", ".gz", ".zst", ".zip"]
READS = [
    Read(),
    Read(skip_bad=True),
    Read(encoding="utf-8"),
    Read(encoding="gb18030", skip_bad=True),
    Read(encoding="utf-16", documents="line"),
    Read(encoding="utf-7", documents="paragraph", skip_bad=True),
    Read(documents="paragraph", max_doc_chars=1000),
    Read(field="text"),
    Read(documents="separator", separator=r"\n-+\n|(?=一)"),
    Read(header=False, delimiter=";", documents="line"),
    Read(field="data.text,label", skip_bad=True),
]
_FOLDER = tempfile.TemporaryDirectory(prefix="llmkit-fuzz-")


def _write(name: str, data: bytes) -> str:
    path = Path(_FOLDER.name) / name
    path.write_bytes(data)
    return str(path)


def _choose(data: bytes) -> tuple[str, Read, bytes]:
    """A name and options by the first three bytes, and the bytes behind them."""
    first, second, third = (*data[:3], 0, 0, 0)[:3]
    name = f"file{ENDINGS[first % len(ENDINGS)]}{PACKINGS[second % len(PACKINGS)]}"
    return name, READS[third % len(READS)], data[3:]


def read_file(data: bytes) -> None:
    """Any bytes under any name become documents or a DataError."""
    name, read, data = _choose(data)
    sources: list[Source] = []
    try:
        documents = list(read_documents([_write(name, data)], read, sources))
    except DataError as error:
        assert str(error).count("\n") == 2
        return
    assert all(isinstance(document.text, str) and document.text for document in documents)
    assert sum(document.last for document in documents) == sum(source.documents for source in sources)
    assert sum(len(document.text) for document in documents) == sum(source.characters for source in sources)


def read_rows(data: bytes) -> None:
    """Any bytes under any name become rows, each with its line, or a DataError."""
    name, read, data = _choose(data)
    try:
        with open_rows(_write(name, data), read) as rows:
            places = [row.line for row in rows]
    except DataError as error:
        assert str(error).count("\n") == 2
        return
    assert places
    assert places == sorted(places)


def read_recipe(data: bytes) -> None:
    """Any bytes as a recipe are a recipe that can be written and read again, or a UsageError."""
    path = Path(_write("recipe.yaml", data))
    try:
        recipe = load_recipe(path)
    except UsageError as error:
        assert str(error).startswith("error: ")
        return
    assert load_recipe(Path(_write("again.yaml", dump_recipe(recipe).encode()))) == recipe


def read_overrides(data: bytes) -> None:
    """Any texts behind --set, too; one a line."""
    overrides = data.decode("utf-8", "surrogateescape").split("\n")
    try:
        recipe = load_recipe(None, overrides)
    except UsageError as error:
        assert str(error).startswith("error: ")
        return
    dump_recipe(recipe)


TARGETS: dict[str, Callable[[bytes], None]] = {
    "file": read_file,
    "rows": read_rows,
    "recipe": read_recipe,
    "overrides": read_overrides,
}


def make_seeds() -> dict[str, list[bytes]]:
    """Sound inputs of each kind, for mutation: a step away from them lie the faults."""
    text = '正文 话说天下大势，分久必合。\nIt was a day; he said "no", twice.\n\nAnd so on.\n'
    table = "text,label\n" + "".join(f'"a {n}, ""b""",x{n % 2}\n' for n in range(5))
    lines = "".join(f'{{"text": "a \\u4e2d {n}", "label": {n}}}\n' for n in range(4))
    page = f"<?xml version='1.0'?><html><head><meta charset=gbk><title/></head><p>{text}<pre>a b</pre><br/></html>"
    rows = {"text": ["a b", None, "中文"], "label": [1, 2, 3]}
    parquet = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(rows), parquet)
    zst = pyarrow.Codec("zstd").compress(text.encode(), asbytes=True)
    plain = [text.encode(code) for code in ("utf-8", "utf-8-sig", "gb18030", "utf-16", "utf-32")]
    bodies = {
        ".txt": plain,
        ".html": [page.encode(), page.encode("utf-16")],
        ".epub": [_make_epub(text)],
        ".jsonl": [lines.encode(), lines.encode("utf-16")],
        ".xlsx": [make_book(rows)],
        ".json": [
            b"[" + lines.strip().replace("\n", ",").encode() + b"]",
            lines.encode(),
            b'{"n": 1, "data": {"rows": [{"text": ["a", "b"]}, {"text": [{"role": "x", "content": "c"}]}]}}',
            b'{"text": {"0": "a", "1": "b"}, "label": {"0": 1, "1": 2}}',
        ],
        ".csv": [table.encode(), table.encode("gb18030")],
        ".tsv": [table.replace(",", "\t").encode()],
        ".parquet": [parquet.getvalue()],
        ".log": [table.encode(), lines.encode(), table.replace(",", "\t").encode()],
    }
    files = [bytes([ENDINGS.index(ending), 0, 0]) + body for ending, each in bodies.items() for body in each]
    for ending, packing, body in (
        (".txt", ".gz", gzip.compress(plain[0])),
        (".txt", ".zst", zst),
        (".csv", ".zip", make_zip(table)),
    ):
        files.append(bytes([ENDINGS.index(ending), PACKINGS.index(packing), 0]) + body)
    recipe = (
        "train: {max_steps: 4, epochs: null}\nmodel: &m\n  n_layer: 2\n  family: gpt2\noptim:\n  learning_rate: 1e-3\n"
    )
    overrides = "train.max_steps=4\nmodel={n_layer: 2}\ncls.class_weights={a: 2.0}\nprepare.read.encoding='x'"
    return {"file": files, "rows": files, "recipe": [recipe.encode()], "overrides": [overrides.encode()]}


def make_book(columns: dict[str, list[Any]]) -> bytes:
    """A sheet with a header."""
    book, file = openpyxl.Workbook(), io.BytesIO()
    for row in ([*columns], *zip(*columns.values(), strict=True)):
        book.worksheets[0].append(row)
    book.save(file)
    return file.getvalue()


def make_zip(text: str, name: str = "a.csv") -> bytes:
    """An archive of one file."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, text)
    return file.getvalue()


def _make_epub(text: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:  # not deflated, so that a flip reaches the XML
        archive.writestr("META-INF/container.xml", '<container><rootfile full-path="o/p.opf"/></container>')
        item = '<item id="a" href="a%20b.xhtml" media-type="application/xhtml+xml"/>'
        archive.writestr("o/p.opf", f'<package>{item}<spine><itemref idref="a"/></spine></package>')
        archive.writestr("o/a b.xhtml", f"<html><body><p>{text}</p></body></html>")
    return file.getvalue()
