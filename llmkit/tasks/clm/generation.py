"""Generate text with any causal language model: with decode.py if it supports the model, else with `generate`.

A text may grow beyond the context. It is then generated in rounds of an eighth of the context; each round reads as many
of the last tokens as leave room for it, after a leading bos token. So at least seven eighths of the context are used,
and no position exceeds those of a model with learned positions.

With greedy decoding a text does not depend on the other prompts of its batch: each row has its own window, and padding
is on the left and masked. All settings come from `Generate`; only the end-of-text ids are read from the model's
generation_config.

The caller checks that the model is a causal one.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol, cast

import torch
from torch import Tensor
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase, StoppingCriteria

from llmkit.config.generate import Generate
from llmkit.core.errors import ModelError
from llmkit.models.loading import embedding_rows, load_causal_lm, max_context_length
from llmkit.tasks.base import GenerationRequest
from llmkit.tasks.clm.decode import PackedLinears, can_decode, decode
from llmkit.tasks.clm.text_writer import TextWriter
from llmkit.tasks.evaluation import load_for_inference
from llmkit.tokens.tokenizer import encode_texts, end_of_text_id, line_end_id

ROWS_AT_ONCE = 32
PAD_ID = 0  # any id: padding is masked

FinishReason = Literal["stop", "length", "eos"]


@dataclass(frozen=True, slots=True)
class Sample:
    """One generated text."""

    prompt: str
    text: str
    """Without the prompt and without the stop string."""
    n_tokens: int
    """New tokens, the end of text not counted."""
    finish_reason: FinishReason
    """Ended by a stop string, `max_new_tokens`, or the model's end-of-text token."""
    n_prompt_tokens_dropped: int = 0
    """Tokens cut from the beginning of a prompt that is longer than the context."""


def generate_samples(settings: Generate, request: GenerationRequest) -> list[dict[str, Any]]:
    """One record per sample: prompt, text, n_tokens, finish_reason, and tokens_per_second over all samples, prompts
    included.

    Raises:
        ModelError: the model cannot be loaded, or its tokenizer does not fit.
    """
    network, tokenizer = load_for_inference(load_causal_lm, request.path, request.model)
    started = time.perf_counter()
    groups = generate_texts(network, tokenizer, list(request.prompts), settings, request.on_text)
    samples = [sample for group in groups for sample in group]
    rate = sum(sample.n_tokens for sample in samples) / (time.perf_counter() - started)
    return [asdict(sample) | {"tokens_per_second": round(rate, 1)} for sample in samples]


def generate_texts(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: list[str],
    settings: Generate,
    on_text: Callable[[str], None] | None = None,
) -> list[list[Sample]]:
    """`settings.num_samples` texts for each prompt, in the prompts' order. An empty prompt starts a new text.

    `on_text` gets the text while it is generated, in whole characters (with beams in one piece at the end). It is for a
    single text: ValueError with more. The global random state, the model's mode and its generation_config do not
    change.

    Raises:
        ModelError: the tokenizer has ids that the model does not know, or no token an empty prompt could start from.
    """
    if on_text is not None and len(prompts) * settings.num_samples != 1:
        raise ValueError("on_text is for one prompt and one sample")
    vocabulary = _Vocabulary.of(model, tokenizer)
    writers = [
        _Text(prompt, tokenizer, vocabulary, settings.stop, on_text)
        for prompt in prompts
        for _ in range(settings.num_samples)
    ]
    with _generation_mode(model, settings.seed):
        for texts in _batches(writers, settings):
            _write(model, texts, settings, vocabulary)
    samples = [text.sample() for text in writers]
    return [samples[i : i + settings.num_samples] for i in range(0, len(samples), settings.num_samples)]


