"""The section ner refuses settings that contradict each other."""

import pytest
from pydantic import ValidationError

from llmkit.config.loading import load_recipe
from llmkit.config.ner import Ner
from llmkit.config.recipe import NerRecipe


@pytest.mark.parametrize(
    "settings",
    [
        {"validation": 0.5, "test": 0.5}, {"lora_rank": 2, "freeze": "encoder"}, {"lora_target_modules": ["query"]},
        {"class_weights": {"A": 0}}, {"decoding": "beam"}, {"label": "x"},
    ],
)  # fmt: skip
def test_settings_that_do_not_fit_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Ner.model_validate(settings)


def test_section_decides_the_task() -> None:
    recipe = load_recipe(None, ["ner.decoding=constrained"])
    assert isinstance(recipe, NerRecipe) and recipe.ner.decoding == "constrained"
    assert recipe.optim.learning_rate is None and recipe.train.sample_prompt is None
