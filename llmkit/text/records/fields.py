"""Choose the field of a row that holds the text, and turn its value into a text.

A field is a column, a path of keys (`data.text`), or several of them with commas between (`title,body`), whose texts
are joined with a newline. A column whose name equals the whole field has priority. A path continues through lists, so
`paragraphs.text` is a list of texts.

A list of strings is one text, one line per string. A list of chat messages (`role` and `content`, or `from` and
`value`) is one text with a line `role: content` for each message.
"""

import ast
import json
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from llmkit.core.errors import DataError, did_you_mean, narrow
from llmkit.text.records.column_names import (
    CHAT_NAMES,
    ID_NAMES,
    INSTRUCTION_NAMES,
    LABEL_NAMES,
    PARAGRAPH_NAMES,
    TEXT_NAMES,
)

Cells = Mapping[str, object]

_MESSAGE_KEYS = (("role", "content"), ("from", "value"))
_ROLES = frozenset(
    ["ai", "assistant", "bot", "chatgpt", "developer", "function", "gpt", "human", "model", "system", "tool", "user"]
)
_MAX_DEPTH = 4
_MIN_WORDS = 3
_MAX_PARSED_CHARS = 100_000
MISSING = object()
"""Value of a field that is missing in a row."""


class BadCell(Exception):  # noqa: N818 - internal: caught where the line is known
    """A cell that cannot be a text or a label."""


@dataclass(frozen=True, slots=True)
class Field:
    """Position of the text in a row: one path of keys, or several whose texts are joined."""

    paths: tuple[str, ...]

    @property
    def name(self) -> str:
        return ",".join(self.paths)

    def values(self, cells: Cells) -> list[object]:
        """Return the value of each path; MISSING if the row has none."""
        return [get_value(cells, path) for path in self.paths]

    def covers(self, column: str) -> bool:
        """Whether the field reads the column, or a part of its value."""
        return any(path == column or path.startswith(column + ".") for path in self.paths)


def get_value(value: object, path: str) -> object:
    """Return the value at a path of keys, MISSING if there is none.

    If the path reaches a list, the result is a list: the values of the remaining path in each element. A key may
    contain dots: the longest key that exists is used.
    """
    if not path:
        return value
    if isinstance(value, list):
        found = [each for element in value if (each := get_value(element, path)) is not MISSING]
        flat = [each for element in found for each in (element if isinstance(element, list) else [element])]
        return flat if found or not value else MISSING
    if not isinstance(value, Mapping):
        return MISSING
    key, rest = path, ""
    while key not in value:
        key, dot, last = key.rpartition(".")
        if not dot:
            return MISSING
        rest = f"{last}.{rest}" if rest else last
    return get_value(value[key], rest)


def choose_field(columns: Sequence[str], wanted: str | None, rows: Sequence[Cells], where: str) -> Field:
    """Return the wanted field, else a column with a well-known name, else the only column with texts in `rows`.

    Numbers written as strings, as in CSV, are not texts.

    Raises:
        DataError: the wanted field does not exist, or the choice is ambiguous; the error lists the columns.
    """
    if wanted is not None:
        return _find_wanted(columns, wanted, rows, where)
    folded = {column.strip().casefold(): column for column in reversed(columns)}
    for name in TEXT_NAMES:
        if name in folded and not (rows and all(isinstance(row.get(folded[name]), Mapping) for row in rows)):
            return Field((folded[name],))
    for name in (*CHAT_NAMES, *PARAGRAPH_NAMES):
        values = [row.get(folded[name]) for row in rows] if name in folded else []
        if any(isinstance(value, list) and holds_text(value) for value in values):
            return Field((folded[name],))
    textual = [column for column in columns if any(holds_text(row.get(column)) for row in rows)]
    nested = nested_names(rows)
    others = [column for column in textual if column.strip().casefold() not in (*LABEL_NAMES, *ID_NAMES)]
    if len(found := others or textual) == 1 and not any(is_prose(get_value(row, n)) for n in nested for row in rows):
        return Field((found[0],))
    textual.sort(key=lambda column: -sum(count_chars(row.get(column)) for row in rows))
    raise _no_known_name(columns, textual, rows, where)


