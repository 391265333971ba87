"""stub: being written."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from llmkit.config.generate import Generate


@dataclass(frozen=True, slots=True)
class Sample:
    """One text a model wrote."""

    prompt: str
    text: str
    """Without the prompt, without the stop string."""
    n_tokens: int
    """New tokens; an end-of-text is not counted."""
    finish_reason: Literal["stop", "length", "eos"]
    n_prompt_tokens_dropped: int = 0
    """Tokens cut from the prompt's left side, as it did not fit the model's context."""


def generate_texts(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: list[str],
    settings: Generate,
    on_text: Callable[[str], None] | None = None,
) -> list[list[Sample]]:
    """`settings.num_samples` samples for each prompt, in the prompts' order.

    on_text gets the text while it is written, whole characters only, each once, together equal to Sample.text; it is
    for one prompt and one sample (ValueError otherwise), as texts written side by side cannot share one screen.
    """
    raise NotImplementedError
