"""Write text with a causal language model, or fill in what is masked with a masked one."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from llmkit.config.generate import Generate
from llmkit.core.errors import say
from llmkit.models.loading import (
    check_vocabulary,
    load_causal_lm,
    load_masked_lm,
    read_kind,
    resolve_model,
    wrong_kind,
)
from llmkit.tasks.clm.generation import generate_texts
from llmkit.tasks.scoring import get_ready
from llmkit.tokens.tokenizer import load_tokenizer

DEFAULT_FILLS = 5
"""Candidates for each mask where the recipe has no `generate.top_k`."""


def generate(
    settings: Generate, *, model: str, prompts: Sequence[str], on_text: Callable[[str], None] | None = None
) -> list[dict[str, Any]]:
    """One record a sample: prompt, text, n_tokens, finish_reason, and tokens_per_second, which is that of all samples
    together with the reading of their prompts; of a masked model one a prompt: prompt, masks.

    `on_text` gets the text of a causal model as it is written, whole characters only; for one prompt and one sample.

    Raises:
        UsageError: the model neither writes from left to right nor fills in masks.
        ModelError: it cannot be loaded, or its tokenizer does not fit.
    """
    path = resolve_model(model)
    kind = read_kind(path)
    if kind == "classifier":
        raise wrong_kind(model, kind, path)
    masked = kind == "masked"
    network = get_ready(load_masked_lm(path) if masked else load_causal_lm(path))
    tokenizer = load_tokenizer(path)
    check_vocabulary(network, tokenizer, model)
    if masked:
        from llmkit.tasks.mlm.fill_in import fill_masks

        filled = fill_masks(network, tokenizer, list(prompts), settings.top_k or DEFAULT_FILLS)
        _say_dropped(max(prompt.n_prompt_tokens_dropped for prompt in filled))
        return [asdict(prompt) for prompt in filled]
    started = time.perf_counter()
    samples = [
        sample for group in generate_texts(network, tokenizer, list(prompts), settings, on_text) for sample in group
    ]
    rate = sum(sample.n_tokens for sample in samples) / (time.perf_counter() - started)
    _say_dropped(max(sample.n_prompt_tokens_dropped for sample in samples))
    return [asdict(sample) | {"tokens_per_second": round(rate, 1)} for sample in samples]


def _say_dropped(n_tokens: int) -> None:
    if n_tokens:
        say(f"the prompt is longer than the model's context: {n_tokens} tokens of it were left out")
