"""Messages to the user on stderr, without control characters and without secrets."""

import os
import re
import sys
from collections.abc import Sequence
from contextlib import suppress


def info(message: str) -> None:
    """Print a message to stderr; stdout is for results. With several ranks only rank 0 prints."""
    if os.environ.get("RANK", "0") != "0":
        return
    with suppress(BrokenPipeError):  # a closed pipe must not end a training run
        print(redact(clean_lines(message)), file=sys.stderr, flush=True)


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its type if the message is empty, as in several errors of
    torch.
    """
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def count(n: int, noun: str) -> str:
    """Format a number with its noun: `1 row`, `2,000 rows`."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def show_size(n_bytes: float) -> str:
    """Format bytes in powers of 1000: 64 MB, 1.5 GB."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if n_bytes < 1000:
            return f"{n_bytes:.3g} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.3g} TB" if n_bytes < 1000 else f"{n_bytes:,.0f} TB"


_HARMLESS = "\t\u200c\u200d\u00a0\u202f\u3000"
"""Characters that are not printable for Python but are kept: joiners in words and emoji, French and Chinese spaces."""


_INVISIBLE = "\u00ad\u200b\u200e\u200f\u2060\ufeff"
"""Zero-width characters, which are removed from lines; the visible text stays the same."""


def list_some(names: Sequence[str], n_shown: int = 3) -> str:
    """Join the first names, and count the others: `a, b, c and 5 more`."""
    more = f" and {len(names) - n_shown:,} more" if len(names) > n_shown else ""
    return ", ".join(names[:n_shown]) + more


def clean_lines(text: str) -> str:
    """Escape characters that could move the cursor, or colour, hide or reverse text in a terminal, as `\\x1b`."""
    if text.isprintable():
        return text
    lines = text.replace("\r\n", "\n")
    return "".join(c if c == "\n" or c in _HARMLESS else "" if c in _INVISIBLE else _escape(c) for c in lines)


def clean_line(text: str) -> str:
    """Return the text as one line: `\u23ce` for newlines, spaces for other white space and invisible characters, and
    escapes such as `\\x1b` for control characters. Keeps zero-width joiners, which emoji need.
    """
    if text.isprintable():
        return text
    line = text.replace("\r\n", "\n").replace("\n", "\u23ce")
    spaced = (c if c in "\u200c\u200d" else " " if c.isspace() or c in _INVISIBLE else _escape(c) for c in line)
    return "".join(spaced)


def _escape(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode()


_SECRETS = (
    re.compile(r"(?<=://)[^/@\s]+(?=@)"),  # https://user:password@host
    re.compile(r"\bhf_[A-Za-z0-9]{16,}"),  # a token of the Hugging Face hub
    re.compile(r"(?i)(?<=token=)\S+|(?<=password=)\S+|(?<=secret=)\S+|(?<=api_key=)\S+|(?<=apikey=)\S+"),
)
_SECRET_NAME = re.compile(r"(?i)(TOKEN|SECRET|PASSWORD|PASSWD|API_?KEY|ACCESS_KEY|CREDENTIALS?)$")


def redact(text: str) -> str:
    """Remove secrets from messages and recorded command lines.

    Secrets are passwords in URLs, hub tokens, values of `token=` and similar, and values of environment variables with
    names such as `HF_TOKEN`.
    """
    for name, value in os.environ.items():
        if len(value) >= 8 and _SECRET_NAME.search(name):  # a short value may be part of ordinary words
            text = text.replace(value, "[redacted]")
    for pattern in _SECRETS:
        text = pattern.sub("[redacted]", text)
    return text
