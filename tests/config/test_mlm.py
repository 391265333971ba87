"""The section mlm: settings of masked language modelling."""

import pytest
from pydantic import ValidationError

from llmkit.config.loading import load_recipe
from llmkit.config.mlm import Mlm


@pytest.mark.parametrize("value", ["1", "orders", None, "true"])
def test_sentence_objective_is_nsp_sop_or_none_and_nothing_like_it(value: object) -> None:
    with pytest.raises(ValidationError):
        Mlm.model_validate({"sentence_objective": value})


@pytest.mark.parametrize(("old", "new"), [("true", "nsp"), ("false", "none"), ("order", "sop")])
def test_values_of_nsp_are_taken_as_yaml_writes_them(old: str, new: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert load_recipe(None, [f"mlm.nsp={old}"]).mlm.sentence_objective == new
    assert f"mlm.nsp is now called mlm.sentence_objective, and {old} {new}" in capsys.readouterr().err
    assert load_recipe(None, [f"mlm.sentence_objective={new}"]).mlm.sentence_objective == new
    assert not capsys.readouterr().err


@pytest.mark.parametrize("share", [0, 1, -0.1])
def test_no_token_or_all_of_them_cannot_be_masked(share: float) -> None:
    with pytest.raises(ValidationError):
        Mlm(mlm_probability=share)
