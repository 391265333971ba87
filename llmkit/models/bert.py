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
from llmkit.core.errors import ModelError, UsageError
from llmkit.datasets.pairs import NSP
from llmkit.models.loading import explain_failure

Bert = BertForPreTraining | BertForMaskedLM

PAIR_KINDS: dict[NSP, str | None] = {True: "next", "order": "order", False: None}
"""The field `sentence_pairs` of a saved config.json: what the head for pairs was trained to tell. Google's have none,
which means next."""

HEADS = {
    "bert.pooler": "the pooler over [CLS]",
    "cls.seq_relationship": "the head for pairs",
    "cls.predictions": "the head for masked tokens",
    "bert.": "weights of the encoder",
}
"""Beginnings of parameter names, and what they belong to."""


def build_bert(section: Model, tokenizer: PreTrainedTokenizerBase, block_size: int, seed: int, *, nsp: NSP) -> Bert:
    """A new BERT with weights that depend on `seed` alone, with a head for pairs unless `nsp` is False."""
    torch.manual_seed(seed)
    config = bert_config(section, tokenizer, block_size)
    config.sentence_pairs = PAIR_KINDS[nsp]
    return BertForMaskedLM(config) if nsp is False else BertForPreTraining(config)


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


def open_bert(name: str) -> Bert:
    """A saved BERT as it is, in fp32 on the CPU, in evaluation mode.

    Raises:
        UsageError: another architecture.
        ModelError: weights are missing; otherwise as models/loading.py.
        EnvironmentFault: as models/loading.py.
    """
    model, new, _ = _load(name, None, 0)
    if new:
        what = f"the model lacks {', '.join(new)}"
        whole = HEADS["bert."] not in new
        hint = "train it with pretrain-mlm --model first, which makes a head" if whole else "give a whole model"
        raise ModelError(what, where=name, hint=hint)
    return model


def start_from_bert(name: str, nsp: NSP, seed: int) -> tuple[Bert, list[str]]:
    """A saved BERT with a head for pairs, or without where `nsp` is False; and in words what of it is new, was left out
    or was trained for something else. What the model lacks is made from `seed`.

    Raises:
        As `open_bert`; but of missing weights only those of the encoder are an error.
    """
    model, new, left_out = _load(name, nsp is not False, seed)
    if HEADS["bert."] in new:
        hint = "give a whole model"
        raise ModelError("weights of the encoder are missing from the model", where=name, hint=hint)
    notes = [f"new, not in the model: {head}" for head in new] + [f"left out of the model: {head}" for head in left_out]
    kind = pair_kind_of(model)
    if nsp is not False and HEADS["cls.seq_relationship"] not in new and kind != nsp:
        notes.append(f"the head for pairs was trained for {PAIR_KINDS[kind]}, and goes on with {PAIR_KINDS[nsp]}")
    model.config.sentence_pairs = PAIR_KINDS[nsp]
    return model, notes


@torch.no_grad()
def shorten_embeddings(model: Bert) -> None:
    """Scale the embeddings to the length that new ones have; what the model computes stays as it is.

    A layer norm follows their sum, so their length decides one thing only: how far a step of Adam turns them. Training
    at rates for new weights makes them ten times as long, and fine-tuning could then hardly move them (docs/log.md).
    The output layer is tied to them: the norm before it takes up the factor. Embeddings that are short stay so.
    """
    embeddings = model.bert.embeddings
    words = embeddings.word_embeddings.weight
    factor = model.config.initializer_range / words.std().item()
    if factor >= 1 or model.cls.predictions.decoder.weight is not words:
        return
    for table in (embeddings.word_embeddings, embeddings.position_embeddings, embeddings.token_type_embeddings):
        table.weight.mul_(factor)
    norm = model.cls.predictions.transform.LayerNorm
    norm.weight.div_(factor)
    norm.bias.div_(factor)


def pair_kind_of(model: PreTrainedModel) -> NSP:
    """What the model's head for pairs tells: True for next sentences, "order" for their order, False without one."""
    if not isinstance(model, BertForPreTraining):
        return False
    return "order" if getattr(model.config, "sentence_pairs", None) == "order" else True


def _load(name: str, pairs: bool | None, seed: int) -> tuple[Bert, list[str], list[str]]:
    """The model, the parts of it that are new, and the saved ones that were left out."""
    with explain_failure(name):
        config = AutoConfig.from_pretrained(name, trust_remote_code=False)
    if config.model_type != "bert":
        hint = "give a BERT: a run of pretrain-mlm, or a hub model of type bert"
        raise UsageError(f"{name!r} is of type {config.model_type}", where=f"{name}/config.json, model_type", hint=hint)
    if pairs is None:
        pairs = "BertForPreTraining" in (config.architectures or ("BertForPreTraining",))
    torch.manual_seed(seed)
    kind = BertForPreTraining if pairs else BertForMaskedLM
    with explain_failure(name):
        loaded: Any = kind.from_pretrained(
            name, dtype=torch.float32, use_safetensors=True, trust_remote_code=False, output_loading_info=True
        )
    model: PreTrainedModel = loaded[0]
    info: dict[str, set[str]] = loaded[1]
    model.eval()
    return cast(Bert, model), _heads_of(info["missing_keys"]), _heads_of(info["unexpected_keys"])


def _heads_of(names: set[str]) -> list[str]:
    return sorted({next((head for start, head in HEADS.items() if name.startswith(start)), name) for name in names})
