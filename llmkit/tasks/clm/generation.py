"""Generate text with any causal language model: with decode.py if it supports the model, else with `generate`.

A text may grow beyond the context. It is then generated in rounds of an eighth of the context. Each round reads the bos
token and the last tokens of the text, seven eighths of the context in total, so no position exceeds the maximum of a
model with learned positions.

With greedy decoding a text does not depend on the other prompts of its batch: each row has its own window, and padding
is on the left and masked. All settings come from `Generate`; only the end-of-text ids are read from the model's
generation_config.

The caller checks that the model is a causal language model.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Literal, cast

import torch
from torch import Tensor
from transformers import (
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    StoppingCriteria,
)

from llmkit.config.generate import Generate
from llmkit.core import console
from llmkit.models.loading import load_causal_lm, max_context_length
from llmkit.tasks.base import GenerationRequest
from llmkit.tasks.clm.decode import PackedLinears, can_decode, decode
from llmkit.tasks.clm.logits import TokenRoles, make_processors, without_rules
from llmkit.tasks.clm.text_writer import TextWriter
from llmkit.tasks.evaluation import load_for_inference
from llmkit.tasks.prompts import check_ids, check_total, describe_prompts, describe_starts, name_prompts, read_prompts
from llmkit.tokens.normalization import normalize_texts
from llmkit.tokens.tokenizer import encode_texts, end_of_text_id

ROWS_AT_ONCE = 32
PAD_ID = 0  # any id: padding is masked

FinishReason = Literal["stop", "length", "eos"]


@dataclass(frozen=True, slots=True)
class Sample:
    """One generated text."""

    prompt: str
    text: str
    """The generated text without the prompt and without the stop string."""
    n_tokens: int
    """Number of new tokens without the end-of-text token."""
    finish_reason: FinishReason
    """Why the text ended: a stop string, `max_new_tokens`, or the model's end-of-text token."""
    n_prompt_tokens_dropped: int = 0
    """Number of tokens cut from the beginning of a prompt that is longer than the context."""


def generate_samples(settings: Generate, request: GenerationRequest) -> list[dict[str, Any]]:
    """Return one record per sample: prompt, text, n_tokens, finish_reason, tokens_per_second.

    tokens_per_second is measured over all samples and includes the time to read the prompts.

    Raises:
        ModelError: the model cannot be loaded, or its tokenizer does not fit.
    """
    prompts = list(request.prompts)
    check_total(settings, len(prompts))
    network, tokenizer = load_for_inference(load_causal_lm, request.path, request.model)
    read = read_prompts(tokenizer, prompts)
    for note in [*describe_prompts(tokenizer, prompts, read), *describe_starts(tokenizer, read)]:
        console.info(note)
    started = time.perf_counter()
    groups = generate_texts(network, tokenizer, prompts, settings, request.on_text)
    samples = [sample for group in groups for sample in group]
    for note in _describe_samples(groups, settings, normalize_texts(tokenizer, settings.bad_words)):
        console.info(note)
    rate = sum(sample.n_tokens for sample in samples) / (time.perf_counter() - started)
    return [asdict(sample) | {"tokens_per_second": round(rate, 1)} for sample in samples]


def generate_texts(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: list[str],
    settings: Generate,
    on_text: Callable[[str], None] | None = None,
) -> list[list[Sample]]:
    """Generate `settings.num_samples` texts for each prompt, in the order of prompts. An empty prompt starts a new
    text.

    Prompts, stop strings and bad words are normalized like the model's training text (tokens/normalization.py).
    `on_text` is called with new text during generation, in complete characters (with beams once, at the end). The
    global random state, the model's mode and its generation_config do not change.

    Raises:
        ModelError: the tokenizer has ids beyond the model's embedding, or no token to start an empty prompt with.
        ValueError: `on_text` with more than one text.
    """
    if on_text is not None and len(prompts) * settings.num_samples != 1:
        raise ValueError("on_text is for one prompt and one sample")
    roles = TokenRoles.of(model, tokenizer, settings.bad_words)
    stop = [text or given for given, text in zip(settings.stop, normalize_texts(tokenizer, settings.stop), strict=True)]
    writers = [
        _Text(prompt, read, tokenizer, roles, stop, on_text)
        for prompt, read in zip(prompts, read_prompts(tokenizer, prompts), strict=True)
        for _ in range(settings.num_samples)
    ]
    with _generation_mode(model, settings.seed):
        for texts in _batches(writers, settings):
            _write(model, texts, settings, roles)
    samples = [text.sample() for text in writers]
    return [samples[i : i + settings.num_samples] for i in range(0, len(samples), settings.num_samples)]


