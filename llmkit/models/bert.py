"""BERT as transformers has it, by size.

With pairs it is a `BertForPreTraining`, without a `BertForMaskedLM`, which has no pooler. Weights start as in Devlin et
al. 2018 and its code, normal with standard deviation 0.02; the original cuts that normal at two deviations.
"""

from typing import Any, cast

import torch
from torch import Tensor
from transformers import BertConfig, BertForMaskedLM, BertForPreTraining, PreTrainedModel, PreTrainedTokenizerBase

from llmkit.config.model import Model
from llmkit.models.encoders import ENCODER, PAIR_HEAD, TOKEN_HEAD, EncoderFamily


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


def _token_logits(model: PreTrainedModel, hidden: Tensor) -> Tensor:
    return cast(Tensor, cast(BertForMaskedLM, model).cls.predictions(hidden))


def _pair_logits(model: PreTrainedModel, encoded: Any) -> Tensor:
    return cast(Tensor, cast(BertForPreTraining, model).cls.seq_relationship(encoded.pooler_output))


@torch.no_grad()
def rescale_embeddings(model: PreTrainedModel) -> None:
    """Scale the embeddings to the length that new ones have; what the model computes stays as it is.

    A layer norm follows their sum, so their length decides one thing only: how far a step of Adam turns them. Training
    at rates for new weights makes them ten times as long, and fine-tuning could then hardly move them (docs/log.md).
    The output layer is tied to them: the norm before it takes up the factor. Embeddings that are short stay so.
    """
    bert = cast(BertForMaskedLM, model)
    embeddings = bert.bert.embeddings
    words = embeddings.word_embeddings.weight
    factor = bert.config.initializer_range / words.std().item()
    if factor >= 1 or bert.cls.predictions.decoder.weight is not words:
        return
    for table in (embeddings.word_embeddings, embeddings.position_embeddings, embeddings.token_type_embeddings):
        table.weight.mul_(factor)
    norm = bert.cls.predictions.transform.LayerNorm
    norm.weight.div_(factor)
    norm.bias.div_(factor)


BERT = EncoderFamily(
    masked=BertForMaskedLM,
    make_config=bert_config,
    token_logits=_token_logits,
    parts={
        "bert.pooler": "the pooler over [CLS]",
        "cls.seq_relationship": PAIR_HEAD,
        "cls.predictions": TOKEN_HEAD,
        "bert.": ENCODER,
    },
    token_head="cls.predictions.",
    paired=BertForPreTraining,
    pair_logits=_pair_logits,
    once_per_sequence=("bert.pooler", "cls.seq_relationship"),
    rescale_embeddings=rescale_embeddings,
)
