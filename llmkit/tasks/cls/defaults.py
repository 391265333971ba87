"""Defaults of classifiers that depend on model and data: number of steps, initialization of the pooler.

Published settings are for models wider than 256. Narrower models, usually pretrained by the user, need more steps and
another initialization of the pooler (docs/log.md).
"""

from typing import Any, cast

from transformers import PreTrainedConfig, PreTrainedModel

from llmkit.config.recipe import ClsRecipe
from llmkit.core.errors import UsageError
from llmkit.models.classifier import reset_pooler
from llmkit.models.saved_head import REGRESSION, problem_type_of
from llmkit.tasks.fine_tuning import describe_defaults, resolve_defaults

MIN_STEPS, STEPS_PER_LABEL = 300, 20
NARROW_WIDTH, NARROW_STEPS_PER_LABEL, NARROW_STEPS = 256, 200, 2000
"""Maximum width of a narrow model; its minimum steps per label, and the upper limit of this minimum."""


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
    """Return the recipe with defaults that depend on model and data; see tasks/fine_tuning.py.

    The minimum is 300 steps, or 20 steps per label if that is more. Models of width 256 or less get 200 steps per
    label, up to 2,000: with few labels, more steps overfit (docs/log.md).
    """
    uses_lora = recipe.cls.lora_rank > 0
    return resolve_defaults(recipe, config, n_rows, _min_steps(config, n_labels), uses_lora=uses_lora)


def _min_steps(config: PreTrainedConfig, n_labels: int) -> int:
    n_steps = max(MIN_STEPS, STEPS_PER_LABEL * n_labels)
    if config.hidden_size > NARROW_WIDTH:
        return n_steps
    return max(n_steps, min(NARROW_STEPS, NARROW_STEPS_PER_LABEL * n_labels))


def describe_chosen(given: ClsRecipe, recipe: ClsRecipe, config: PreTrainedConfig, n_labels: int) -> list[str]:
    """Return a note on the epochs and the learning rate that `resolve` chose, if any."""
    return describe_defaults(given, recipe, config, _min_steps(config, n_labels))
