"""Detect the encoding of a byte stream and decode it strictly, in chunks of bounded size.

A byte order mark determines the encoding. Without one, the bytes before the first non-ASCII byte are ASCII, and the
window that begins there is examined: it is UTF-8 if it is valid UTF-8, or nearly; otherwise encoding_detection.py finds
the encoding with the most probable text. If two encodings are nearly as probable, or the file mixes UTF-8 with another
encoding, a DataError shows a line in both. One broken byte in a UTF-8 file is an error that names the byte; it never
turns the file into Latin-1.

A legacy encoding is a guess: the receipt of `prepare` names it with a line of text, and `read.encoding` overrides it.
Later chunks are compared with the guess: where encodings that gave the same text so far differ, the more probable one
is chosen. Independent of formats or documents.
"""

import codecs
import io
import re
from collections.abc import Callable, Iterator
from typing import BinaryIO, Protocol

from llmkit.core.errors import DataError, UsageError
from llmkit.text.decoding.declared_encodings import HAS_C1, UNICODE, compare_encoding, decode_declared, find_mark
from llmkit.text.decoding.encoding_changes import find_change
from llmkit.text.decoding.encoding_detection import (
    MARGIN,
    detect_legacy,
    find_utf8_word,
    is_valid,
    rank_encodings,
    rank_stray_byte,
    sample_words,
)
from llmkit.text.decoding.excerpts import find_difference, find_example, find_high, line_at, shorten
from llmkit.text.decoding.unmarked_encodings import (
    WIDE,
    WINDOW_BYTES,
    detect_escapes,
    detect_wide,
    reject_binary,
    reject_ebcdic,
)
from llmkit.text.scan import cache_scan

CHUNK_BYTES = 1 << 20


_ASCII_IN_WIDE = re.compile(rb"[\t\n\r\x20-\x7e]{64}")
"""ASCII bytes that UTF-16 decodes to 32 rare Chinese characters."""
_ONE_ENCODING = "convert the file to one encoding, or split it into two files; --skip-bad skips such files"
_EXTENDED_WINDOW = 1 << 22
"""Number of bytes to read before the encoding counts as unclear, if the first window does not decide it."""


class EncodingRecord(Protocol):
    """The fields that `TextStream.record` writes; sources.Source has these fields."""

    encoding: str
    example: str
    notes: dict[str, str]


