"""Detect the encoding of a byte stream and decode it strictly, in chunks of bounded size.

A byte order mark decides. Without one, ASCII is decoded up to the first non-ASCII byte, and the window that begins
there decides: UTF-8 if nearly all of its non-ASCII bytes are valid UTF-8; otherwise the Chinese encoding that gives
the most common Chinese characters; otherwise what charset-normalizer finds among common encodings; otherwise
Windows-1252. So one broken byte in a UTF-8 file is an error that names the byte, and never turns the file into Latin-1.

A legacy encoding is a guess: the manifest names it, and `read.encoding` overrides it. Knows nothing of lines, formats
or documents.
"""

import codecs
import re
from collections import Counter
from collections.abc import Callable, Iterator
from typing import BinaryIO

from llmkit.core.errors import DataError, UsageError
from llmkit.text.scan import cache_scan

CHUNK_BYTES = 1 << 20
WINDOW_BYTES = 1 << 16

# UTF-32 comes before UTF-16, because its little-endian mark begins with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_WIDE = ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be")
_CONTROLS = bytes({*range(32), 127} - set(b"\t\n\v\f\r\x1a\x1b"))
_FIND_CONTROL = re.compile(b"[" + re.escape(_CONTROLS) + b"]")
_MAX_CONTROLS = 0.02
_HIGH = bytes(range(128, 256))
_ASCII_RUN = re.compile(r"[\x00-\x7f]+")

# Frequent characters, simplified and traditional, and full-width punctuation: any Chinese text of a few dozen
# characters has many of them, and a text decoded with the wrong table has almost none.
_COMMON_CHINESE = frozenset(
    "的一是不了在人有我他这中大来上个国到说们为子和你地出道也时年得就那要下以生会自着去之过家学对可里后小么"
    "心多天而能好都然没日于起还发成事只作当想看文无开手十用主行方又如前所本见经头面公同三已老从动两长知曰"
    "這個來國說們為時會著過學對裡裏後麼沒於還發當無開經頭從動兩長與將軍卻馬門問聽見東書車電話請點萬應"
    "二四五六七八九百千正月明日水火山木金土王將军却马门问听东书车电话请点万应等第回此何其者乃與与若今便"
    "，。、；：？！“”‘’《》「」『』（）…—　"
)
_CHINESE = ("gb18030", "big5", "cp950", "big5hkscs")
# charset-normalizer chooses among these only.
_OTHER_LEGACY = ["cp1252", "cp1250", "cp1251", "koi8_r", "cp1253", "cp1254", "cp932", "euc_jp", "cp949"]


class TextStream:
    """Iterates over pieces of decoded text, of at most CHUNK_BYTES of input each.

    `encoding` is a Python codec name or `auto`; after reading, the attribute `encoding` is the encoding in use (`ascii`
    if there are only ASCII bytes). A byte order mark is removed. Binary data raises a DataError with the path and byte
    offset, and so do undecodable bytes, unless `errors` is another of Python's error handlers.
    """

    def __init__(self, file: BinaryIO, encoding: str, path: str, errors: str = "strict") -> None:
        self.encoding = encoding
        self._errors = errors
        self._file = file
        self._path = path

    def __iter__(self) -> Iterator[str]:
        head = _read_at_least(self._file, WINDOW_BYTES)
        marked, head_offset = "", 0
        for mark, name in _MARKS:
            if head.startswith(mark):
                marked, head_offset = name, len(mark)
                break
        wanted = self.encoding
        if wanted == "auto":
            self.encoding = marked or _detect_wide(head) or "ascii"
        else:
            _find_codec(wanted)  # raises UsageError for an unknown name
            family = codecs.lookup(wanted).name.replace("utf-8-sig", "utf-8")
            if marked.startswith(family):
                self.encoding = marked  # for "utf-16" too, whose codec would expect another mark
            else:
                head_offset = 0
        head = head[head_offset:]
        reject_binary(head, head_offset, self.encoding, self._path)
        offset = head_offset
        if self.encoding == "ascii" and wanted == "auto":
            while head.isascii():
                yield cache_scan(head.decode("ascii"), head)
                offset += len(head)
                if not (head := self._file.read(CHUNK_BYTES)):
                    return
                reject_binary(head, offset, "ascii", self._path)
            start = _find_high(head)
            if len(head) - start < WINDOW_BYTES:
                head += _read_at_least(self._file, WINDOW_BYTES)
            complete = len(head) - start < WINDOW_BYTES
            self.encoding = detect_legacy(head[start : start + WINDOW_BYTES], complete=complete)
        yield from self._decode(head, offset)

    def _decode(self, chunk: bytes, offset: int) -> Iterator[str]:
        decoder = _find_codec(self.encoding)(self._errors)
        n_fed = offset
        pending = b""
        while True:
            n_fed += len(chunk)
            try:
                text = decoder.decode(chunk, final=not chunk)
            except UnicodeDecodeError as error:
                bad_at = n_fed - len(error.object) + error.start
                raise self._cannot_decode(error, bad_at) from None
            except UnicodeError as error:  # without an offset
                hint = "without a byte order mark, name the byte order: utf-16-le or utf-16-be"
                what = f"this is not {self.encoding}: {error}"
                raise DataError(what, where=f"{self._path}, byte {offset}", hint=hint) from None
            if text:
                # If no character is cut off at either end, the chunk is the UTF-8 of the text.
                is_utf8 = self.encoding == "utf-8" and decoder.getstate()[0] == pending == b""
                yield cache_scan(text, chunk) if is_utf8 and self._errors == "strict" else text
            pending = decoder.getstate()[0]
            if not chunk:
                return
            chunk = self._file.read(CHUNK_BYTES)
            reject_binary(chunk, n_fed, self.encoding, self._path)

    def _cannot_decode(self, error: UnicodeDecodeError, offset: int) -> DataError:
        guess = detect_legacy((error.object[error.start :] + self._file.read(WINDOW_BYTES)), complete=False)
        if guess == self.encoding:
            guess = "gb18030" if self.encoding == "utf-8" else "utf-8"
        # The UTF-8 codec reports the start of the character; the invalid byte follows the valid ones.
        n_valid = error.end - error.start if error.reason == "invalid continuation byte" else 0
        offset += n_valid
        return DataError(
            f"byte 0x{error.object[error.start + n_valid]:02X} at {offset} is not {self.encoding}: {error.reason}",
            where=f"{self._path}, byte {offset}",
            hint=f"the file is damaged there, or has another encoding (-s prepare.read.encoding={guess}); "
            "--skip-bad skips such files",
        )


