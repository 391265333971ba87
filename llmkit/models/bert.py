"""BERT as transformers has it, by size, from scratch or from a model that exists.

With pairs it is a `BertForPreTraining`, without a `BertForMaskedLM`, which has no pooler. Weights start as in Devlin et
al. 2018 and its code, normal with standard deviation 0.02; the original cuts that normal at two deviations.
"""

from typing import Any, cast

import torch
from transformers import (
    AutoConfig,
    BertConfig,
    BertForMaskedLM,
    BertForPreTraining,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from llmkit.config.model import Model
from llmkit.errors import UsageError
from llmkit.models.loading import explain_failure

Bert = BertForPreTraining | BertForMaskedLM

HEADS = {
    "bert.pooler": "the pooler over [CLS]",
    "cls.seq_relationship": "the head for pairs",
    "cls.predictions": "the head for masked tokens",
    "bert.": "weights of the encoder",
}
"""Beginnings of parameter names, and what they belong to."""


def build_bert(section: Model, tokenizer: PreTrainedTokenizerBase, block_size: int, seed: int, *, pairs: bool) -> Bert:
    """A new BERT with weights that depend on `seed` alone."""
    torch.manual_seed(seed)
    config = bert_config(section, tokenizer, block_size)
    return BertForPreTraining(config) if pairs else BertForMaskedLM(config)


def bert_config(section: Model, tokenizer: PreTrainedTokenizerBase, block_size: int) -> BertConfig:
    """The size's shape, the section's own fields on top, ids from the tokenizer."""
    shape = section.shape
    return BertConfig(
        num_hidden_layers=shape["n_layer"],
        num_attention_heads=shape["n_head"],
        hidden_size=shape["n_embd"],
        intermediate_size=4 * shape["n_embd"],
        max_position_embeddings=section.n_positions or block_size,
        vocab_size=len(tokenizer),
        pad_token_id=tokenizer.pad_token_id,
        hidden_dropout_prob=section.dropout,
        attention_probs_dropout_prob=section.attention_dropout,
    )


def open_bert(name: str, *, pairs: bool | None = None, seed: int = 0) -> tuple[Bert, list[str]]:
    """A saved BERT in fp32 on the CPU, in evaluation mode, and in words what of it is new or was left out.

    `pairs` asks for the model with or without the head for pairs; None takes the one that was saved. What the model
    lacks is made from `seed`.

    Raises:
        UsageError: another architecture.
        ModelError, EnvironmentFault: as models/loading.py.
    """
    with explain_failure(name):
        config = AutoConfig.from_pretrained(name, trust_remote_code=False)
    if config.model_type != "bert":
        hint = "give a BERT: a run of pretrain-mlm, or a hub model of type bert"
        raise UsageError(f"{name!r} is of type {config.model_type}", where=f"{name}/config.json, model_type", hint=hint)
    if pairs is None:
        pairs = "BertForPreTraining" in (config.architectures or ())
    torch.manual_seed(seed)
    kind = BertForPreTraining if pairs else BertForMaskedLM
    with explain_failure(name):
        loaded: Any = kind.from_pretrained(
            name, dtype=torch.float32, use_safetensors=True, trust_remote_code=False, output_loading_info=True
        )
    model: PreTrainedModel = loaded[0]
    info: dict[str, set[str]] = loaded[1]
    model.eval()
    notes = [f"new, not in the model: {head}" for head in _heads_of(info["missing_keys"])]
    notes += [f"left out of the model: {head}" for head in _heads_of(info["unexpected_keys"])]
    return cast(Bert, model), notes


def _heads_of(names: set[str]) -> list[str]:
    return sorted({next((head for start, head in HEADS.items() if name.startswith(start)), name) for name in names})
