"""What masked language modelling can be asked for."""

import pytest
from pydantic import ValidationError

from llmkit.config.loading import load_recipe
from llmkit.config.mlm import Mlm


@pytest.mark.parametrize("value", ["1", "orders", None, "true"])
def test_pairs_are_true_false_or_order_and_nothing_like_it(value: object) -> None:
    with pytest.raises(ValidationError):
        Mlm.model_validate({"nsp": value})


@pytest.mark.parametrize(("text", "value"), [("true", True), ("false", False), ("order", "order")])
def test_pairs_are_read_as_yaml_writes_them(text: str, value: object) -> None:
    found = load_recipe(None, [f"mlm.nsp={text}"]).mlm.nsp
    assert (type(found), found) == (type(value), value)


@pytest.mark.parametrize("share", [0, 1, -0.1])
def test_no_token_or_all_of_them_cannot_be_masked(share: float) -> None:
    with pytest.raises(ValidationError):
        Mlm(mask_share=share)
