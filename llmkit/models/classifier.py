"""Models with a head for labels or answers on any encoder or decoder of transformers: load a saved one, or start from a
language model.

Rows of a saved head are kept by the names of their labels (saved_head.py).
"""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from llmkit.core.errors import ModelError, UsageError
from llmkit.models.layers import is_head
from llmkit.models.loading import (
    load_complete,
    load_pretrained,
    max_context_length,
    read_config,
    translate_loading_errors,
)
from llmkit.models.saved_head import (
    REGRESSION,
    TEXT_LABELS,
    HeadKind,
    HeadSpec,
    has_head,
    keep_rows,
    match_head,
)


def check_can_classify(config: PreTrainedConfig, name: str, kind: HeadKind = TEXT_LABELS) -> None:
    """Check that transformers has a model with this kind of head for this model type.

    Raises:
        UsageError: there is none; the error names the model type.
    """
    if type(config) not in kind.auto_class._model_mapping:
        hint = "give an encoder or decoder of text, such as a BERT or a GPT-2"
        where = f"{name}/config.json, model_type"
        raise UsageError(f"transformers has no {kind.noun} of type {config.model_type}", where=where, hint=hint)


def load_classifier(name: str, kind: HeadKind = TEXT_LABELS) -> PreTrainedModel:
    """Load a saved model with its head in fp32 on the CPU, in evaluation mode.

    Raises:
        ModelError: weights are missing, or loading fails (see models/loading.py).
        EnvironmentFault: see models/loading.py.
    """
    return load_complete(name, kind.auto_class, f"train the model with {kind.command} first, which adds the head")


def load_classifier_for_training(
    name: str, head: HeadSpec, seed: int, *, from_scratch: bool = False
) -> tuple[PreTrainedModel, list[str]]:
    """Load a model with the head that training needs, in fp32 on the CPU; returns it with notes on its new parts.

    Labels of the saved head keep their rows (saved_head.py). New weights are initialized from `seed`. The bias of a
    new row starts at the logit of its label frequency. Training then spends no steps on learning the label frequencies
    (Lin et al. 2017, section 4.1). With `from_scratch` all weights are new.

    Raises:
        ModelError: encoder weights are missing, or loading fails (see models/loading.py).
        EnvironmentFault: see models/loading.py.
    """
    saved_config, config = read_config(name), read_config(name)
    label2id = dict(head.label2id)
    config.num_labels = len(label2id)
    config.label2id, config.id2label = label2id, {number: label for label, number in label2id.items()}
    config.problem_type = head.problem_type  # type: ignore[assignment]  # one of transformers' three values
    torch.manual_seed(seed)
    with translate_loading_errors(name):
        fresh = head.kind.auto_class.from_config(config, dtype=torch.float32)
    _init_head_bias(fresh, head.label_frequencies)
    if from_scratch:
        return fresh, [f"all weights start random; only the architecture and the tokenizer of {name} are used"]
    match = match_head(saved_config, head)
    if match.rows and not match.is_same:
        saved, new = _load_encoder(name, saved_config, head.kind)
        if not new:
            keep_rows(fresh, saved.state_dict(), match.rows, head.kind)
            return fresh.eval(), [match.note]
    model, new = _load_encoder(name, config, head.kind)
    # ModernBERT's classifier starts with layers of its head for masked tokens; these are kept.
    if not match.is_same and not has_head(config, "ForMaskedLM"):
        new |= {key for key in model.state_dict() if not key.startswith(model.base_model_prefix + ".")}
    state = fresh.state_dict()
    model.load_state_dict({key: state[key] for key in new}, strict=False)
    if not new:
        if head.problem_type == REGRESSION:  # the saved head predicts in the unit of the labels; training standardizes
            mean, std = head.target_scale
            fold_target_scale(model, -mean / std, 1 / std)
        return model, [match.note] if match.note else []
    layers = ", ".join(sorted({key.rpartition(".")[0] for key in new}))
    notes = [match.note] if match.note and not match.rows else []
    return model, [*notes, f"layers that start with random weights: {layers}"]


def _load_encoder(name: str, config: PreTrainedConfig, kind: HeadKind) -> tuple[PreTrainedModel, set[str]]:
    """Load a model; returns it with the names of weights of its head that are missing or have another shape.

    Raises:
        ModelError: weights of the encoder are missing.
    """
    model, info = load_pretrained(name, kind.auto_class, config=config, ignore_mismatched_sizes=True)
    new = set(info["missing_keys"]) | {key[0] if isinstance(key, tuple) else key for key in info["mismatched_keys"]}
    if lacking := sorted(key for key in new if not is_head(model, key)):
        hint = "give a complete model"
        raise ModelError(
            f"weights of the encoder are missing from the model, such as {lacking[0]}", where=name, hint=hint
        )
    return model, new


@torch.no_grad()
def fold_target_scale(model: PreTrainedModel, mean: float, std: float) -> bool:
    """Make a regression model predict `std` times its output plus `mean`, in place, by changing its last layer.

    A head without a bias gets the mean from the bias of the layer norm before it, as in GPT-2: with output W (h + b),
    the bias b + mean W / |W|^2 adds the mean. Returns False, and changes nothing, if neither layer has a bias.
    """
    heads = [
        module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and module.out_features == 1 and is_head(model, name)
    ]
    if not heads:
        return False
    last = heads[-1]
    bias = cast(Tensor | None, last.bias)
    norm_bias = getattr(getattr(model.base_model, "ln_f", None), "bias", None)
    if bias is None and norm_bias is None:
        return False
    last.weight *= std
    if bias is not None:
        bias.copy_(bias * std + mean)
    else:
        cast(Tensor, norm_bias).add_(mean * last.weight[0] / last.weight.square().sum())
    return True


def count_positions(config: PreTrainedConfig, kind: HeadKind = TEXT_LABELS) -> int | None:
    """Return the maximum number of input tokens for this configuration; None if unlimited."""
    with torch.device("meta"):  # no memory for weights
        return max_context_length(build_classifier(config, kind))


def build_classifier(config: PreTrainedConfig, kind: HeadKind = TEXT_LABELS) -> PreTrainedModel:
    """Return a new model with this configuration in fp32, for example to load a checkpoint into it."""
    return cast(PreTrainedModel, kind.auto_class.from_config(config, dtype=torch.float32))


@torch.no_grad()
def reset_pooler(model: PreTrainedModel) -> bool:
    """Set the pooler, the dense layer with tanh after the first token (BERT, ALBERT), to the identity, in place.

    Narrow models learn labels faster with the identity than with a pooler pretrained on sentence pairs (docs/log.md).
    Returns whether the model has a pooler; a model without one is unchanged.
    """
    pooler = getattr(model.base_model, "pooler", None)
    dense = getattr(pooler, "dense", pooler)
    if not isinstance(dense, nn.Linear) or dense.in_features != dense.out_features:
        return False
    nn.init.eye_(dense.weight)
    nn.init.zeros_(dense.bias)
    return True


def _init_head_bias(model: PreTrainedModel, label_frequencies: Sequence[float]) -> None:
    """Set the bias of the head to the logits of the label frequencies; heads without a bias (GPT-2) stay unchanged."""
    encoder = model.base_model_prefix + "."
    for name, weight in model.named_parameters():
        if not name.startswith(encoder) and name.endswith("bias") and weight.shape == (len(label_frequencies),):
            odds = torch.tensor(label_frequencies, dtype=torch.float64).clamp(1e-4, 1 - 1e-4).logit()
            with torch.no_grad():
                weight.copy_(odds)
