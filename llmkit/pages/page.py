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

from llmkit.pages.blocks import Block, Section, show_value
from llmkit.pages.charts import layout_chart

_TEMPLATES = Path(__file__).parent / "templates"
# C0 and C1 control characters except tab and newline; lone surrogates, which UTF-8 cannot encode; marks that override
# the direction of the text after them; non-characters.
_UNSHOWABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069\ufffe\uffff]")


def render_page(title: str, subtitle: str, blocks: Sequence[Block], sections: Sequence[Section]) -> str:
    """Return the complete HTML file; `blocks` come before the first section."""
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, keep_trailing_newline=True, finalize=_clean,
    )  # fmt: skip
    environment.filters |= {"value": show_value, "layout_chart": layout_chart}
    style, script = (Markup((_TEMPLATES / name).read_text(encoding="utf-8")) for name in ("style.css", "script.js"))
    policy = (
        f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}';"
        " base-uri 'none'; form-action 'none'"
    )
    return environment.get_template("page.html.jinja").render(
        title=title, subtitle=subtitle, blocks=blocks, sections=sections, style=style, script=script,
        policy=Markup(policy),
    )  # fmt: skip


def _clean(value: object) -> object:
    """Remove unprintable characters from a template's output; `Markup` comes from llmkit and stays unchanged."""
    return value if isinstance(value, Markup) else _UNSHOWABLE.sub("", str(value))


def _hash(text: str) -> str:
    return "sha256-" + b64encode(sha256(text.encode()).digest()).decode()
