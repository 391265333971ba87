"""Repair text that was decoded with a wrong encoding (mojibake), and nothing else.

ftfy decides and repairs, set so that widths, quotes, ligatures and entities stay as they are. It is slow, so it
sees only the lines in which a pair of characters looks like a UTF-8 sequence read as another encoding; sound
Chinese or French text has next to none of these.

Does not repair GBK read as Latin-1, nor what was lost to replacement characters.
"""

import re
from collections import Counter
from collections.abc import Callable
from functools import cache

from llmkit.text.scan import scan_text

# A UTF-8 lead byte as Latin-1 or Windows-1252 shows it, then a continuation byte; then UTF-8 punctuation as
# Windows-1251, MacRoman and code page 437 show it.
_PAIRS = ("вЂ", "‚Ä", "ΓÇ")
_SUSPICIOUS = re.compile("[\xc2-\xf4][\x80-\xbf€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ]|" + "|".join(_PAIRS))
_LEADS = frozenset(map(chr, range(0xC2, 0xF5)))
# The same in UTF-8, a little wider: a search with a fixed beginning runs at memory speed.
_LEAD_BYTES = re.compile(rb"\xc3[\x82-\xb4][\xc2\xc5\xc6\xcb\xe2]")


def repair_mojibake(text: str, removed: Counter[str]) -> str:
    """The text with broken lines repaired; `removed["broken lines"]` counts them."""
    scan = scan_text(text)
    has_lead = not scan.others.isdisjoint(_LEADS) and _LEAD_BYTES.search(scan.utf8)
    if not has_lead and not any(scan.others.issuperset(pair) and pair in text for pair in _PAIRS):
        return text
    found = _SUSPICIOUS.search(text)
    if found is None:
        return text
    pieces: list[str] = []
    place = 0
    while found is not None:
        start = text.rfind("\n", place, found.start()) + 1 or place
        end = text.find("\n", found.end())
        end = len(text) if end < 0 else end
        line = text[start:end]
        repaired = _repairer()(line)
        removed["broken lines"] += repaired != line
        pieces += (text[place:start], repaired)
        place = end
        found = _SUSPICIOUS.search(text, place)
    pieces.append(text[place:])
    return "".join(pieces)


@cache
def _repairer() -> Callable[[str], str]:
    import ftfy

    config = ftfy.TextFixerConfig(
        unescape_html=False,
        remove_terminal_escapes=False,
        fix_latin_ligatures=False,
        fix_character_width=False,
        uncurl_quotes=False,
        fix_line_breaks=False,
        fix_surrogates=False,
        remove_control_chars=False,
        normalization=None,
        explain=False,
    )
    return lambda line: ftfy.fix_encoding(line, config)
