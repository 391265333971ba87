"""One length per run, one batch size, and the old names of keys."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from llmkit.config.loading import load_recipe
from llmkit.config.train import Train
from llmkit.core.errors import UsageError


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    return path


def errors_of(tmp_path: Path, text: str, *overrides: str) -> list[tuple[str, str, str]]:
    with pytest.raises(UsageError) as caught:
        load_recipe(write(tmp_path, text), overrides)
    return [(p.what, p.where, p.hint) for p in caught.value.problems]


def test_two_lengths_are_refused(tmp_path: Path) -> None:
    [(what, _, _)] = errors_of(tmp_path, "train: {max_steps: 5, epochs: 1}\n")
    assert "max_steps and epochs both set the length" in what


@pytest.mark.parametrize("lengths", [("max_steps", "max_minutes"), ("epochs", "max_minutes"), ("max_steps", "epochs")])
def test_each_pair_of_lengths_is_refused_and_each_alone_is_taken(lengths: tuple[str, str]) -> None:
    with pytest.raises(ValidationError, match=" and ".join(lengths)):
        Train.model_validate(dict.fromkeys(lengths, 1))
    for name in lengths:
        assert getattr(Train.model_validate({name: 1}), name) == 1


@pytest.mark.parametrize(
    ("settings", "step", "expected"),
    [
        ({"epochs": 3}, 100, "a higher train.epochs (now 3)"),
        ({"max_steps": 100}, 100, "a higher train.max_steps (now 100)"),
        ({"max_minutes": 0.5}, 100, "a higher train.max_minutes (now 0.5)"),
        ({"epochs": 3, "early_stopping": 2}, 100, "a higher train.epochs (now 3)"),
        ({"epochs": 3, "early_stopping": 2}, 60, "a higher train.early_stopping (now 2)"),
        ({}, 100, "train.max_steps above 100, the default for this data"),
    ],
)
def test_advice_to_train_longer_names_the_setting_that_ended_the_run(
    settings: dict[str, float], step: int, expected: str
) -> None:
    assert Train.model_validate(settings).describe_longer(step, 100) == f"train longer with {expected}"


@pytest.mark.parametrize("size", [0, -1, "all", 1.5])
def test_micro_batch_is_a_positive_number_or_auto(size: object) -> None:
    with pytest.raises(ValidationError):
        Train.model_validate({"micro_batch_size": size})


def test_two_lengths_are_refused_with_the_end_of_each(tmp_path: Path) -> None:
    [(what, where, hint)] = errors_of(tmp_path, "train: {max_steps: 100, max_minutes: 5}\n")
    assert what == "train: max_steps and max_minutes both set the length of training"
    assert where.endswith("recipe.yaml:1, train")
    assert "with max_steps alone the run ends after 100 optimizer steps" in hint
    assert "with max_minutes alone the run ends after 5 minutes" in hint
