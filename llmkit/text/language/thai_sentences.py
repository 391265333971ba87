"""Find sentence boundaries of Thai and Lao, which have no final mark, at line ends and some spaces.

Thai writes a space between sentences, but also between clauses, around numbers and after ๆ. A space is a boundary if
both neighbours are letters, both runs are long enough, and the words around it do not join them ("because", "which").
A line end is a boundary, as Thai text is rarely hard-wrapped.

Limits: the lists of words are short, and two sentences without a space between them are not split.
"""

import re

MIN_CHARS = 22
"""Minimum length of a sentence; shorter runs of text are clauses. A run that ends with a final particle, or precedes a
word that begins sentences, may be shorter.
"""

MAX_CLAUSE = 200
"""A longer run that begins with "when" or "if" counts as a sentence."""

_LETTER = "\u0e01-\u0e2e\u0e30-\u0e3a\u0e40-\u0e45\u0e47-\u0e4e\u0e81-\u0eae\u0eb0-\u0ebd\u0ec0-\u0ec4\u0ec8-\u0ece"
_THAI = re.compile("[\u0e00-\u0eff]")
_GAP = re.compile(rf"(?<=[{_LETTER}])[”\"')\]]*+([^\S\n]*\n\s*|[^\S\n]+)(?=[“\"'(\[]*[{_LETTER}])")
_JOINS_NEXT = re.compile(
    "(?:และ|หรือ|ที่|ซึ่ง|อัน|ว่า|เพราะ|เนื่องจาก|โดย|เพื่อ|เมื่อ|ถ้า|หาก|แม้|จน|จึง|ก็|กับ|ของ|ใน|ให้|คือ|เช่น|ได้แก่|ส่วน|ทั้ง|รวม|ตาม|จาก|ต่อ)"
)
_STARTS = re.compile("(?:แต่|ดังนั้น|เพราะฉะนั้น|อย่างไรก็ตาม|นอกจากนี้|หลังจากนั้น|ต่อมา|จากนั้น|ทั้งนี้|อย่างไรก็ดี|วันต่อมา|ในที่สุด|วันหนึ่ง)")
_JOINS_PREVIOUS = re.compile(
    r"(?:และ|หรือ|ที่|ซึ่ง|ว่า|เพราะ|โดย|เพื่อ|เมื่อ|ถ้า|หาก|กับ|ของ|คือ|เช่น|ได้แก่|เวลา|ประมาณ|จำนวน|วันที่|พ\.ศ\.|นาย|นาง|นางสาว)\Z"
)
_CONDITION = re.compile("(?:เมื่อ(?!วาน|คืน|เช้า|ก่อน)|ถ้า|หาก|แม้|เพราะ|เนื่องจาก|ขณะที่|หลังจาก|ก่อนที่|ทุกครั้งที่)")
_ENDS = re.compile("(?:ครับ|ค่ะ|คะ|นะ|จ้ะ|จ๊ะ|แล้ว|เลย|ไหม|หรือยัง|เถอะ|สิ|หรอก)\\Z")


def cut_thai(text: str, start: int, ends: list[int]) -> list[int]:
    """Return the sentence `ends` after `start`, and additional ends at gaps inside Thai and Lao sentences."""
    if not _THAI.search(text, start, ends[-1]):
        return ends
    cuts: list[int] = []
    for end in ends:
        n_thai = len(_THAI.findall(text, start, end))
        gaps = _GAP.finditer(text, start, end) if 2 * n_thai > end - start else ()  # not in English with a Thai name
        for gap in gaps:
            if "\n" in gap[1] or _is_boundary(text, start, gap.start(1), gap.end(), end):
                start = gap.start(1)
                cuts.append(start)
        cuts.append(end)
        start = end
    return cuts


def _is_boundary(text: str, start: int, cut: int, begin: int, end: int) -> bool:
    """Whether a space from `cut` to `begin` lies between two sentences of the piece from `start` to `end`."""
    tail, after = text[max(start, cut - 30) : cut], text[begin : begin + 30]
    n_before = cut - start
    if _JOINS_PREVIOUS.search(tail):
        return False
    if _STARTS.match(after):
        return n_before >= MIN_CHARS // 2
    if _JOINS_NEXT.match(after) or end - begin < MIN_CHARS // 2:
        return False
    if _ENDS.search(tail):
        return n_before >= MIN_CHARS // 4
    head = text[start : start + 30].lstrip()
    is_condition = _CONDITION.match(head) is not None and n_before < MAX_CLAUSE and " " not in text[start + 1 : cut]
    return n_before >= MIN_CHARS and not is_condition
