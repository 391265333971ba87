"""Encode with fastokens where it gives the very ids of `tokenizers`, tens of times as fast.

It is believed for one tokenizer and one text: both encode a sample spread over that text, every character the text
has in every surrounding that a pre-tokenizer may care about, and texts that are hard on purpose. One id that differs,
and `tokenizers` does the work; where it hangs on a rare character, that of the texts that have it. So fastokens decides
how long it takes and no byte of the result (see docs/decisions/0016-fast-tokenizing.md).

Knows nothing of how rows are stored.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from llmkit.errors import say
from llmkit.text.documents import Document
from llmkit.text.look import look_at
from llmkit.tokens.bare_tokenizer import BareTokenizer, make_bare
from llmkit.tokens.tokenizer import encode_texts, id_dtype

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Encoded = tuple[NDArray[np.unsignedinteger[Any]], NDArray[np.int64]]
Encode = Callable[[Sequence[str]], Encoded]
"""As `encode_texts` with its tokenizer given: ids of all texts, and the number of ids of each."""

SAMPLE_CHARACTERS = 1_000_000
"""At most; a text up to this size is compared as a whole, of a longer one between half of it and all of it."""
STRETCH = 20_000
LONGEST = 300_000
SPECIALS_EACH = 20
MOST_ODD = 16
"""Characters on which the two disagree; texts with one of so few are left to `tokenizers`. Of 43,000 characters tried,
fastokens 0.3.5 had one: U+180E, which older Unicode called a space."""

HARD_TEXTS = (
    "",
    " ",
    "\n",
    " " * 100 + "x" + "\n" * 100 + "y" + "\t \r\n\v\f " * 20 + "z",
    "end in spaces   ",
    *("a" * n + " " + "1" * n + " " + "!" * n + " " * n + "'" * n for n in (1, 2, 3, 4, 15, 16, 17, 31, 32, 33, 65)),
    *("中" * n + "e\u0301" * n + "。" * n + " 中" * 3 + "  中 \u3000中" for n in (1, 2, 15, 16, 17, 33)),
    "it's IT'S 'sit we'll've 'd'm're't ’s s' '''s",
    "\u0301a\u0301\u0302b \u0301\u0301" + "e" + "\u0301" * 20 + "हिन्दी ไทย العربية 한국어 \u1112\u1161\u11ab",
    "\ufeff\u200b\u200d\u00ad\u2028\u2029\x85\xa0\u3000\u180e\u202e\x00\x01\x1c\x1d\x1e\x1f\x7f",
    "👩\u200d👩\u200d👧🏽🇫🇷 𝔘𝔫𝔦 \U0001f9ff\U000e0001\U0010fffd\ue000\ufffd\ufffe\uffff",
    "3.14 1,000,000 2〇〇五 ½ ² ⅷ ٣٤ 1234567 3rd x2y",
    "<|endoftext|> <|pad|>[MASK]<s></s><|im_start|>",
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What fastokens may do for a text, or a piece of one."""

    odd: str | None = None
    """Texts with one of these characters are left to `tokenizers`. None: all are."""
    why: str | None = None
    """Why it is not taken, to be said; None where there is nothing to say."""
    release: str | None = None
    """The fastokens that was looked at: on another machine may be another one."""


def choose_encoder(tokenizer: "PreTrainedTokenizerBase", documents: Iterable[Document]) -> Encode:
    """The quickest encoder that agrees with `tokenizers` on these documents; where that is not fastokens though it is
    for tokenizers of this kind, one line says why."""
    bare = make_bare(tokenizer)
    return make_encoder(bare, join_verdicts([check_text(bare, documents)]))


def check_text(
    tokenizer: BareTokenizer, documents: Iterable[Document], n_pieces: int = 1, *, known: Verdict | None = None
) -> Verdict:
    """Compare fastokens with `tokenizers` on these documents, which are one of `n_pieces` of a text: each is sampled
    for its share, but for some 40,000 characters at least.

    `known` is the verdict of `check_characters` on the characters of the whole text, which then are not compared.
    """
    if not tokenizer.is_byte_level_bpe:
        return Verdict()
    try:
        import fastokens  # noqa: F401
    except ImportError:
        return Verdict(None, "fastokens, which is faster, is not there (pip install 'llmkit[fast]')")
    named = f"fastokens {version('fastokens')}"
    slow = partial(encode_texts, tokenizer)
    sample, characters = sample_texts(documents, tokenizer, n_pieces)
    try:
        encode = partial(_encode_fast, _open_fast(tokenizer), tokenizer)
        compared = [_surround(char) for char in characters] if known is None else []
        odd = {text[1] for text in find_differences(encode, slow, compared)} | set(known.odd or "" if known else "")
        wrong = find_differences(encode, slow, [text for text in sample if odd.isdisjoint(text)])
    except BaseException as error:
        if not isinstance(error, Exception) and not _is_panic(error):
            raise
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        return Verdict(None, f"{named} cannot take this tokenizer: {reason[:100]}")
    if wrong:
        return Verdict(None, _gives_other_ids(wrong[0]))
    return Verdict("".join(sorted(odd)), None, version("fastokens"))


