"""Write text with a language model: go on with a prompt, or fill in what is masked, as its task has it."""

from collections.abc import Callable, Sequence
from typing import Any

from llmkit.config.generate import Generate
from llmkit.models.loading import resolve_model
from llmkit.tasks.base import GenerationRequest
from llmkit.tasks.table import task_of_model


def generate(
    settings: Generate, *, model: str, prompts: Sequence[str], on_text: Callable[[str], None] | None = None
) -> list[dict[str, Any]]:
    """One record a sample of a causal model: prompt, text, n_tokens, finish_reason and tokens_per_second; or one a
    prompt of a masked model: prompt, masks.

    `on_text` gets the text of a causal model as it is written, whole characters only; for one prompt and one sample.

    Raises:
        UsageError: the model writes no text, or the settings ask for more than anybody waits for.
        ModelError: it cannot be loaded, or its tokenizer does not fit.
    """
    path = resolve_model(model)
    return task_of_model(path).generate(settings, GenerationRequest(model, path, prompts, on_text))