class _Text:
    """A text that is being generated."""

    def __init__(
        self,
        prompt: str,
        read: str,
        tokenizer: PreTrainedTokenizerBase,
        roles: TokenRoles,
        stop: Sequence[str],
        on_text: Callable[[str], None] | None,
    ) -> None:
        """`read` is the normalized prompt."""
        encoded = encode_texts(tokenizer, [read])[0].tolist()
        start = tokenizer.bos_token_id
        self.ids: list[int] = [*roles.bos, *encoded] or [end_of_text_id(tokenizer) if start is None else int(start)]
        check_ids(self.ids, roles.size, tokenizer)
        self.finish_reason: FinishReason | None = None
        self.n_prompt_tokens_dropped = 0
        self._prompt = prompt
        self._n_bos = len(roles.bos)
        self._ends = roles.ends
        self._n_prompt = len(self.ids)
        self._writer = TextWriter(tokenizer, self.ids, stop)
        self._on_text = on_text or (lambda _: None)
        # Whether to decode each token immediately; without on_text and stop strings, all are decoded at the end.
        self._at_once = bool(stop) or on_text is not None
        self._unwritten: list[int] = []

    def window(self, n_tokens: int | None) -> list[int]:
        """Return the bos token and the last tokens, at most `n_tokens` in total."""
        if n_tokens is None or len(self.ids) <= n_tokens:
            return self.ids
        if len(self.ids) == self._n_prompt:
            self.n_prompt_tokens_dropped = len(self.ids) - n_tokens
        n_bos = min(self._n_bos, n_tokens - 1)
        return self.ids[:n_bos] + self.ids[len(self.ids) - n_tokens + n_bos :]

    def add(self, token_id: int) -> None:
        """Add the next token; ignored once the text has ended."""
        if self.finish_reason is not None:
            return
        if token_id in self._ends:
            self.finish("eos")
            return
        self.ids.append(token_id)
        self._unwritten.append(token_id)
        if self._at_once:
            self._write()
        if self._writer.stopped:
            self.finish_reason = "stop"

    def finish(self, reason: FinishReason) -> None:
        """End the text, unless it has ended already."""
        if self.finish_reason is None:
            self._write()
            self._show(self._writer.finish())
            self.finish_reason = "stop" if self._writer.stopped else reason

    def sample(self) -> Sample:
        assert self.finish_reason is not None
        n_tokens = len(self.ids) - self._n_prompt
        return Sample(self._prompt, self._writer.text, n_tokens, self.finish_reason, self.n_prompt_tokens_dropped)

    def _write(self) -> None:
        self._show(self._writer.write(*self._unwritten))
        self._unwritten.clear()

    def _show(self, text: str) -> None:
        if text:
            self._on_text(text)


