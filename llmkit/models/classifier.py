"""Any encoder or decoder of transformers with a head for labels: opened whole, or started from a language model.

The head belongs to the label map in the model's configuration. Where the map is the same, a head that exists goes on;
otherwise it is new, even if it has the right size, since its rows would stand for other labels.
"""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from transformers import AutoModelForSequenceClassification, PreTrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING

from llmkit.core.errors import ModelError, UsageError
from llmkit.models.layers import is_head
from llmkit.models.loading import explain_failure, longest_context, read_config

REGRESSION, MULTI_LABEL = "regression", "multi_label_classification"


def problem_type_of(config: PreTrainedConfig) -> str:
    """What a label is, in transformers' words, as the model's configuration has it."""
    if config.num_labels == 1:
        return REGRESSION
    return MULTI_LABEL if config.problem_type == MULTI_LABEL else "single_label_classification"


def labels_of(config: PreTrainedConfig) -> list[str]:
    """The labels in the order of their ids."""
    labels = {int(number): str(label) for number, label in (config.id2label or {}).items()}
    return [labels[number] for number in sorted(labels)]


def check_can_classify(config: PreTrainedConfig, name: str) -> None:
    """Refuse an architecture that has no head for labels.

    Raises:
        UsageError: with its type.
    """
    if type(config) not in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING:
        hint = "give an encoder or decoder of text, such as a BERT or a GPT-2"
        where = f"{name}/config.json, model_type"
        raise UsageError(f"transformers has no classifier of type {config.model_type}", where=where, hint=hint)


def open_classifier(name: str) -> PreTrainedModel:
    """A saved classifier in fp32 on the CPU, in evaluation mode.

    Raises:
        ModelError: weights are missing; otherwise as models/loading.py.
    """
    with explain_failure(name):
        loaded: Any = AutoModelForSequenceClassification.from_pretrained(
            name, dtype=torch.float32, use_safetensors=True, trust_remote_code=False, output_loading_info=True
        )
    model, info = cast(PreTrainedModel, loaded[0]), loaded[1]
    if info["missing_keys"]:
        what = f"the model lacks {len(info['missing_keys'])} weights, such as {min(info['missing_keys'])}"
        raise ModelError(what, where=name, hint="train it with finetune-cls first, which makes a head")
    model.eval()
    return model


def start_classifier(
    name: str,
    problem_type: str,
    label2id: Mapping[str, int],
    seed: int,
    *,
    shares: Sequence[float] = (),
    from_scratch: bool = False,
) -> tuple[PreTrainedModel, list[str]]:
    """A model with a head for these labels, in fp32 on the CPU; and in words what of it is new. What is new is made
    from `seed`.

    `shares` of rows with each of several labels are what a new head begins with, so that the first steps are not spent
    on learning that most labels are absent (Lin et al. 2017, section 4.1).

    Raises:
        ModelError: weights of the encoder are missing; otherwise as models/loading.py.
    """
    config = read_config(name)
    # Numbers are learned in deviations of the train file, which another file does not share.
    keeps_head = problem_type != REGRESSION and problem_type_of(config) == problem_type and _is_classifier(config)
    keeps_head = keeps_head and config.label2id == dict(label2id)
    config.num_labels = len(label2id)
    config.label2id, config.id2label = dict(label2id), {number: label for label, number in label2id.items()}
    config.problem_type = problem_type  # type: ignore[assignment]  # one of transformers' three words
    torch.manual_seed(seed)
    with explain_failure(name):
        fresh = AutoModelForSequenceClassification.from_config(config, dtype=torch.float32)
    _set_prior(fresh, shares)
    if from_scratch:
        return fresh, [f"all weights are new; of {name} only the shape and the tokenizer are taken"]
    with explain_failure(name):
        loaded: Any = AutoModelForSequenceClassification.from_pretrained(
            name, config=config, dtype=torch.float32, use_safetensors=True, trust_remote_code=False,
            output_loading_info=True, ignore_mismatched_sizes=True,
        )  # fmt: skip
    model, info = cast(PreTrainedModel, loaded[0]), loaded[1]
    head = set(_head_names(model))
    new = set(info["missing_keys"]) | {key[0] if isinstance(key, tuple) else key for key in info["mismatched_keys"]}
    if lacking := sorted(key for key in new if not is_head(model, key)):
        hint = "give a whole model"
        raise ModelError(
            f"weights of the encoder are missing from the model, such as {lacking[0]}", where=name, hint=hint
        )
    # A head that was trained with the masked tokens (ModernBERT's) knows no labels yet, and goes on.
    new |= set() if keeps_head or _is_masked(config) else head
    state = fresh.state_dict()
    model.load_state_dict({key: state[key] for key in new}, strict=False)
    notes = [f"the head is new: {', '.join(sorted({key.rpartition('.')[0] for key in new}))}"] if new else []
    return model, notes or ["the model's own head goes on: it has the same labels"]


def count_positions(config: PreTrainedConfig) -> int | None:
    """How many tokens a model of this configuration can read at once; None where it has no limit."""
    with torch.device("meta"):  # its shape, without its weights
        return longest_context(build_classifier(config))


def build_classifier(config: PreTrainedConfig) -> PreTrainedModel:
    """A classifier of this configuration, to load a checkpoint's weights into."""
    return cast(PreTrainedModel, AutoModelForSequenceClassification.from_config(config, dtype=torch.float32))


def _is_classifier(config: PreTrainedConfig) -> bool:
    return any(name.endswith("ForSequenceClassification") for name in config.architectures or ())


def _is_masked(config: PreTrainedConfig) -> bool:
    return any(name.endswith("ForMaskedLM") for name in config.architectures or ())


def _head_names(model: PreTrainedModel) -> list[str]:
    prefix = model.base_model_prefix + "."
    return [name for name in model.state_dict() if not name.startswith(prefix)]


def _set_prior(model: PreTrainedModel, shares: Sequence[float]) -> None:
    """A head without biases, as GPT-2's, stays as it is."""
    encoder = model.base_model_prefix + "."
    for name, weight in model.named_parameters():
        if not name.startswith(encoder) and name.endswith("bias") and weight.shape == (len(shares),):
            odds = torch.tensor(shares, dtype=torch.float64).clamp(1e-4, 1 - 1e-4).logit()
            with torch.no_grad():
                weight.copy_(odds)