def detect_encoding(head: bytes, *, complete: bool) -> str:
    """Codec name for the first bytes of a file; `complete` if these are all its bytes."""
    for mark, name in _MARKS:
        if head.startswith(mark):
            return name
    if wide := _detect_wide(head):
        return wide
    return "ascii" if head.isascii() else detect_legacy(head[_find_high(head) :], complete=complete)


def _find_high(head: bytes) -> int:
    """Offset of the first non-ASCII byte; decoding is ten times as fast as a regular expression."""
    try:
        head.decode("ascii")
    except UnicodeDecodeError as error:
        return error.start
    return len(head)


def detect_legacy(window: bytes, *, complete: bool) -> str:
    """UTF-8 or a legacy encoding, for bytes that begin with a non-ASCII byte and have no byte order mark."""
    try:
        window.decode()
        return "utf-8"
    except UnicodeDecodeError as error:
        if not complete and error.reason == "unexpected end of data":
            return "utf-8"
    n_high = len(window) - len(window.translate(None, _HIGH))
    as_utf8 = window.decode("utf-8", "ignore")
    n_valid = len(as_utf8.encode()) - sum(map(len, _ASCII_RUN.findall(as_utf8)))
    # The window may end inside a character, so up to three bytes may be invalid.
    if n_valid + (0 if complete else 3) >= n_high or n_valid >= 0.8 * n_high:
        return "utf-8"
    shares = {name: _share_of_common(window, name) for name in _CHINESE}
    best = max(shares, key=lambda name: shares[name])  # the first one on a tie
    if shares[best] >= 0.12:
        return best
    import charset_normalizer

    match = charset_normalizer.from_bytes(window, cp_isolation=_OTHER_LEGACY, threshold=0.3).best()
    if match is not None and match.encoding != "cp1250":
        return match.encoding
    try:
        window.decode("cp1252")
    except UnicodeDecodeError:
        return "latin-1"
    return "cp1252"


def reject_binary(chunk: bytes, offset: int, encoding: str, path: str) -> None:
    """Raise DataError if more than 2 % of the bytes are control characters that text does not contain."""
    if encoding in _WIDE:
        codec = encoding if len(chunk) >= 4 else "latin-1"
        chunk = chunk[: WINDOW_BYTES - WINDOW_BYTES % 4].decode(codec, "ignore").encode("utf-8", "ignore")
    n_controls = len(chunk) - len(chunk.translate(None, _CONTROLS))
    if n_controls > _MAX_CONTROLS * len(chunk) and (found := _FIND_CONTROL.search(chunk)):
        kind = "NUL" if found[0] == b"\0" else f"0x{found[0][0]:02X}"
        position = offset + found.start()
        raise DataError(
            f"looks binary: {kind} at byte {position}, {n_controls} control characters in {len(chunk)} bytes",
            where=f"{path}, byte {position}",
            hint="convert it to text, or skip such files with --skip-bad",
        )


def _detect_wide(head: bytes) -> str:
    """UTF-16 without a mark: NULs (high bytes of ASCII) at even or at odd offsets only, or Chinese as UTF-16."""
    head = head[: 1 << 12]
    even, odd = head[::2], head[1::2]
    n_even, n_odd = even.count(0), odd.count(0)
    if n_odd > 0.3 * len(odd) and n_odd > 20 * n_even:
        return "utf-16-le"
    if n_even > 0.3 * len(even) and n_even > 20 * n_odd:
        return "utf-16-be"
    # Chinese UTF-16 has NULs at line ends and digits only, or none in a single paragraph.
    try:
        head.decode("utf-8")
        may_be_wide = b"\0" in head
    except UnicodeDecodeError as error:
        may_be_wide = error.start < len(head) - 4
    if not may_be_wide:
        return ""
    shares = {name: _share_of_common(head, name) for name in ("utf-16-le", "utf-16-be")}
    best = max(shares, key=lambda name: shares[name])
    return best if shares[best] >= 0.12 else ""


def _share_of_common(window: bytes, encoding: str) -> float:
    """The share of common Chinese characters in the non-ASCII ones; 0 if the bytes are not in this encoding."""
    try:
        text = codecs.getincrementaldecoder(encoding)("strict").decode(window)
    except UnicodeDecodeError as error:
        # One broken byte after much valid text is an error to report later, not another encoding.
        if error.start < 2000:
            return 0.0
        text = window[: error.start].decode(encoding, "ignore")
    high = _ASCII_RUN.sub("", text)
    counts = Counter(high)
    return sum(n for char, n in counts.items() if char in _COMMON_CHINESE) / max(1, len(high))


def _find_codec(encoding: str) -> Callable[[str], codecs.IncrementalDecoder]:
    try:
        codec = codecs.lookup(encoding)
        if not codec._is_text_encoding:
            raise LookupError(encoding)
        return codecs.getincrementaldecoder(encoding)
    except (LookupError, ValueError):
        raise UsageError(
            f"no encoding is called {encoding!r}",
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
