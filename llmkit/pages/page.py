"""Render a page: jinja2 templates with autoescape, in one HTML file that needs no network.

The page's content security policy allows only its own style and script, by their hashes. Injected markup could
therefore neither run nor load anything.
"""

import re
from base64 import b64encode
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from llmkit.pages.blocks import Block, Chart, Section, show_value
from llmkit.pages.charts import layout_chart

_TEMPLATES = Path(__file__).parent / "templates"
# C0 and C1 control characters except tab and newline; lone surrogates, which UTF-8 cannot encode; marks that override
# the direction of the text after them; non-characters.
_UNSHOWABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069\ufffe\uffff]")


def render_page(title: str, subtitle: str, blocks: Sequence[Block], sections: Sequence[Section]) -> str:
    """Return the complete HTML file; `blocks` come before the first section."""
    environment = _make_environment()
    style, script = (Markup((_TEMPLATES / name).read_text(encoding="utf-8")) for name in ("style.css", "script.js"))
    policy = (
        f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}';"
        " base-uri 'none'; form-action 'none'"
    )
    return environment.get_template("page.html.jinja").render(
        title=title, subtitle=subtitle, blocks=blocks, sections=sections, style=style, script=script,
        policy=Markup(policy),
    )  # fmt: skip


def render_figure(chart: Chart) -> str:
    """Return a chart as an SVG file with title and keys, in the light colours of the page."""
    drawing = layout_chart(chart)
    key_top = 44 if drawing.key else 30
    height = 200 + key_top + 14 * ((len(drawing.lines) - 1) // 2) + 4
    return _make_environment().get_template("figure.svg.jinja").render(
        chart=drawing, height=height, key_top=key_top, style=Markup(_read_figure_style())
    )  # fmt: skip


def _read_figure_style() -> str:
    """Return the chart rules of the page's style sheet, with variables replaced by their values.

    Only browsers read CSS variables; other programs that show SVG files do not.
    """
    style = (_TEMPLATES / "style.css").read_text(encoding="utf-8")
    values = dict(re.findall(r"(--[\w-]+): ([^;]+);", style[: style.index("@media")]))
    rules = re.findall(r"^(?:svg \.|svg text|svg path|svg circle|\.blue|\.green|\.red)[^\n]*$", style, re.MULTILINE)
    text = "\n".join(rule.replace("svg ", "") for rule in rules)
    text = re.sub(r"var\((--[\w-]+)\)", lambda match: values[match[1]], text)
    return f"{text}\n.title {{ fill: {values['--ink']}; font-size: 12px; font-weight: 600; }}"


def _make_environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, keep_trailing_newline=True, finalize=_clean,
    )  # fmt: skip
    environment.filters |= {"value": show_value, "layout_chart": layout_chart}
    return environment


def _clean(value: object) -> object:
    """Remove unprintable characters from a template's output; `Markup` comes from llmkit and stays unchanged."""
    return value if isinstance(value, Markup) else _UNSHOWABLE.sub("", str(value))


def _hash(text: str) -> str:
    return "sha256-" + b64encode(sha256(text.encode()).digest()).decode()
