"""HTML in one file: markup that cannot be forgotten to be escaped, and the page around it.

Plain text becomes markup only through `tag`, which escapes it; only what is `Html` already passes as it
is. The page names its one style and one script by hash in its content security policy, so that even
markup that got through could neither run nor load anything.

Knows nothing of runs or charts; see report.py and charts.py.
"""

import math
import re
from base64 import b64encode
from collections.abc import Iterable, Sequence
from hashlib import sha256
from html import escape
from typing import Any

from llmkit.pages.page_assets import SCRIPT, STYLE

# C0 and C1 controls but tab and newline; lone surrogates, which UTF-8 cannot hold; the marks that turn the
# reading direction round for all that follows; non-characters.
_UNSHOWABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069\ufffe\uffff]")

_VOID = frozenset({"meta", "line", "circle", "path"})


class Html(str):
    """Text that is markup already."""

    __slots__ = ()


def escape_text(value: object) -> Html:
    """The value as text that HTML shows as it is, without control characters."""
    return value if isinstance(value, Html) else _escape(value)


def tag(name: str, *children: object, **attributes: object) -> Html:
    """An element. `class_` is class, `data_x` is data-x; None is left out, True has no value."""
    opening = name
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        opening += f" {key.rstrip('_').replace('_', '-')}"
        # Markup inside an attribute is text too, so even Html is escaped here.
        opening += "" if value is True else f'="{_escape(value)}"'
    if name in _VOID:
        return Html(f"<{opening}>" if name == "meta" else f"<{opening}/>")
    return Html(f"<{opening}>{join(children)}</{name}>")


def join(children: Iterable[object], between: str = "") -> Html:
    """The children one after the other, None left out."""
    return Html(between.join(escape_text(child) for child in children if child is not None))


def section(title: str, *parts: object) -> Html:
    """A part of the page under its own heading."""
    return tag("section", tag("h2", title), *parts)


def table(header: Sequence[str], rows: Iterable[Sequence[object]], *, total: Sequence[object] | None = None) -> Html:
    """A table whose numbers are aligned to the right, with an optional last row of totals."""
    body = [list(row) for row in rows]
    numeric = [any(_is_number(row[column]) for row in body) for column in range(len(header))]

    def line(cells: Sequence[object], element: str) -> Html:
        return tag(
            "tr",
            *(
                tag(element, show_value(cell), class_="number" if is_numeric else None)
                for cell, is_numeric in zip(cells, numeric, strict=True)
            ),
        )

    return tag(
        "div",
        tag(
            "table",
            tag("thead", line(header, "th")),
            tag("tbody", *(line(row, "td") for row in body)),
            tag("tfoot", line(total, "td")) if total else None,
        ),
        class_="wide",
        tabindex=0,
    )


def pairs(facts: Iterable[tuple[str, object]]) -> Html:
    """Names with their values, as a definition list."""
    return tag("dl", *(tag("div", tag("dt", name), tag("dd", show_value(value))) for name, value in facts))


def show_value(value: object) -> object:
    """A value as a reader wants it: separated thousands, four decimals, a dash for nothing."""
    if value is None or value == "":
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        if not math.isfinite(value) or value == 0:
            return f"{value:g}"
        if abs(value) >= 1000:
            return f"{value:,.1f}"
        return f"{value:.4f}" if abs(value) >= 0.01 else f"{value:.3g}"
    return value


def show_duration(seconds: float) -> str:
    """`57 s`, `3 min 5 s`, `2 h 10 min`."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if minutes else f"{rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def render_page(title: str, *body: object) -> str:
    """The whole file, ending in a newline."""
    policy = (
        f"default-src 'none'; style-src '{_hash_of(STYLE)}'; script-src '{_hash_of(SCRIPT)}';"
        " base-uri 'none'; form-action 'none'"
    )
    # Set by hand because escaping would spoil the quotes in the policy's source and the code itself.
    head = (
        '<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"{tag('title', title)}\n<style>{STYLE}</style>"
    )
    main = tag("main", Html("\n"), join(body, "\n"), Html("\n"))
    body_end = f"{main}\n<script>{SCRIPT}</script>\n</body>\n</html>\n"
    return f'<!doctype html>\n<html lang="en">\n<head>\n{head}\n</head>\n<body>\n{body_end}'


def _escape(value: object) -> Html:
    return Html(escape(_UNSHOWABLE.sub("", str(value)), quote=True))


def _hash_of(text: str) -> str:
    return "sha256-" + b64encode(sha256(text.encode()).digest()).decode()


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
