"""A short text in each of 41 languages, and the encodings in which such texts are found.

Not among the texts that llmkit/text/decoding/letter_pairs.npz was made from.
"""

import unicodedata
from collections.abc import Iterator
from pathlib import Path

_FILE = Path(__file__).with_name("languages.tsv")
TEXTS = dict(line.split("\t") for line in _FILE.read_text(encoding="utf-8").splitlines())

_CENTRAL = "cp1250 iso8859-2 cp852 mac-latin2"
_WEST = "cp1252 latin-1 iso8859-15 cp850 cp437 mac-roman"
_CYRILLIC = "cp1251 iso8859-5 cp866 koi8-r koi8-u mac-cyrillic"
ENCODINGS = {
    **dict.fromkeys(["cs", "sk", "pl", "hu", "ro", "hr", "sl", "sq"], _CENTRAL),
    **dict.fromkeys(["ru", "uk", "be", "bg", "sr", "mk"], _CYRILLIC),
    **dict.fromkeys(["fi", "sv", "da", "nb", "is", "de", "fr", "es", "pt", "it", "ca", "nl", "en"], _WEST),
    "tr": "cp1254 iso8859-9 cp857",
    "el": "cp1253 iso8859-7 cp737 mac-greek",
    "he": "cp1255 iso8859-8 cp862",
    "ar": "cp1256 iso8859-6",
    "fa": "cp1256",
    "th": "cp874 tis-620",
    "vi": "cp1258",
    **dict.fromkeys(["lt", "lv", "et"], "cp1257 iso8859-13 iso8859-4 cp775"),
    "ja": "cp932 shift_jis euc_jp iso2022_jp",
    "ko": "cp949 euc_kr",
    "zh-hans": "gb18030 gbk gb2312",
    "zh-hant": "big5 cp950 big5hkscs gbk",
}
UNICODE = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be")


def encode_texts() -> Iterator[tuple[str, str, bytes]]:
    """(language, encoding, bytes) of every text in every encoding that has its letters."""
    for language, text in TEXTS.items():
        for encoding in ENCODINGS[language].split():
            data = encode(text, encoding)
            if data is not None:
                yield language, encoding, data


# cp1258 writes the tone of a vowel after it.
_TONES = {"\u0300", "\u0301", "\u0303", "\u0309", "\u0323"}


def encode(text: str, encoding: str) -> bytes | None:
    """The text in an encoding; None if it lacks a character."""
    if encoding == "cp1258":
        text = split_tones(text)
    try:
        return text.encode(encoding)
    except UnicodeEncodeError:
        return None


def split_tones(text: str) -> str:
    """Vietnamese with the tones as characters of their own, where cp1258 lacks the vowel with its tone."""
    parts = []
    for char in unicodedata.normalize("NFC", text):
        full = unicodedata.normalize("NFD", char)
        tones = "".join(mark for mark in full if mark in _TONES)
        base = unicodedata.normalize("NFC", "".join(mark for mark in full if mark not in _TONES))
        parts.append(base + tones if tones else char)
    return "".join(parts)
