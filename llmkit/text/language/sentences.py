"""Find sentence boundaries: rules for English, Chinese and Japanese, and Unicode's final marks for other scripts.

The white space between two sentences belongs to the second, so a sentence ends right after its final mark and closing
quotes. A blank line always ends a sentence; a single line end never does, because English books are hard-wrapped. A
Latin mark ends a sentence only before white space and a character that can begin a sentence. Chinese marks, danda,
Arabic marks and all other marks of sentence_marks.py always end a sentence. As in other Chinese splitters, 。” ends a
sentence even if the speaker continues; ； ends one too. Thai and Lao have no marks: boundaries are line ends, and
spaces after a long enough run (thai_sentences.py).

Limits: “Stop!” Holmes said. is two sentences. An abbreviation that may also end a sentence does so only before a
common first word, so "in the U.S. Congress" is not split: unclear cases are not split.
"""

import re
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from llmkit.text.language import sentence_marks as marks_of
from llmkit.text.language.thai_sentences import cut_thai

MAX_SENTENCE_CHARS = 1000

# Groups: marks; closing quotes; white space; the first character after opening quotes. Every repeat is possessive and
# the rest is optional, so a million dots take linear time. (?=(group*))\2 is a possessive group, because Python 3.11.0
# to 3.11.4 match group*+ wrongly (CPython issue 106052). [1] is a reference, ` "` the closing quote of tokenized
# text (he went . " She), ` 12॥` the number of a verse, \u200c to \u202e joiners and direction marks; “ and «
# close in German and Urdu, before white space; French has a space before »; an emoji closes.
_MARK = re.compile(
    rf"""([.!?…。！？；｡．;‼‽⁇⁈⁉{marks_of.TERMINALS}]++)"""
    r"""(?=((?:[”’״"')\]}»›_*」』）》】〉〕］｝\u200c-\u200f\u202a-\u202e\ufe0f\U0001f300-\U0001faff]|[“‘«‹](?=\s)|\[\d{1,3}\]"""
    r"""| ?\d{1,4} ?[।॥]|[ \u00a0\u202f][»›](?=\s|\Z))*(?: "(?=\s))?))\2(\s*+)(?=["'“‘’«‹(\[{_*—–\s-]*+(.?))"""
)
_WIDE_MARK = re.compile(f"[。！？；｡{marks_of.TERMINALS}]")
_NEVER_FIRST = re.compile(
    rf"[，、：；。！？,.;:!?)\]}}”’」』）》】〉〕］｝％%{marks_of.NEVER_FIRST}{marks_of.TERMINALS}]"
)
_CJK = re.compile("[\u2e80-\u9fff\uf900-\ufaff\uff00-\uffef\U00020000-\U0003ffff]")
_LETTER = re.compile(r"[^\W_]")
_CJK_STOP = re.compile(r"(?<=[\u3040-\u9fff])(?<![一二三四五六七八九十百千零〇两])\.(?=[“「《]?[\u3040-\u9fff])")
_CJK_MARK = re.compile("[。！？]")
_PARAGRAPHS = re.compile(r"(\n[^\S\n]*+\n)")
_INSIDE_SENTENCE = re.compile(r"[^\W_]（[^（）\n]*[！？]）\Z")  # but （兵车也。）二，衣服 are two sentences
_BLANK_LINE = re.compile(r"\n[^\S\n]*+\n\s*+")

