"""Recognize the format of a file by its first bytes.

A signature overrides the name: a .docx named .txt is read as .docx, and an image is refused under any name.
The signature of a binary format counts only if the bytes hold a NUL, so that a text that begins with `BM` stays a text.
Formats without a signature (plain text, HTML, JSON, tables) are recognized by name; see entries.py.
"""

import re
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass

HEAD_BYTES = 1 << 12
"""Number of bytes to read for the signatures; the last one is that of .tar, at offset 257.

ISO images, whose signature is at offset 32,769, are not recognized.
"""


@dataclass(frozen=True, slots=True)
class Format:
    """A file format: `name` for messages, and `ending`, the suffix by which a reader is chosen.

    A format that llmkit does not read has an empty `ending`, and a `hint` for the user.
    """

    name: str
    ending: str = ""
    hint: str = ""


_TO_TEXT = "convert it to .txt, .docx or .epub"
_TO_TABLE = "save the table as .xlsx or .csv"
_FROM_OFFICE = "save it without a password as .docx, or a table as .xlsx or .csv"
_UNPACK = "unpack it, or pack it again as .zip or .tar.gz"
_NO_TEXT = "it holds no text; leave it out"

COMPRESSIONS: tuple[tuple[bytes, str], ...] = (
    (b"\x1f\x8b", ".gz"),
    (b"BZh", ".bz2"),
    (b"\xfd7zXZ\0", ".xz"),
    (b"\x28\xb5\x2f\xfd", ".zst"),
)
TAR = Format("a .tar archive", ".tar")
ZIP = Format("a .zip archive", ".zip")

