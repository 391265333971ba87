"""Load a model for training on extractive question answering; any type for which transformers has such a head.

The head has two outputs per token: the logits of the start and of the end of the answer.

classifier.py builds such models, and loads trained ones, with the kind ANSWER_SPANS.
"""

import torch
from transformers import PreTrainedModel

from llmkit.core.errors import ModelError
from llmkit.models.classifier import build_classifier
from llmkit.models.layers import is_head
from llmkit.models.loading import load_pretrained, read_config, translate_loading_errors
from llmkit.models.saved_head import ANSWER_SPANS

N_OUTPUTS = 2
"""Outputs per token: start and end."""
_HEAD = "qa_outputs"


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
        fresh = build_classifier(config, ANSWER_SPANS)
    if from_scratch:
        return fresh.eval(), [f"all weights start random; only the architecture and the tokenizer of {name} are used"]
    model, info = load_pretrained(name, ANSWER_SPANS.auto_class, config=config, ignore_mismatched_sizes=True)
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
