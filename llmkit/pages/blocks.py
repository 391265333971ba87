"""Content of pages and of terminal output as plain data: text, facts, tables, charts.

Tasks and reports build these blocks. `templates/blocks.html.jinja` renders each kind as HTML and escapes its text;
`cli/output.py` renders tables for the terminal.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeAlias

COLOURS = ("blue", "orange", "green", "violet", "red", "teal", "brown", "pink")
CURVE_STYLES = (*COLOURS, *(f"{colour} dashed" for colour in COLOURS))
"""Styles of the style sheet that distinguish the curves of a chart."""


@dataclass(frozen=True, slots=True)
class Paragraph:
    """A line of text."""

    kind: ClassVar[str] = "paragraph"
    text: str


@dataclass(frozen=True, slots=True)
class Notice:
    """A framed list of warnings."""

    kind: ClassVar[str] = "notice"
    title: str
    items: Sequence[str]


@dataclass(frozen=True, slots=True)
class Headlines:
    """The main metrics in large type: name, value, note."""

    kind: ClassVar[str] = "headlines"
    figures: Sequence[tuple[str, str, str]]


@dataclass(frozen=True, slots=True)
class Facts:
    """Names with their values."""

    kind: ClassVar[str] = "facts"
    facts: Sequence[tuple[str, object]]
    title: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under a header, with an optional last row of totals.

    Columns that contain a number, and those that `numeric` names, are aligned to the right.
    """

    kind: ClassVar[str] = "table"
    header: Sequence[str]
    rows: Sequence[Sequence[object]]
    title: str = ""
    total: Sequence[object] | None = None
    numeric: Sequence[str] = ()
    links: Sequence[str] = ()
    """The address of the first cell of each row; empty: no links."""

    @property
    def is_numeric(self) -> list[bool]:
        """Return whether each column is numeric.

        Raises:
            ValueError: a row is not as long as the header.
        """
        columns = list(zip(self.header, *self.rows, strict=True))
        return [
            name in self.numeric or any(isinstance(cell, int | float) and not isinstance(cell, bool) for cell in cells)
            for name, *cells in columns
        ]


@dataclass(frozen=True, slots=True)
class Confusion:
    """A confusion matrix: `counts[i][j]` is the number of rows with true label i and predicted label j."""

    kind: ClassVar[str] = "confusion"
    labels: Sequence[str]
    counts: Sequence[Sequence[int]]
    title: str = "Confusion matrix"

    @property
    def table(self) -> Table:
        """Return the matrix as a plain table."""
        rows = [[label, *row] for label, row in zip(self.labels, self.counts, strict=True)]
        return Table(["true \\ predicted", *self.labels], rows, numeric=self.labels)

    def shade(self, i: int, j: int) -> int:
        """Return the fraction of a count in its row, in tenths from 0 to 9; -1 if the count is 0."""
        count = self.counts[i][j]
        return min(9, 10 * count // sum(self.counts[i])) if count else -1


@dataclass(frozen=True, slots=True)
class Preformatted:
    """Text shown unchanged, such as a recipe, or generated text after its `prompt`."""

    kind: ClassVar[str] = "preformatted"
    text: str
    title: str = ""
    prompt: str = ""
    is_code: bool = False


Segment: TypeAlias = tuple[str, str, str]
"""A part of a text: the text, its label (empty: none), and a colour of the style sheet."""


@dataclass(frozen=True, slots=True)
class MarkedText:
    """Readings of one text, such as true and predicted entities, each with coloured parts, under a note."""

    note: str
    readings: Sequence[tuple[str, Sequence[Segment]]]


@dataclass(frozen=True, slots=True)
class MarkedTexts:
    """Texts with coloured parts."""

    kind: ClassVar[str] = "marked"
    texts: Sequence[MarkedText]


@dataclass(frozen=True, slots=True)
class Curve:
    """One or more finite values over ascending steps. `style` is one or two classes of the style sheet."""

    name: str
    steps: Sequence[float]
    values: Sequence[float]
    style: str = "blue"


@dataclass(frozen=True, slots=True)
class LineChart:
    """Curves on common axes; `along` names the unit of their `steps`."""

    title: str
    unit: str
    curves: Sequence[Curve]
    from_zero: bool = False
    along: Literal["step", "token", "train rows"] = "step"
    is_log: bool = False
    """Whether the x axis is logarithmic; all x values must then be at least 1."""


@dataclass(frozen=True, slots=True)
class RateChart:
    """Curves with both axes from 0 to 1, such as ROC curves; each has a `reading`, such as its area.

    `diagonal`: whether to draw the line of a random prediction.
    """

    title: str
    unit: str
    along: str
    curves: Sequence[Curve]
    readings: Sequence[str]
    diagonal: bool = False


@dataclass(frozen=True, slots=True)
class ReliabilityDiagram:
    """Accuracy over predicted probability: one record per bin with `lower`, `upper`, `n`, `confidence`, `accuracy`."""

    unit: str
    bins: Sequence[dict[str, Any]]


Chart: TypeAlias = LineChart | RateChart | ReliabilityDiagram


@dataclass(frozen=True, slots=True)
class Charts:
    """Charts side by side if the page is wide enough."""

    kind: ClassVar[str] = "charts"
    charts: Sequence[Chart]


@dataclass(frozen=True, slots=True)
class Fold:
    """Blocks under a title that shows or hides them."""

    kind: ClassVar[str] = "fold"
    title: str
    blocks: Sequence["Block"]
    is_open: bool = False


Block: TypeAlias = (
    Paragraph | Notice | Headlines | Facts | Table | Confusion | Preformatted | MarkedTexts | Charts | Fold
)


@dataclass(frozen=True, slots=True)
class Section:
    """Blocks under a heading."""

    title: str
    blocks: Sequence[Block]


def make_confusion(labels: object, counts: object, title: str = "Confusion matrix") -> Confusion | None:
    """Return the matrix, or None if `counts` does not fit `labels`: metrics.json may have been edited by hand."""
    if not isinstance(labels, list) or not labels or not isinstance(counts, list) or len(counts) != len(labels):
        return None
    rows = [row for row in counts if isinstance(row, list) and len(row) == len(labels)]
    if len(rows) < len(labels) or not all(isinstance(n, int) and n >= 0 for row in rows for n in row):
        return None
    return Confusion([str(label) for label in labels], rows, title)


def show_value(value: object) -> str:
    """Format a value for readers: thousands separators, four decimals, a dash for None and for an empty string."""
    if value is None or value == "":
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        if not math.isfinite(value):
            return f"{value:g}"
        if abs(value) >= 1000:
            return f"{value:,.0f}" if abs(value) >= 100_000 else f"{value:,.1f}"
        return f"{value:.4f}" if abs(value) >= 0.01 or value == 0 else f"{value:.3g}"
    return str(value)


def show_duration(seconds: float) -> str:
    """Format a duration: `57 s`, `3 min 5 s`, `2 h 10 min`."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if minutes else f"{rest} s"
    return f"{minutes // 60} h {minutes % 60} min"
