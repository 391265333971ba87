"""Store the text normalization of a model in its tokenizer, to normalize prompts and rows like the training text.

A record of the normalization settings is in `tokenizer_config.json`, under KEY; llmkit applies the whole record before
encoding. Steps that `tokenizers` can do (line ends, soft hyphens, Unicode forms, width, lower case) are also prepended
to the tokenizer's own normalizer, so that plain transformers applies them too. The prepended steps do not change text
that is already normalized.

Classes of transformers that build their pipeline from a vocabulary (BertTokenizer, GPT2Tokenizer) drop the prepended
normalizers when they are loaded; with these classes only llmkit normalizes.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tokenizers import Regex, normalizers

from llmkit.config.prepare import Clean
from llmkit.core import console
from llmkit.text.cleaning.characters import ASCII_OF_FULL_WIDTH, KEPT_CJK_MARKS, LINE_ENDS
from llmkit.text.cleaning.normalization import (
    TRAVELLING,
    find_changing_steps,
    name_normalization,
    normalize_text,
    read_normalization,
)
from llmkit.tokens.tokenizer_check import FINAL_SIGMA_PATTERN

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

KEY = "llmkit_normalization"
N_NORMALIZERS = "n_normalizers"
"""Key in the record: number of normalizers that were prepended to the tokenizer's own."""
IS_SEQUENCE = "own_is_sequence"
"""Key in the record: whether the tokenizer's own normalizer was a sequence."""
PLACEHOLDERS = 0xFDD2
"""First of the noncharacters that stand for Chinese punctuation during NFKC. JOINERS in training_tokenizers.py uses the
two noncharacters before it.
"""
FINAL_SIGMA = Regex(FINAL_SIGMA_PATTERN)
"""Python lower-cases Σ at the end of a word to ς, `Lowercase` to σ."""


def set_normalization(tokenizer: "PreTrainedTokenizerBase", record: Mapping[str, Any] | None) -> None:
    """Store the record in the tokenizer, replacing an existing one; None removes it.

    Raises:
        ModelError: a field or value that this version of llmkit does not know.
    """
    remove_normalization(tokenizer)
    if record is None:
        return
    normalization = read_normalization(record, tokenizer.name_or_path or "tokenizer")
    counts: dict[str, Any] = {N_NORMALIZERS: 0}
    if steps := _make_normalizers(tokenizer, normalization):
        backend: Any = tokenizer.backend_tokenizer
        own = backend.normalizer
        is_sequence = isinstance(own, normalizers.Sequence)
        own_steps = list(own) if is_sequence else [] if own is None else [own]
        backend.normalizer = normalizers.Sequence([*steps, *own_steps])
        counts = {N_NORMALIZERS: len(steps), IS_SEQUENCE: is_sequence}
    kept = {name: value for name, value in record.items() if name in TRAVELLING}
    tokenizer.init_kwargs[KEY] = kept | counts


def remove_normalization(tokenizer: "PreTrainedTokenizerBase") -> None:
    """Remove the record and its normalizers."""
    n_normalizers = _count_normalizers(tokenizer)
    record = tokenizer.init_kwargs.pop(KEY, None)
    if n_normalizers:
        backend: Any = tokenizer.backend_tokenizer
        own = list(backend.normalizer)[n_normalizers:]
        one = own[0] if own else None
        backend.normalizer = normalizers.Sequence(own) if record.get(IS_SEQUENCE) else one


def normalization_of(tokenizer: "PreTrainedTokenizerBase") -> Clean | None:
    """Return the normalization stored in the tokenizer; None for models of other tools and of llmkit 0.1.

    Raises:
        ModelError: a field or value that this version of llmkit does not know.
    """
    record = tokenizer.init_kwargs.get(KEY)
    if not isinstance(record, Mapping):
        return None
    fields = {name: value for name, value in record.items() if name not in (N_NORMALIZERS, IS_SEQUENCE)}
    return read_normalization(fields, tokenizer.name_or_path or "tokenizer")


def normalize_texts(tokenizer: "PreTrainedTokenizerBase", texts: Sequence[str]) -> list[str]:
    """Normalize texts like the training text of the tokenizer's model; unchanged without a record.

    Raises:
        EnvironmentFault: the record has simplified Chinese, a text is Chinese, and OpenCC is not installed.
    """
    normalization = normalization_of(tokenizer)
    return list(texts) if normalization is None else [normalize_text(text, normalization) for text in texts]


def describe_changes(tokenizer: "PreTrainedTokenizerBase", text: str) -> str:
    """Return the steps of the normalization that change a text, such as `unicode NFC, lowercase`."""
    normalization = normalization_of(tokenizer)
    return ", ".join([] if normalization is None else find_changing_steps(text, normalization))


