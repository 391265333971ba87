"""What a prompt has in it that its model does not read as the user thinks, for `generate` of any task.

Everything is said in one line per kind, however many prompts there are, with the first of them as the example.
"""

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from llmkit.config.generate import MAX_TOKENS, Generate
from llmkit.core.console import clean_line
from llmkit.core.errors import UsageError
from llmkit.tokens.normalization import describe_changes, normalize_texts
from llmkit.tokens.tokenizer import encode_texts
from llmkit.tokens.unknown import UnknownCount, find_unknown

MAX_SHOWN_CHARACTERS = 60
PROBES = ("a", "t", "s")
"""Letters that begin words in most alphabets with spaces."""


def check_total(settings: Generate, n_prompts: int) -> None:
    """Refuse more tokens than anybody waits for, before the model is loaded.

    Raises:
        UsageError: over MAX_TOKENS in all.
    """
    total = n_prompts * settings.num_samples * settings.max_new_tokens
    if total > MAX_TOKENS:
        counted = f"{n_prompts:,} prompts x {settings.num_samples:,} samples x {settings.max_new_tokens:,} new tokens"
        what = f"{counted} are {total:,} tokens, {MAX_TOKENS:,} is the most"
        where = "generate.num_samples, generate.max_new_tokens"
        raise UsageError(what, where=where, hint="lower them, or give the prompts in several calls")


def check_characters(prompts: Sequence[str]) -> None:
    """Refuse prompts that no tokenizer can read.

    Raises:
        UsageError: a lone surrogate, as in an argument that is not UTF-8.
    """
    for number, prompt in enumerate(prompts, 1):
        if any("\ud800" <= char <= "\udfff" for char in prompt):
            shown = clean_line(prompt.encode("utf-8", "replace").decode()[:MAX_SHOWN_CHARACTERS])
            hint = "give it in UTF-8, for example in a file with --prompts"
            raise UsageError("the prompt is not valid Unicode", where=f"prompt {number}: {shown}", hint=hint)


def read_prompts(tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str], mask: str | None = None) -> list[str]:
    """The prompts normalized as the training text of the tokenizer's model, around each `mask`, which stays.

    Raises:
        UsageError: a lone surrogate.
        EnvironmentFault: a Chinese prompt, simplified Chinese, and no OpenCC.
    """
    check_characters(prompts)
    if mask is None:
        return normalize_texts(tokenizer, prompts)
    return [mask.join(normalize_texts(tokenizer, prompt.split(mask))) for prompt in prompts]


def describe_prompts(
    tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str], read: Sequence[str], mask: str | None = None
) -> list[str]:
    """Notes on prompts that are read otherwise than written, and on unknown characters and special tokens in them."""
    notes = []
    if changed := [number for number, (old, new) in enumerate(zip(prompts, read, strict=True), 1) if old != new]:
        before, after = (_shorten(texts[changed[0] - 1]) for texts in (prompts, read))
        steps = describe_changes(tokenizer, prompts[changed[0] - 1])
        notes.append(f"{name_prompts(changed, len(prompts))}: {before} is read as {after} ({steps})")
    count, numbers = UnknownCount(), []
    texts = [text if mask is None else " ".join(text.split(mask)) for text in read]
    for number, part in enumerate(find_unknown(tokenizer, texts), 1):
        if part.n_unknown:
            count.add(part, number)
            numbers.append(number)
    if numbers:
        guess = ": the text does not depend on what they say" if count.n_unknown == count.n_characters else ""
        notes.append(f"{name_prompts(numbers, len(prompts))}: {count.describe()}{guess}")
    special = [token for token in tokenizer.all_special_tokens if token != mask and not _is_read(tokenizer, token)]
    if spelled := [number for number, text in enumerate(read, 1) if any(token in text for token in special)]:
        token = next(token for token in special if token in read[spelled[0] - 1])
        notes.append(f"{name_prompts(spelled, len(prompts))}: {token} is read as the letters it has, not as that token")
    return notes


def describe_starts(tokenizer: PreTrainedTokenizerBase, read: Sequence[str]) -> list[str]:
    """Notes on prompts from which a text does not continue as the user may think."""
    empty = [number for number, text in enumerate(read, 1) if not len(encode_texts(tokenizer, [text])[0])]
    in_space = [number for number, text in enumerate(read, 1) if ends_between_words(tokenizer, text)]
    notes = [f"{name_prompts(empty, len(read))}: nothing to continue, so a new text starts"] if empty else []
    if in_space:
        advice = "ends with white space, which this tokenizer has at the beginning of the next word: leave it out"
        notes.append(f"{name_prompts(in_space, len(read))}: {advice}")
    return notes


def name_prompts(numbers: Sequence[int], n_prompts: int) -> str:
    """`the prompt`, or `prompt 2 and 4 more of 20`."""
    if n_prompts == 1:
        return "the prompt"
    more = f" and {len(numbers) - 1:,} more" if len(numbers) > 1 else ""
    return f"prompt {numbers[0]:,}{more} of {n_prompts:,}"


def ends_between_words(tokenizer: PreTrainedTokenizerBase, text: str) -> bool:
    """Whether the text ends with white space that would be part of the next word's token, as in GPT-2's tokenizer."""
    if not text[-1:].isspace() or text.isspace():
        return False
    end = text[-MAX_SHOWN_CHARACTERS:]
    ids, *longer = (encode_texts(tokenizer, [end + probe])[0].tolist() for probe in ("", *PROBES))
    return any(more[: len(ids)] != ids for more in longer)


def _is_read(tokenizer: PreTrainedTokenizerBase, token: str) -> bool:
    """Whether a special token that is spelled out is read as that token, as `<unk>` in texts of words."""
    return bool(encode_texts(tokenizer, [token])[0].tolist() == [tokenizer.convert_tokens_to_ids(token)])


def _shorten(text: str) -> str:
    shown = clean_line(text[:MAX_SHOWN_CHARACTERS])
    return f"{shown!r}" + " ..." * (len(text) > MAX_SHOWN_CHARACTERS)
