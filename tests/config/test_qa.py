"""What training on questions can be set to."""

import pytest

from llmkit.config.loading import load_recipe
from llmkit.config.recipe import QaRecipe
from llmkit.core.errors import UsageError


@pytest.mark.parametrize(
    "overrides",
    [
        ["qa.validation=1"], ["qa.validation=0.6", "qa.test=0.4"], ["qa.stride=-1"], ["qa.freeze=all"],
        ["qa.lora_rank=4", "qa.freeze=1"], ["qa.lora_target_modules=[query]"], ["qa.language=fr"],
        ["qa.unanswerable=false", "qa.no_answer_threshold=1"], ["qa.no_answer_threshold=nan"],
    ],
)  # fmt: skip
def test_settings_that_exclude_each_other_are_refused(overrides: list[str]) -> None:
    with pytest.raises(UsageError):
        load_recipe(None, overrides, "qa")


def test_section_decides_the_task_and_its_defaults() -> None:
    recipe = load_recipe(None, ["qa.stride=16"])
    assert isinstance(recipe, QaRecipe) and recipe.block_size == 384 and recipe.train.max_eval_samples == 2000
    assert recipe.optim.learning_rate is None and recipe.model.dropout == 0.1


@pytest.mark.parametrize(
    ("key", "hint"),
    [("train.doc_stride", "qa.stride"), ("max_query_length", "qa.max_question_length"), ("n_best_size", "qa.n_best")],
)
def test_names_of_run_qa_lead_to_the_keys(key: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_recipe(None, [f"{key}=3"], "qa")
    assert hint in str(caught.value)