def adopt_normalization(tokenizer: "PreTrainedTokenizerBase", clean: Clean) -> Clean:
    """Return `clean` with the normalization that the tokenizer records, and remove the record from the tokenizer; logs
    the changes.

    The manifest of the prepared data then records the normalization. Without the record, the tokenizer has the same
    fingerprint and speed as when the model was trained.
    """
    normalization = normalization_of(tokenizer)
    remove_normalization(tokenizer)
    if normalization is None:
        return clean
    wanted = {name: value for name in TRAVELLING if (value := getattr(normalization, name)) not in (False, "none")}
    changed = {name: value for name, value in wanted.items() if getattr(clean, name) != value}
    for name, value in changed.items():
        shown = str(value).lower() if isinstance(value, bool) else value
        console.info(f"using prepare.clean.{name}={shown}, like the model of this tokenizer")
    return clean.with_updates(**changed)


def own_normalizer(state: Mapping[str, Any], tokenizer: "PreTrainedTokenizerBase") -> Any:
    """Return the normalizer in `state`, the parsed tokenizer.json, without the normalizers of the record."""
    n_normalizers = _count_normalizers(tokenizer)
    if not n_normalizers:
        return state.get("normalizer")
    own = state["normalizer"]["normalizers"][n_normalizers:]
    if tokenizer.init_kwargs[KEY].get(IS_SEQUENCE):
        return state["normalizer"] | {"normalizers": own}
    return own[0] if own else None


def describe_normalization(tokenizer: "PreTrainedTokenizerBase") -> str:
    """Describe the normalization in words, such as `NFC, lower case`, for messages about a text that it changed."""
    normalization = normalization_of(tokenizer)
    names = [] if normalization is None else name_normalization(normalization)
    return ", ".join(names or ["line ends and control characters"])


def describe_for_card(tokenizer: "PreTrainedTokenizerBase") -> str:
    """Return sentences for the model card on steps of the tokenizer and steps that only llmkit applies."""
    normalization = normalization_of(tokenizer)
    if normalization is None or not (names := name_normalization(normalization)):
        return ""
    in_tokenizer: list[str] = []
    if _count_normalizers(tokenizer):
        form, soft_hyphens = normalization.unicode, normalization.soft_hyphens
        own = Clean(unicode=form, lowercase=normalization.lowercase, soft_hyphens=soft_hyphens)
        in_tokenizer = name_normalization(own)
    others = [name for name in names if name not in in_tokenizer]
    parts = [f"The training text of the model is normalized: {', '.join(names)}."]
    if in_tokenizer:
        parts.append(f"The tokenizer does this itself: {', '.join(in_tokenizer)}.")
    if others:
        parts.append(
            f"The tokenizer does not do this: {', '.join(others)}. llmkit applies it to every text; with other "
            "libraries, apply it yourself before the tokenizer."
        )
    return " ".join(parts)


def _count_normalizers(tokenizer: "PreTrainedTokenizerBase") -> int:
    """Return the number of prepended normalizers that the record states; 0 if the tokenizer has fewer."""
    record = tokenizer.init_kwargs.get(KEY)
    counted = record.get(N_NORMALIZERS) if isinstance(record, Mapping) else None
    if not isinstance(counted, int) or counted <= 0:
        return 0
    backend: Any = tokenizer.backend_tokenizer
    is_sequence = isinstance(backend.normalizer, normalizers.Sequence)
    return counted if is_sequence and counted <= len(list(backend.normalizer)) else 0


def _make_normalizers(tokenizer: "PreTrainedTokenizerBase", normalization: Clean) -> list[Any]:
    from transformers import PreTrainedTokenizerFast

    if type(tokenizer) is not PreTrainedTokenizerFast:
        return []
    steps: list[Any] = [normalizers.Replace(Regex(LINE_ENDS.pattern), "\n")]
    if normalization.soft_hyphens:  # at a line end, llmkit also moves the rest of the word to the first line
        steps.append(normalizers.Replace("\xad", ""))
    form = normalization.unicode
    if form in ("NFC", "width"):
        steps.append(normalizers.NFC())
    if form == "width":
        steps += [normalizers.Replace(chr(code), chr(new)) for code, new in ASCII_OF_FULL_WIDTH.items()]
    if form == "NFKC":
        steps.append(normalizers.NFKC())
    if form == "NFKC_keep_cjk":  # NFKC leaves the placeholders as they are
        placeholders = [(mark, chr(PLACEHOLDERS + n)) for n, mark in enumerate(KEPT_CJK_MARKS)]
        steps += [normalizers.Replace(mark, placeholder) for mark, placeholder in placeholders]
        steps.append(normalizers.NFKC())
        steps += [normalizers.Replace(placeholder, mark) for mark, placeholder in placeholders]
    if normalization.lowercase:
        steps += [normalizers.Replace(FINAL_SIGMA, "ς"), normalizers.Lowercase()]
    return steps
