"""Find out the encoding of a byte stream and decode it strictly, in chunks, so that memory stays flat.

A byte order mark decides. Without one, plain ASCII is passed through until the first byte that is not, and
the window that starts there decides: UTF-8 if nearly all of its non-ASCII bytes are valid UTF-8, otherwise
the Chinese encoding whose decoding has most of the characters that every Chinese text is full of, otherwise
what charset-normalizer says among the usual alphabets, otherwise Windows-1252. So one broken byte in a UTF-8
file is an error that names the byte, and never turns the file into Latin-1.

Does not know the encoding for certain: a legacy encoding is a guess, named in the manifest; the user's word
(`read.encoding`) beats it. Knows nothing of lines, formats or documents.
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

# UTF-32 stands before UTF-16: its little-endian mark begins with UTF-16's.
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

# Every Chinese text of a few dozen characters has many of these, in its own script, and a text decoded with
# the wrong table has nearly none. Simplified and traditional, with the full-width punctuation.
_COMMON_CHINESE = frozenset(
    "的一是不了在人有我他这中大来上个国到说们为子和你地出道也时年得就那要下以生会自着去之过家学对可里后小么"
    "心多天而能好都然没日于起还发成事只作当想看文无开手十用主行方又如前所本见经头面公同三已老从动两长知曰"
    "這個來國說們為時會著過學對裡裏後麼沒於還發當無開經頭從動兩長與將軍卻馬門問聽見東書車電話請點萬應"
    "二四五六七八九百千正月明日水火山木金土王將军却马门问听东书车电话请点万应等第回此何其者乃與与若今便"
    "，。、；：？！“”‘’《》「」『』（）…—　"
)
_CHINESE = ("gb18030", "big5", "cp950", "big5hkscs")
# What else a file without Unicode may be; charset-normalizer decides among these only.
_OTHER_LEGACY = ["cp1252", "cp1250", "cp1251", "koi8_r", "cp1253", "cp1254", "cp932", "euc_jp", "cp949"]


class TextStream:
    """Iterate over it for pieces of decoded text, at most CHUNK_BYTES of input each.

    `encoding` is a Python codec name or `auto`; the attribute `encoding` names the one in use once the text has
    been read (`ascii` where nothing else was seen). A byte order mark is taken off. Reading raises DataError
    with the path and the byte's offset where the bytes look binary or cannot be decoded, unless `errors` is
    another of Python's error handlers.
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
        elif not _same_family(wanted, marked):
            head_offset = 0
        else:
            self.encoding = marked  # "utf-16" with a mark: the codec must not look for a second one
        head = head[head_offset:]
        refuse_binary(head, head_offset, self.encoding, self._path)
        offset = head_offset
        if self.encoding == "ascii" and wanted == "auto":
            while head.isascii():
                yield cache_scan(head.decode("ascii"), head)
                offset += len(head)
                if not (head := self._file.read(CHUNK_BYTES)):
                    return
                refuse_binary(head, offset, "ascii", self._path)
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
            except UnicodeError as error:  # of no byte in particular
                hint = "if it has no byte order mark, say which order it is: utf-16-le or utf-16-be"
                what = f"this is not {self.encoding}: {error}"
                raise DataError(what, where=f"{self._path}, byte {offset}", hint=hint) from None
            if text:
                # Where no character is cut off at either end, these bytes are the text's UTF-8.
                is_utf8 = self.encoding == "utf-8" and decoder.getstate()[0] == pending == b""
                yield cache_scan(text, chunk) if is_utf8 and self._errors == "strict" else text
            pending = decoder.getstate()[0]
            if not chunk:
                return
            chunk = self._file.read(CHUNK_BYTES)
            refuse_binary(chunk, n_fed, self.encoding, self._path)

    def _cannot_decode(self, error: UnicodeDecodeError, offset: int) -> DataError:
        guess = detect_legacy((error.object[error.start :] + self._file.read(WINDOW_BYTES)), complete=False)
        if guess == self.encoding:
            guess = "gb18030" if self.encoding == "utf-8" else "utf-8"
        # UTF-8 reports where the character began; the byte that breaks it stands behind the sound ones.
        n_sound = error.end - error.start if error.reason == "invalid continuation byte" else 0
        offset += n_sound
        return DataError(
            f"byte 0x{error.object[error.start + n_sound]:02X} at {offset} is not {self.encoding}: {error.reason}",
            where=f"{self._path}, byte {offset}",
            hint=f"the file is damaged there, or has another encoding (-s prepare.read.encoding={guess}); "
            "--skip-bad leaves such files out",
        )


def detect_encoding(head: bytes, *, complete: bool) -> str:
    """Codec name for the first bytes of a file; `complete` says that the file ends with them."""
    for mark, name in _MARKS:
        if head.startswith(mark):
            return name
    if wide := _detect_wide(head):
        return wide
    return "ascii" if head.isascii() else detect_legacy(head[_find_high(head) :], complete=complete)