class TextStream:
    """Iterates over pieces of decoded text, of at most CHUNK_BYTES of input each (more where the encoding is unclear).

    `encoding` is a Python codec name or `auto`; after reading, the attribute `encoding` is the encoding in use (`ascii`
    if there are only ASCII bytes), and `example` is a line of the text, if that is neither `ascii` nor `utf-8`. A
    byte order mark is removed. Raises DataError, with the path and byte offset, for binary data, an unclear encoding,
    C1 control characters from a legacy encoding and, if `errors` is `strict`, undecodable bytes.
    """

    def __init__(self, file: BinaryIO, encoding: str, path: str, errors: str = "strict") -> None:
        self.encoding = encoding
        self.example = ""
        self._named = encoding != "auto"
        self._notes: dict[str, str] = {}
        self._n_replacements = 0
        self._errors = errors
        self._file = file
        self._path = path
        self._is_guess = False
        self._same: tuple[str, ...] = ()
        """Encodings that decode all bytes so far to the same text."""
        self._n_lines = 0

    def __iter__(self) -> Iterator[str]:
        head = _read_at_least(self._file, WINDOW_BYTES)
        marked, head_offset = find_mark(head)
        wanted = self.encoding
        if wanted == "auto":
            self.encoding = marked or detect_wide(head) or "ascii"
            if self.encoding == "ascii" and head.isascii():
                self.encoding = detect_escapes(head) or "ascii"
        else:
            _find_codec(wanted)  # raises UsageError for an unknown name
            family = codecs.lookup(wanted).name.replace("utf-8-sig", "utf-8")
            if marked.startswith(family):
                self.encoding = marked  # also for "utf-16", whose codec would expect another mark
            else:
                head_offset = 0
        head = head[head_offset:]
        reject_binary(head, head_offset, self.encoding, self._path)
        if wanted == "auto" and not marked:
            reject_ebcdic(head, self._path)
        offset = head_offset
        if self.encoding == "ascii" and wanted == "auto":
            while head.isascii() and not (escapes := detect_escapes(head)):
                yield cache_scan(head.decode("ascii"), head)
                offset += len(head)
                self._n_lines += head.count(b"\n")
                if not (head := self._file.read(CHUNK_BYTES)):
                    return
                reject_binary(head, offset, "ascii", self._path)
            if head.isascii():
                self.encoding = escapes
            else:
                head = self._detect(head, offset)
        yield from self._decode(head, offset)

    def record(self, source: EncodingRecord) -> None:
        """Write the encoding, its example and the notes to the record of the source."""
        source.encoding, source.example = self.encoding, self.example
        source.notes.update(self._notes)
        if self._n_replacements:
            what = "replacement characters U+FFFD in the text: an earlier conversion lost the original characters"
            source.notes[what] = f"number: {self._n_replacements:,}"

    def _detect(self, head: bytes, offset: int) -> bytes:
        """Choose the encoding by the window at the first non-ASCII byte; returns `head` and all bytes read after it."""
        start = find_high(head)
        start = max(head.rfind(b"\n", 0, start), head.rfind(b" ", 0, start)) + 1  # the beginning of its word
        n_bytes = WINDOW_BYTES
        while True:
            if len(head) - start < n_bytes:
                head += _read_at_least(self._file, n_bytes - len(head) + start)
            complete = len(head) - start < n_bytes
            # The window includes the words before it, because they indicate the language.
            window = head[max(0, start - WINDOW_BYTES) : start + n_bytes]
            guess = detect_legacy(window, complete=complete)
            if guess.rival is None or complete or n_bytes >= _EXTENDED_WINDOW:
                break
            n_bytes *= 8
        self._same, self.encoding = guess.encodings, guess.encodings[0]
        self._is_guess = self.encoding != "utf-8"
        if guess.utf8_word is not None:
            raise self._mixed_error(head, offset, guess.utf8_word)
        if guess.rival is not None and (guess.is_text or not find_change(window, self.encoding)):
            raise self._unclear_error(head, offset, guess.rival, is_text=guess.is_text)
        if self._is_guess and (escape := head.find(b"\x1b$B")) >= 0:
            raise self._change_error(head, offset, escape, "iso2022_jp")
        return head

    def _decode(self, chunk: bytes, offset: int) -> Iterator[str]:
        decoder = _find_codec(self.encoding)(self._errors)
        is_legacy = codecs.lookup(self.encoding).name not in UNICODE and b"\n".decode(self.encoding, "ignore") == "\n"
        n_fed = offset
        pending = b""
        while True:
            if self._is_guess and self._compare(chunk, n_fed):
                decoder = _find_codec(self.encoding)(self._errors)
            if self._named and not chunk.isascii():
                self._named = False
                self._check_named(chunk)
            n_fed += len(chunk)
            if self.encoding in WIDE and (found := _ASCII_IN_WIDE.search(chunk)):
                raise self._wide_error(found, n_fed - len(chunk))
            try:
                text = decoder.decode(chunk, final=not chunk)
            except UnicodeDecodeError as error:
                bad_at = n_fed - len(error.object) + error.start
                raise self._cannot_decode(error, bad_at) from None
            except UnicodeError as error:  # without an offset
                hint = "without a byte order mark, name the byte order: utf-16-le or utf-16-be"
                what = f"this is not {self.encoding}: {error}"
                raise DataError(what, where=f"{self._path}, byte {offset}", hint=hint) from None
            if is_legacy and HAS_C1.search(text):
                raise self._control_error(chunk, n_fed - len(chunk))
            if text:
                if not self.example and self.encoding not in ("utf-8", "ascii"):
                    self.example = find_example(text)
                if "\ufffd" in text:
                    self._n_replacements += text.count("\ufffd")
                # If no character is cut off at either end, the chunk is the UTF-8 of the text.
                is_utf8 = self.encoding == "utf-8" and decoder.getstate()[0] == pending == b""
                yield cache_scan(text, chunk) if is_utf8 and self._errors == "strict" else text
            pending = decoder.getstate()[0]
            if not chunk:
                return
            self._n_lines += chunk.count(b"\n")
            chunk = self._file.read(CHUNK_BYTES)
            reject_binary(chunk, n_fed, self.encoding, self._path)

    def _compare(self, chunk: bytes, offset: int) -> bool:
        """Return whether the guess changes to another encoding that gave the same text so far. Raises DataError if the
        chunk has UTF-8 words, or does not show which of the encodings is right.
        """
        begin = chunk.find(b"\n") + 1 if offset else 0  # a chunk may begin inside a character
        change = find_change(chunk[begin:], self.encoding)
        rest = chunk[begin + change[0] :][:WINDOW_BYTES] if change else b""
        may_be_utf8 = is_valid(rest.partition(b"\n")[0], "utf-8")
        may_be_utf8 = may_be_utf8 or "utf-8" in detect_legacy(rest, complete=False).encodings
        if (not change or may_be_utf8) and (word := find_utf8_word(chunk, self.encoding)):
            raise self._mixed_error(chunk, offset, word)
        if change:
            raise self._change_error(chunk, offset, begin + change[0], change[1])
        readings = rank_encodings(sample_words(chunk), self._same) if len(self._same) > 1 else []
        if len(readings) < 2:
            return False
        before = self.encoding
        self._same, self.encoding = readings[0].encodings, readings[0].encodings[0]
        if readings[0].score - readings[1].score < MARGIN:
            raise self._unclear_error(chunk, offset, readings[1].encodings[0])
        if before in self._same:
            self.encoding = before
        return self.encoding != before

    def _check_named(self, chunk: bytes) -> None:
        """Add a note if the first non-ASCII chunk is unlikely text in the encoding that the user named."""
        if codecs.lookup(self.encoding).name in UNICODE or not is_valid(chunk, self.encoding):
            return
        guess, window, is_likelier = compare_encoding(chunk, self.encoding)
        if not is_likelier:
            return
        likelier = guess.encodings[0]
        _, line = find_difference(window, self.encoding, likelier)
        texts = [shorten(line.decode(name, "replace")) for name in (self.encoding, likelier)]
        what = f"prepare.read.encoding is {self.encoding}, but {likelier} is more likely"
        self._notes[what] = f'"{texts[0]}" would be "{texts[1]}"'

    def _where(self, chunk: bytes, offset: int, position: int) -> str:
        """Return path, line and offset of a byte, for messages; the chunk begins at `offset`."""
        line = self._n_lines + chunk.count(b"\n", 0, position) + 1
        return f"{self._path}, line {line}, byte {offset + position}"

    def _unclear_error(self, head: bytes, offset: int, rival: str, *, is_text: bool = True) -> DataError:
        position, texts = self._show_both(head[:WINDOW_BYTES], rival)
        hint = f"set the right one: -s prepare.read.encoding={self.encoding} or -s prepare.read.encoding={rival}"
        if not is_text:
            hint = f"{hint}; if both are wrong, convert the file to UTF-8"
        return DataError(
            f"the encoding is {'unclear' if is_text else 'unknown; all known encodings are unlikely'}: {texts}",
            where=self._where(head, offset, position),
            hint=hint,
        )

    def _show_both(self, data: bytes, rival: str) -> tuple[int, str]:
        """Return the position of a line that differs between the encoding and its rival, and the line in both."""
        position, line = find_difference(data, self.encoding, rival)
        texts = [f'{name} reads "{shorten(line.decode(name, "replace"))}"' for name in (self.encoding, rival)]
        return position, ", ".join(texts)

    def _mixed_error(self, head: bytes, offset: int, word: bytes) -> DataError:
        position = head.index(word)
        as_legacy, as_utf8 = word.decode(self.encoding, "replace"), word.decode("utf-8", "replace")
        return DataError(
            f'the file mixes {self.encoding} with UTF-8: a word is "{as_utf8}" in UTF-8 and "{as_legacy}" in '
            f"{self.encoding}; other words are not UTF-8",
            where=self._where(head, offset, position),
            hint=_ONE_ENCODING,
        )

    def _change_error(self, head: bytes, offset: int, position: int, other: str) -> DataError:
        _, texts = self._show_both(head[position : position + WINDOW_BYTES], other)
        where = self._where(head, offset, position)
        return DataError(f"the encoding changes here: {texts}", where=where, hint=_ONE_ENCODING)

    def _wide_error(self, found: re.Match[bytes], offset: int) -> DataError:
        return DataError(
            f'ASCII bytes in a {self.encoding} file: "{shorten(found[0].decode("ascii"))}"',
            where=f"{self._path}, byte {offset + found.start()}",
            hint="split it into files with one encoding each; --skip-bad skips such files",
        )

    def _control_error(self, chunk: bytes, offset: int) -> DataError:
        """Return the error for a byte that is a control character in the guessed legacy encoding."""
        is_control = {n for n in range(128, 256) if HAS_C1.search(bytes([n]).decode(self.encoding, "ignore"))}
        # The control characters of gb18030 have four bytes.
        position = next(
            (n for n, byte in enumerate(chunk) if byte in is_control), min(find_high(chunk), len(chunk) - 1)
        )
        line = line_at(chunk, position)
        readings = (each for each in rank_encodings(sample_words(chunk)) if not HAS_C1.search(each.text))
        as_utf8 = detect_legacy(chunk, complete=False).encodings[0] == "utf-8"
        name = "utf-8" if as_utf8 else next((each.encodings[0] for each in readings), "")
        hint = f'-s prepare.read.encoding={name} reads "{shorten(line.decode(name or "ascii", "replace"))}"'
        return DataError(
            f"byte 0x{chunk[position]:02X} is a control character in {self.encoding}, so the file has another encoding",
            where=self._where(chunk, offset, position),
            hint=hint if name else "no known encoding reads it: is it text? --skip-bad skips such files",
        )

    def _cannot_decode(self, error: UnicodeDecodeError, offset: int) -> DataError:
        # The UTF-8 codec reports the start of the character; the invalid byte follows the valid ones.
        n_valid = error.end - error.start if error.reason == "invalid continuation byte" else 0
        position = error.start + n_valid
        rest = error.object[max(0, error.start - 2000) :] + self._file.read(WINDOW_BYTES)
        return DataError(
            f"byte 0x{error.object[position]:02X} at {offset + n_valid} is not {self.encoding}: {error.reason}",
            where=self._where(error.object, offset - error.start, position),
            hint=f"{self._explain(error, rest)}; --skip-bad skips such files",
        )

    def _explain(self, error: UnicodeDecodeError, data: bytes) -> str:
        """Return a hint on the cause of an undecodable byte; `data` are the bytes around it."""
        if data.isascii():
            return "the file is damaged or cut off there"
        guess = detect_legacy(data, complete=False)
        name = guess.encodings[0]
        if guess.utf8_word is not None:
            return f"the file mixes {name} with UTF-8: convert it to one encoding"
        if guess.rival is None and name != self.encoding:
            return f"the file is damaged there, or has another encoding (-s prepare.read.encoding={name})"
        if self.encoding == "utf-8" and (best := rank_stray_byte(error.object, error.start, error.end)):
            return f'in {best.encodings[0]}, the word with this byte is "{best.text}"; write it in UTF-8'
        return "the file is damaged there, or has another encoding"


def decode_all(data: bytes, charset: str, path: str) -> str:
    """Decode a message or page in the charset that it declares, or in the detected encoding if the charset is wrong."""
    found = decode_declared(data, charset)
    return found[0] if found else "".join(TextStream(io.BytesIO(data), "auto", path))


def _find_codec(encoding: str) -> Callable[[str], codecs.IncrementalDecoder]:
    try:
        codec = codecs.lookup(encoding)
        if not codec._is_text_encoding:
            raise LookupError(encoding)
        return codecs.getincrementaldecoder(encoding)
    except (LookupError, ValueError):
        raise UsageError(
            f"unknown encoding {encoding!r}",
            where="prepare.read.encoding",
            hint="common ones are auto, utf-8, utf-16, gb18030, big5, cp1252 and latin-1",
        ) from None


def _read_at_least(file: BinaryIO, n_bytes: int) -> bytes:
    """Read until there are `n_bytes`; one read of a compressed stream or pipe may return fewer."""
    chunks: list[bytes] = []
    n_read = 0
    while n_read < n_bytes and (chunk := file.read(CHUNK_BYTES)):
        chunks.append(chunk)
        n_read += len(chunk)
    return b"".join(chunks)