def _find_wanted(columns: Sequence[str], wanted: str, rows: Sequence[Cells], where: str) -> Field:
    def exists(path: str) -> bool:
        return path in columns or any(get_value(row, path) is not MISSING for row in rows)

    if exists(wanted):
        return Field((wanted,))
    paths = tuple(name for part in wanted.split(",") if (name := part.strip()))
    missing = [path for path in paths if not exists(path)]
    if len(paths) > 1 and not missing:
        return Field(paths)
    raise missing_column_error(missing[0] if len(paths) > 1 else wanted, [*columns, *nested_names(rows)], where)


def _no_known_name(columns: Sequence[str], textual: Sequence[str], rows: Sequence[Cells], where: str) -> DataError:
    """Return the error of a table without a known name; `textual` are the columns with texts, the longest texts
    first.
    """
    nested = nested_names(rows)
    what = f"no column has a known name such as {', '.join(TEXT_NAMES[:3])}; found: {list_columns([*columns, *nested])}"
    example = shlex.quote(f"prepare.read.field={textual[0] if textual else 'NAME'}")
    hint = f"name the column that holds the text, such as -s {example}{_show_example(rows, textual)}"
    folded = {column.strip().casefold(): column for column in textual}
    turns = [folded[name] for name in INSTRUCTION_NAMES if name in folded]
    if len(turns) > 1:
        what = f"these are instruction records, with the text in several columns: {list_columns(columns)}"
        hint = f"-s prepare.read.field={turns[-1]} reads one, -s prepare.read.field={','.join(turns)} joins them"
    elif nested:
        longest = max(nested, key=lambda path: sum(count_chars(get_value(row, path)) for row in rows))
        setting = shlex.quote(f"prepare.read.field={longest}")
        hint = f"if the text is inside of another key: -s {setting}{_show_example(rows, [longest])}"
    elif len(rows) == 1 and len(textual) > 1 and where.endswith(".json"):
        hint += "; if each text is a document, write one per line to a .jsonl file"
    return DataError(what, where=where, hint=hint)


def _show_example(rows: Iterable[Cells], paths: Sequence[str]) -> str:
    """Return the beginning of the first text at the first path, for a hint."""
    for row in rows if paths else ():
        value = get_value(row, paths[0])
        if isinstance(value, list):
            value = next((each for each in value if isinstance(each, str)), None)
        if isinstance(value, str) and value.strip():
            return f" (it holds {value.strip()[:40]!r})"
    return ""


def nested_names(rows: Iterable[Cells]) -> list[str]:
    """Return the paths to texts inside objects; `rows` are the first rows."""
    found: dict[str, None] = {}
    for row in list(rows)[:10]:
        for column, value in row.items():
            found.update(dict.fromkeys(_paths_below(value, column, _MAX_DEPTH)))
    return sorted(found, key=lambda path: path.rpartition(".")[2].casefold() not in TEXT_NAMES)


def _paths_below(value: object, path: str, depth: int) -> Iterator[str]:
    if isinstance(value, list) and not is_chat(value):
        value = next((each for each in value if isinstance(each, Mapping)), None)
    if not isinstance(value, Mapping) or not depth:
        return
    for key, inner in list(value.items())[:30]:
        if holds_text(inner):
            yield f"{path}.{key}"
        yield from _paths_below(inner, f"{path}.{key}", depth - 1)


def missing_column_error(wanted: str, columns: Sequence[str], where: str) -> DataError:
    """Return the error for a column that the user named and that does not exist."""
    names = [str(column) for column in columns]
    hint = did_you_mean(wanted, names)
    narrowed = narrow(wanted)
    if narrowed != wanted and all(part.strip() in names for part in narrowed.split(",")):
        hint = f"write ASCII characters: {narrowed}"
    return DataError(f"no column {wanted!r}; found: {list_columns(columns)}", where=where, hint=hint)