@dataclass(frozen=True, slots=True)
class _Vocabulary:
    """The ids of a model and its tokenizer by their role in generation."""

    size: int
    """Rows of the model's embedding."""
    bos: list[int]
    """The bos token if the tokenizer starts every text with it, else empty."""
    ends: list[int]
    """Ids that end a text."""
    never: list[int]
    """Ids that are not text (padding, unknown, beyond the tokenizer); never generated."""

    @classmethod
    def of(cls, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> "_Vocabulary":
        size = embedding_rows(model)
        saved = getattr(model.generation_config, "eos_token_id", None)
        ends = {*([saved] if isinstance(saved, int) else saved or []), tokenizer.eos_token_id} - {None}
        ends.discard(line_end_id(tokenizer))  # word-level texts continue after a line end
        bos = tokenizer.bos_token_id
        roles = (bos, tokenizer.pad_token_id, tokenizer.unk_token_id, tokenizer.cls_token_id, tokenizer.mask_token_id)
        never = {role for role in roles if role is not None} | set(range(len(tokenizer), size))
        template = tokenizer("")["input_ids"][:1]
        return cls(
            size=size,
            bos=template if template == [bos] else [],
            ends=sorted(end for end in ends if end < size),
            never=sorted(i for i in never - ends if i < size),
        )


class _Text:
    """A text that is being generated."""

    def __init__(
        self,
        prompt: str,
        tokenizer: PreTrainedTokenizerBase,
        vocabulary: _Vocabulary,
        stop: Sequence[str],
        on_text: Callable[[str], None] | None,
    ) -> None:
        encoded = encode_texts(tokenizer, [prompt])[0].tolist()
        self.ids: list[int] = [*vocabulary.bos, *encoded] or [_start_id(tokenizer)]
        if max(self.ids) >= vocabulary.size:
            raise ModelError(
                f"the tokenizer has {len(tokenizer)} tokens, the model knows {vocabulary.size}",
                where=tokenizer.name_or_path or "tokenizer",
                hint="use the tokenizer that the model was trained with",
            )
        self.finish_reason: FinishReason | None = None
        self.n_prompt_tokens_dropped = 0
        self._prompt = prompt
        self._n_bos = len(vocabulary.bos)
        self._ends = vocabulary.ends
        self._n_prompt = len(self.ids)
        self._writer = TextWriter(tokenizer, self.ids, stop)
        self._on_text = on_text or (lambda _: None)
        # Without on_text and stop strings, all tokens are decoded together at the end.
        self._at_once = bool(stop) or on_text is not None
        self._unwritten: list[int] = []

    def window(self, n_tokens: int | None) -> list[int]:
        """The bos token and the last tokens, at most `n_tokens` in all."""
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


def _start_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """The token of an empty prompt: bos, else end-of-text."""
    return end_of_text_id(tokenizer) if tokenizer.bos_token_id is None else int(tokenizer.bos_token_id)


def _batches(texts: list[_Text], settings: Generate) -> Iterator[list[_Text]]:
    """Batches of at most ROWS_AT_ONCE beams; the samples of a prompt stay together."""
    at_once = max(1, ROWS_AT_ONCE // settings.num_beams // settings.num_samples) * settings.num_samples
    return (texts[i : i + at_once] for i in range(0, len(texts), at_once))


def _write(model: PreTrainedModel, texts: list[_Text], settings: Generate, vocabulary: _Vocabulary) -> None:
    """Generate all texts to their end."""
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
        decoding = _decoding(settings, vocabulary, n_tokens, n_return)
        _write_round(model, running, n_window, n_return, decoding, packed)
        n_left, n_return = n_left - n_tokens, 1
    for text in texts:
        text.finish("length")


def _write_round(
    model: PreTrainedModel,
    texts: list[_Text],
    n_window: int | None,
    n_return: int,
    decoding: GenerationConfig,
    packed: PackedLinears,
) -> None:
    """Generate at most `decoding.max_new_tokens` tokens of each text."""
    windows = [text.window(n_window) for text in texts][::n_return]
    width = max(map(len, windows))
    ids = torch.tensor([[PAD_ID] * (width - len(window)) + window for window in windows], device=model.device)
    mask = torch.tensor([[0] * (width - len(window)) + [1] * len(window) for window in windows], device=model.device)
    if can_decode(model, decoding):
        decode(model, ids, mask, decoding, lambda token_ids: all(_append_tokens(texts, token_ids)), packed)
        return
    # Beams are reordered during the search, so their texts are known only at the end.
    criteria = [_AppendTokens(texts)] if decoding.num_beams == 1 else []
    written = cast(_CanGenerate, model).generate(
        input_ids=ids, attention_mask=mask, generation_config=decoding, stopping_criteria=criteria
    )
    if not criteria:
        for text, row in zip(texts, written[:, width:].tolist(), strict=True):
            for token_id in row:
                text.add(token_id)


def _append_tokens(texts: list[_Text], token_ids: list[int]) -> list[bool]:
    """Add the next token of each text; returns which texts have ended."""
    for text, token_id in zip(texts, token_ids, strict=True):
        text.add(token_id)
    return [text.finish_reason is not None for text in texts]


class _CanGenerate(Protocol):
    def generate(
        self,
        *,
        input_ids: Tensor,
        attention_mask: Tensor,
        generation_config: GenerationConfig,
        stopping_criteria: Sequence[StoppingCriteria],
    ) -> Tensor: ...


class _AppendTokens(StoppingCriteria):
    """Calls `_append_tokens` from transformers' generation loop."""

    def __init__(self, texts: list[_Text]) -> None:
        self._texts = texts

    def __call__(self, input_ids: Tensor, scores: object, **kwargs: object) -> Tensor:
        return torch.tensor(_append_tokens(self._texts, input_ids[:, -1].tolist()), device=input_ids.device)


def _decoding(settings: Generate, vocabulary: _Vocabulary, n_tokens: int, n_return: int) -> GenerationConfig:
    """The settings as a GenerationConfig, without options that have no effect, of which transformers warns."""
    sampling = {
        "temperature": settings.temperature,
        "top_k": settings.top_k or 0,  # unset, it would be 50
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
        suppress_tokens=vocabulary.never or None,
        eos_token_id=vocabulary.ends or None,
        pad_token_id=PAD_ID,
    )


@contextmanager
def _generation_mode(model: PreTrainedModel, seed: int) -> Iterator[None]:
    """Evaluation mode, a default generation_config, and random numbers from `seed`; restores all afterwards."""
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
