"""Defaults of fine-tuning; tests/tasks/cls/test_defaults.py tests them for classifiers."""

from types import SimpleNamespace
from typing import Any

from llmkit.config.loading import load_recipe
from llmkit.config.recipe import Recipe
from llmkit.tasks.fine_tuning import describe_defaults, resolve_defaults


def resolved(*overrides: str, n_rows: int = 1000, min_steps: int = 300, lora: bool = False) -> tuple[Recipe, list[str]]:
    recipe = load_recipe(None, ["train.global_batch_size=10", *overrides], task="cls")
    config: Any = SimpleNamespace(hidden_size=768)
    found = resolve_defaults(recipe, config, n_rows, min_steps, uses_lora=lora)
    return found, describe_defaults(recipe, found, config, min_steps)


def test_epochs_reach_the_minimum_of_steps_between_three_and_twenty() -> None:
    epochs = [resolved(min_steps=n)[0].train.epochs for n in (1, 301, 500, 10**6)]
    assert epochs == [3, 4, 5, 20]
    assert resolved()[0].train.eval_steps == 100, "once per epoch"


def test_what_the_recipe_sets_is_kept_and_not_described() -> None:
    found, notes = resolved("train.max_steps=7", "optim.learning_rate=0.1")
    assert (found.train.epochs, found.train.max_steps, found.optim.learning_rate, notes) == (None, 7, 0.1, [])


def test_lora_takes_ten_times_the_learning_rate() -> None:
    rates = [resolved(lora=lora)[0].optim.learning_rate for lora in (False, True)]
    assert rates == [5e-5, 5e-4]
    assert "train.epochs 3 (3 to 20, to reach 300 steps)" in resolved()[1][0]
