"""Parse XML as a stream of events, in constant memory. A document type declaration is an error: no supported format has
one, and it can declare entities that expand without limit.
"""

from collections.abc import Iterator, Mapping
from typing import BinaryIO, Protocol
from xml.parsers import expat

from llmkit.core.errors import DataError

_CHUNK_BYTES = 1 << 16
_GAPS = ("", " ", "\t", "\n", "\n\n")
"""Gaps in ascending order."""


class XmlTarget(Protocol):
    """Receives the events; names have no namespace."""

    def start(self, name: str, attributes: Mapping[str, str]) -> None:
        """Handle the start tag of an element; `attributes` have names without namespace."""

    def end(self, name: str) -> None:
        """Handle the end tag of an element."""

    def data(self, text: str) -> None:
        """Handle characters inside the innermost element; one text may arrive in several calls."""


def parse_xml(file: BinaryIO, target: XmlTarget, path: str) -> Iterator[None]:
    """Parse a file; yields after each chunk, so that the caller can use the output of `target` so far.

    Raises:
        DataError: not XML, cut off, or with a document type declaration.
    """
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.buffer_text = True

    def refuse(*_: object) -> None:
        raise DataError("the XML has a document type declaration", where=path, hint="save the document again")

    def start(name: str, attributes: Mapping[str, str]) -> None:
        target.start(_local(name), {_local(key): value for key, value in attributes.items()})

    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler = start
    parser.EndElementHandler = lambda name: target.end(_local(name))
    parser.CharacterDataHandler = target.data
    try:
        while chunk := file.read(_CHUNK_BYTES):
            parser.Parse(chunk, False)
            yield
        parser.Parse(b"", True)
    except (expat.ExpatError, LookupError, ValueError) as error:  # LookupError, ValueError: unknown encodings
        what = f"the XML is damaged or cut off: {error}"
        raise DataError(what, where=path, hint="save or fetch the file again") from None
    yield


def _local(name: str) -> str:
    return name.rpartition(" ")[2]


class TextBuilder:
    """Joins pieces of text, with the largest requested gap between two pieces."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._gap = ""
        self._has_text = False

    def add(self, text: str) -> None:
        """Append a text."""
        if text:
            if self._has_text:
                self._pieces.append(self._gap)
            self._pieces.append(text)
            self._gap, self._has_text = "", True

    def gap(self, gap: str) -> None:
        """Request at least this gap before the next text."""
        if _GAPS.index(gap) > _GAPS.index(self._gap):
            self._gap = gap

    def take(self) -> str:
        """Return the text added since the last call."""
        text = "".join(self._pieces)
        self._pieces.clear()
        return text

    def finish(self) -> str:
        """Return the remaining text, with a newline at the end."""
        return self.take() + ("\n" if self._has_text else "")
