r"""Split English text into words and punctuation like the Penn Treebank.

The official script of CMRC 2018 counts the Latin words of an answer as NLTK's `word_tokenize` splits them. This module
follows the same rules for the text of one sentence. Brackets, quotes and other marks are tokens of their own. A comma
or colon stays inside a number. Only the last period is split off. Clitics ("don't", "cook's") and a few contractions
("cannot") are two tokens. A double quote becomes `` or '' for opening and closing.
"""

import re

_OPENING_QUOTE = re.compile(r"(?<=[\s(\[{<])(?:\"|'')")
_END = r"(?=[\])}>\"'»”’\s]*$)"
_MARKS = r"\[\](){}<>;@#$%&?!*«»“”‘’„‒–—―"
_CLITICS = re.compile(r"(?<=[^'\s])('s|'m|'d|'ll|'re|'ve|n't|')(?=\s|$)", re.IGNORECASE)
_CONTRACTIONS = re.compile(
    r"\b(can)(not)\b|\b(d)('ye)\b|\b(gim)(me)\b|\b(gon)(na)\b|\b(got)(ta)\b|\b(lem)(me)\b|\b(more)('n)\b"
    r"|\b(wan)(na)(?=\s)|(?<=\s)('t)(is|was)\b",
    re.IGNORECASE,
)
_OPENING_APOSTROPHE = re.compile(r"(?<!\w)'(?!(?:re|ve|ll|m|t|s|d|n)\b)(?=\w)", re.IGNORECASE)


def split_words(text: str) -> list[str]:
    """Return the tokens of one sentence."""
    text = _OPENING_QUOTE.sub(" `` ", re.sub(r'^"', " `` ", text))
    text = re.sub(r"`+", lambda found: f" {found[0]} ", text)
    text = _OPENING_APOSTROPHE.sub("' ", text)
    text = re.sub(rf"(?<=[^.])\.{_END}", " . ", text)
    text = re.sub(r"[:,](?!\d)", lambda found: f" {found[0]} ", text)
    text = re.sub(rf"\.{{2,}}|--|[{_MARKS}]|''|\"", _pad, text)
    text = _CLITICS.sub(r" \1 ", text)
    return _CONTRACTIONS.sub(lambda found: " " + " ".join(filter(None, found.groups())) + " ", text).split()


def _pad(found: re.Match[str]) -> str:
    mark = "''" if found[0] == '"' else found[0]
    return f" {mark} "
