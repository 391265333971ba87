"""White space is normalized alike by both implementations, and as by a regular expression per line."""

import random
import re

import pytest

from llmkit.text.cleaning import whitespace
from llmkit.text.cleaning.whitespace import normalize_whitespace
from llmkit.text.documents import StepCounts
from llmkit.text.scan import known_utf8

PIECES = [
    "word",
    "two words",
    " ",
    "  ",
    "\t",
    "\xa0",
    "\n",
    "\n\n",
    "\n\n\n\n",
    "é",
    "à\n",
    "‰‐\n",
    " \n",
    "  \n",
    "x  \n",
    "\t\n",
]


def tidy_by_pattern(text: str) -> str:
    """The rules of the module's docstring, for a text without Chinese and its indents."""

    def trim(match: re.Match[str]) -> str:
        is_break = match[0] == "  " and match.start() > 0 and text[match.start() - 1] != "\n"
        return "  " if is_break else ""

    text = re.sub(r"[ \t\xa0]+(?=\n)", trim, text)
    text = re.sub(r"\n{4,}", "\n\n\n", text)
    text = re.sub(r"\A(?:[ \t\xa0]*\n)+", "", text)
    body, end = re.fullmatch(r"(.*?)([ \t\xa0\n]*)", text, re.S).groups()  # type: ignore[union-attr]  # it matches
    return body + "\n" if body and "\n" in end else body


@pytest.mark.parametrize("few_bytes", [0, 10**9])
@pytest.mark.parametrize("few_ends", [1, 20, 10**9])
def test_both_ways_to_trim_lines_give_the_same_text(
    few_ends: int, few_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(whitespace, "_FEW_ENDS", few_ends)
    monkeypatch.setattr(whitespace, "_FEW_BYTES", few_bytes)
    draw = random.Random(0)
    for _ in range(300):
        text = "".join(draw.choices(PIECES, k=draw.randrange(60)))
        counts = StepCounts()
        (tidied,) = normalize_whitespace([text], counts)
        assert known_utf8(tidied) in (None, tidied.encode())
        assert tidied == tidy_by_pattern(text)
        assert counts.changed == (tidied != text)
        cut = draw.randrange(len(text) + 1)
        if text[cut - 1 : cut] == "\n":  # where parts are cut
            assert "".join(normalize_whitespace([text[:cut], text[cut:]], StepCounts())) == tidied


def test_a_text_that_needs_no_change_is_returned_as_the_same_object() -> None:
    text = "tidy  \nthrough and through\n"
    assert next(normalize_whitespace([text], StepCounts())) is text