def check_characters(tokenizer: BareTokenizer, characters: str) -> Verdict:
    """Compare the two on each of these characters, beside ASCII."""
    return check_text(tokenizer, [Document(characters, "characters")])


def join_verdicts(verdicts: Sequence[Verdict]) -> Verdict:
    """The verdict on a text from those on its pieces; one line says so where fastokens is refused."""
    refused = next((verdict for verdict in verdicts if verdict.odd is None), None)
    odd = "".join(sorted({char for verdict in verdicts for char in verdict.odd or ""}))
    if refused is None and len(odd) > MOST_ODD:
        refused = Verdict(None, _gives_other_ids(odd))
    if refused is None:
        return Verdict(odd, None, verdicts[0].release)
    if refused.why:
        say(f"tokenizing with tokenizers: {refused.why}")
    return refused


def make_encoder(tokenizer: BareTokenizer, verdict: Verdict) -> Encode:
    """What encodes texts for which the verdict holds."""
    slow = partial(encode_texts, tokenizer)
    if verdict.odd is None:
        return slow
    try:
        import fastokens  # noqa: F401 - whether it is on this machine too
    except ImportError:
        return slow
    if version("fastokens") != verdict.release:
        return slow
    encode, odd = partial(_encode_fast, _open_fast(tokenizer), tokenizer), verdict.odd

    def encode_or_else(texts: Sequence[str]) -> Encoded:
        if any(char in text for char in odd for text in texts):
            return slow(texts)
        try:
            return encode(texts)
        except BaseException as error:  # its regular expressions have limits; the ids are the same either way
            if not isinstance(error, RuntimeError) and not _is_panic(error):
                raise
            return slow(texts)

    return encode_or_else


def _is_panic(error: BaseException) -> bool:
    """Rust's, which is no Exception and has no public name."""
    return type(error).__name__ == "PanicException"


def find_differences(encode: Encode, slow: Encode, texts: Sequence[str]) -> list[str]:
    """Those of the texts that the two encode differently."""
    ids, lengths = encode(texts)
    expected, expected_lengths = slow(texts)
    if np.array_equal(ids, expected) and np.array_equal(lengths, expected_lengths):
        return []
    found, expected_found = np.split(ids, np.cumsum(lengths)), np.split(expected, np.cumsum(expected_lengths))
    pairs = zip(texts, found, expected_found, strict=False)  # behind the last text stands an empty piece
    return [text for text, one, other in pairs if not np.array_equal(one, other)]


def sample_texts(
    documents: Iterable[Document], tokenizer: BareTokenizer, n_pieces: int = 1
) -> tuple[list[str], list[str]]:
    """What the encoders are compared on: texts, and ASCII with every other character of the documents."""
    most = max(SAMPLE_CHARACTERS // n_pieces, min(SAMPLE_CHARACTERS, STRETCH))
    specials = dict.fromkeys(tokenizer.all_special_tokens, SPECIALS_EACH)
    characters = {chr(code) for code in range(128)}
    stretches: list[str] = []
    near_specials: list[str] = []
    longest = ""
    n_sampled = n_seen = 0
    every = 1  # one stretch in so many is kept
    for document in documents:
        text = document.text
        longest = max(longest, text, key=len)
        characters |= look_at(text).others
        for token, left in specials.items():
            if left and (place := text.find(token)) >= 0:
                near_specials.append(text[max(0, place - 50) : place + len(token) + 50])
                specials[token] -= 1
        for start in range(0, len(text), STRETCH):
            if n_seen % every == 0:
                stretches.append(text[start : start + STRETCH])
                n_sampled += len(stretches[-1])
            n_seen += 1
            if n_sampled > most:
                stretches, every = stretches[::2], every * 2
                n_sampled = sum(map(len, stretches))
    sample = [*HARD_TEXTS, *specials, *near_specials, longest[: max(LONGEST // n_pieces, STRETCH)], *stretches]
    return sample, sorted(characters)


def _surround(c: str) -> str:
    """The character, second, in every surrounding that a pre-tokenizer may care about."""
    return f"x{c}y{c}{c} {c}1{c}2{c}.{c}'s  {c}中{c}\n{c} "


def _gives_other_ids(text: str) -> str:
    return f"fastokens {version('fastokens')} gives other ids for {text[:40]!r}"


def _encode_fast(backend: Any, tokenizer: BareTokenizer, texts: Sequence[str]) -> Encoded:
    """As `encode_texts`: no special token is added, and none comes from the text."""
    ids, offsets = backend.encode_batch_flat(list(texts), add_special_tokens=False, split_special_tokens=True)
    lengths = np.diff(np.frombuffer(offsets, "<u8")).astype(np.int64)
    return np.frombuffer(ids, "<u4").astype(id_dtype(tokenizer)), lengths


@lru_cache(maxsize=1)
def _open_fast(tokenizer: BareTokenizer) -> Any:
    """The same, of fastokens: 0.3 s for 50,000 tokens, so once for the check and all texts."""
    import fastokens

    return fastokens.Tokenizer.from_json_str(tokenizer.state)
