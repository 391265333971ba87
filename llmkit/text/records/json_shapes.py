"""Find the rows in a .json file that is a single object.

Known shapes: a list in a key (`{"data": [{...}, ...]}`, or nested deeper), columns of equal length
(`{"text": [...], "label": [...]}`), the output of pandas' `DataFrame.to_json` with orient columns, index, split or
table, and ids mapped to texts or objects (`{"a17": "...", "b18": "..."}`). Any other object is a single row.

Keys are ids if no key is a known column name and either every key has a digit or a slash, or there are at least 20.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import chain

from llmkit.text.records.column_names import KNOWN_NAMES, PARAGRAPH_NAMES, TEXT_NAMES
from llmkit.text.records.fields import is_chat

_MAX_DEPTH = 3
_MIN_IDS = 20
"""Objects with at least this many keys are read as rows by id, because rows rarely have so many text columns."""

Object = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows found in an object, and the shape in which they were stored."""

    rows: list[object]
    shape: str
    """The shape in words, for messages."""
    key: str = ""
    """The path of the key that holds the list of rows; empty for other shapes."""


FindRows = Callable[[Object, str | None], Rows | None]


def find_rows(value: Object, wanted: str | None = None) -> Rows | None:
    """Return the rows in an object; None if the object is a single row. `wanted` is the field that the user named."""
    return (
        _find_split(value)
        or _find_oriented(value, wanted)
        or _find_texts(value, wanted)
        or _find_columns(value)
        or _find_list(value, wanted)
    )


def find_pandas_rows(value: Object, wanted: str | None = None) -> Rows | None:
    """Return the rows if the object is an output of pandas. Also used for a .jsonl file of a single line."""
    found = _find_split(value) or _find_oriented(value, wanted)
    return found or (_find_list(value, wanted) if value.keys() >= {"schema", "data"} else None)


def _find_split(value: Object) -> Rows | None:
    columns, data = value.get("columns"), value.get("data")
    if not (isinstance(columns, list) and isinstance(data, list)):
        return None
    if not all(isinstance(row, list) and len(row) == len(columns) for row in data):
        return None
    names = [str(name) for name in columns]
    return Rows([dict(zip(names, row, strict=True)) for row in data], "a pandas table with orient=split")


def _find_oriented(value: Object, wanted: str | None) -> Rows | None:
    inner = [each for each in value.values() if isinstance(each, dict)]
    if not inner or len(inner) < len(value):
        return None
    outside, inside = list(value), list(inner[0])
    are_equal = all(each.keys() == inner[0].keys() for each in inner)
    may_be_rows = _names_columns(list(chain(*inner)), wanted) or (are_equal and len(inner) > 1)
    if _are_ids(outside, wanted) and not _holds_index(inside) and may_be_rows:
        return Rows(list(inner), f"one row per key, for example {outside[0]!r}")
    if not are_equal:
        return None
    if len(value) == 1 and not _holds_index(outside) and not _holds_index(inside):
        return None
    if not _holds_index(outside) and (_holds_index(inside) or _names_columns(outside, wanted)):
        rows: list[object] = [{name: value[name][key] for name in outside} for key in inside]  # type: ignore[index]
        return Rows(rows, "a pandas table with orient=columns")
    if _holds_index(outside) or _names_columns(inside, wanted):
        return Rows(list(inner), "a pandas table with orient=index")
    return None


def _find_texts(value: Object, wanted: str | None) -> Rows | None:
    if not all(each is None or isinstance(each, str) for each in value.values()) or not _are_ids(list(value), wanted):
        return None
    rows: list[object] = [{"id": key, "text": text} for key, text in value.items()]
    return Rows(rows, f"one text per key, for example {next(iter(value))!r}")


def _are_ids(keys: list[str], wanted: str | None) -> bool:
    look_like_ids = all(any(char.isdigit() or char == "/" for char in key) for key in keys)
    return bool(keys) and (look_like_ids or len(keys) >= _MIN_IDS) and not _names_columns(keys, wanted)


def _holds_index(keys: list[str]) -> bool:
    return bool(keys) and all(key.lstrip("-").isdigit() for key in keys)


def _names_columns(keys: list[str], wanted: str | None) -> bool:
    names = {name.strip().partition(".")[0] for name in (wanted or "").split(",")}
    return any(key in names or key.strip().casefold() in KNOWN_NAMES for key in keys)


def _find_columns(value: Object) -> Rows | None:
    columns = list(value.values())
    if (
        not columns
        or not all(isinstance(column, list) and column for column in columns)
        or set(value) & set(PARAGRAPH_NAMES)
    ):
        return None
    if len({len(column) for column in columns}) != 1:  # type: ignore[arg-type]  # all are lists
        return None
    if any(isinstance(each, (list, dict)) for column in columns for each in column):  # type: ignore[attr-defined]
        return None
    rows: list[object] = [dict(zip(value, cells, strict=True)) for cells in zip(*columns, strict=True)]
    return Rows(rows, "one list for each column")


def _find_list(value: Object, wanted: str | None, path: str = "", depth: int = _MAX_DEPTH) -> Rows | None:
    """Return the rows of a list in an object, or in the objects inside it; None if an object has a text of its own.

    The list is the one that `wanted` names, else the only list of objects, else the only list of texts.
    """
    if any(isinstance(each, str) and key.casefold() in TEXT_NAMES for key, each in value.items()):
        return None
    lists = {
        key: each for key, each in value.items()
        if isinstance(each, list) and (_holds_rows(each) or _holds_texts(each)) and key.lower() not in PARAGRAPH_NAMES
    }  # fmt: skip
    named = [key for key in lists if f"{path}{key}" == wanted or (wanted or "").startswith(f"{path}{key}.")]
    likely = [key for key in lists if _holds_rows(lists[key])] or list(lists)
    chosen = named[:1] or (likely if len(likely) == 1 else [])
    if chosen:
        key = f"{path}{chosen[0]}"
        return Rows(lists[chosen[0]], f"rows in the key {key!r}", key)
    if depth and not lists:
        inner = [(key, each) for key, each in value.items() if isinstance(each, dict)]
        found = [rows for key, each in inner if (rows := _find_list(each, wanted, f"{path}{key}.", depth - 1))]
        return found[0] if len(found) == 1 else None
    return None


def _holds_rows(value: list[object]) -> bool:
    return bool(value) and all(isinstance(each, dict) for each in value) and not is_chat(value)


def _holds_texts(value: list[object]) -> bool:
    return bool(value) and all(isinstance(each, str) for each in value)
