"""Write text with a causal language model."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from llmkit.config.generate import Generate
from llmkit.errors import say
from llmkit.generation.generate import generate_texts
from llmkit.models.loading import check_vocabulary, load_causal_lm, put_on_device, resolve_model
from llmkit.tokens.tokenizer import load_tokenizer


def generate(
    settings: Generate, *, model: str, prompts: Sequence[str], on_text: Callable[[str], None] | None = None
) -> list[dict[str, Any]]:
    """One record a sample: prompt, text, n_tokens, finish_reason.

    `on_text` gets the text as it is written, whole characters only; for one prompt and one sample.

    Raises:
        UsageError: the model does not write from left to right.
        ModelError: it cannot be loaded, or its tokenizer does not fit.
    """
    path = resolve_model(model)
    network = put_on_device(load_causal_lm(path))
    tokenizer = load_tokenizer(path)
    check_vocabulary(network, tokenizer, model)
    samples = [
        sample for group in generate_texts(network, tokenizer, list(prompts), settings, on_text) for sample in group
    ]
    dropped = max(sample.n_prompt_tokens_dropped for sample in samples)
    if dropped:
        say(f"the prompt is longer than the model's context: its first {dropped} tokens were left out")
    return [asdict(sample) for sample in samples]
