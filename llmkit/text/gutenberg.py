"""Remove what Project Gutenberg adds to a book: header, footer, licence, and the producers' credit.

The header ends with the line `*** START OF THIS PROJECT GUTENBERG EBOOK ... ***` (older books: the "small print"
line), the footer begins with `*** END OF ...` or the line `End of the Project Gutenberg EBook of ...` before it.
After the header the credit paragraph (`Produced by ...`) is removed too, and a transcriber's note in brackets. A note
without brackets has no definite end and stays, since no text of the book may be lost. A text without these lines is
left unchanged.

A file may hold several books one after another. Works part by part: a part ends at a line end, so a marker line is
never cut.
"""

import re
from collections.abc import Iterable, Iterator
from enum import Enum, auto

from llmkit.text.documents import StepCounts, mark_last

_HEADER_CHARS = 40_000
_CREDIT_CHARS = 3_000

_START = re.compile(
    r"[ \t]*\*{3} ?START OF (?:THE|THIS) PROJECT GUTENBERG[^*]{0,300}?\*{3}[^\n]*\n"
    r"|[^\n]{0,20}\*END\*? ?THE SMALL PRINT![^\n]*\n",
    re.I,
)
_STARS = re.compile(r"\*(?:\*\*|[Ee][Nn][Dd])")  # case-sensitive: re.I makes this search slow
_END, _END_BELOW = (
    re.compile(
        rf"{before}[ \t]*(?:\*{{3}} ?END OF (?:THE|THIS) PROJECT GUTENBERG"
        r"|End of (?:The |this )?Project Gutenberg(?:['’]s| E-?(?:Book|Text)))",
        re.I,
    )
    for before in ("", r"\n")
)
_CREDIT = re.compile(
    r"\s*(?:(?:This )?(?:e-?text|e-?book|text|file) (?:was )?)?"
    r"(?:produced|prepared|transcribed|scanned|created) (?:and proofread )?by [^\n]*(?:\n(?![ \t]*\n)[^\n]*){0,8}\n",
    re.I,
)
_NOTE = re.compile(
    r"^[ \t]*\[(?:Transcriber['’]?s?['’]? note|Note by the transcriber)[^\[\]]{0,3000}\][ \t]*\n", re.M | re.I
)


def strip_gutenberg(texts: Iterable[str], count: StepCounts) -> Iterator[str]:
    """Yield the text of the books; `count.removed` counts the characters of `header`, `credit` and `footer`."""
    state = _State.HEADER
    carried = ""
    changed = begun = False
    for text, last in mark_last(texts):
        text, carried = carried + text, ""
        kept: list[str] = []
        while text:
            if state is _State.HEADER:
                start = _find_start(text)
                if start:
                    count.removed["header"] += start
                    changed, state, text = True, _State.CREDIT, text[start:]
                elif last or len(text) > _HEADER_CHARS or "gutenberg" not in text[:5000].casefold():
                    state = _State.BOOK
                else:
                    carried, text = text, ""
            elif state is _State.CREDIT:
                if not last and len(text) < _CREDIT_CHARS:
                    carried, text = text, ""
                else:
                    book = _cut_credit(text)
                    count.removed["credit"] += len(text) - len(book)
                    state, text = _State.BOOK, book
            elif state is _State.BOOK:
                end = _find_end(text)
                if end is None:
                    kept.append(text)
                    text = ""
                else:
                    kept.append(text[:end].rstrip() + "\n")
                    changed, state, text = True, _State.FOOTER, text[end:]
            else:
                start = _find_start(text)
                count.removed["footer"] += start or len(text)
                state, text = (_State.CREDIT, text[start:]) if start else (state, "")
                if start and (begun or kept):
                    kept.append("\n\n")  # between two books of one file
        begun = begun or bool(kept)
        yield "".join(kept)
    count.changed += changed


class _State(Enum):
    HEADER = auto()
    CREDIT = auto()
    BOOK = auto()
    FOOTER = auto()


def _find_start(text: str) -> int:
    """The end of the line that ends the header; 0 if there is none."""
    if "*" not in text:
        return 0
    for stars in _STARS.finditer(text):
        if start := _START.match(text, text.rfind("\n", 0, stars.start()) + 1):
            return start.end()
    return 0


def _find_end(text: str) -> int | None:
    # Searching the name first is a hundred times as fast as the pattern, and a pattern that begins with a line feed is
    # ten times as fast as one with ^ and re.M, which is tried at every character.
    if "utenberg" not in text and "UTENBERG" not in text:
        return None
    if _END.match(text):
        return 0
    end = _END_BELOW.search(text)
    return end.start() + 1 if end else None


def _cut_credit(text: str) -> str:
    """The text after the header, without the credit paragraph and a transcriber's note in brackets."""
    if credit := _CREDIT.match(text, 0, _CREDIT_CHARS):
        text = text[credit.end() :]
    if note := _NOTE.search(text, 0, _CREDIT_CHARS):
        text = text[: note.start()] + text[note.end() :]
    return text.lstrip("\n")
