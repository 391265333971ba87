"""transformers' AutoConfig loads llmkit's configurations as they were saved."""

from pathlib import Path

import pytest
from transformers import AutoConfig

from llmkit.models.configurations import RecurrentConfig, TransformerConfig


@pytest.mark.parametrize(
    "config",
    [
        RecurrentConfig(cell="lstm", hidden_size=24, adaptive_cutoffs=[10, 20], pad_token_id=3),
        TransformerConfig(hidden_size=32, intermediate_size=48, tie_word_embeddings=False),
    ],
    ids=lambda config: config.model_type,
)
def test_saved_configuration_opens_as_its_own_kind_with_every_field(
    tmp_path: Path, config: RecurrentConfig | TransformerConfig
) -> None:
    config.save_pretrained(tmp_path)
    found = AutoConfig.from_pretrained(tmp_path)
    assert type(found) is type(config)
    kept = {n: value for n, value in config.to_dict().items() if n not in ("transformers_version", "_name_or_path")}
    assert {name: found.to_dict()[name] for name in kept} == kept
