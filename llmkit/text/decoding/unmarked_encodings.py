"""Detect Unicode encodings without a byte order mark, encodings that switch character sets, and binary data.

The scores of encoding_detection.py do not apply to such data: nearly all of it has only ASCII bytes, or NULs.

Independent of streams.
"""

import codecs
import re
from collections import Counter

from llmkit.core.errors import DataError
from llmkit.text.decoding.encoding_detection import MARGIN, is_valid
from llmkit.text.decoding.excerpts import EXAMPLE_CHARS
from llmkit.text.decoding.text_scores import is_plausible, score_texts

WINDOW_BYTES = 1 << 16

WIDE = ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be")
_CONTROLS = bytes({*range(32), 127} - set(b"\t\n\v\f\r\x1a\x1b"))
_FIND_CONTROL = re.compile(b"[" + re.escape(_CONTROLS) + b"]")
_MAX_CONTROLS = 0.02
_ASCII_RUN = re.compile(r"[\x00-\x7f]+")
# Frequent characters, simplified and traditional, and full-width punctuation, to recognize UTF-16 without NULs.
_COMMON_CHINESE = frozenset(
    "的一是不了在人有我他这中大来上个国到说们为子和你地出道也时年得就那要下以生会自着去之过家学对可里后小么"
    "心多天而能好都然没日于起还发成事只作当想看文无开手十用主行方又如前所本见经头面公同三已老从动两长知曰"
    "這個來國說們為時會著過學對裡裏後麼沒於還發當無開經頭從動兩長與將軍卻馬門問聽見東書車電話請點萬應"
    "二四五六七八九百千正月明日水火山木金土王將军却马门问听东书车电话请点万应等第回此何其者乃與与若今便"
    "，。、；：？！“”‘’《》「」『』（）…—　"
)
_ESCAPES = ("iso2022_jp", "iso2022_jp_ext", "iso2022_kr")
_SHIFTS = b"\x0e\x0f"
"""Bytes that switch between ASCII and Korean in ISO-2022-KR."""
_UTF7_CHAR = re.compile(rb"\+[A-Za-z0-9/]{3}")
_EBCDIC_SPACES = 0.05
"""Minimum fraction of 0x40, the space of EBCDIC, in a file without ASCII spaces."""
_ANY_LANGUAGE = frozenset[str]()


def detect_wide(head: bytes) -> str:
    """Detect UTF-16 and UTF-32 without a byte order mark; empty if the bytes are neither.

    The signs are NULs (the high bytes of ASCII) at only even or only odd offsets, or text that is likely when decoded.
    """
    head = head[: 1 << 12]
    if head.isascii() and b"\0" not in head:
        return ""
    even, odd = head[::2], head[1::2]
    n_even, n_odd = even.count(0), odd.count(0)
    if n_odd > 0.3 * len(odd) and n_odd > 20 * n_even:
        return "utf-16-le"
    if n_even > 0.3 * len(even) and n_even > 20 * n_odd:
        return "utf-16-be"
    if b"\0" in head and (found := _detect_wide_by_text(head)):
        return found
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


def _detect_wide_by_text(head: bytes) -> str:
    """Detect UTF-32, or UTF-16 of a script other than Latin, which has NULs at spaces only."""
    head = head[: len(head) // 4 * 4]
    texts = {name: head.decode(name, "replace") for name in ("utf-32-le", "utf-32-be", "utf-16-le", "utf-16-be")}
    texts = {name: text for name, text in texts.items() if text and is_plausible(text)}
    if not texts:
        return ""
    scores = score_texts(list(texts.values()), [frozenset[str]()] * len(texts))
    return max(zip(texts, scores, strict=True), key=lambda pair: pair[1].score)[0]


def _share_of_common(window: bytes, encoding: str) -> float:
    """Return the fraction of common Chinese among non-ASCII characters; 0 if the bytes are invalid in the encoding."""
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


def detect_escapes(data: bytes) -> str:
    """Return the encoding of ASCII bytes that switch character sets by escape sequences; empty if there are none."""
    if b"\x1b$" in data:
        return next((name for name in _ESCAPES if is_valid(data, name)), "")
    # HZ writes GB 2312 between ~{ and ~}, and UTF-7 writes non-ASCII characters between + and -. Source code contains
    # these marks too, so the decoded text must be more likely than the ASCII text.
    if b"~{" in data and b"~}" in data and is_valid(data, "hz"):
        return _prefer_to_ascii("hz", data, data.index(b"~{"))
    if b"+" in data and (found := _UTF7_CHAR.search(data)) and is_valid(data, "utf-7"):
        return _prefer_to_ascii("utf-7", data, found.start())
    return ""


def _prefer_to_ascii(encoding: str, data: bytes, position: int) -> str:
    """Return the encoding if the bytes around the position are more likely text in it than in ASCII; else empty."""
    start = data.rfind(b" ", 0, max(0, position - 1000)) + 1
    sample = data[start : start + 6000]
    text = codecs.getincrementaldecoder(encoding)("replace").decode(sample)
    if not is_plausible(text):
        return ""
    decoded, as_ascii = (found.score for found in score_texts([text, sample.decode("ascii")], [_ANY_LANGUAGE] * 2))
    return encoding if decoded > as_ascii + MARGIN else ""


def reject_ebcdic(head: bytes, path: str) -> None:
    """Raise DataError for EBCDIC: its variants differ in letters and punctuation, so that the user has to name one."""
    if head.count(0x40) < max(3, _EBCDIC_SPACES * len(head)) or 50 * head.count(b" ") > head.count(0x40):
        return
    texts = {name: head[:1000].decode(name, "replace") for name in ("cp500", "cp037", "cp273", "cp424")}
    shares = {name: sum(map(str.isalpha, text)) / len(text) for name, text in texts.items()}
    best = max(shares, key=lambda name: shares[name])
    if shares[best] < 0.6:
        return
    line = " ".join(texts[best].split())[:EXAMPLE_CHARS]
    raise DataError(
        f'looks like EBCDIC, the encoding of mainframes: {best} reads "{line}"',
        where=path,
        hint=f"name its code page, for example -s prepare.read.encoding={best}, cp500, cp037 or cp1140",
    )


def reject_binary(chunk: bytes, offset: int, encoding: str, path: str) -> None:
    """Raise DataError if more than 2 % of the bytes are control characters that text does not contain."""
    if encoding == "iso2022_kr":
        chunk = chunk.translate(None, _SHIFTS)
    elif encoding in WIDE:
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
