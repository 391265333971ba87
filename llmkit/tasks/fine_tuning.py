"""Defaults of fine-tuning that depend on the model and on the number of rows: learning rate, epochs, evaluations.

The learning rate is 5e-5 for BERT-base (Devlin et al. 2019, appendix A.3) and higher for narrower models; LoRA uses ten
times the rate. The default is at least 3 epochs. Small data sets get more, up to 20, to reach a minimum number of
steps, which the task gives (Mosbach et al. 2021).
"""

import math
from typing import Any, TypeVar

from transformers import PreTrainedConfig

from llmkit.config.recipe import Recipe

RATE_OF_BASE, WIDTH_OF_BASE = 5e-5, 768
LORA_FACTOR = 10.0
MIN_EPOCHS, MAX_EPOCHS = 3, 20

AnyRecipe = TypeVar("AnyRecipe", bound=Recipe)


def resolve_defaults(
    recipe: AnyRecipe, config: PreTrainedConfig, n_rows: int, min_steps: int, *, uses_lora: bool
) -> AnyRecipe:
    """Return the recipe with epochs, eval_steps (one evaluation per epoch) and learning_rate set, if it sets none."""
    train, optim = recipe.train, recipe.optim
    chosen: dict[str, Any] = {}
    if train.epochs is None and train.max_steps is None and train.max_minutes is None:
        epochs = math.ceil(min_steps * train.global_batch_size / n_rows)
        chosen["epochs"] = float(min(MAX_EPOCHS, max(MIN_EPOCHS, epochs)))
    if train.eval_steps is None and train.max_minutes is None:
        steps_per_epoch = -(-n_rows // train.global_batch_size)
        chosen["eval_steps"] = max(1, min(steps_per_epoch, train.max_steps or steps_per_epoch))
    if optim.learning_rate is None:
        rate = RATE_OF_BASE * (WIDTH_OF_BASE / config.hidden_size) ** 1.5 * (LORA_FACTOR if uses_lora else 1)
        optim = optim.with_updates(learning_rate=float(f"{rate:.2g}"))
    return recipe.with_updates(train=train.with_updates(**chosen), optim=optim)


def describe_defaults(given: Recipe, recipe: Recipe, config: PreTrainedConfig, min_steps: int) -> list[str]:
    """Return a note on the epochs and the learning rate that `resolve_defaults` chose, if any."""
    chosen = []
    if given.train.epochs is None and recipe.train.epochs is not None:
        why = f"{MIN_EPOCHS} to {MAX_EPOCHS}, to reach {min_steps:,} steps"
        chosen.append(f"train.epochs {recipe.train.epochs:g} ({why})")
    if given.optim.learning_rate is None:
        chosen.append(f"optim.learning_rate {recipe.optim.learning_rate:g} (for width {config.hidden_size})")
    return [f"defaults: {'; '.join(chosen)}"] if chosen else []
