"""Merge a peft adapter (a folder with adapter_config.json) into its base model, so that every command can open it.

The merged model is a temporary folder, which is deleted when the process ends. Only safetensors are read, and no code
that comes with the adapter or the base model is run.
"""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, PreTrainedModel

from llmkit.core import console
from llmkit.core.console import first_line
from llmkit.core.errors import ModelError
from llmkit.core.files import temporary_folder
from llmkit.core.untrusted import CONVERT
from llmkit.models.layers import merge_lora, require_peft
from llmkit.tokens.loading import load_tokenizer

ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
AUTO_CLASSES = {"CAUSAL_LM": AutoModelForCausalLM, "SEQ_CLS": AutoModelForSequenceClassification}
"""transformers' class of the base model by peft's `task_type`."""
HEADS = ("score.weight", "classifier.weight", "out_proj.weight", "summary.weight", "logits_proj.weight")
"""Endings of the names of the last matrix of a classification head, (labels, width)."""
LoadBase = Callable[..., tuple[PreTrainedModel, set[str]]]
"""Loads a base model; returns it with the names of weights that are missing or have another shape."""


def is_adapter(folder: Path) -> bool:
    """Whether the folder has an adapter and no complete model."""
    return (folder / ADAPTER_CONFIG).is_file() and not (folder / "config.json").is_file()


@cache
def merge_adapter(folder: Path, load_base: LoadBase) -> str:
    """Return the path of a temporary model: the base model with the adapter in `folder` merged into its weights.

    `load_base(name, auto_class, **options)` loads the base model. Each adapter is merged once per process.

    Raises:
        EnvironmentFault: peft is not installed, or the base model cannot be downloaded.
        ModelError: the adapter is damaged, has a task other than AUTO_CLASSES, or does not fit its base model.
    """
    require_peft(str(folder / ADAPTER_CONFIG))
    settings = _read_settings(folder)
    auto_class = AUTO_CLASSES[settings["task_type"]]
    name = str(settings["base_model_name_or_path"])
    base = str(folder / name) if (folder / name).is_dir() else name
    if is_adapter(Path(base)):
        hint = "merge that adapter first, and name the merged model as base model"
        raise ModelError(f"the base model {name!r} is an adapter itself", where=str(folder / ADAPTER_CONFIG), hint=hint)
    options: dict[str, Any] = {}
    if auto_class is AutoModelForSequenceClassification:
        options = {"num_labels": n_labels} if (n_labels := _count_labels(folder)) else {}
    model, lacking = load_base(base, auto_class, **options)
    lacking -= _add_weights(model, folder, name)
    if lacking:
        what = f"the weight {min(lacking)} is missing from the adapter and from its base model {name!r}"
        hint = "train the adapter again with the module of this weight in modules_to_save"
        raise ModelError(what, where=str(folder), hint=hint)
    copy = temporary_folder()
    model.save_pretrained(copy)
    has_tokenizer = any((folder / each).is_file() for each in ("tokenizer.json", "tokenizer.model", "vocab.txt"))
    load_tokenizer(str(folder) if has_tokenizer else base).save_pretrained(copy)
    console.info(f"the adapter {folder} is merged into its base model {name}")
    return str(copy)


def _add_weights(model: PreTrainedModel, folder: Path, base: str) -> set[str]:
    """Merge the adapter's updates into the model, and replace the weights that the adapter stores in full, such as the
    head; return the names of the replaced weights.

    Raises:
        ModelError: the adapter's weights are not the ones that its configuration defines for this model.
    """
    import peft

    hint = "check base_model_name_or_path in adapter_config.json"
    weights = {}
    for name, weight in load_file(folder / ADAPTER_WEIGHTS).items():
        path, part, rest = name.removeprefix("base_model.model.").partition(".lora_")
        kind = rest.removesuffix(".weight")
        is_matrix = part and not kind.startswith("embedding")
        weights[f"{path}{part}{kind}.default" + (".weight" if is_matrix else "") if part else path] = weight
    try:
        config = peft.LoraConfig.from_peft_type(**_read_settings(folder))  # type: ignore[no-untyped-call]
        ranks = [len(weight) for key, weight in weights.items() if ".lora_A." in key or ".lora_embedding_A." in key]
        if max([config.r, *config.rank_pattern.values()]) > max(ranks, default=0):  # before allocating memory
            raise ValueError(f"its rank {config.r} differs from the rank of its weights")
        config.modules_to_save = None  # their weights replace the model's, below
        peft.inject_adapter_in_model(config, model)
        unknown = model.load_state_dict(weights, strict=False).unexpected_keys
    except (ValueError, RuntimeError, TypeError) as error:
        what = f"the adapter does not fit its base model {base!r}: {first_line(error)}"
        raise ModelError(what, where=str(folder), hint=hint) from error
    lacking = [name for name in model.state_dict() if ".lora_" in name and name not in weights]
    if unknown or lacking:
        wrong = f"the weight {unknown[0]} is unexpected" if unknown else f"the weight {lacking[0]} is missing"
        what = f"the adapter does not fit its base model {base!r}: {wrong}"
        raise ModelError(what, where=str(folder), hint=hint)
    merge_lora(model)
    return {name for name in weights if ".lora_" not in name}


def _read_settings(folder: Path) -> dict[str, Any]:
    """Return the adapter's configuration, which names the base model and the task."""
    where, hint = str(folder / ADAPTER_CONFIG), "give a folder that save_pretrained of peft has written"
    try:
        settings = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"the adapter's configuration cannot be read: {error}", where=where, hint=hint) from None
    if not isinstance(settings, dict) or not settings.get("base_model_name_or_path"):
        raise ModelError(
            "the adapter does not name its base model: base_model_name_or_path is not set", where=where, hint=hint
        )
    if settings.get("task_type") not in AUTO_CLASSES:
        what = f"the adapter is for the task {settings.get('task_type')!r}"
        hint = f"llmkit reads adapters with task_type {' or '.join(AUTO_CLASSES)}; if this is one, correct task_type"
        raise ModelError(what, where=where, hint=hint)
    if settings.get("peft_type") != "LORA":
        hint = "merge the adapter with peft first"
        what = f"the adapter is of type {settings.get('peft_type')}, not LORA"
        raise ModelError(what, where=where, hint=hint)
    if not (folder / ADAPTER_WEIGHTS).is_file():
        raise ModelError(f"the adapter has no {ADAPTER_WEIGHTS}", where=str(folder), hint=CONVERT)
    return settings


def _count_labels(folder: Path) -> int | None:
    """Return the number of labels of the adapter's head; None if the adapter has no head."""
    try:
        with safe_open(folder / ADAPTER_WEIGHTS, framework="pt") as weights:
            names = [name for name in weights.keys() if name.endswith(HEADS) and "lora_" not in name]  # noqa: SIM118
            return int(weights.get_slice(names[-1]).get_shape()[0]) if names else None
    except Exception as error:  # safetensors has its own exception type
        hint = "copy the folder of the adapter again"
        raise ModelError(f"the adapter's weights cannot be read: {error}", where=str(folder), hint=hint) from None
