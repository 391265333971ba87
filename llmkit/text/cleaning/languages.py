"""Keep documents in wanted languages, as detected by py3langid.

The candidates are the languages with a two-letter code, `zxx` (no language, such as tables and code) and the wanted
ones: with all 140 labels of py3langid, one in thirty paragraphs of Chinese novels would be labelled Wu.

Up to three passages of a document's first part, or of several short parts, are classified together. A document with
less than 24 UTF-8 bytes of letters (eight Chinese characters, 24 letters of English) is too short to classify and is
kept.
"""

import re
from collections.abc import Callable, Iterable
from functools import cache
from itertools import chain
from typing import Any

from llmkit.core.errors import EnvironmentFault, UsageError, did_you_mean

MIN_LETTER_BYTES = 24
TOO_SHORT = "too short to judge"
_PASSAGE_CHARS = 2_000
_LETTERS = re.compile(r"[^\W\d_]+")
_KEY = "prepare.clean.languages"


def check_languages(languages: Iterable[str]) -> None:
    """Raise UsageError for a code that py3langid does not know, EnvironmentFault without py3langid."""
    known = set(_known_codes())
    for code in languages:
        if code not in known:
            raise UsageError(f"unknown language code {code!r}", where=_KEY, hint=_hint(code, known))


def _hint(code: str, known: set[str]) -> str:
    short = code.lower().replace("_", "-").split("-")[0]
    hint = f"did you mean {short!r}?" if short in known else did_you_mean(_NAMES.get(code.lower(), code), known)
    return f"{hint.removesuffix('?')}; codes are those of ISO 639-1, such as zh and en"


_NAMES = {
    "chinese": "zh", "english": "en", "german": "de", "french": "fr", "spanish": "es", "italian": "it",
    "japanese": "ja", "korean": "ko", "russian": "ru", "arabic": "ar", "portuguese": "pt", "hindi": "hi",
    "zho": "zh", "chi": "zh", "cmn": "zh", "eng": "en", "deu": "de", "ger": "de", "fra": "fr", "jp": "ja",
    "jpn": "ja", "kr": "ko", "kor": "ko", "cn": "zh", "cz": "cs", "ua": "uk", "gr": "el", "dk": "da", "se": "sv",
}  # fmt: skip


def find_language(text: str, wanted: Iterable[str] = ()) -> str:
    """Return the code of the text's language, among common and wanted languages, or TOO_SHORT."""
    passages = [text]
    if len(text) > 3 * _PASSAGE_CHARS:
        starts = (0, (len(text) - _PASSAGE_CHARS) // 2, len(text) - _PASSAGE_CHARS)
        passages = [text[start : start + _PASSAGE_CHARS] for start in starts]
    words = _LETTERS.findall("\n".join(passages))
    if sum(len(word.encode("utf-8", "surrogatepass")) for word in words) < MIN_LETTER_BYTES:
        return TOO_SHORT
    return str(_identifier(tuple(sorted(wanted))).classify("\n".join(passages))[0])


def read_sample(texts: Iterable[str]) -> tuple[str, Iterable[str]]:
    """Return (sample, all texts); the sample is the first texts with more than 6,000 characters together."""
    stream = iter(texts)
    held: list[str] = []
    n_chars = 0
    for text in stream:
        held.append(text)
        n_chars += len(text)
        if n_chars > 3 * _PASSAGE_CHARS:
            break
    return "".join(held), chain(held, stream)


@cache
def _identifier(wanted: tuple[str, ...]) -> Any:
    identifier = _load_identifier()
    identifier.set_languages([code for code in identifier.labels if len(code) == 2 or code == "zxx" or code in wanted])
    return identifier


@cache
def _known_codes() -> tuple[str, ...]:
    return tuple(map(str, _load_identifier().labels))


def _load_identifier() -> Any:
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ImportError:
        raise EnvironmentFault(
            "prepare.clean.languages needs py3langid",
            where=_KEY,
            hint="pip install 'llmkit[languages]', or leave the key out",
        ) from None
    from_model_file: Callable[..., Any] = LanguageIdentifier.from_model_file
    return from_model_file(MODEL_FILE)
