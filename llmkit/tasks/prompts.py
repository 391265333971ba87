"""Check prompts, and note how the text that the model reads differs from the prompts; for `generate` of any task.

Each kind of difference gives one note, with the first such prompt as an example.
"""

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from llmkit.config.generate import MAX_TOKENS, Generate
from llmkit.core.console import clean_line, list_some
from llmkit.core.errors import ModelError, UsageError
from llmkit.tokens.normalization import describe_changes, normalize_texts
from llmkit.tokens.tokenizer import encode_texts, end_of_text_id
from llmkit.tokens.unknown import UnknownCount, find_unknown

MAX_SHOWN_CHARACTERS = 60
PROBES = ("a", "t", "s")
"""Letters that begin words; encoded after a text, they show whether its final white space joins the next word."""


def check_total(settings: Generate, n_prompts: int) -> None:
    """Check the total number of tokens to generate, before the model is loaded.

    Raises:
        UsageError: the total exceeds MAX_TOKENS.
    """
    total = n_prompts * settings.num_samples * settings.max_new_tokens
    if total > MAX_TOKENS:
        counted = f"{n_prompts:,} prompts x {settings.num_samples:,} samples x {settings.max_new_tokens:,} new tokens"
        what = f"{counted} are {total:,} tokens, but the maximum is {MAX_TOKENS:,}"
        where = "generate.num_samples, generate.max_new_tokens"
        raise UsageError(what, where=where, hint="lower one of them, or give the prompts in several calls")


def check_characters(prompts: Sequence[str]) -> None:
    """Check that tokenizers can encode the prompts.

    Raises:
        UsageError: a prompt has a lone surrogate, as in an argument that is not UTF-8.
    """
    for number, prompt in enumerate(prompts, 1):
        if any("\ud800" <= char <= "\udfff" for char in prompt):
            shown = clean_line(prompt.encode("utf-8", "replace").decode()[:MAX_SHOWN_CHARACTERS])
            hint = "give the prompt in UTF-8, for example in a file with --prompts"
            raise UsageError("the prompt is not valid Unicode", where=f"prompt {number}: {shown}", hint=hint)


def read_prompts(tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str], mask: str | None = None) -> list[str]:
    """Normalize prompts as the model's training text was normalized; occurrences of `mask` stay unchanged.

    Raises:
        UsageError: a prompt has a lone surrogate.
        EnvironmentFault: a prompt is Chinese, the model needs simplified Chinese, and OpenCC is not installed.
    """
    check_characters(prompts)
    if mask is None:
        return normalize_texts(tokenizer, prompts)
    return [mask.join(normalize_texts(tokenizer, prompt.split(mask))) for prompt in prompts]


def describe_prompts(
    tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str], read: Sequence[str], mask: str | None = None
) -> list[str]:
    """Return notes on prompts that normalization changes, and on unknown characters and special tokens in prompts."""
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
        guess = ": the output does not depend on their content" if count.n_unknown == count.n_characters else ""
        notes.append(f"{name_prompts(numbers, len(prompts))}: {count.describe()}{guess}")
    special = [token for token in tokenizer.all_special_tokens if token != mask and not _is_read(tokenizer, token)]
    if spelled := [number for number, text in enumerate(read, 1) if any(token in text for token in special)]:
        token = next(token for token in special if token in read[spelled[0] - 1])
        notes.append(f"{name_prompts(spelled, len(prompts))}: {token} is read as ordinary text, not as a special token")
    return notes


def describe_starts(tokenizer: PreTrainedTokenizerBase, read: Sequence[str]) -> list[str]:
    """Return notes on empty prompts, and on prompts that end with white space."""
    empty = [number for number, text in enumerate(read, 1) if not len(encode_texts(tokenizer, [text])[0])]
    in_space = [number for number, text in enumerate(read, 1) if ends_between_words(tokenizer, text)]
    notes = []
    if empty:
        verb = "is" if len(empty) == 1 else "are"
        what = f"{verb} empty" if not any(read[number - 1] for number in empty) else f"{verb} empty to the tokenizer"
        start = tokenizer.bos_token or tokenizer.convert_ids_to_tokens(end_of_text_id(tokenizer))
        notes.append(f"{name_prompts(empty, len(read))} {what}: generation starts from the token {start}")
    if in_space:
        advice = "ends with white space, which this tokenizer makes a part of the next word: remove the white space"
        notes.append(f"{name_prompts(in_space, len(read))}: {advice}")
    return notes


def check_ids(ids: Sequence[int], rows: int, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise ModelError if an id is `rows` or more; `rows` is the number of rows of the model's embedding."""
    if max(ids) >= rows:
        what = f"the tokenizer has {len(tokenizer)} tokens, but the model's embedding has {rows} rows"
        hint = "use the tokenizer that the model was trained with"
        raise ModelError(what, where=tokenizer.name_or_path or "tokenizer", hint=hint)


def name_prompts(numbers: Sequence[int], n_prompts: int) -> str:
    """Return `the prompt`, or `prompt 2 and 4 more of 20`."""
    if n_prompts == 1:
        return "the prompt"
    return f"prompt {list_some([f'{number:,}' for number in numbers], 1)} of {n_prompts:,}"


def ends_between_words(tokenizer: PreTrainedTokenizerBase, text: str) -> bool:
    """Whether the text ends with white space that would be part of the next word's token, as in GPT-2's tokenizer."""
    if not text[-1:].isspace() or text.isspace():
        return False
    end = text[-MAX_SHOWN_CHARACTERS:]
    ids, *longer = (encode_texts(tokenizer, [end + probe])[0].tolist() for probe in ("", *PROBES))
    return any(more[: len(ids)] != ids for more in longer)


def _is_read(tokenizer: PreTrainedTokenizerBase, token: str) -> bool:
    """Whether the tokenizer encodes a literal special token as that token, such as `<unk>` in word-level text."""
    return bool(encode_texts(tokenizer, [token])[0].tolist() == [tokenizer.convert_tokens_to_ids(token)])


def _shorten(text: str) -> str:
    shown = clean_line(text[:MAX_SHOWN_CHARACTERS])
    return f"{shown!r}" + " ..." * (len(text) > MAX_SHOWN_CHARACTERS)
