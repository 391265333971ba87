"""Detect plain text that is prepared as one document but has the form of another format, and add a note.

Recognizes separators between documents, instructions and chats, one title per line, lines of JSON, tables, and fastText
labels. Does not change the text.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from llmkit.text.records.delimited import DELIMITERS, FULL_WIDTH_DELIMITERS, names_columns
from llmkit.text.sources import Source

_HEAD_CHARS = 1 << 16
_MARKS = (
    "<|endoftext|>",
    "<|end_of_text|>",
    "<|im_end|>",
    "<|eot_id|>",
    "</s>\n",
    "</s> ",
    "<eos>\n",
    "<eos> ",
    "[EOS]\n",
    "\f",
)
_RULE = re.compile(r"%|§+|⁂|※|—+|([-=_~#+])\1{4,}")
"""A line that may separate documents, such as `=====`; within a document it is seldom repeated."""
_SHORT_RULE = re.compile(r"([-=_~#+*.·•◆◇○●※＊－＝～・–])(?: *\1){1,39}")
_TOKEN = re.compile(r"</?[A-Za-z_]\w{0,19}>|<\|[\w ]{1,30}\|>|\[/?[A-Z_]{2,12}\]|[#=*-]{2,5} ?[A-Z]{3,12} ?[#=*-]{2,5}")
"""A line that may be a separator: a special token such as `<sep>` or `[SEP]`, or a line such as `== END ==`."""
_ROLES = "Instruction|Input|Response|Output|Question|Answer|Human|User|Assistant|System|Q|A"
_CHINESE_ROLES = "指令|输入|输出|问题|回答|回复|问|答|用户|助手|系统"
_TURN = re.compile(
    rf"(?:#{{2,4}} ?(?:{_ROLES}|{_CHINESE_ROLES})\b|(?:{_ROLES}|{_CHINESE_ROLES})[:：]|<\|(?:user|assistant|system)\|>"
    r"|<\|im_start\|>\w+|\[INST\])"
)
"""The start of a line that names who speaks, in a text of instructions or chats."""
_MIN_RULES = 10
_MIN_SHORT_RULES = 30
_MAX_TOKENS = 3
"""Maximum number of distinct lines that match _TOKEN; a text with more of them contains markup."""
_LABEL = re.compile(r"__label__\S+\s+\S")
_MIN_TITLES = 10
_MAX_TITLE_CHARS = 120
_JSON_BEGINS = re.compile(r'\s*(\[\s*)?\{\s*"[^"\n]+"\s*:')
_CLOSING_MARKS = "\"'”’」』)）]"
_PAUSES = tuple(".!?,;:…—-。！？，；：、।؟")


def watch_shape(pieces: Iterable[str], source: Source) -> Iterator[str]:
    """Pass the pieces of a text through, and add a note to `source` if it looks like another format."""
    head, end = "", ""
    counts: Counter[str] = Counter()
    for piece in pieces:
        if len(head) < _HEAD_CHARS:
            head += piece[: _HEAD_CHARS - len(head)]
        joined = end + piece
        for mark in _MARKS:
            # Fast path: most text has neither `<` nor `[`, and searching one character is much faster.
            if mark[0] in joined and mark in joined:
                counts[mark] += joined.count(mark) - end.count(mark)
        end = joined[-20:]
        yield piece
    if n_pages := counts.pop("\f", 0):
        setting = r"-s prepare.read.documents=separator -s 'prepare.read.separator=\f'"
        what = f"form feeds, which end pages, are read as line ends; to make each page a document: {setting}"
        source.notes[what] = f"number: {n_pages:,}"
    if note := _describe_marks(counts) or _describe_lines(head):
        source.notes[note[0]] = note[1]


def _describe_marks(counts: Counter[str]) -> tuple[str, str] | None:
    mark, n = counts.most_common(1)[0] if counts else ("", 0)
    if not n:
        return None
    mark = mark.strip()
    own = "" if mark == "<|endoftext|>" else f" -s 'prepare.read.separator={re.escape(mark)}'"
    setting = f"-s prepare.read.documents=separator{own}"
    what = f"{mark} stays in the text; {setting} splits documents there"
    return what, f"it occurs {n:,} time{'s' if n > 1 else ''}"


def _describe_lines(head: str) -> tuple[str, str] | None:
    """Return (note with the setting to use, example) for the first lines of a text; None if they are plain text."""
    whole = head.split("\n")
    lines = [line for line in (whole[:-1] if len(head) >= _HEAD_CHARS else whole) if line.strip()]
    example = f"first line: {lines[0].strip()[:60]!r}" if lines else ""
    if "__label__" in head and are_fasttext(lines):
        return "lines begin with __label__, as in fastText files; the labels stay in the text", example
    if kind := find_table(lines):
        return f"looks like {kind}, but is prepared as plain text; give it that suffix to read its fields", example
    if rule := _find_rule(lines) or _find_turns(lines):
        return rule
    if _are_titles(lines, len(whole)):
        what = "each line looks like a separate text, such as a title"
        return f"{what}; -s prepare.read.documents=line makes each line a document", example
    return None


def _find_rule(lines: Sequence[str]) -> tuple[str, str] | None:
    """Return (note, example) if a separator line, such as `=====` or `<sep>`, occurs repeatedly; else None."""
    counts = Counter(stripped for line in lines if len(stripped := line.strip()) <= _MAX_TITLE_CHARS)
    if len(lines) - len(counts) < _MIN_RULES - 1:
        return None
    rules = {line: n for line, n in counts.items() if n >= _MIN_RULES and _RULE.fullmatch(line)}
    rules |= {line: n for line, n in counts.items() if n >= _MIN_SHORT_RULES and _SHORT_RULE.fullmatch(line)}
    tokens = {line: n for line, n in counts.items() if _TOKEN.fullmatch(line)}
    if len(tokens) <= _MAX_TOKENS:
        rules |= {line: n for line, n in tokens.items() if n >= _MIN_RULES}
    if not rules:
        return None
    mark = max(rules, key=rules.__getitem__)
    is_long = len(mark) > 4 and mark == mark[0] * len(mark)
    pattern = f"{re.escape(mark[0])}{{5,}}" if is_long else re.escape(mark).replace(r"\ ", " ")
    blanks = "[ \\t]*" if any(line.rstrip("\r") != mark == line.strip() for line in lines) else ""
    setting = f"-s prepare.read.documents=separator -s 'prepare.read.separator=^{blanks}{pattern}{blanks}$'"
    return f"lines {mark[:20]!r} may separate documents: {setting}", f"{rules[mark]:,} near the beginning"


def _find_turns(lines: Sequence[str]) -> tuple[str, str] | None:
    """Return (note, example) if many lines begin with the names of speakers, as in records of instructions or chats."""
    turns = [match[0] for line in lines if (match := _TURN.match(line))]
    first = Counter(turns)[turns[0]] if turns else 0
    if first < _MIN_RULES or (len(set(turns)) == 1 and turns[0] != "[INST]"):
        return None
    start = re.sub(r"\\([# ])", r"\1", re.escape(turns[0]))
    setting = f"-s prepare.read.documents=separator -s 'prepare.read.separator=\\n(?={start})'"
    what = f"looks like instructions or chats, but is prepared as plain text; to begin a document at each {turns[0]!r}"
    return f"{what}: {setting}", f"{first:,} near the beginning"


def are_fasttext(lines: Sequence[str]) -> bool:
    """Whether nearly all lines begin with fastText labels."""
    n = sum(bool(_LABEL.match(line)) for line in lines)
    return n > 1 and 10 * n >= 9 * len(lines)


def find_table(lines: Sequence[str]) -> str:
    """Return the table format that the first lines of a text resemble; empty if there is none."""
    if lines and all(map(_is_object, lines[:3])):
        return "JSON Lines (.jsonl)"
    if _JSON_BEGINS.match("\n".join(lines[:5])):
        return "JSON (.json)"
    n_tabs = lines[0].count("\t") if lines else 0
    if len(lines) > 2 and n_tabs and all(line.count("\t") == n_tabs for line in lines):
        return "a table with tabs (.tsv)"
    return "a table (.csv)" if names_columns(lines, (*DELIMITERS, *FULL_WIDTH_DELIMITERS)) else ""


def _is_object(line: str) -> bool:
    if not line.lstrip().startswith("{"):
        return False
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _are_titles(lines: Sequence[str], n_all: int) -> bool:
    """Whether each line is a separate unit: short, without sentence ends, and not wrapped at a width."""
    if len(lines) < _MIN_TITLES or n_all > 1.1 * len(lines) + 1:
        return False
    lines = [line.strip() for line in lines]
    lengths = sorted(map(len, lines))
    wide = lengths[len(lengths) * 9 // 10]
    if wide > _MAX_TITLE_CHARS or 10 * sum(line.rstrip(_CLOSING_MARKS).endswith(_PAUSES) for line in lines) > len(
        lines
    ):
        return False
    indented_or_code = sum(not (line[0].isalnum() or line[0] in "\"'“‘「『《(（¿¡") for line in lines)
    full = sum(length >= 0.8 * wide for length in lengths)
    begins_small = sum(line[0].islower() for line in lines)
    is_wrapped = 2 * full > len(lines) and 10 * begins_small > len(lines) and wide >= 35
    return 10 * indented_or_code <= len(lines) and not is_wrapped