_LAST_WORD = re.compile(r"[^\W_\u2e80-\ud7af](?=((?:[^\W_\u2e80-\ud7af]|[.'’])*))\1\Z")
_LAST_UNCASED_WORD = re.compile(r"""[^\s"'“‘«(\[—–-]+\Z""")
_LABEL = re.compile(  # "1.", "CHAPTER IV."
    r"""["'“‘(\[_*\s]*+(?:(?i:act|article|book|canto|chapter|lecture|letter|part|psalm|scene|section|volume)\s)?"""
    r"""(?:\d[\dA-Za-z.]*|[IVXLCDM]+|[A-Za-z])"""
)
_NEVER_LAST = re.compile(
    r"Mrs?|Ms|M[ml]e|Mlle|Messrs|Drs?|Prof|Revd?|Hon|Ste?|Mt|Ft|Capt|Cpt|Col|Gen|Lieut|Lt|Maj|Sgt|Sergt|Cpl|Pvt|Cmdr|Adm|Brig|"
    r"Gov|Sen|Rep|Pres|Supt|Insp|Fr|Geo|Wm|Chas|Thos|Jas|Jos|Figs?|Vols?|Chap|Nos|pp|viz|c[fp]|vs|approx|[Ee]\.g|[Ii]\.e"
)
_BEFORE_NUMBER = re.compile(
    "nos?|nr|vols?|chap|ch|sect?|pt|bk|art|op|figs?|eqs?|ex|pp?|ll?|jan|feb|mar|apr|ju[nl]|aug|sept?|oct|nov|dec", re.I
)
_NUMBER = re.compile(r"\d|(?:[IVXLCDM]{2,}|[VXLCDM])\b")
_SELDOM_LAST = re.compile(  # with initials: "J", "U.S", "a.m"
    rf"(?i:{marks_of.RUSSIAN})|{marks_of.EUROPEAN}|"
    r"Inc|Ltd|Co|Corp|Bros|Jr|Sr|Esq|Ph|Ph\.D|Litt|al|ft|Ave|(?:[^\W\d_\u2e80-\ud7af]\.)*[^\W\d_\u2e80-\ud7af]"
)
# Words that follow U.S., a.m., Jr. or an initial almost only at the beginning of a sentence.
_FIRST_WORD = re.compile(
    r"(?:After|All|Also|And|Another|Any|As|At|An?|Because|Before|Both|But|By|Did|Do|During|Each|Even|Every|For|From|Has|"
    r"Have|Her|Here|His|How|However|He|If|In|Is|Its?|I|Later|Many|More|Most|My|No|Not|Now|Of|Once|One|Only|On|Or|Other|"
    r"Our|She|Since|Some|So|Still|Such|That|Their|Then|There|These|They|The|This|Those|Though|Thus|Today|To|Under|Until|"
    r"Upon|Was|We|Well|Were|What|When|Where|Whether|Which|While|Who|Why|With|Yes|Yet|Your?|"
    rf"{marks_of.RUSSIAN_FIRST_WORDS})"
    r"(?![\w.])"
)
# In order of preference. Each needs one character of lookahead, so that no cut is outside the window.
_PAUSES = [
    re.compile(r"(?s:.*)" + pause)
    for pause in (r"\S(?=[^\S\n]{0,2}\n)", r"(?:[;:,](?=\s)|[；：，、](?=(?s:.)))", r"\S(?=\s)")
]


_WORD_START = re.compile(r"""(?<!\S)["'“‘«(\[¿¡]*+[^\W\d_]""")


def find_sentence_ends(text: str) -> NDArray[np.int64]:
    """Return the character offsets where the sentences of `text` end, ascending up to len(text); empty for "".

    No sentence is longer than MAX_SENTENCE_CHARS. Every sentence has a letter or digit, except paragraphs without any
    ("* * *") and pieces of sentences that were too long.
    """
    if text == text.lower():
        # Text without capitals, of any length: capitalize every word, so that only the marks decide.
        text = _WORD_START.sub(_capitalize, text)
    text = marks_of.replace_stand_ins(text)
    if _CJK_STOP.search(text):
        text = "".join(map(_replace_ascii_stops, _PARAGRAPHS.split(text)))
    ends: list[int] = []
    start = 0
    for stop in _find_paragraph_ends(text):
        ends += cut_thai(text, start, _cut_paragraph(text, start, stop))
        start = stop
    found = np.array(ends, dtype=np.int64)
    n_chars = np.diff(found, prepend=0)
    if not (n_chars > MAX_SENTENCE_CHARS).any():
        return found
    starts = (found - n_chars).tolist()
    return np.array([cut for span in zip(starts, ends, strict=True) for cut in _cut_long(text, *span)], dtype=np.int64)


def _replace_ascii_stops(paragraph: str) -> str:
    """Replace `.` between Chinese characters with `。` if the paragraph has only ASCII marks. In other paragraphs `.`
    separates the parts of a name, as in 乔治.布什.
    """
    is_ascii = paragraph.rstrip().endswith((".", "!", "?")) and not _CJK_MARK.search(paragraph)
    return _CJK_STOP.sub("。", paragraph) if is_ascii else paragraph


def _capitalize(match: re.Match[str]) -> str:
    """Return the match in capitals; unchanged if its length would change (ß) or in Georgian (capitals are for
    titles).
    """
    capital = match[0].upper()
    return match[0] if len(capital) != len(match[0]) or marks_of.UNCASED.match(match[0][-1]) else capital


def _find_paragraph_ends(text: str) -> Iterator[int]:
    """Yield the end of the text before each blank line, without white space, and finally len(text)."""
    start = 0
    for blank in _BLANK_LINE.finditer(text):
        stop = start + len(text[start : blank.start()].rstrip())
        if start < stop and blank.end() < len(text):
            yield stop
            start = stop
    if text:
        yield len(text)


