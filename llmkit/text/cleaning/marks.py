"""Remove, decode or count marks of typesetting and of other formats in plain text: soft hyphens, HTML entities, front
matter, subtitle times.

Each is removed or decoded only if `prepare.clean` enables it. `count_marks` counts the marks that stay in the text, and
hyphens at line ends (wrapping.py), so that `prepare` can name the option that changes them.
"""

import html
import re
from collections import Counter
from collections.abc import Iterable, Iterator

from llmkit.text.documents import StepCounts, mark_last
from llmkit.text.scan import scan_text

MAX_FRONT_MATTER_CHARS = 20_000

SOFT_HYPHENS, ENTITIES, FRONT_MATTER, SUBTITLE_TIMES = "soft hyphens", "HTML entities", "front matter", "subtitle times"
HYPHENS = "hyphens at line ends"
OPTIONS = {
    SOFT_HYPHENS: "soft_hyphens",
    ENTITIES: "html_entities",
    FRONT_MATTER: "front_matter",
    SUBTITLE_TIMES: "subtitle_times",
    HYPHENS: "join_hyphens",
}
"""The key of prepare.clean that changes the marks."""
VERBS = {ENTITIES: "decodes them", HYPHENS: "joins the words"}
"""What a key of OPTIONS does, if it does not remove the marks."""

_HYPHENATED = re.compile(r"[^\W\d_]-\n[ \t]*[^\W\d_]")

_BROKEN_WORD = re.compile(r"\xad\n[ \t]*([^\W\d_]\S*)(?:[ \t]+|\n|\Z)")

# Matches all names of HTML 5; the semicolon is required, so that `AT&T` is not an entity.
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
_OPEN_ENTITY = re.compile(r"&#?\w{0,32}\Z")

_FENCES = {"---": re.compile(r"(?:---|\.\.\.)[ \t]*"), "+++": re.compile(r"\+\+\+[ \t]*")}
_YAML_LINE = re.compile(r"[ \t]*(?:#.*|-(?:[ \t].*)?|[\w\"'][^:\n]*:(?:[ \t].*)?|[\]}],?)?|[ \t]+.*")
_TOML_LINE = re.compile(r"[ \t]*(?:#.*|\[{1,2}[^\[\]\n]+\]{1,2}[ \t]*|[\w\"'.-]+[ \t]*=.*|[\]}],?)?|[ \t]+.*")

_TIME = r"(?:\d{1,3}:)?[0-5]?\d:[0-5]\d(?:[.,]\d{1,3})?"
_CUE = re.compile(
    rf"(?:^|(?<=\n))(?:[ \t]*\d{{1,6}}[ \t]*\n)?[ \t]*{_TIME}[ \t]*-->[ \t]*{_TIME}[^\n]*(?:\n|\Z)"
    rf"|(?:^|(?<=\n))[ \t]*[\[(]?{_TIME}[\])]?[ \t]*(?:\n|\Z)"
    rf"|(?:^|(?<=\n))(?:\[{_TIME}\][ \t]*)+(?=[^\n])"
    r"|\AWEBVTT\b[^\n]*(?:\n[^\n]+)*(?:\n|\Z)"
)


def remove_soft_hyphens(text: str, removed: Counter[str]) -> str:
    """Remove soft hyphens (U+00AD); at a line end, the rest of the word moves to the first line."""
    if "\xad" not in scan_text(text).others:
        return text
    removed[SOFT_HYPHENS] += text.count("\xad")
    if "\xad\n" in text:
        text = _BROKEN_WORD.sub(r"\1\n", text)
    return text.replace("\xad", "")


def decode_entities(texts: Iterable[str], count: StepCounts) -> Iterator[str]:
    """Decode HTML entities once: `&amp;lt;` becomes `&lt;`. Numbers 128-159 mean Windows-1252, as in browsers."""
    carried = ""
    changed = False
    for text, last in mark_last(texts):
        text, carried = carried + text, ""
        if not last and (cut := _OPEN_ENTITY.search(text, max(0, len(text) - 40))):
            text, carried = text[: cut.start()], text[cut.start() :]
        decoded = _ENTITY.sub(lambda match: _decode_entity(match[0], count), text) if "&" in text else text
        changed = changed or decoded != text
        yield decoded
    count.changed += changed


