"""Write rows with predictions as .csv, .tsv or .jsonl.

A .csv keeps every cell unchanged, including line ends. Two options are for spreadsheets. `for_excel` starts the file
with a byte order mark, because Excel otherwise shows non-ASCII letters wrongly, and protects long numbers and leading
zeros. `is_safe` puts an apostrophe before cells that a spreadsheet would run as a formula (OWASP, "CSV Injection").
JSON cannot represent NaN and infinity: both become null.
"""

import csv
import io
import json
import math
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from llmkit.core.console import count
from llmkit.core.files import nan_to_null
from llmkit.tables.rows import without_surrogates
from llmkit.text.records.plain_values import MAX_EXACT_DIGITS

Format = Literal["csv", "tsv", "jsonl"]
Write = Callable[[str], object]

_FORMULA_BEGINS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
"""Characters that start a formula in a spreadsheet; some programs also accept the full-width forms."""
_BYTE_ORDER_MARK = "\ufeff"


@dataclass
class RowWriter:
    """Writes rows; a .csv or .tsv has the columns that are passed to `begin`."""

    write: Write
    format: Format = "csv"
    is_safe: bool = False
    """Put an apostrophe before cells that a spreadsheet would run as a formula."""
    for_excel: bool = False
    """Start with a byte order mark, and write numbers that Excel would change as `="0123"`."""
    n_escaped: int = 0
    """Number of cells that got an apostrophe."""
    n_protected: int = 0
    """Number of cells that were written as `="0123"`."""
    _columns: Sequence[str] = ()

    def describe(self) -> list[str]:
        """Return notes on the cells that were changed."""
        notes = []
        if self.n_escaped:
            notes.append(f"{count(self.n_escaped, 'cell')} that begin like a formula got an apostrophe (--safe-csv)")
        if self.n_protected:
            notes.append(f'{count(self.n_protected, "number")} that Excel would change are written as ="..." (--excel)')
        return notes

    def begin(self, columns: Sequence[str]) -> Callable[[Mapping[str, Any]], None]:
        """Write the header; returns a function that writes one row."""
        self._columns = columns
        if self.format != "jsonl":
            self._write_line((_BYTE_ORDER_MARK if self.for_excel else "") + self._to_line(columns))
        return self._add

    def _add(self, record: Mapping[str, Any]) -> None:
        if self.format == "jsonl":
            self._write_line(to_json(record))
        else:
            self._write_line(self._to_line([record.get(name) for name in self._columns]))

    def _write_line(self, line: str) -> None:
        self.write(without_surrogates(line) + "\n")

    def _to_line(self, cells: Sequence[Any]) -> str:
        texts = [self._to_text(cell) for cell in cells]
        if self.format == "tsv":  # has neither quotes nor line ends in cells
            return "\t".join(" ".join(text.split()) for text in texts)
        buffer = io.StringIO()
        # Python before 3.13 quotes a cell with a line end only if the writer's own line end has it.
        csv.writer(buffer, lineterminator="\r\n").writerow(texts)
        return buffer.getvalue().removesuffix("\r\n")

    def _to_text(self, cell: Any) -> str:
        text = to_text(cell)
        is_number = text.isascii() and text.isdecimal() and not isinstance(cell, float)
        if self.for_excel and is_number and (len(text) > MAX_EXACT_DIGITS or (text[0] == "0" and len(text) > 1)):
            self.n_protected += 1
            return f'="{text}"'
        if self.is_safe and not isinstance(cell, int | float) and text.startswith(_FORMULA_BEGINS):
            self.n_escaped += 1
            return f"'{text}"
        return text


def to_text(cell: Any) -> str:
    """Return a cell of a .csv: lists of strings are joined by `|`, other lists and objects are JSON."""
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return ""
    if isinstance(cell, str):
        return cell
    if isinstance(cell, bytes):
        return _to_base64(cell)
    if isinstance(cell, float) and math.isinf(cell):
        return "inf" if cell > 0 else "-inf"
    if isinstance(cell, list) and all(isinstance(each, str) for each in cell):
        return "|".join(cell)
    return to_json(cell)


def to_json(value: Any) -> str:
    """Return a value as one line of JSON, with null for numbers that are not finite, and bytes in base64."""
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, default=_to_base64)
    except ValueError:
        return json.dumps(nan_to_null(value), ensure_ascii=False, allow_nan=False, default=_to_base64)


def _to_base64(value: object) -> str:
    return b64encode(value).decode("ascii") if isinstance(value, bytes) else str(value)
