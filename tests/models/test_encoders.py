"""What sets a family of encoders apart names parts that its models have."""

import pytest
from tiny import make_bert, make_modernbert
from transformers import BertForPreTraining

from llmkit.models.encoders import ENCODER, TOKEN_HEAD, EncoderFamily
from llmkit.models.masked import MASKED

MODELS = {"bert": make_bert(BertForPreTraining), "modernbert": make_modernbert()}


@pytest.mark.parametrize(("name", "family"), MASKED.items(), ids=MASKED)
def test_every_weight_belongs_to_a_part_and_every_part_has_weights(name: str, family: EncoderFamily) -> None:
    weights = list(MODELS[name].state_dict())
    parts = [next((part for start, part in family.parts.items() if key.startswith(start)), None) for key in weights]
    assert None not in parts
    assert set(parts) == set(family.parts.values()) >= {ENCODER, TOKEN_HEAD}
    for start in (family.token_head, *family.once_per_sequence):
        assert any(key.startswith(start) for key in weights), start
    assert (family.paired is None) == (family.pair_logits is None)
