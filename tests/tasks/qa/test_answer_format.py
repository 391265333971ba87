"""The format of answers travels in config.json, and settings of the user come first."""

from typing import Any

import pytest
from transformers import BertConfig

from llmkit.config.qa import Qa
from llmkit.core.errors import ModelError
from llmkit.tasks.qa.answer_format import AnswerFormat, read_format, save_format

SAVED = AnswerFormat(
    48, 8, 12, 7, may_decline=True, no_answer_threshold=-0.5, null_index=-1, columns={"question": "asked"}
)


def test_format_comes_back_from_the_configuration() -> None:
    config = BertConfig()
    save_format(config, SAVED)
    assert read_format(BertConfig.from_dict(config.to_dict()), 512) == (SAVED, True)
    assert read_format(BertConfig(), 384) == (AnswerFormat(384), False)
    assert read_format(BertConfig(), 90) == (AnswerFormat(90, 30, 22), False)


def test_settings_of_the_user_replace_those_of_the_model() -> None:
    assert SAVED.with_settings(Qa(), None) == SAVED
    changed = SAVED.with_settings(Qa(stride=4, unanswerable=True, no_answer_threshold=2.0, max_answer_length=3), 32)
    assert (changed.stride, changed.no_answer_threshold, changed.max_answer_length) == (4, 2.0, 3)
    assert changed.block_size == 32 and changed.may_decline
    assert not SAVED.with_settings(Qa(unanswerable=False), None).may_decline


@pytest.mark.parametrize(
    ("name", "value"), [("stride", "8"), ("block_size", -1), ("may_decline", 1), ("no_answer_threshold", None)]
)
def test_damaged_format_is_an_error_that_names_the_key(name: str, value: Any) -> None:
    config: Any = BertConfig()
    save_format(config, SAVED)
    config.llmkit[name] = value
    with pytest.raises(ModelError, match=name) as caught:
        read_format(config, 512)
    assert "config.json" in str(caught.value)
