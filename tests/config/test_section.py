"""A section refuses unknown keys, is immutable, and a copy with changes is validated."""

import math
from typing import Any, Literal

import pytest
from pydantic import Field, ValidationError, model_validator

from llmkit.config.loading import load_recipe
from llmkit.config.model import Model
from llmkit.config.section import Section
from llmkit.core.errors import UsageError


class Pair(Section):
    """Two numbers in order."""

    low: float = Field(default=0.0, ge=0)
    high: float = 1.0

    @model_validator(mode="after")
    def _ascend(self) -> "Pair":
        if self.low > self.high:
            raise ValueError("low is above high")
        return self


def test_recipe_with_updates_is_validated_like_a_loaded_one() -> None:
    gru = load_recipe(None, ["model.family=gru", "train.carry_state=false"])
    assert gru.with_updates(train=gru.train.with_updates(seed=3)).train.seed == 3
    with pytest.raises(UsageError, match="carry_state applies only to gru and lstm, not to gpt2"):
        gru.with_updates(model=Model())
    with pytest.raises(UsageError, match="greater than or equal to 0") as caught:
        gru.train.with_updates(seed=-1)
    assert caught.value.problems[0].where == "seed"


@pytest.mark.parametrize(
    "values", [{"lwo": 1}, {"low": math.nan}, {"high": math.inf}, {"low": -1}, {"low": 2}, {"low": "one"}]
)
def test_unknown_fields_and_invalid_numbers_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Pair.model_validate(values)


def test_section_is_immutable() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Pair().low = 0.5  # type: ignore[misc]


def test_copy_with_changes_is_checked_as_a_whole_and_leaves_the_original() -> None:
    pair = Pair(low=0.5)
    assert pair.with_updates(high=3.0) == Pair(low=0.5, high=3.0)
    assert pair == Pair(low=0.5)
    with pytest.raises(UsageError, match="low is above high") as caught:
        pair.with_updates(high=0.25)
    assert caught.value.problems[0].where == "high"


def test_defaults_are_validated() -> None:
    class Wrong(Section):
        share: float = Field(default=2.0, le=1)

    with pytest.raises(ValidationError):
        Wrong()


class Numbers(Section):
    """One field of each type that holds numbers, and two that do not."""

    steps: int = 1
    rate: float | None = None
    size: int | Literal["auto"] = "auto"
    cutoffs: list[int] = Field(default=[])
    text: str = ""
    flag: bool | Literal["auto"] = False


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"steps": "1e3"}, 1000),
        ({"steps": "2.5E+3"}, 2500),
        ({"rate": "1e-4"}, 1e-4),
        ({"size": "1e1"}, 10),
        ({"cutoffs": ["1e3", 2000]}, [1000, 2000]),
        ({"text": "1e3"}, "1e3"),
        ({"flag": True}, True),
    ],
)
def test_exponent_notation_is_read_only_in_number_fields(values: dict[str, Any], expected: Any) -> None:
    assert getattr(Numbers.model_validate(values), next(iter(values))) == expected


@pytest.mark.parametrize(
    "values", [{"steps": True}, {"rate": False}, {"size": True}, {"steps": "1e-3"}, {"steps": "1e999"}]
)
def test_number_fields_refuse_booleans_and_integer_fields_refuse_fractions(values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Numbers.model_validate(values)


@pytest.mark.parametrize("text", ["1,000", "1k", "true", "1.5", "ten"])
def test_hint_for_an_invalid_number_shows_a_valid_one(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_recipe(None, [f"train.max_steps={text}"])
    assert "write a whole number, such as 1000, without units and commas; Optimizer steps." in str(caught.value)
    assert load_recipe(None, ["train.max_steps=1e3"]).train.max_steps == 1000
