"""Parse .jsonl and .json value by value, never as a whole.

A .jsonl file has one value per line. A .json file has a list of values, or values one after another (many JSONL files
are named .json), or one object that holds the rows (json_shapes.py).
"""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from llmkit.core.errors import DataError
from llmkit.text.lines import MAX_ROW_CHARS, row_too_long_error

UNDECODED = re.compile("[\udc80-\udcff]")  # undecodable bytes as surrogateescape decodes them
MAX_DEPTH = 64
"""Maximum nesting of lists and objects; limited because the callers read values recursively."""
_SPACE = re.compile(r"[ \t\r\n]*")
_SEPARATORS = re.compile(r"[ \t\r\n,]*")


@dataclass(frozen=True, slots=True)
class BadValue:
    """A value that cannot be parsed."""

    problem: str
    starts_value: bool = False
    """Whether the line may be the beginning of a value that spans several lines."""


class _RepeatedKeyError(ValueError):
    """A JSON object repeats a key."""


def _to_object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Return the pairs as a dict; raises an error for a repeated key, of which json would keep only the last value."""
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        key = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise _RepeatedKeyError(f"the key {key[:60]!r} occurs twice in an object")
    return found


_DECODER = json.JSONDecoder(object_pairs_hook=_to_object)


def parse_lines(lines: Iterable[str]) -> Iterator[tuple[int, object]]:
    """Yield (line, value) of each non-blank line; the value is a BadValue if the line is not JSON."""
    for number, line in enumerate(lines, start=1):
        if not (text := line.strip()):
            continue
        if UNDECODED.search(text):
            yield number, BadValue("bytes that cannot be decoded")
            continue
        try:
            value = _DECODER.decode(text)
            _check_depth(value, text.count("[") + text.count("{"))
            yield number, value
        except json.JSONDecodeError as error:
            is_open = error.pos >= len(text)
            yield number, BadValue(f"invalid JSON: {error.msg} at column {error.colno}", is_open)
        except (RecursionError, ValueError) as error:
            yield number, BadValue(_describe(error))


def parse_stream(stream: Iterable[str], path: str) -> Iterator[tuple[int, object]]:
    """Yield (line, value) of each element of a list, or of each value of a file without a list."""
    pieces = iter(stream)
    buffer, position, line = "", 0, 1
    is_list: bool | None = None
    while True:
        start = (_SPACE if is_list is None else _SEPARATORS).match(buffer, position).end()  # type: ignore[union-attr]  # both match nothing
        line += buffer.count("\n", position, start)
        position = start
        if is_list is None and position < len(buffer):
            is_list = buffer[position] == "["
            position += is_list
            continue
        if is_list and buffer[position : position + 1] == "]":
            is_list, position = None, position + 1  # more values may follow the list
            continue
        error: json.JSONDecodeError | None = None
        if position < len(buffer):
            try:
                value, end = _DECODER.raw_decode(buffer, position)
                _check_depth(value, buffer.count("[", position, end) + buffer.count("{", position, end))
                yield line, value
                line += buffer.count("\n", position, end)
                position = end
                continue
            except json.JSONDecodeError as caught:
                error = caught
            except (RecursionError, ValueError) as other:
                raise _bad_json(_describe(other), path, line) from None
        # The buffer doubles, so that a long value is not parsed again for each small piece.
        more = _take_chars(pieces, max(1, len(buffer) - position))
        if not more:
            if position >= len(buffer) and not is_list:
                return
            error_line = line + (buffer.count("\n", position, error.pos) if error else 0)
            raise _bad_json(error.msg if error else "unclosed list", path, error_line)
        buffer, position = buffer[position:] + more, 0
        if len(buffer) > MAX_ROW_CHARS:
            raise row_too_long_error(f"{path}:{line}")


def _check_depth(value: object, n_open: int) -> None:
    """Raise RecursionError if lists and objects are nested deeper than MAX_DEPTH.

    `n_open`, the number of `[` and `{` in the text, is an upper bound of the depth, so most values need no check.
    """
    level = [value] if n_open > MAX_DEPTH else []
    for _ in range(MAX_DEPTH + 1):
        inner = [each.values() if isinstance(each, dict) else each for each in level if isinstance(each, dict | list)]
        level = [value for values in inner for value in values]
    if level:
        raise RecursionError


def _describe(error: ValueError | RecursionError) -> str:
    if isinstance(error, RecursionError):
        return "nested too deeply"
    return str(error) if isinstance(error, _RepeatedKeyError) else "a number with too many digits"  # more than 4,300


def _take_chars(pieces: Iterator[str], n_chars: int) -> str:
    taken: list[str] = []
    n_taken = 0
    while n_taken < n_chars and (piece := next(pieces, None)) is not None:
        taken.append(piece)
        n_taken += len(piece)
    return "".join(taken)


def _bad_json(problem: str, path: str, line: int) -> DataError:
    return DataError(
        f"invalid JSON: {problem}",
        where=f"{path}:{line}",
        hint="fix the file, or write one row per line to a .jsonl file, where --skip-bad skips bad lines",
    )
