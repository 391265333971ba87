"""Optimizers have their own defaults, and settings that nothing reads are refused."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from llmkit.config.loading import dump_recipe, load_recipe
from llmkit.config.optim import Optim


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    return path


def test_sgd_has_its_own_defaults_and_given_values_override_them(tmp_path: Path) -> None:
    sgd = load_recipe(None, ["optim.name=sgd"]).optim
    assert (sgd.learning_rate, sgd.max_grad_norm, sgd.weight_decay, sgd.warmup_steps) == (20.0, 0.25, 0.0, 0)
    assert (sgd.schedule, sgd.momentum, sgd.plateau_factor) == ("plateau", 0.0, 0.25)
    path = write(tmp_path, "optim: {name: sgd, learning_rate: 3, schedule: cosine}\n")
    given = load_recipe(path, ["optim.max_grad_norm=1"])
    assert (given.optim.learning_rate, given.optim.schedule, given.optim.max_grad_norm) == (3.0, "cosine", 1.0)
    assert given.optim.weight_decay == 0.0
    assert load_recipe(write(tmp_path, dump_recipe(given))) == given
    plain = load_recipe(None, ["optim.name=adam"]).optim
    assert (plain.learning_rate, plain.schedule) == (1e-3, "cosine")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"momentum": 0.9}, "momentum applies only to sgd"),
        ({"name": "muon", "momentum": 0.9}, "momentum applies only to sgd"),
        ({"plateau_factor": 0.5}, "plateau_factor applies only to schedule plateau"),
        ({"schedule": "constant", "min_learning_rate_ratio": 0.1}, "schedule constant has no decay"),
        ({"name": "sgd", "min_learning_rate_ratio": 0.1}, "schedule plateau has no decay"),
    ],
)
def test_setting_that_nothing_would_read_is_refused(fields: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Optim.model_validate(fields)


def test_settings_are_accepted_with_the_optimizer_and_schedule_that_read_them() -> None:
    assert Optim(name="sgd", momentum=0.9).momentum == 0.9
    assert Optim(schedule="plateau", plateau_factor=0.5).plateau_factor == 0.5
    assert Optim(schedule="wsd", min_learning_rate_ratio=0.1).min_learning_rate_ratio == 0.1


@pytest.mark.parametrize(
    "fields", [{"learning_rate": 0}, {"adam_beta2": 1}, {"layer_decay": 0}, {"max_grad_norm": -1}, {"name": "adamax"}]
)
def test_value_that_no_optimizer_could_use_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Optim.model_validate(fields)