_TO_EPUB = "convert it to .epub, for example with Calibre"
_OFFICE = Format("a legacy Office document (.doc, .xls, .ppt, .msg) or one with a password", "", _FROM_OFFICE)
_PACKED = {
    b"Rar!\x1a\x07": "a .rar archive", b"7z\xbc\xaf\x27\x1c": "a .7z archive", b"MSCF\0": "a .cab archive",
    b"LZIP": "a .lz file", b"\x04\x22\x4d\x18": "an .lz4 file", b"\x1f\x9d": "a .Z file",
    b"\xff\x06\0\0sNaPpY": "a Snappy file", b"!<arch>\n": "an archive of ar (.a, .deb)", b"070701": "a .cpio archive",
    b"\xed\xab\xee\xdb": "an .rpm package",
}  # fmt: skip
_WITHOUT_TEXT = {
    b"\x89PNG\r\n\x1a\n": "a PNG image", b"\xff\xd8\xff": "a JPEG image", b"GIF8": "a GIF image",
    b"II*\0": "a TIFF image", b"MM\0*": "a TIFF image", b"BM": "a BMP image", b"8BPS": "a Photoshop image",
    b"RIFF": "a sound, film or WebP file", b"\0\0\1\0": "an icon", b"ID3": "an MP3 file", b"\xff\xfb": "an MP3 file",
    b"OggS": "an Ogg file", b"fLaC": "a FLAC file", b"\x1aE\xdf\xa3": "a Matroska or WebM film",
    b"\x7fELF": "a program", b"MZ": "a Windows program", b"\xca\xfe\xba\xbe": "a program or a Java class",
    b"\xcf\xfa\xed\xfe": "a program", b"wOFF": "a font", b"wOF2": "a font", b"OTTO": "a font",
}  # fmt: skip
# (offset, first bytes, format): binary formats.
_BINARY: tuple[tuple[int, bytes, Format], ...] = (
    *((0, mark, ZIP) for mark in (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")),
    (257, b"ustar", TAR),
    (0, b"PAR1", Format("a Parquet table", ".parquet")),
    (0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", _OFFICE),
    *((0, mark, Format(name, "", _UNPACK)) for mark, name in _PACKED.items()),
    *((0, mark, Format(name, "", _NO_TEXT)) for mark, name in _WITHOUT_TEXT.items()),
    (4, b"ftyp", Format("a film, sound or HEIC file", "", _NO_TEXT)),
    (60, b"BOOKMOBI", Format("a Kindle book (.mobi, .azw)", "", _TO_EPUB)),
    (60, b"TEXtREAd", Format("a Palm book (.pdb)", "", _TO_EPUB)),
    (0, b"ITSF", Format("a compiled help file (.chm)", "", _TO_TEXT)),
    (0, b"AT&TFORM", Format("a scanned .djvu document", "", "convert it to .txt, with OCR if it has no text layer")),
    (0, b"SQLite format 3\0", Format("an SQLite database", "", "export its texts as .csv or .jsonl")),
    (0, b"ARROW1", Format("an Arrow or Feather table", "", "write it as .parquet, or give its folder as hf:FOLDER")),
    (0, b"\x89HDF\r\n\x1a\n", Format("an HDF5 file", "", "export its texts as .csv or .jsonl")),
    (0, b"\x93NUMPY", Format("a NumPy array", "", "it holds numbers; give the text they were made from")),
    (0, b"ORC", Format("an ORC table", "", "write it as .parquet")),
    (0, b"Obj\x01", Format("an Avro table", "", "write it as .parquet or .jsonl")),
    (0, b"bplist", Format("a binary property list", "", _TO_TEXT)),
    *(
        (0, mark, Format("a Python pickle", "", "write its texts to .jsonl"))
        for mark in (b"\x80\x02", b"\x80\x03", b"\x80\x04\x95", b"\x80\x05\x95")
    ),
)
# Text formats, recognized by a pattern at the beginning, after an optional byte order mark and white space.
_TEXTUAL: tuple[tuple[re.Pattern[bytes], Format], ...] = (
    (re.compile(rb"%PDF-\d"), Format("a PDF document", ".pdf")),
    (re.compile(rb"\{\\rtf\d?[\\\s{}]"), Format("a rich-text document", ".rtf")),
    (re.compile(rb"WEBVTT[\s]"), Format("WebVTT subtitles", ".vtt")),
    (
        re.compile(rb"\d+[ \t]*\r?\n\d+:\d\d:\d\d[,.]\d{1,3}[ \t]*-->[ \t]*\d+:\d\d:\d\d[,.]\d"),
        Format("SubRip subtitles", ".srt"),
    ),
    (re.compile(rb"WARC/\d\.\d\r?\n"), Format("a WARC archive of web pages", ".warc")),
    (re.compile(rb"(?:<\?xml[^>]*>\s*)?<mediawiki[\s>]"), Format("a dump of a MediaWiki", ".xml")),
    (
        re.compile(rb"From \S+[^\r\n]*\d\d:\d\d[^\r\n]*(?:\d{4}|[A-Z]{3,4})[ \t]*\r?\n>?[A-Za-z][A-Za-z0-9-]*:[ \t]"),
        Format("a mailbox", ".mbox"),
    ),
    (
        re.compile(rb"(?:[A-Za-z-]{1,40}:[^\r\n]*\r?\n(?:[ \t][^\r\n]*\r?\n)*)*?MIME-Version:[ \t]*1\.0", re.I),
        Format("a message or a saved page (.eml, .mht)", ".eml"),
    ),
    (re.compile(rb"\[Script Info\]\s"), Format("SubStation subtitles (.ass)", "", "convert them to .srt")),
    (re.compile(rb"%!PS"), Format("a PostScript document", "", _TO_TEXT)),
    (
        re.compile(rb"version https://git-lfs.github.com/spec/v1\n"),
        Format("a Git LFS pointer and not the file itself", "", "fetch the file: git lfs pull"),
    ),
    (
        re.compile(rb"(?:<\?xml[^>]*>\s*)?<FictionBook[\s>]"),
        Format("a FictionBook (.fb2)", "", _TO_EPUB),
    ),
    (re.compile(rb"(?:<\?xml[^>]*>\s*)?<svg[\s>]"), Format("an SVG image", "", _NO_TEXT)),
)
_HTML = re.compile(rb"(?:<\?xml[^>]*>\s*)?(?:<!--.{0,500}?-->\s*)?(?:<!doctype html|<html[\s>])", re.I | re.S)
_WIDE_MARKS = ((b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"))
_MAY_BE_WIDE = (".srt", ".vtt")
"""Formats whose readers decode UTF-16."""
_MARK = b"\xef\xbb\xbf"

# Members that identify the format of a .zip archive, by the beginning of their names.
_OF_ZIP: tuple[tuple[str, Format], ...] = (
    ("META-INF/container.xml", Format("an EPUB", ".epub")),
    ("word/document.xml", Format("a Word document", ".docx")),
    ("xl/workbook.bin", Format("a binary Excel workbook (.xlsb)", "", _TO_TABLE)),
    ("xl/workbook.", Format("an Excel workbook", ".xlsx")),
    ("ppt/presentation.xml", Format("a PowerPoint presentation", "", _TO_TEXT)),
    ("AndroidManifest.xml", Format("an Android program", "", _NO_TEXT)),
    ("META-INF/MANIFEST.MF", Format("a Java archive", "", _NO_TEXT)),
    ("Index/Document.iwa", Format("a Pages, Numbers or Keynote document", "", _FROM_OFFICE)),
    ("doc.kml", Format("a map (.kmz)", "", _NO_TEXT)),
)
_OPEN_DOCUMENT: dict[bytes, Format] = {
    b"application/vnd.oasis.opendocument.text": Format("an OpenDocument text", ".odt"),
    b"application/vnd.oasis.opendocument.text-template": Format("an OpenDocument text", ".odt"),
    b"application/vnd.oasis.opendocument.spreadsheet": Format("an OpenDocument table", "", _TO_TABLE),
    b"application/vnd.oasis.opendocument.presentation": Format("an OpenDocument presentation", "", _TO_TEXT),
    b"application/epub+zip": Format("an EPUB", ".epub"),
}


def detect_compression(head: bytes) -> str:
    """Return `.gz`, `.bz2`, `.xz`, `.zst`, or an empty string."""
    return next((ending for mark, ending in COMPRESSIONS if head.startswith(mark)), "")


def detect_format(head: bytes) -> Format | None:
    """Return the format of a file that begins with these bytes; None for plain text and other formats without a
    signature.
    """
    if b"\0" in head:
        for offset, mark, found in _BINARY:
            if head.startswith(mark, offset):
                return found
        if _is_tar_header(head[:512]):
            return TAR
    if wide := next((name for mark, name in _WIDE_MARKS if head.startswith(mark)), ""):
        start = head[2:].decode(wide, "ignore").encode("utf-8", "ignore").lstrip()
        matches = (each for pattern, each in _TEXTUAL if each.ending in _MAY_BE_WIDE and pattern.match(start))
        return next(matches, None)
    start = head.removeprefix(_MARK).lstrip()
    return next((found for pattern, found in _TEXTUAL if pattern.match(start)), None)


def looks_like_html(head: bytes) -> bool:
    """Whether a text begins like an HTML page."""
    return _HTML.match(head.removeprefix(_MARK).lstrip()) is not None


def detect_in_zip(names: Iterable[str], mimetype: bytes) -> Format:
    """Return the format of a .zip archive, from the names of its members and the content of the member `mimetype`."""
    if found := _OPEN_DOCUMENT.get(mimetype.strip()):
        return found
    known = set(names)
    for beginning, found in _OF_ZIP:
        if any(name.startswith(beginning) for name in known):
            return found
    return ZIP


def _is_tar_header(block: bytes) -> bool:
    """Whether a block has the checksum of a .tar header. Archives from before 1988 have no signature `ustar`."""
    try:
        return block[:1] != b"\0" and tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape") is not None
    except (tarfile.HeaderError, ValueError):
        return False
