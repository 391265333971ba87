"""One length, one batch, and what earlier versions called otherwise."""

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


@pytest.mark.parametrize("size", [0, -1, "all", 1.5])
def test_micro_batch_is_a_positive_number_or_auto(size: object) -> None:
    with pytest.raises(ValidationError):
        Train.model_validate({"micro_batch_size": size})