def _find_high(head: bytes) -> int:
    """Position of the first non-ASCII byte; the codec is ten times as fast as a regular expression."""
    try:
        head.decode("ascii")
    except UnicodeDecodeError as error:
        return error.start
    return len(head)


def detect_legacy(window: bytes, *, complete: bool) -> str:
    """UTF-8 or a legacy encoding, for bytes that begin with a non-ASCII one and have no byte order mark."""
    if _is_utf8(window, complete):
        return "utf-8"
    n_high = len(window) - len(window.translate(None, _HIGH))
    as_utf8 = window.decode("utf-8", "ignore")
    n_valid = len(as_utf8.encode()) - sum(map(len, _ASCII_RUN.findall(as_utf8)))
    # The window may end inside a character: three bytes are forgiven.
    if n_valid + (0 if complete else 3) >= n_high or n_valid >= 0.8 * n_high:
        return "utf-8"
    shares = {name: _share_of_common(window, name) for name in _CHINESE}
    best = max(shares, key=lambda name: shares[name])  # the first of equals
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


def _is_utf8(window: bytes, complete: bool) -> bool:
    try:
        window.decode()
    except UnicodeDecodeError as error:
        return not complete and error.reason == "unexpected end of data"
    return True


def refuse_binary(chunk: bytes, offset: int, encoding: str, path: str) -> None:
    """DataError where more than 2 % of the bytes are control characters that no text has."""
    if encoding in _WIDE:
        codec = encoding if len(chunk) >= 4 else "latin-1"
        chunk = chunk[: WINDOW_BYTES - WINDOW_BYTES % 4].decode(codec, "ignore").encode("utf-8", "ignore")
    n_controls = len(chunk) - len(chunk.translate(None, _CONTROLS))
    if n_controls > _MAX_CONTROLS * len(chunk) and (found := _FIND_CONTROL.search(chunk)):
        kind = "NUL" if found[0] == b"\0" else f"0x{found[0][0]:02X}"
        place = offset + found.start()
        raise DataError(
            f"looks binary: {kind} at byte {place}, {n_controls} control characters in {len(chunk)} bytes",
            where=f"{path}, byte {place}",
            hint="convert it to text first, or leave such files out with --skip-bad",
        )


def _detect_wide(head: bytes) -> str:
    """UTF-16 without a mark: its NULs (high halves of ASCII) all stand on one side, or it makes sense as Chinese."""
    head = head[: 1 << 12]
    even, odd = head[::2], head[1::2]
    n_even, n_odd = even.count(0), odd.count(0)
    if n_odd > 0.3 * len(odd) and n_odd > 20 * n_even:
        return "utf-16-le"
    if n_even > 0.3 * len(even) and n_even > 20 * n_odd:
        return "utf-16-be"
    # Chinese UTF-16 has NULs at line ends and digits only, or, in one paragraph, none at all.
    if not _is_odd_as_bytes(head):
        return ""
    shares = {name: _share_of_common(head, name) for name in ("utf-16-le", "utf-16-be")}
    best = max(shares, key=lambda name: shares[name])
    return best if shares[best] >= 0.12 else ""


def _is_odd_as_bytes(head: bytes) -> bool:
    """Whether the bytes are no UTF-8, so that reading them as UTF-16 is worth a thought."""
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.start < len(head) - 4
    return b"\0" in head


def _share_of_common(window: bytes, encoding: str) -> float:
    """Common Chinese characters among the non-ASCII ones; 0 where the bytes are not in this encoding."""
    try:
        text = codecs.getincrementaldecoder(encoding)("strict").decode(window)
    except UnicodeDecodeError as error:
        # One broken byte behind a long sound stretch is an error to be named later, not another encoding.
        if error.start < 2000:
            return 0.0
        text = window[: error.start].decode(encoding, "ignore")
    high = _ASCII_RUN.sub("", text)
    counts = Counter(high)
    return sum(n for char, n in counts.items() if char in _COMMON_CHINESE) / max(1, len(high))


def _same_family(wanted: str, marked: str) -> bool:
    """Whether a byte order mark belongs to the encoding the user named."""
    _find_codec(wanted)  # an unknown name is the user's mistake
    family = codecs.lookup(wanted).name.replace("utf-8-sig", "utf-8")
    return bool(marked) and marked.startswith(family)


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
            hint="auto, utf-8, utf-16, gb18030, big5, cp1252 and latin-1 are the usual ones",
        ) from None


def _read_at_least(file: BinaryIO, n_bytes: int) -> bytes:
    """Compressed streams and pipes may give less than asked for long before their end."""
    chunks: list[bytes] = []
    n_read = 0
    while n_read < n_bytes and (chunk := file.read(CHUNK_BYTES)):
        chunks.append(chunk)
        n_read += len(chunk)
    return b"".join(chunks)
