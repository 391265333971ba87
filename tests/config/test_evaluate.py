"""The section evaluate: settings of evaluation."""

import pytest
from pydantic import ValidationError

from llmkit.config.evaluate import Evaluate
from llmkit.config.loading import load_recipe
from llmkit.core.errors import UsageError


@pytest.mark.parametrize("fields", [{"split": "dev"}, {"block_size": 1}, {"stride": 0}, {"precision": "tf32"}])
def test_evaluation_settings_out_of_range_are_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Evaluate.model_validate(fields)


def test_stride_is_for_models_that_read_from_left_to_right() -> None:
    assert load_recipe(None, ["evaluate.stride=8"]).evaluate.stride == 8
    with pytest.raises(UsageError, match=r"evaluate\.stride applies only to task clm"):
        load_recipe(None, ["evaluate.stride=8", "task=mlm"])
