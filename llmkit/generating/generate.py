"""Generate text with a language model: continue a prompt, or fill in its masks, depending on the task."""

from collections.abc import Callable, Sequence
from typing import Any

from llmkit.config.generate import Generate
from llmkit.models.loading import resolve_model
from llmkit.tasks.base import GenerationRequest
from llmkit.tasks.table import task_of_model


def generate(
    settings: Generate, *, model: str, prompts: Sequence[str], on_text: Callable[[str], None] | None = None
) -> list[dict[str, Any]]:
    """Return one record per sample of a causal model (prompt, text, n_tokens, finish_reason, tokens_per_second), or one
    per prompt of a masked model (prompt, masks).

    `on_text` is called with new text of a causal model, in complete characters; for one prompt and one sample only.

    Raises:
        UsageError: the model cannot generate text, or the total number of tokens exceeds the maximum.
        ModelError: the model cannot be loaded, or its tokenizer does not fit.
    """
    path = resolve_model(model)
    return task_of_model(path).generate(settings, GenerationRequest(model, path, prompts, on_text))
