"""Defaults of fine-tuning that depend on model and data: number of steps, learning rate, initialization of the pooler.

Published settings are for models wider than 256. Narrower models, usually pretrained by the user, need more steps and
another initialization of the pooler (docs/log.md).
"""

import math
from typing import Any, cast

from transformers import PreTrainedConfig, PreTrainedModel

from llmkit.config.recipe import ClsRecipe
from llmkit.core.errors import UsageError
from llmkit.models.classifier import reset_pooler
from llmkit.models.saved_head import REGRESSION, problem_type_of

RATE_OF_BASE, WIDTH_OF_BASE = 5e-5, 768
MIN_STEPS, STEPS_PER_LABEL, MIN_EPOCHS, MAX_EPOCHS = 300, 20, 3, 20
NARROW_WIDTH, NARROW_STEPS_PER_LABEL, NARROW_STEPS = 256, 200, 2000
"""Maximum width of a narrow model; its minimum steps per label, and the upper limit of this minimum."""
LORA_FACTOR = 10.0


def start_pooler(network: PreTrainedModel, recipe: ClsRecipe, *, is_new: bool) -> list[str]:
    """Initialize the pooler below a new head as `cls.pooler` requires; returns a note if its weights were replaced.

    Raises:
        UsageError: cls.pooler is identity, and the model has no pooler or keeps its head.
    """
    wanted = recipe.cls.pooler
    narrow = cast(Any, network.config).hidden_size <= NARROW_WIDTH
    measured = problem_type_of(network.config) != REGRESSION  # docs/decisions/0010
    if wanted == "keep" or (wanted == "auto" and not (is_new and narrow and measured)):
        return []
    if is_new and reset_pooler(network):
        return ["the pooler is initialized as the identity (cls.pooler=keep keeps its weights)"]
    if wanted == "identity":
        what = "the model has no pooler" if is_new else "the model's head is reused with its pooler"
        raise UsageError(what, where="cls.pooler", hint="set cls.pooler to auto")
    return []


def resolve(recipe: ClsRecipe, config: PreTrainedConfig, n_rows: int, n_labels: int) -> ClsRecipe:
    """Return the recipe with defaults that depend on model and data: learning rate, epochs, eval_steps.

    The learning rate is 5e-5 for BERT-base (Devlin et al. 2019, appendix A.3) and higher for narrower models; LoRA
    uses ten times the rate. The minimum is 3 epochs. Small data sets get more (at most 20) to reach 300 steps, or 20
    steps per label if that is more (Mosbach et al. 2021). Models of width 256 or less get 200 steps per label, up to
    2,000: with few labels, more steps overfit (docs/log.md).
    """
    train, optim = recipe.train, recipe.optim
    chosen: dict[str, Any] = {}
    if train.epochs is None and train.max_steps is None and train.max_minutes is None:
        epochs = math.ceil(_min_steps(config, n_labels) * train.global_batch_size / n_rows)
        chosen["epochs"] = float(min(MAX_EPOCHS, max(MIN_EPOCHS, epochs)))
    if train.eval_steps is None and train.max_minutes is None:
        steps_per_epoch = -(-n_rows // train.global_batch_size)
        chosen["eval_steps"] = max(1, min(steps_per_epoch, train.max_steps or steps_per_epoch))
    if optim.learning_rate is None:
        rate = RATE_OF_BASE * (WIDTH_OF_BASE / config.hidden_size) ** 1.5 * (LORA_FACTOR if recipe.cls.lora_rank else 1)
        optim = optim.with_updates(learning_rate=float(f"{rate:.2g}"))
    return recipe.with_updates(train=train.with_updates(**chosen), optim=optim)


def _min_steps(config: PreTrainedConfig, n_labels: int) -> int:
    n_steps = max(MIN_STEPS, STEPS_PER_LABEL * n_labels)
    if config.hidden_size > NARROW_WIDTH:
        return n_steps
    return max(n_steps, min(NARROW_STEPS, NARROW_STEPS_PER_LABEL * n_labels))


def describe_chosen(given: ClsRecipe, recipe: ClsRecipe, config: PreTrainedConfig, n_labels: int) -> list[str]:
    """Return a note on the epochs and the learning rate that `resolve` chose, if any."""
    chosen = []
    if given.train.epochs is None and recipe.train.epochs is not None:
        why = f"{MIN_EPOCHS} to {MAX_EPOCHS}, to reach {_min_steps(config, n_labels):,} steps"
        chosen.append(f"train.epochs {recipe.train.epochs:g} ({why})")
    if given.optim.learning_rate is None:
        chosen.append(f"optim.learning_rate {recipe.optim.learning_rate:g} (for width {config.hidden_size})")
    return [f"defaults: {'; '.join(chosen)}"] if chosen else []
