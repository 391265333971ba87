"""Convert the values of typed tables (Parquet, Excel, data sets, Python) to JSON types."""

from collections.abc import Mapping
from datetime import date, datetime, time
from decimal import Decimal

MAX_EXACT_DIGITS = 15
"""Number of significant digits that a spreadsheet stores."""


def to_plain(value: object) -> object:
    """Return a string, number, boolean, None, list or dict.

    Decimals, dates and other types become text; NaT of pandas becomes None. UTF-8 bytes become text, because Spark and
    Impala write texts as bytes; other bytes are returned unchanged.
    """
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, Mapping):
        return {str(key): to_plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(each) for each in value]
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return value
    if isinstance(value, date) and value != value:
        return None
    return str(value)


def to_cell(value: object) -> str:
    """Return a value of a sheet as text: whole numbers without decimals, dates as ISO 8601, midnight as a date."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return format(Decimal(repr(value)), ".0f")  # int() would add digits beyond the precision of the number
    if isinstance(value, datetime) and value.time() == time():
        return value.date().isoformat()
    return str(value)


def is_inexact(value: object) -> bool:
    """Whether a spreadsheet has rounded a whole number, such as a long id."""
    return isinstance(value, float) and abs(value) >= 10**MAX_EXACT_DIGITS and value.is_integer()