def list_columns(columns: Sequence[str]) -> str:
    """Return the columns for an error message, shortened."""
    return ", ".join(repr(column[:60]) for column in columns[:30]) + (", ..." if len(columns) > 30 else "") or "none"


def is_text(value: str) -> bool:
    """Whether a cell is neither white space nor a number."""
    try:
        float(value)
    except ValueError:
        return bool(value.strip())
    return False


def holds_text(value: object) -> bool:
    """Whether a value is a text that contains a letter, a list with at least one such text, or a chat."""
    if isinstance(value, str):
        return is_text(value) and any(map(str.isalpha, value))
    return isinstance(value, list) and (any(map(holds_text, value)) or is_chat(value))


def is_prose(value: object) -> bool:
    """Whether a value is, or contains, a text of several words."""
    if isinstance(value, str):
        return len(value.split()) >= _MIN_WORDS or (not value.isascii() and len(value) >= 3 * _MIN_WORDS)
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    return any(map(is_prose, inner))


def holds_json(value: object) -> bool:
    """Whether a text is a list or object in JSON or in Python syntax, which pandas writes to CSV files."""
    if not isinstance(value, str) or value.strip()[:1] not in ("[", "{") or len(value) > _MAX_PARSED_CHARS:
        return False
    for parse in (json.loads, ast.literal_eval):
        try:
            return isinstance(parse(value.strip()), list | dict)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
    return False


def count_chars(value: object) -> int:
    """Count the characters of the texts in a value."""
    if isinstance(value, str):
        return len(value)
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    return sum(map(count_chars, inner))


def is_chat(value: object) -> bool:
    """Whether a value is a list of chat messages."""
    return isinstance(value, list) and _find_message_keys(value) is not None


def are_messages(rows: Sequence[Cells]) -> bool:
    """Whether the rows are messages of a chat, with roles such as `user` and `assistant`."""
    keys = _find_message_keys(rows)
    return keys is not None and all(str(row[keys[0]]).casefold() in _ROLES for row in rows)


def _find_message_keys(messages: Sequence[object]) -> tuple[str, str] | None:
    """Return the keys of the role and the content. Some messages, such as tool calls, may lack content."""
    for role, content in _MESSAGE_KEYS:
        if all(isinstance(message, Mapping) and role in message for message in messages) and any(
            content in message  # type: ignore[operator]  # all are mappings
            for message in messages
        ):
            return role, content
    return None


def to_texts(values: Sequence[object]) -> list[str]:
    """Return the texts of a field: one for a string, one per element of a list, one per chat message; none if it is
    empty.

    Raises:
        BadCell: a value is not a text; the message names its type.
    """
    texts: list[str] = []
    for value in values:
        if value is None or value is MISSING or value == "":
            continue
        if isinstance(value, str):
            texts.append(value)
        elif isinstance(value, bytes):  # Parquet files of Spark and Impala have no type for text
            try:
                texts.append(value.decode())
            except UnicodeDecodeError:
                raise BadCell("bytes that are not UTF-8, not a text") from None
        elif is_chat(value):
            texts += _read_chat(value)  # type: ignore[arg-type]  # checked by is_chat
        elif isinstance(value, list):
            texts += to_texts(value)
        else:
            raise BadCell(f"{describe_type(value)}, not a text")
    return texts


def _read_chat(messages: Sequence[Mapping[str, object]]) -> Iterator[str]:
    role, content = _find_message_keys(messages) or ("", "")
    for message in messages:
        value = message.get(content)
        if isinstance(value, list):  # parts of a message, such as a text and an image
            value = [part.get("text") if isinstance(part, Mapping) else part for part in value]
        if text := "\n".join(to_texts([value])):
            yield f"{message[role]}: {text}"


def describe_type(value: object) -> str:
    """Return the type of a JSON value for an error message."""
    names = {dict: "an object", list: "a list", bool: "true or false", int: "a number", float: "a number"}
    return "null" if value is None else names.get(type(value), type(value).__name__)