def _cut_paragraph(text: str, start: int, stop: int) -> list[int]:
    ends: list[int] = []
    seen = start  # there is no letter between the last end and here
    counted, quote_is_open = start, False
    for mark in _MARK.finditer(text, start, stop):
        cut, begin = mark.end(2), mark.end()
        if begin == stop:
            break
        if '"' in mark[2] and (cut == begin or ' "' in mark[2]):
            # In Chinese or tokenized text a straight quote may also open the next sentence: count quotes in the line.
            line = text.rfind("\n", counted, mark.end(1))
            quote_is_open = (quote_is_open and line < 0) ^ (text.count('"', max(counted, line), mark.end(1)) % 2 == 1)
            counted = mark.end(1)
            if not quote_is_open:
                cut = counted
                begin = cut + (text[cut] == " ")
        if _can_end(text, mark, cut, begin) and not (mark[1] in ".۔" and _abbreviates(text, mark, seen)):
            if _LETTER.search(text, seen, cut):
                ends.append(cut)
            seen = cut
    if ends and not _LETTER.search(text, seen, stop):
        del ends[-1]
    ends.append(stop)
    return ends


def _can_end(text: str, mark: re.Match[str], cut: int, begin: int) -> bool:
    """Whether a sentence can end at `cut` and the next begin at `begin`; abbreviations are checked elsewhere."""
    marks, closing, following = mark[1], text[mark.end(1) : cut], text[begin]
    before = text[max(0, mark.start() - 1) : mark.start()]
    if before in "“‘「『（(" and marks[0] in ".…":
        return False  # “...and so on: a sentence begins here
    wide = _WIDE_MARK.search(marks) is not None
    if not wide and _CJK.match(before):
        if marks == "．" or (marks == "." and closing):  # a full stop in 好．他 and “好.”他, not in 一．总则 or ３．５
            wide = not before.isnumeric() and _CJK.match(following) is not None
        else:
            wide = not marks.strip("!?;") or marks.startswith(("……", "..."))
    elif not wide and marks_of.UNCASED.match(before):
        wide = not marks.strip("!?") and marks_of.UNCASED.match(following) is not None
    if wide and cut == begin and before.isdigit() and following.isdigit() and not closing:
        return marks in "！？；"  # १२।५ is a number
    if wide:
        # Not sentence ends: a mark in a title, 《谁？》里, and Japanese speech before と.
        within = closing and (
            marks_of.JAPANESE_QUOTATIVE.match(text, begin)
            or (closing[-1] in "》〉" and _CJK.match(following) and cut == begin)
            or (closing[-1] == "）" and cut == begin and _INSIDE_SENTENCE.search(text, max(0, mark.start() - 200), cut))
        )
        return not within and not _NEVER_FIRST.match(following)
    if cut == begin or marks == ";":
        return False
    is_lower = mark[4].islower() and not marks_of.UNCASED.match(mark[4])  # Unicode calls Georgian lower case
    return not is_lower and (not _NEVER_FIRST.match(following) or following == "’")  # ’Tis


def _abbreviates(text: str, mark: re.Match[str], start: int) -> bool:
    """Whether the full stop ends an abbreviation, an initial, or a number such as `1.` at the sentence's `start`."""
    dot = mark.start()
    if text[dot] == "۔":
        return marks_of.is_urdu_initial(text, max(start, dot - 8), dot)
    if marks_of.UNCASED.match(text, max(start, dot - 1)):
        return _abbreviates_uncased(text, start, dot)
    if marks_of.RUSSIAN_ET_CETERA.search(text, max(start, dot - 8), dot):
        return False
    found = _LAST_WORD.search(text, max(start, dot - 12), dot)
    if not found:
        return False
    word = found[0]
    if _NEVER_LAST.fullmatch(word.capitalize() if len(word) > 1 and word.isupper() else word) or (
        dot - start < 24 and _LABEL.fullmatch(text, start, dot)
    ):
        return True
    if word.isdigit() and len(word) <= 2 and marks_of.GERMAN_ORDINAL.match(text, mark.end(2)):
        return True
    if _BEFORE_NUMBER.fullmatch(word) and _NUMBER.match(text, mark.start(4)):
        return True
    return _SELDOM_LAST.fullmatch(word) is not None and not _FIRST_WORD.match(text, mark.start(4))


def _abbreviates_uncased(text: str, start: int, dot: int) -> bool:
    """Like `_abbreviates`, for a word of a script without capitals; vowel signs are part of the word."""
    if dot - start < 24 and _LABEL.fullmatch(text, start, dot):
        return True
    found = _LAST_UNCASED_WORD.search(text, max(start, dot - 16), dot)
    if not found:
        return False
    word = found[0]
    if len(word) <= 2 and text.endswith(". ", start, found.start()):
        return True  # the second of two initials
    return bool(
        marks_of.ARABIC_ABBREVIATION.fullmatch(word) or marks_of.INDIC_ABBREVIATION.fullmatch(word.rpartition(".")[2])
    )


def _cut_long(text: str, start: int, end: int) -> Iterator[int]:
    """Yield the ends of the pieces of a sentence. A long sentence is cut at pauses, or inside a word if it has none."""
    while end - start > MAX_SENTENCE_CHARS:
        stop = start + MAX_SENTENCE_CHARS
        found = next((cut for pause in _PAUSES if (cut := pause.match(text, start, stop + 1))), None)
        start = found.end() if found else stop
        yield start
    yield end
