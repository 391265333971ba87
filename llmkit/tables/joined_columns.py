"""Join several columns that the user lists with commas: `title,description` or `toxic,insult,threat`.

Texts are joined with a newline, as `prepare.read.field` joins them. Columns of 0 and 1 become a list of labels: the
names of the columns that hold 1.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from llmkit.text.records.fields import BadCell, missing_column_error
from llmkit.text.records.rows import RowStream

_YES = """1 1.0 1,0 true yes y t x on + ✓ ✔ ☑ ✅ ja j wahr oui vrai sí si verdadero verdadeiro vero sim tak ano da да
    evet igen kyllä 是 有 真 对 はい 有り あり 예 네"""
_NO = """0 0.0 0,0 false no n f off - ✗ ✘ ☐ ❌ nein falsch non faux falso não nao nie ne nu нет hayır hayir nem ei 否
    无 無 假 错 不是 没有 いいえ なし 아니요 아니오"""
_ON, _OFF = frozenset(_YES.split()), frozenset(["", *_NO.split()])
"""Cells that mean yes and cells that mean no, in several languages."""


def split_names(name: str) -> list[str]:
    """Return the names between the commas."""
    return [part for each in name.split(",") if (part := each.strip())]


def join_texts(rows: RowStream, name: str | None, *, required: bool) -> None:
    """Add the column `name` with the joined texts of its parts to the rows, unless the file has such a column.

    Raises:
        DataError: `required` is set, and a part is not a column of the file.
    """
    _add(rows, name, _join, required=required)


def list_labels(rows: RowStream, name: str | None, *, required: bool) -> None:
    """Add the column `name` to the rows: a list of labels per row, the names of the parts whose cell is 1 or yes.

    Raises:
        DataError: `required` is set, and a part is not a column of the file; or a cell means neither yes nor no.
    """
    _add(rows, name, _find_on, required=required)


def find_flag_columns(columns: Sequence[str], sample: Sequence[Mapping[str, object]]) -> list[str]:
    """Return the columns whose sampled cells all mean yes or no, such as 0 and 1; an empty cell means no.

    Empty columns are left out. Returns an empty list if no column has both.
    """
    cells = {column: {_fold(row.get(column)) for row in sample} for column in columns}
    flags = [column for column, found in cells.items() if found - {""} and found <= _ON | _OFF]
    return flags if any(cells[column] & _ON and cells[column] & _OFF for column in flags) else []


def _add(
    rows: RowStream, name: str | None, compute: Callable[[Sequence[str], Mapping[str, object]], object], *,
    required: bool,
) -> None:  # fmt: skip
    if not name or name in rows.columns or len(parts := split_names(name)) < 2:
        return
    missing = [part for part in parts if part not in rows.columns]
    if not missing:
        rows.add_column(name, partial(compute, parts))
    elif required:
        raise missing_column_error(missing[0], rows.columns, rows.path)


def _join(parts: Sequence[str], cells: Mapping[str, object]) -> str:
    for part in parts:
        if isinstance(cells.get(part), list | dict):
            raise BadCell(f"column {part!r} holds a list or an object, not a text")
    return "\n".join(text for part in parts if (text := str(_or_empty(cells.get(part))).strip()))


def _find_on(parts: Sequence[str], cells: Mapping[str, object]) -> list[str]:
    found = {part: _fold(cells.get(part)) for part in parts}
    for part, cell in found.items():
        if cell not in _ON | _OFF:
            raise BadCell(f"label column {part!r} holds {cell[:40]!r}, not 0 or 1, yes or no, or the like")
    return [part for part, cell in found.items() if cell in _ON]


def _fold(cell: object) -> str:
    return str(_or_empty(cell)).strip().casefold()


def _or_empty(cell: object) -> object:
    return "" if cell is None or cell != cell else cell  # a missing cell of Parquet may be NaN
