"""Remove the text that Project Gutenberg adds to a book: header, footer, licence, and the producers' credit.

The header ends with the line `*** START OF THIS PROJECT GUTENBERG EBOOK ... ***` (older books: the end of the "small
print"), the footer begins with `*** END OF ...` or the line `End of the Project Gutenberg EBook of ...` before it.
After the header the credit paragraph (`Produced by ...`) is removed too, and a transcriber's note in brackets. A note
without brackets has no definite end and stays, since no text of the book may be lost.

A single such line is not enough to remove text, because books and essays quote these lines:

- A header starts with a title line of Project Gutenberg, or consists of fields such as `Title:`. It ends within the
  first 40,000 characters of the file, and no END line precedes it. Text before the header stays.
- A footer follows a header of the same file, or the licence follows within 3,000 characters. It ends at the next
  header, or with the last paragraph that names Project Gutenberg; consecutive mentions are at most 5,000
  characters apart.
- Small print at the end of a file is a footer, not a header that would contain the whole book.

A text without these lines is left unchanged. A file may hold several books one after another. Works part by part: a
part ends at the end of a line, so a marker line is never cut.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from enum import Enum, auto

from llmkit.text.documents import StepCounts, mark_last

_HEADER_CHARS = 40_000
_FOOTER_CHARS = 80_000
"""Maximum length of a footer plus the next book's header: the licence has 20,000 characters, and so has an old
header.
"""
_SMALL_PRINT_CHARS = 20_000
_MAX_GAP = 5_000
"""Maximum distance between two mentions of Project Gutenberg inside a licence; in 11 books of 2020 it is at most
2,400.
"""
_CREDIT_CHARS = 3_000
_LICENCE_WITHIN = 3_000
_FEW_CHARS = 1_000
"""Text after an END line without a licence belongs to the book if it is longer than this."""

# The project's name, and below the words of START and END lines, include those of French, German, Spanish, Italian and
# Portuguese files.
_PROJECT = r"(?:PROJE[KC]?T|PROYECTO|PROGETTO|PROJEC?TO) GUTENBERG"
_START = re.compile(
    rf"[ \t]*\*{{3}} ?(?:START|D[ÉE]BUT|BEGINN|ANFANG|COMIENZO|INICIO|INIZIO|INÍCIO)\b[^*\n]{{0,60}}{_PROJECT}"
    r"[^*]{0,300}?\*{3}[^\n]*\n"
    r"|[^\n]{0,20}\*END\*? ?THE SMALL PRINT![^\n]*\n",
    re.I,
)
_STARS = re.compile(r"\*(?:\*\*|[Ee][Nn][Dd])")  # case-sensitive: re.I makes this search slow
_END, _END_BELOW = (
    re.compile(
        rf"{before}[ \t]*(?:\*{{3}} ?(?:END OF (?:THE|THIS)|ENDE|FIN|FINE|FIM)\b[^*\n]{{0,60}}{_PROJECT}"
        r"|End of (?:The |this )?Project Gutenberg(?:['’]s| E-?(?:Book|Text)))",
        re.I,
    )
    for before in ("", r"\n")
)
_SMALL_PRINT = re.compile(r"[ \t]*\*{3} ?START ?\*\* ?THE SMALL PRINT!", re.I)
_SMALL_PRINT_BELOW = re.compile(r"\n[ \t]*\*{3} ?START ?\*\* ?THE SMALL PRINT!", re.I)
_TITLE_LINE = re.compile(
    r"(?:\A|^)[\s*\ufeff]*(?:(?:The|This is the) )?"
    r"Project Gutenberg(?:['’]s|(?: \w+)? E-?(?:Book|Text)|[^\n]{0,40}presents)"
    r"|^[^\n]{0,40}\b(?:Projet|Projekt|Proyecto|Progetto|Projeto) Gutenberg\b",
    re.I | re.M,
)
_FIELD = re.compile(
    r"^[ \t]*(?:Title|Author|Release Date|Posting Date|Language|Character set encoding|Translator|Editor|Illustrator|"
    r"Credits|Titre|Titel|Título|Titolo|Auteur|Autore?|Langue|Sprache|Idioma|Lingua|Traducteur|Übersetzer)[ \xa0]?:"
    r"|^[ \t]*(?:This e-?book is for the use of anyone|Copyright laws are changing)",
    re.I | re.M,
)
_LICENCE = re.compile(
    r"^[ \t*]*(?:START:? ?(?:\*\* ?)?(?:THE )?(?:FULL LICENSE|SMALL PRINT)|THE FULL PROJECT GUTENBERG|"
    r"This file should be named|This and all associated files of various formats|Updated editions will replace|"
    r"Creating the works from (?:public domain )?print editions)",
    re.I | re.M,
)
_MENTION = re.compile(r"gutenberg|small print|\betexts?\b", re.I)
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
    frame = _Frame(count.removed)
    for text, last in mark_last(texts):
        yield frame.strip(text, last)
    count.changed += frame.changed


class _State(Enum):
    HEADER = auto()
    CREDIT = auto()
    BOOK = auto()


class _Frame:
    """Removes header, credit and footer from one file, part by part."""

    def __init__(self, removed: Counter[str]) -> None:
        self.changed = False
        self._removed = removed
        self._state = _State.HEADER
        self._carried = ""
        self._has_header = False
        self._has_begun = False

    def strip(self, text: str, last: bool) -> str:
        """Return the book text of the next part; its end may be held back until the following call."""
        text, self._carried = self._carried + text, ""
        steps = {_State.HEADER: self._strip_header, _State.CREDIT: self._strip_credit, _State.BOOK: self._strip_footer}
        kept = ""
        while text:
            book, text = steps[self._state](text, last)
            kept += book
        self._has_begun = self._has_begun or bool(kept)
        return kept

    def _strip_header(self, text: str, last: bool) -> tuple[str, str]:
        if not last and len(text) <= _HEADER_CHARS and "gutenberg" in text.casefold():
            self._carried = text
            return "", ""
        begin, end = _find_header(text, last)
        if end:
            self._remove("header", end - begin)
        self._has_header = end > 0
        self._state = _State.CREDIT if end else _State.BOOK
        return text[:begin], text[end:]

    def _strip_credit(self, text: str, last: bool) -> tuple[str, str]:
        if not last and len(text) < _CREDIT_CHARS:
            self._carried = text
            return "", ""
        book = _cut_credit(text)
        self._remove("credit", len(text) - len(book))
        self._state = _State.BOOK
        return "", book

    def _strip_footer(self, text: str, last: bool) -> tuple[str, str]:
        end = _find_end(text)
        if end is None:
            return text, ""
        if not last and len(text) - end < _FOOTER_CHARS + _MAX_GAP:
            self._carried = text[end:]
            return text[:end], ""
        footer, is_next_book = _find_footer_end(text, end, self._has_header)
        if footer == end:  # a quotation
            line_end = text.find("\n", end) + 1 or len(text)
            return text[:line_end], text[line_end:]
        self._remove("footer", footer - end)
        self._has_header = is_next_book
        self._state = _State.CREDIT if is_next_book else _State.BOOK
        book, rest = text[:end].rstrip(), text[footer:]
        book += "\n" if book else ""
        if rest and (self._has_begun or book):
            book += "\n\n"  # between two books or texts of one file
        return book, rest

    def _remove(self, kind: str, n_chars: int) -> None:
        self._removed[kind] += n_chars
        self.changed = True


def _find_header(text: str, last: bool) -> tuple[int, int]:
    """Return beginning and end of the header; (0, 0) if there is none. `last`: the text is the last part of the
    file.
    """
    if "gutenberg" not in text[:_HEADER_CHARS].casefold():
        return 0, 0
    start, end = _find_start(text[: _HEADER_CHARS + 500])
    before = text[:start]
    if not end or start > _HEADER_CHARS or _END.match(before) or _END_BELOW.search(before):
        return 0, 0
    begin = _find_header_begin(before)
    if begin is None:
        return 0, 0
    if small_print := _SMALL_PRINT_BELOW.search(before):
        n_after = len(text[end:].strip())
        if last and small_print.start() > 20 * n_after and n_after < _FEW_CHARS:
            return 0, 0  # the small print is at the end of the book
    return begin, end


def _find_header_begin(before: str) -> int | None:
    """Return where the header begins in `before`, the text before its last line; None if that line is a quotation."""
    if not before.strip():
        return 0
    title = _TITLE_LINE.search(before)
    if title and not before[: title.start()].strip("\ufeff \t\n"):
        return 0
    is_titled = title is not None and _FIELD.search(before, title.end()) is not None
    begin = title.end() - len(title[0].lstrip()) if title and is_titled else len(before)
    while head := before[:begin].rstrip():  # fields may come before the title line, or instead of it
        paragraph = head.rfind("\n\n") + 2 if "\n\n" in head else 0
        if not _FIELD.search(head, paragraph):
            break
        begin, is_titled = paragraph, True
    if not is_titled:
        return None
    return begin if head else 0


def _find_footer_end(text: str, begin: int, paired: bool) -> tuple[int, bool]:
    """Return the end of the footer that begins at `begin`, and whether another book follows.

    If the line at `begin` is only a quotation in the book, the end is `begin`. `paired`: the file has a header.
    """
    line_end = text.find("\n", begin) + 1 or len(text)
    if small_print := _SMALL_PRINT.match(text, begin):
        _, end = _find_start(text[: begin + _SMALL_PRINT_CHARS], small_print.end())
        return end or begin, False
    if not text[line_end:].strip():
        return len(text), False
    has_licence = _LICENCE.search(text, line_end, line_end + _LICENCE_WITHIN)
    if has_licence and (later := _END_BELOW.search(text, line_end - 1, has_licence.start())):
        # The footer begins at the line before the licence, unless the two lines are next to each other.
        between = _without_frame(text[line_end : later.start()])
        if len(between) > _FEW_CHARS // 5:
            return begin, False
    if not has_licence and not paired:
        return begin, False
    window = begin + (_FOOTER_CHARS if has_licence else 10 * _FEW_CHARS)
    next_begin, next_end = _find_start(text[:window], line_end)
    if not has_licence:
        rest = text[line_end : next_begin or window]
        if len(_without_frame(rest)) > _FEW_CHARS:
            return begin, False
        return (next_end, True) if next_end else (min(window, len(text)), False)
    named = line_end
    for mention in _MENTION.finditer(text, line_end, begin + _FOOTER_CHARS):
        if mention.start() - named > _MAX_GAP:
            break
        if next_end and mention.start() >= next_begin:
            small_print_at_end = not text[next_end:].strip()
            return (len(text), False) if small_print_at_end else (next_end, True)
        named = mention.end()
    paragraph_end = text.find("\n\n", named)
    end = len(text) if paragraph_end < 0 else paragraph_end + 2
    has_short_tail = len(text[end:].strip()) <= _FEW_CHARS // 5
    return len(text) if has_short_tail else end, False


def _without_frame(text: str) -> str:
    """Return the text without white space at its ends and without lines that name Project Gutenberg."""
    return "\n".join(line for line in text.strip().split("\n") if "gutenberg" not in line.casefold())


def _find_start(text: str, position: int = 0) -> tuple[int, int]:
    """Return beginning and end of the line that ends a header, at or after `position`; (0, 0) if there is none."""
    for stars in _STARS.finditer(text, position):
        line = text.rfind("\n", 0, stars.start()) + 1
        if line >= position and (start := _START.match(text, line)):
            return line, start.end()
    return 0, 0


def _find_end(text: str) -> int | None:
    """Return the beginning of the first line that may begin a footer."""
    # Searching the name first is a hundred times as fast as the pattern, and a pattern that begins with a line feed is
    # ten times as fast as one with ^ and re.M, which is tried at every character.
    found: list[int] = []
    if "utenberg" in text or "UTENBERG" in text:
        if _END.match(text):
            return 0
        if end := _END_BELOW.search(text):
            found.append(end.start() + 1)
    if "SMALL PRINT!" in text:
        if _SMALL_PRINT.match(text):
            return 0
        if end := _SMALL_PRINT_BELOW.search(text):
            found.append(end.start() + 1)
    return min(found, default=None)


def _cut_credit(text: str) -> str:
    """Return the text after the header, without the credit paragraph and a transcriber's note in brackets."""
    if credit := _CREDIT.match(text, 0, _CREDIT_CHARS):
        text = text[credit.end() :]
    if note := _NOTE.search(text, 0, _CREDIT_CHARS):
        text = text[: note.start()] + text[note.end() :]
    return text.lstrip("\n")