def _batches(texts: list[_Text], settings: Generate) -> Iterator[list[_Text]]:
    """Yield batches of at most ROWS_AT_ONCE beams, or more if one prompt has more: its samples stay together."""
    at_once = max(1, ROWS_AT_ONCE // settings.num_beams // settings.num_samples) * settings.num_samples
    return (texts[i : i + at_once] for i in range(0, len(texts), at_once))


def _write(model: PreTrainedModel, texts: list[_Text], settings: Generate, roles: TokenRoles) -> None:
    """Generate all texts until each has ended."""
    context = max_context_length(model)
    n_left = settings.max_new_tokens
    longest = max(len(text.ids) for text in texts)
    # The last token is not fed back, so it needs no position.
    fits = context is None or longest + n_left - 1 <= context
    n_round = n_left if context is None or fits else max(1, context // 8)
    # Beam search returns all samples of a prompt in one search; after the first round each continues alone.
    n_return = settings.num_samples if settings.num_beams > 1 else 1
    packed = PackedLinears()
    while n_left > 0 and (running := [text for text in texts if text.finish_reason is None]):
        n_tokens = min(n_left, n_round)
        n_window = None if context is None else context - n_tokens + 1
        n_written = settings.max_new_tokens - n_left
        decoding = _decoding(settings, roles, n_tokens, n_return)
        decoding.min_new_tokens = max(0, settings.min_new_tokens - n_written)
        _write_round(model, running, n_window, decoding, packed)
        n_left, n_return = n_left - n_tokens, 1
    for text in texts:
        text.finish("length")


def _write_round(
    model: PreTrainedModel,
    texts: list[_Text],
    n_window: int | None,
    decoding: GenerationConfig,
    packed: PackedLinears,
) -> None:
    """Generate at most `decoding.max_new_tokens` tokens of each text."""
    windows = [text.window(n_window) for text in texts][:: decoding.num_return_sequences]
    width = max(map(len, windows))
    ids = torch.tensor([[PAD_ID] * (width - len(window)) + window for window in windows], device=model.device)
    mask = torch.tensor([[0] * (width - len(window)) + [1] * len(window) for window in windows], device=model.device)
    if can_decode(model, decoding):
        decode(model, ids, mask, decoding, lambda token_ids: all(_append_tokens(texts, token_ids)), packed)
        return
    # Beams are reordered during the search, so their texts are known only at the end.
    criteria = [_AppendTokens(texts)] if decoding.num_beams == 1 else []
    written = cast(Any, model).generate(
        input_ids=ids, attention_mask=mask, generation_config=without_rules(decoding),
        logits_processor=make_processors(decoding, mask), stopping_criteria=criteria,
    )  # fmt: skip
    if not criteria:
        for text, row in zip(texts, written[:, width:].tolist(), strict=True):
            for token_id in row:
                text.add(token_id)


def _append_tokens(texts: list[_Text], token_ids: list[int]) -> list[bool]:
    """Add the next token of each text; returns which texts have ended."""
    for text, token_id in zip(texts, token_ids, strict=True):
        text.add(token_id)
    return [text.finish_reason is not None for text in texts]


class _AppendTokens(StoppingCriteria):
    """Calls `_append_tokens` from transformers' generation loop."""

    def __init__(self, texts: list[_Text]) -> None:
        self._texts = texts

    def __call__(self, input_ids: Tensor, scores: object, **kwargs: object) -> Tensor:
        return torch.tensor(_append_tokens(self._texts, input_ids[:, -1].tolist()), device=input_ids.device)


def _describe_samples(groups: Sequence[Sequence[Sample]], settings: Generate, bad_words: Sequence[str]) -> list[str]:
    """Return notes on truncated prompts, and on `bad_words` that the model wrote as other tokens."""
    notes = []
    firsts = [group[0] for group in groups]
    if cut := [number for number, sample in enumerate(firsts, 1) if sample.n_prompt_tokens_dropped]:
        n_dropped = firsts[cut[0] - 1].n_prompt_tokens_dropped
        what = f"the first {n_dropped:,} tokens of {name_prompts(cut[:1], len(firsts))} were dropped"
        notes.append(f"{name_prompts(cut, len(firsts))}: longer than the model's context; {what}")
    samples = [sample for group in groups for sample in group]
    for word in filter(None, bad_words):
        if n_with := sum(word in sample.text for sample in samples):
            note = f"{n_with:,} of {len(samples):,} texts contain {word!r}, spelled with other tokens"
            notes.append(note)
    if n_short := sum(each.n_tokens < settings.min_new_tokens and each.finish_reason == "eos" for each in samples):
        notes.append(
            f"{n_short:,} of {len(samples):,} texts end before min_new_tokens: other settings allowed no further token"
        )
    return notes


def _decoding(settings: Generate, roles: TokenRoles, n_tokens: int, n_return: int) -> GenerationConfig:
    """Convert the settings to a GenerationConfig; omit options without effect, about which transformers would warn."""
    sampling = {
        "temperature": settings.temperature,
        "top_k": settings.top_k or 0,  # transformers' default is 50
        "top_p": settings.top_p,
        "min_p": settings.min_p,
    }
    return GenerationConfig(
        do_sample=settings.temperature > 0,
        **(sampling if settings.temperature > 0 else {}),
        max_new_tokens=n_tokens,
        num_beams=settings.num_beams,
        num_return_sequences=n_return,
        repetition_penalty=settings.repetition_penalty,
        no_repeat_ngram_size=settings.no_repeat_ngram_size,
        bad_words_ids=roles.bad_words or None,
        suppress_tokens=roles.never or None,
        eos_token_id=roles.ends or None,
        pad_token_id=PAD_ID,
    )


@contextmanager
def _generation_mode(model: PreTrainedModel, seed: int) -> Iterator[None]:
    """Set evaluation mode, a default generation_config, and random numbers from `seed`; restore all afterwards."""
    saved = (model.training, model.generation_config, model.config.pad_token_id)
    device = model.device
    on_accelerator = device.type != "cpu"
    devices = [device.index or 0] if on_accelerator else []
    with torch.random.fork_rng(devices, device_type=device.type if on_accelerator else "cuda"):
        torch.manual_seed(seed)
        model.eval()
        model.generation_config = GenerationConfig()
        # `generate` drops a mask without padding, and the model then warns of every pad id in the input.
        model.config.pad_token_id = None
        try:
            yield
        finally:
            was_training, model.generation_config, model.config.pad_token_id = saved
            model.train(was_training)
