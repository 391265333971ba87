"""Messages to the user on stderr, without control characters and without secrets."""

import os
import re
import sys
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


_HARMLESS = "\t\u200c\u200d\u00a0\u202f\u3000"
"""Characters that are not printable for Python but are kept: joiners in words and emoji, French and Chinese spaces."""


def clean_lines(text: str) -> str:
    """Remove characters that could move the cursor, or colour, hide or reverse text in a terminal."""
    return text if text.isprintable() else "".join(c for c in text if c.isprintable() or c == "\n" or c in _HARMLESS)


def clean_line(text: str) -> str:
    """Return the text as one line without control characters; keeps joiners, and replaces other invisible characters
    with spaces.
    """
    return "".join(c if c.isprintable() or c in "\u200c\u200d" else "\u23ce" if c == "\n" else " " for c in text)


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
