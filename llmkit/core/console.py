"""Lines for people on stderr, and texts that are safe to show there."""

import os
import re
import sys
from contextlib import suppress


def info(message: str) -> None:
    """One line to the user on stderr; stdout is for results. An error's three lines stay three.

    Of several ranks the first speaks for all; see distributed.py.
    """
    if os.environ.get("RANK", "0") != "0":
        return
    with suppress(BrokenPipeError):  # a pipe that nobody reads any more must not end a training
        print(redact(clean_lines(message)), file=sys.stderr, flush=True)


def first_line(error: BaseException) -> str:
    """What an error says first; its type, where it says nothing: torch raises several so."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def clean_lines(text: str) -> str:
    """Text for a terminal: nothing in it can move the cursor, colour, hide or turn around what is shown."""
    return text if text.isprintable() else "".join(c for c in text if c.isprintable() or c in "\n\t\u3000")


def clean_line(text: str) -> str:
    """Text from data as one harmless line: control characters could command the terminal."""
    return "".join(c if c.isprintable() else "\u23ce" if c == "\n" else " " for c in text)


_SECRETS = (
    re.compile(r"(?<=://)[^/@\s]+(?=@)"),  # https://user:password@host
    re.compile(r"\bhf_[A-Za-z0-9]{16,}"),  # a token of the Hugging Face hub
    re.compile(r"(?i)(?<=token=)\S+|(?<=password=)\S+|(?<=secret=)\S+|(?<=api_key=)\S+|(?<=apikey=)\S+"),
)
_SECRET_NAME = re.compile(r"(?i)(TOKEN|SECRET|PASSWORD|PASSWD|API_?KEY|ACCESS_KEY|CREDENTIALS?)$")


def redact(text: str) -> str:
    """Text without passwords: those in URLs, tokens of the hub, what stands behind `token=`, and what the environment
    holds under a name like `HF_TOKEN`. For what is said, and for command lines that are kept."""
    for name, value in os.environ.items():
        if len(value) >= 8 and _SECRET_NAME.search(name):  # a short one would cut up ordinary words
            text = text.replace(value, "[redacted]")
    for pattern in _SECRETS:
        text = pattern.sub("[redacted]", text)
    return text
