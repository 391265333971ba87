"""Encoders for masked language modelling: build a new one, or load a saved one.

The modules in llmkit/architectures/ hold the differences between architectures.
"""

from typing import Any, cast

import torch
from torch import Tensor
from transformers import (
    MODEL_FOR_MASKED_LM_MAPPING,
    MODEL_FOR_PRETRAINING_MAPPING,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from llmkit.architectures import ARCHITECTURES, families_of
from llmkit.architectures.base import ENCODER, PAIR_HEAD, EncoderHeads
from llmkit.config.model import Model
from llmkit.core.errors import ModelError, UsageError
from llmkit.datasets.pairs import SentenceObjective
from llmkit.models.families import encoder_heads, make_config, require_memory
from llmkit.models.loading import load_pretrained, read_config


def build_masked(
    section: Model,
    tokenizer: PreTrainedTokenizerBase,
    block_size: int,
    seed: int,
    *,
    sentence_objective: SentenceObjective,
) -> PreTrainedModel:
    """Return a new model with weights from `seed`; if the objective is not none, with a head for pairs (NSP, SOP)."""
    config = make_config(section, tokenizer, block_size)
    if ARCHITECTURES[section.family].reads_pairs:
        config.sentence_objective = sentence_objective
    network_class = _class_of(config, sentence_objective != "none")
    require_memory(network_class, config, section)
    torch.manual_seed(seed)
    return network_class(config)


def load_masked(name: str) -> PreTrainedModel:
    """Load a saved model unchanged, in fp32 on the CPU, in evaluation mode.

    Raises:
        UsageError: an architecture that llmkit does not train on masked tokens.
        ModelError: weights are missing, or loading fails (see models/loading.py).
        EnvironmentFault: see models/loading.py.
    """
    model, new, _ = _load(name, None, 0)
    if new:
        what = f"the model lacks {', '.join(new)}"
        hint = "give a complete model"
        if ENCODER not in new:
            hint = "first train the model with pretrain-mlm --model, which adds the head"
        raise ModelError(what, where=name, hint=hint)
    return model


def load_masked_for_training(
    name: str, sentence_objective: SentenceObjective, seed: int
) -> tuple[PreTrainedModel, list[str]]:
    """Load a saved model with the heads of the objective; returns it with notes on new, dropped and reused heads.

    Missing heads are initialized from `seed`.

    Raises:
        UsageError, EnvironmentFault: as `load_masked`; UsageError also if the architecture lacks the head for pairs.
        ModelError: encoder weights are missing, or loading fails.
    """
    model, new, left_out = _load(name, sentence_objective != "none", seed)
    if ENCODER in new:
        hint = "give a complete model"
        raise ModelError("weights of the encoder are missing from the model", where=name, hint=hint)
    notes = [f"new, not in the model: {head}" for head in new] + [
        f"not used from the model: {head}" for head in left_out
    ]
    kind = sentence_objective_of(model)
    if sentence_objective != "none" and PAIR_HEAD not in new and kind != sentence_objective:
        notes.append(f"the head for pairs was trained for {kind}, and is now trained for {sentence_objective}")
    if _heads_of(model).pair_logits is not None:
        model.config.sentence_objective = sentence_objective
    return model, notes


def compute_head_logits(model: PreTrainedModel, encoded: Any, indices: Tensor) -> tuple[Tensor, Tensor | None]:
    """Return logits of tokens (tokens, vocabulary) and logits of pairs (batch, 2), or None without a head for pairs.

    `encoded` is the encoder's output; `indices` are the positions of the tokens in the flattened batch.
    """
    heads = _heads_of(model)
    pair_logits = None
    if heads.pair_logits is not None and _has_pair_head(model):
        pair_logits = heads.pair_logits(model, encoded)
    return heads.token_logits(model, encoded.last_hidden_state.flatten(0, 1)[indices]), pair_logits


def rescale_embeddings(model: PreTrainedModel) -> None:
    """Scale down embeddings that grew during training, if the architecture allows it without changing outputs."""
    if (rescale := _heads_of(model).rescale_embeddings) is not None:
        rescale(model)


def sentence_objective_of(model: PreTrainedModel) -> SentenceObjective:
    """Return the objective on which the model's head for pairs was trained; "none" without a head.

    A model whose configuration does not record the objective, such as Google's BERT, was trained on next-sentence
    prediction. llmkit 0.1.0 recorded it as `sentence_pairs`.
    """
    if not _has_pair_head(model):
        return "none"
    default = "sop" if getattr(model.config, "sentence_pairs", None) == "order" else "nsp"
    return cast(SentenceObjective, getattr(model.config, "sentence_objective", default))


def _heads_of(model: PreTrainedModel) -> EncoderHeads:
    heads = encoder_heads(model.config)
    assert heads is not None, f"{model.config.model_type} is not an encoder for masked tokens"
    return heads


def _has_pair_head(model: PreTrainedModel) -> bool:
    return _heads_of(model).pair_logits is not None and isinstance(model, _class_of(model.config, True))


def _class_of(config: PreTrainedConfig, pairs: bool) -> type[PreTrainedModel]:
    """Return transformers' model class, with a head for pairs if `pairs` is true and the architecture has one."""
    heads = encoder_heads(config)
    with_pairs = pairs and heads is not None and heads.pair_logits is not None
    found: Any = (MODEL_FOR_PRETRAINING_MAPPING if with_pairs else MODEL_FOR_MASKED_LM_MAPPING)[type(config)]
    return cast(type[PreTrainedModel], found)


def _load(name: str, pairs: bool | None, seed: int) -> tuple[PreTrainedModel, list[str], list[str]]:
    """Return the model, descriptions of its new parts, and descriptions of saved parts that it does not use.

    `pairs` is whether the model gets a head for pairs; None: if the saved model has one.
    """
    config = read_config(name)
    heads = encoder_heads(config)
    if heads is None:
        hint = f"give a run of pretrain-mlm, or a model of type {' or '.join(families_of('mlm'))}"
        what = f"{name!r} is of type {config.model_type}, which llmkit does not train on masked tokens"
        raise UsageError(what, where=f"{name}/config.json, model_type", hint=hint)
    if pairs is None:
        with_pairs = _class_of(config, True).__name__
        pairs = heads.pair_logits is not None and with_pairs in (config.architectures or [with_pairs])
    if pairs and heads.pair_logits is None:
        hint = "set mlm.sentence_objective to none"
        raise UsageError(f"{config.model_type} has no head for pairs", where="mlm.sentence_objective", hint=hint)
    torch.manual_seed(seed)
    model, info = load_pretrained(name, _class_of(config, pairs))
    return model, _describe_weights(heads, info["missing_keys"]), _describe_weights(heads, info["unexpected_keys"])


def _describe_weights(heads: EncoderHeads, names: set[str]) -> list[str]:
    """Describe the parts of the model that contain these weights."""
    return sorted(
        {next((part for prefix, part in heads.prefixes.items() if name.startswith(prefix)), name) for name in names}
    )
