"""The name prefixes in an encoder's architecture match the weights of its models."""

import pytest
from tiny import make_bert, make_modernbert
from transformers import BertForPreTraining

from llmkit.architectures import ARCHITECTURES
from llmkit.architectures.base import ENCODER, TOKEN_HEAD, round_inner_width

ENCODERS = {"bert": make_bert(BertForPreTraining), "modernbert": make_modernbert()}


def test_each_encoder_of_the_table_is_tested_here() -> None:
    assert set(ENCODERS) == {family for family, each in ARCHITECTURES.items() if each.heads}


@pytest.mark.parametrize("family", ENCODERS)
def test_every_weight_belongs_to_a_part_and_every_part_has_weights(family: str) -> None:
    heads = ARCHITECTURES[family].heads
    assert heads is not None
    weights = list(ENCODERS[family].state_dict())
    parts = [next((part for start, part in heads.prefixes.items() if key.startswith(start)), None) for key in weights]
    assert None not in parts
    assert set(parts) == set(heads.prefixes.values()) >= {ENCODER, TOKEN_HEAD}
    for start in (heads.token_head, *heads.once_per_sequence):
        assert any(key.startswith(start) for key in weights), start


@pytest.mark.parametrize(("width", "rounded"), [(1, 32), (47, 32), (49, 64), (426.7, 416)])
def test_inner_width_is_the_nearest_multiple_of_32_and_never_0(width: float, rounded: int) -> None:
    assert round_inner_width(width) == rounded
