"""Models with a head for the start and the end of an answer, on any encoder or decoder of transformers that has one."""

from typing import cast

import torch
from transformers import AutoModelForQuestionAnswering, PreTrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_QUESTION_ANSWERING_MAPPING

from llmkit.core.errors import ModelError, UsageError
from llmkit.models.layers import is_head
from llmkit.models.loading import (
    load_complete,
    load_pretrained,
    max_context_length,
    read_config,
    translate_loading_errors,
)

N_OUTPUTS = 2
"""Outputs per token: start and end."""
_HEAD = "qa_outputs"


def check_can_answer(config: PreTrainedConfig, name: str) -> None:
    """Check that transformers has a question-answering head for this model type.

    Raises:
        UsageError: there is none; the error names the model type.
    """
    if type(config) not in MODEL_FOR_QUESTION_ANSWERING_MAPPING:
        what = f"transformers has no head for question answering of type {config.model_type}"
        hint = "give an encoder of text, such as a BERT, or a decoder, such as a GPT-2"
        raise UsageError(what, where=f"{name}/config.json, model_type", hint=hint)


def load_reader(name: str) -> PreTrainedModel:
    """Load a saved model in fp32 on the CPU, in evaluation mode.

    Raises:
        ModelError: weights are missing, or loading fails (see models/loading.py).
        EnvironmentFault: see models/loading.py.
    """
    return load_complete(
        name, AutoModelForQuestionAnswering, "train it with finetune-qa first, which adds a head for answers"
    )


def load_reader_for_training(name: str, seed: int, *, from_scratch: bool = False) -> tuple[PreTrainedModel, list[str]]:
    """Load a model with a head for answers, in fp32 on the CPU; returns it with notes on its new parts.

    A saved head is kept. New weights are initialized from `seed`. With `from_scratch` all weights are new.

    Raises:
        ModelError: encoder weights are missing, or loading fails (see models/loading.py).
        EnvironmentFault: see models/loading.py.
    """
    config = read_config(name)
    config.num_labels = N_OUTPUTS
    torch.manual_seed(seed)
    with translate_loading_errors(name):
        fresh = build_reader(config)
    if from_scratch:
        return fresh.eval(), [f"all weights start random; only the architecture and the tokenizer of {name} are used"]
    model, info = load_pretrained(name, AutoModelForQuestionAnswering, config=config, ignore_mismatched_sizes=True)
    new = set(info["missing_keys"]) | {key[0] if isinstance(key, tuple) else key for key in info["mismatched_keys"]}
    if lacking := sorted(key for key in new if not _is_head(model, key)):
        what = f"weights of the encoder are missing from the model, such as {lacking[0]}"
        raise ModelError(what, where=name, hint="give a complete model")
    if not new:
        return model, ["the model's head for answers is kept"]
    state = fresh.state_dict()
    model.load_state_dict({key: state[key] for key in new}, strict=False)
    layers = ", ".join(sorted({key.rpartition(".")[0] for key in new}))
    return model, [f"layers that start with random weights: {layers}"]


def _is_head(model: PreTrainedModel, name: str) -> bool:
    return name.startswith(_HEAD) or (model.base_model is not model and is_head(model, name))


def build_reader(config: PreTrainedConfig) -> PreTrainedModel:
    """Return a new model with this configuration in fp32, for example to load a checkpoint into it."""
    return cast(PreTrainedModel, AutoModelForQuestionAnswering.from_config(config, dtype=torch.float32))


def count_positions(config: PreTrainedConfig) -> int | None:
    """Return the maximum number of input tokens for this configuration; None if unlimited."""
    with torch.device("meta"):  # no memory for weights
        return max_context_length(build_reader(config))
