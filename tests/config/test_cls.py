"""The section cls: label types, losses, and settings that exclude each other."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from llmkit.config.cls import Cls
from llmkit.config.loading import load_recipe
from llmkit.core.errors import UsageError


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    return path


def errors_of(tmp_path: Path, text: str, *overrides: str) -> list[tuple[str, str, str]]:
    with pytest.raises(UsageError) as caught:
        load_recipe(write(tmp_path, text), overrides)
    return [(p.what, p.where, p.hint) for p in caught.value.problems]


@pytest.mark.parametrize(
    "overrides",
    [
        ["cls.validation=1"], ["cls.validation=0.6", "cls.test=0.4"], ["cls.focal_gamma=-1"], ["cls.augment.mask=1"],
        ["cls.freeze=all"], ["cls.labels=regression", "cls.class_weights=balanced"],
    ],
)  # fmt: skip
def test_values_that_a_classifier_cannot_use_are_refused(tmp_path: Path, overrides: list[str]) -> None:
    assert errors_of(tmp_path, "task: cls\n", *overrides)


@pytest.mark.parametrize("field", ["focal_gamma", "label_smoothing"])
def test_losses_of_labels_are_refused_for_numbers_and_taken_for_labels(field: str) -> None:
    with pytest.raises(ValidationError, match=f"{field} applies only to classification"):
        Cls.model_validate({"labels": "regression", field: 0.5})
    assert getattr(Cls.model_validate({field: 0.5}), field) == 0.5


def test_lora_and_freezing_exclude_each_other() -> None:
    with pytest.raises(ValidationError, match="remove freeze"):
        Cls(lora_rank=4, freeze="encoder")
    assert Cls(lora_rank=4).lora_alpha == 16


def test_labels_that_yaml_reads_as_numbers_are_names() -> None:
    assert Cls.model_validate({"class_weights": {0: 2, "1": 3, 0.5: 1}}).class_weights == {"0": 2, "1": 3, "0.5": 1}
    for weights in ({"a": 0}, {"a": -1}, {True: 1}):
        with pytest.raises(ValidationError):
            Cls.model_validate({"class_weights": weights})
