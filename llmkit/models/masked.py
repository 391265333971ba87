"""Encoders that are trained on masked tokens: built by the recipe's `model.family`, opened, or started from.

What differs between architectures is in llmkit/architectures/, one file each.
"""

from typing import Any, cast

import torch
from torch import Tensor
from transformers import (
    MODEL_FOR_MASKED_LM_MAPPING,
    MODEL_FOR_PRETRAINING_MAPPING,
    AutoConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from llmkit.architectures import ARCHITECTURES, families_of
from llmkit.architectures.base import ENCODER, PAIR_HEAD, EncoderHeads
from llmkit.config.model import Model
from llmkit.core.errors import ModelError, UsageError
from llmkit.datasets.pairs import SentenceObjective
from llmkit.models.families import encoder_heads, make_config
from llmkit.models.loading import explain_failure


def build_masked(
    section: Model,
    tokenizer: PreTrainedTokenizerBase,
    block_size: int,
    seed: int,
    *,
    sentence_objective: SentenceObjective,
) -> PreTrainedModel:
    """A new model with weights that depend on `seed` alone; it has a head for pairs unless the objective is none."""
    torch.manual_seed(seed)
    config = make_config(section, tokenizer, block_size)
    if ARCHITECTURES[section.family].reads_pairs:
        config.sentence_objective = sentence_objective
    return _class_of(config, sentence_objective != "none")(config)


def open_masked(name: str) -> PreTrainedModel:
    """A saved model as it is, in fp32 on the CPU, in evaluation mode.

    Raises:
        UsageError: another architecture.
        ModelError: weights are missing; otherwise as models/loading.py.
        EnvironmentFault: as models/loading.py.
    """
    model, new, _ = _load(name, None, 0)
    if new:
        what = f"the model lacks {', '.join(new)}"
        hint = "give a whole model"
        if ENCODER not in new:
            hint = "train it with pretrain-mlm --model first, which makes a head"
        raise ModelError(what, where=name, hint=hint)
    return model


def start_from_masked(name: str, sentence_objective: SentenceObjective, seed: int) -> tuple[PreTrainedModel, list[str]]:
    """A saved model with a head for pairs, or without one where the objective is none; and in words what of it is new,
    was left out or was trained for something else. What the model lacks is made from `seed`.

    Raises:
        As `open_masked`; but of missing weights only those of the encoder are an error.
    """
    model, new, left_out = _load(name, sentence_objective != "none", seed)
    if ENCODER in new:
        hint = "give a whole model"
        raise ModelError("weights of the encoder are missing from the model", where=name, hint=hint)
    notes = [f"new, not in the model: {head}" for head in new] + [f"left out of the model: {head}" for head in left_out]
    kind = sentence_objective_of(model)
    if sentence_objective != "none" and PAIR_HEAD not in new and kind != sentence_objective:
        notes.append(f"the head for pairs was trained for {kind}, and goes on with {sentence_objective}")
    if _heads_of(model).pair_logits is not None:
        model.config.sentence_objective = sentence_objective
    return model, notes


def read_heads(model: PreTrainedModel, encoded: Any, places: Tensor) -> tuple[Tensor, Tensor | None]:
    """Logits of tokens by their `places` in the flattened batch, (places, vocabulary), and of the pairs, (batch, 2), if
    there is a head; from what the encoder gave."""
    heads = _heads_of(model)
    pair_logits = None
    if heads.pair_logits is not None and _has_pair_head(model):
        pair_logits = heads.pair_logits(model, encoded)
    return heads.token_logits(model, encoded.last_hidden_state.flatten(0, 1)[places]), pair_logits


def rescale_embeddings(model: PreTrainedModel) -> None:
    """Scale embeddings that training made long, where that does not change the model's outputs."""
    if (rescale := _heads_of(model).rescale_embeddings) is not None:
        rescale(model)


def sentence_objective_of(model: PreTrainedModel) -> SentenceObjective:
    """What the model's head for pairs was trained to tell; "none" without one. A head that says nothing tells next
    sentences, as Google's; `sentence_pairs` is what 0.1.0 wrote."""
    if not _has_pair_head(model):
        return "none"
    of_before = "sop" if getattr(model.config, "sentence_pairs", None) == "order" else "nsp"
    return cast(SentenceObjective, getattr(model.config, "sentence_objective", of_before))


def _heads_of(model: PreTrainedModel) -> EncoderHeads:
    heads = encoder_heads(model.config)
    assert heads is not None, f"{model.config.model_type} is no encoder for masked tokens"
    return heads


def _has_pair_head(model: PreTrainedModel) -> bool:
    return _heads_of(model).pair_logits is not None and isinstance(model, _class_of(model.config, True))


def _class_of(config: PreTrainedConfig, pairs: bool) -> type[PreTrainedModel]:
    """transformers' class with a head for masked tokens and, with `pairs`, one for pairs where the model has it."""
    heads = encoder_heads(config)
    with_pairs = pairs and heads is not None and heads.pair_logits is not None
    found: Any = (MODEL_FOR_PRETRAINING_MAPPING if with_pairs else MODEL_FOR_MASKED_LM_MAPPING)[type(config)]
    return cast(type[PreTrainedModel], found)


def _load(name: str, pairs: bool | None, seed: int) -> tuple[PreTrainedModel, list[str], list[str]]:
    """The model, the parts of it that are new, and the saved ones that were left out."""
    with explain_failure(name):
        config = AutoConfig.from_pretrained(name, trust_remote_code=False)
    heads = encoder_heads(config)
    if heads is None:
        hint = f"give a run of pretrain-mlm, or a model of type {' or '.join(families_of('mlm'))}"
        raise UsageError(f"{name!r} is of type {config.model_type}", where=f"{name}/config.json, model_type", hint=hint)
    if pairs is None:
        with_pairs = _class_of(config, True).__name__
        pairs = heads.pair_logits is not None and with_pairs in (config.architectures or [with_pairs])
    if pairs and heads.pair_logits is None:
        hint = "set mlm.sentence_objective to none"
        raise UsageError(f"{config.model_type} has no head for pairs", where="mlm.sentence_objective", hint=hint)
    torch.manual_seed(seed)
    with explain_failure(name):
        loaded: Any = _class_of(config, pairs).from_pretrained(
            name, dtype=torch.float32, use_safetensors=True, trust_remote_code=False, output_loading_info=True
        )
    model: PreTrainedModel = loaded[0]
    info: dict[str, set[str]] = loaded[1]
    model.eval()
    return model, _parts(heads, info["missing_keys"]), _parts(heads, info["unexpected_keys"])


def _parts(heads: EncoderHeads, names: set[str]) -> list[str]:
    """What these weights belong to, in words."""
    return sorted(
        {next((part for start, part in heads.parts.items() if name.startswith(start)), name) for name in names}
    )