def _decode_entity(entity: str, count: StepCounts) -> str:
    decoded = html.unescape(entity)
    if not decoded or (decoded == "\ufffd" and "fffd" not in entity.casefold()):
        return entity  # not the number of a character, such as &#0; or &#x110000;
    if decoded == entity or (decoded.endswith(";") and entity != "&semi;" and len(decoded) > 1):
        return entity  # an unknown name, or only its beginning is known (`&notit;`)
    count.removed[ENTITIES] += 1
    count.examples.setdefault(ENTITIES, f"{entity} is now {decoded}")
    return decoded


def strip_front_matter(texts: Iterable[str], count: StepCounts) -> Iterator[str]:
    """Remove a block of YAML (`---`) or TOML (`+++`) at the start of a document.

    The block ends with its own fence within 20,000 characters, and each of its lines has the form of YAML or TOML, so a
    thematic break of Markdown is not removed.
    """
    held: str | None = ""
    for text, last in mark_last(texts):
        if held is not None:
            text = held + text
            if not last and len(text) < MAX_FRONT_MATTER_CHARS:
                held = text
                continue
            held = None
            end = find_front_matter(text)
            count.removed[FRONT_MATTER] += end
            count.changed += end > 0
            text = text[end:]
        yield text


def find_front_matter(text: str) -> int:
    """Return the end of the front matter and of the blank lines after it; 0 if there is no front matter."""
    start = len(text) - len(text.lstrip("\n\ufeff")) if text[:1] in ("\n", "\ufeff") else 0
    close = _FENCES.get(text[start : start + 3])
    if close is None:
        return 0
    position = text.find("\n", start) + 1
    if not position or text[start + 3 : position].strip():
        return 0
    pattern = _YAML_LINE if text[start] == "-" else _TOML_LINE
    n_fields = 0
    while position < min(len(text), start + MAX_FRONT_MATTER_CHARS):
        end = text.find("\n", position)
        end = len(text) if end < 0 else end
        line = text[position:end]
        if close.fullmatch(line):
            rest = text[end:]
            return len(text) - len(rest.lstrip("\n")) if n_fields else 0
        if not pattern.fullmatch(line):
            return 0
        n_fields += ":" in line or "=" in line
        position = end + 1
    return 0


def remove_subtitle_times(text: str, removed: Counter[str]) -> str:
    """Remove times of subtitles and transcripts, with the number of a cue before them and the header of WebVTT.

    Times are lines such as `00:00:01,000 --> 00:00:04,000` or `[1:02]`, and `[00:12.34]` before a line of a song. A
    time inside a sentence stays.
    """
    if ":" not in text:
        return text
    cleaned, n_cues = _CUE.subn("", text)
    removed[SUBTITLE_TIMES] += n_cues
    return cleaned if n_cues else text


def count_marks(texts: Iterable[str], count: StepCounts, kinds: frozenset[str], place: str) -> Iterator[str]:
    """Pass the texts through and count the marks of these kinds in `count.notes`, with the first line as an example."""
    first = True
    for text in texts:
        if SOFT_HYPHENS in kinds and "\xad" in scan_text(text).others:
            position = text.find("\xad")
            count.note(SOFT_HYPHENS, _excerpt(text, position, place), text.count("\xad"))
        if ENTITIES in kinds and "&" in text:
            for match in _ENTITY.finditer(text):
                if html.unescape(match[0]) != match[0]:
                    example = "" if ENTITIES in count.examples else _excerpt(text, match.start(), place)
                    count.note(ENTITIES, example)
        if FRONT_MATTER in kinds and first and text[:3] in _FENCES and find_front_matter(text):
            count.note(FRONT_MATTER, _excerpt(text, 4, place))
        if SUBTITLE_TIMES in kinds and "-->" in text:
            for match in _CUE.finditer(text):
                if "-->" in match[0]:
                    count.note(SUBTITLE_TIMES, _excerpt(text, match.end() - 2, place))
        if HYPHENS in kinds and "-\n" in text:
            for match in _HYPHENATED.finditer(text):
                if match[0][0].islower() and match[0][-1].islower():
                    count.note(HYPHENS, _excerpt(text, match.start(), place))
        first = False
        yield text


def _excerpt(text: str, position: int, place: str) -> str:
    """Return up to 60 characters of the line around a position, and the name of the document."""
    start = max(text.rfind("\n", 0, position) + 1, position - 30)
    end = text.find("\n", position)
    return f"{text[start : min(len(text) if end < 0 else end, start + 60)]!r} in {place}"
