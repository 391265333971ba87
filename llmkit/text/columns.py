"""Choose the column or key that holds the text, and say which there are where none does."""

from collections.abc import Iterable, Mapping, Sequence

from llmkit.core.errors import DataError, did_you_mean

# In this order: the first that is there is taken.
TEXT_NAMES = (
    "text",
    "content",
    "body",
    "document",
    "article",
    "story",
    "sentence",
    "正文",
    "内容",
    "內容",
    "文本",
    "文章",
)


def choose_column(columns: Sequence[str], wanted: str | None, rows: Iterable[Mapping[str, object]], where: str) -> str:
    """The wanted column, else a well-known name, else the only column that has texts in `rows`.

    Numbers written as text, as in CSV, are no texts. DataError lists the columns.
    """
    if wanted is not None:
        if wanted in columns:
            return wanted
        raise missing_column(wanted, columns, where)
    folded = {column.strip().casefold(): column for column in reversed(columns)}
    for name in TEXT_NAMES:
        if name in folded:
            return folded[name]
    textual = {column for row in rows for column, value in row.items() if isinstance(value, str) and is_text(value)}
    if len(textual) == 1:
        return textual.pop()
    raise DataError(
        f"no column is called {', '.join(TEXT_NAMES[:3])} or the like; found: {listed(columns)}",
        where=where,
        hint="say which one holds the text: -s prepare.read.text_column=NAME",
    )


def missing_column(wanted: str, columns: Sequence[str], where: str) -> DataError:
    """The error for a column that the user named and the table lacks."""
    return DataError(
        f"no column {wanted!r}; found: {listed(columns)}", where=where, hint=did_you_mean(wanted, map(str, columns))
    )


def is_text(value: str) -> bool:
    """Whether a cell is more than white space or a number."""
    try:
        float(value)
    except ValueError:
        return bool(value.strip())
    return False


def listed(columns: Sequence[str]) -> str:
    """The columns for an error, cut to a bearable length."""
    return ", ".join(repr(column[:60]) for column in columns[:30]) + (", ..." if len(columns) > 30 else "")
