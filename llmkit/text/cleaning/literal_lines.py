"""Find the lines of a text that must not be joined: source code and tables.

Literal lines are fenced code blocks of Markdown, paragraphs in which most lines look like source code, and lines with a
tab or three spaces between words. Indented lines are not literal, because they may begin a paragraph.
"""

import re
from collections.abc import Sequence
from itertools import groupby

_FENCE = re.compile(r" {0,3}(?:```|~~~)")
_TABLE_ROW = re.compile(r"\S(?: {3,}| *\t\s*)\S")
_CODE = re.compile(
    r"[{};]\s*\Z"  # the end of a statement or the beginning of a block
    r"|\w\([^()]*\)\s*[:;]?\s*\Z"  # a call
    r"|[\w\])] ?(?:[-+*/|&!=<>:]?=|->|=>) ?[\w\"'(\[{-]"  # an assignment or a comparison
    r"|\A\s*(?:def|class|import|from|return|elif|else|for|while|if|function|const|let|var|public|static)\b.*[:;(){}=]\s*\Z"
    r"|\A\s*(?:[$>] |//|/\*|#include\b)"
)


class LiteralLines:
    """Finds the literal lines of a document that arrives in parts; a fence may stay open from one part to the next."""

    def __init__(self) -> None:
        self._is_fenced = False

    def find(self, lines: Sequence[str]) -> list[bool]:
        """Return, for each line of a part, whether it is literal; parts must begin and end between paragraphs."""
        found: list[bool] = []
        for is_blank, group in groupby(lines, lambda line: not line.strip()):
            paragraph = list(group)
            is_code = not is_blank and 2 * sum(bool(_CODE.search(line)) for line in paragraph) > len(paragraph)
            for line in paragraph:
                is_fence = bool(_FENCE.match(line))
                self._is_fenced ^= is_fence
                found.append(self._is_fenced or is_fence or is_code or bool(_TABLE_ROW.search(line)))
        return found

    def may_change(self, text: str) -> bool:
        """Whether a fence opens, closes or is open in the text."""
        return self._is_fenced or "```" in text or "~~~" in text
