"""Cut off what Project Gutenberg puts around a book: header, footer, licence, and the makers' credit.

The header ends with the line `*** START OF THIS PROJECT GUTENBERG EBOOK ... ***` (older books: the "small print"
line), the footer begins with `*** END OF ...` or the line `End of the Project Gutenberg EBook of ...` before it.
Behind the header the credit paragraph (`Produced by ...`) goes too, and a transcriber's note in brackets; a note
without brackets has no certain end and stays, since nothing of the book may be lost. A text without these lines
is left as it is.

Works over the parts of a long book: the header is looked for in its first characters, the footer everywhere.
"""

import re
from collections.abc import Iterable, Iterator

from llmkit.text.documents import StepCounts

_HEADER_CHARS = 40_000
_TAIL_CHARS = 1_000

_START = re.compile(
    r"^[ \t]*\*{3} ?START OF (?:THE|THIS) PROJECT GUTENBERG[^*]{0,300}?\*{3}[^\n]*\n"
    r"|^[^\n]{0,20}\*END\*? ?THE SMALL PRINT![^\n]*\n",
    re.M | re.I,
)
_END = re.compile(
    r"^[ \t]*\*{3} ?END OF (?:THE|THIS) PROJECT GUTENBERG"
    r"|^[ \t]*End of (?:The |this )?Project Gutenberg(?:['’]s| E-?(?:Book|Text))",
    re.M | re.I,
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
    """The book's own text. `count.removed` has the characters of `header`, `credit` and `footer`."""
    stream = iter(texts)
    head = ""
    more = True
    while more and len(head) < _HEADER_CHARS:
        text = next(stream, None)
        more = text is not None
        head += text or ""
    book, is_gutenberg = _cut_header(head, count)
    changed = is_gutenberg
    held = book
    while True:
        if end := _END.search(held):
            rest = sum(map(len, stream))
            count.removed["footer"] += len(held) - end.start() + rest
            yield held[: end.start()].rstrip() + "\n"
            changed = True
            break
        text = next(stream, None) if more else None
        if text is None:
            yield held
            break
        # The footer's first line may stand across two parts.
        keep = max(0, len(held) - _TAIL_CHARS)
        keep = held.rfind("\n", 0, keep) + 1 or keep
        yield held[:keep]
        held = held[keep:] + text
    count.changed += changed


def _cut_header(head: str, count: StepCounts) -> tuple[str, bool]:
    start = _START.search(head, 0, _HEADER_CHARS)
    if start is None:
        return head, False
    count.removed["header"] += start.end()
    book = head[start.end() :]
    if credit := _CREDIT.match(book, 0, 3000):
        count.removed["credit"] += credit.end()
        book = book[credit.end() :]
    if note := _NOTE.search(book, 0, 3000):
        count.removed["credit"] += len(note[0])
        book = book[: note.start()] + book[note.end() :]
    return book.lstrip("\n"), True
