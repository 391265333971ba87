"""Read labels as files write them: lists as text, numbers with a decimal comma, variants of one name."""

import ast
import json
import math
import re
import unicodedata
from collections.abc import Mapping

_QUOTED = re.compile(r"'([^']*)'|\"([^\"]*)\"")
THOUSANDS = re.compile(r"[-+]?\d{1,3}(,\d{3})+")
"""Numbers whose comma may separate thousands or decimals."""
_INVISIBLE = re.compile("[\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff]")
"""Zero-width characters, except joiners, which distinguish words and emoji."""
_DECIMAL_COMMA = re.compile(r"[-+]?(\d+|\d{1,3}(\.\d{3})+),(\d{1,2}|\d{4,})")


def parse_list(cell: str) -> list[str] | None:
    """Return the strings of a list that was written as text, such as `['joy', 'love']`; None for any other text.

    Tuples and sets of quoted strings, `('joy', 'love')` and `{'joy', 'love'}`, are lists too.
    """
    text = cell.strip()
    if f"{text[:1]}{text[-1:]}" not in ("[]", "()", "{}"):
        return None
    if text[0] != "[":
        found = ["".join(pair) for pair in _QUOTED.findall(text)]
        return found if found and not _QUOTED.sub("", text[1:-1]).strip(" ,\n") else None
    if text[1:-1].strip() == "":
        return []
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        value = None
    found = ["".join(pair) for pair in _QUOTED.findall(text)]
    is_list = isinstance(value, list) and all(isinstance(each, str | int) for each in value)
    if is_list and len(found) <= len(value):  # numpy writes ['joy' 'love'], which Python reads as one string
        return [str(each) for each in value]
    return found if found and not _QUOTED.sub("", text[1:-1]).strip(" ,\n") else None


def to_number(word: str) -> float:
    """Return the number, or NaN if the word is not a finite number. Python's `1_000` is not accepted."""
    try:
        number = math.nan if "_" in word else float(word)
    except ValueError:
        return math.nan
    return number if math.isfinite(number) else math.nan


def to_decimal(word: str) -> float:
    """Return the number, also with a decimal comma: `3,5` is 3.5 and `1.234,5` is 1234.5.

    `1,200` is no number, because it may be 1.2 or 1200.
    """
    word = word.replace("\u2212", "-")
    return to_number(word.replace(".", "").replace(",", ".") if _DECIMAL_COMMA.fullmatch(word) else word)


def fold_label(label: str) -> str:
    """Return a key that ignores case, width, the encoding of accents and invisible characters.

    `Neg`, `NEG` and `neg.` have equal keys, and so do `1`, `1.0` and `True`.
    """
    folded = unicodedata.normalize("NFKC", _INVISIBLE.sub("", label)).casefold().strip(" .!\t_")
    folded = " ".join(folded.split())
    try:
        return f"{float(folded):g}"
    except ValueError:
        return {"true": "1", "false": "0"}.get(folded, folded) or label


def label_map_option(pairs: Mapping[str, str]) -> str:
    """Return the option that renames labels, with pairs `old=new`.

    A name with a comma, an equals sign or an unprintable character needs a JSON file instead.
    """
    if all(name.isprintable() and not set(name) & set(",=") for name in (*pairs, *pairs.values())):
        return f"--label-map {','.join(f'{old}={new}' for old, new in pairs.items())!r}"
    return f"--label-map FILE, a JSON file with {json.dumps(pairs)},"
