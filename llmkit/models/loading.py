"""Find and load models: run folders, saved model folders and hub names.

Only safetensors are loaded, remote code is never run, and local paths never use the network. The model type is checked
before the weights are loaded.
"""

import math
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, cast

import torch
from huggingface_hub import try_to_load_from_cache
from huggingface_hub.errors import HFValidationError
from safetensors import SafetensorError, safe_open
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    GenerationConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from llmkit.architectures import ARCHITECTURES, families_of
from llmkit.core import console
from llmkit.core.console import first_line
from llmkit.core.devices import pick_device
from llmkit.core.errors import EnvironmentFault, LlmkitError, ModelError, UsageError
from llmkit.core.model_folder import find_model_folder
from llmkit.core.output_paths import expand_home
from llmkit.core.untrusted import CONVERT, check_model_files
from llmkit.models.adapters import is_adapter, merge_adapter
from llmkit.models.pickles import PREFIX, convert_pickle
from llmkit.tokens.loading import fetch_from_hub, require_on_hub
from llmkit.tokens.tokenizer import count_ids

Kind = Literal["causal", "masked", "classifier", "token classifier", "reader"]
COMMANDS_BY_KIND: dict[Kind, tuple[str, str]] = {
    "causal": ("a causal language model", "pretrain-clm, eval, generate, finetune-cls, -ner, -qa"),
    "masked": ("a masked language model", "pretrain-mlm, eval, generate (fill-in), finetune-cls, -ner, -qa"),
    "classifier": ("a classifier", "finetune-cls, eval, predict"),
    "token classifier": ("a token classifier", "finetune-ner, eval, predict"),
    "reader": ("a reader, which answers questions", "finetune-qa, eval, predict"),
}
"""What a model is, and the commands that accept it."""
_KINDS_BY_ENDING: dict[str, Kind] = {
    "ForSequenceClassification": "classifier",
    "ForTokenClassification": "token classifier",
    "ForQuestionAnswering": "reader",
    "ForQuestionAnsweringSimple": "reader",
}


def resolve_model(name: str) -> str:
    """Return the folder or hub name for `from_pretrained`.

    A run folder resolves to its `model/`, `pickle:FOLDER` to a copy of FOLDER in safetensors, and a peft adapter to a
    copy of its base model with the adapter merged.

    Raises:
        ModelError: an unfinished run, a folder without a model, or a path that does not exist.
    """
    if name.startswith(PREFIX):
        return convert_pickle(expand_home(name.removeprefix(PREFIX)))
    if is_adapter(Path(name)):
        return merge_adapter(Path(name), _load_base)
    return find_model_folder(name)


def _load_base(name: str, auto_class: Any, **options: Any) -> tuple[PreTrainedModel, set[str]]:
    """Return the base model of an adapter, and the names of weights that are missing or have another shape."""
    path = resolve_model(name)
    check_hub(path)
    model, info = load_pretrained(path, auto_class, ignore_mismatched_sizes=True, **options)
    wrong = {key[0] if isinstance(key, tuple) else key for key in info["mismatched_keys"]}
    return model, set(info["missing_keys"]) | wrong


def check_hub(name: str) -> None:
    """Check with a short timeout that the hub has a model that is not cached; transformers would retry for a minute."""
    if Path(name).exists():
        return
    try:
        cached = try_to_load_from_cache(name, "config.json")
    except HFValidationError:  # not a valid repository name
        cached = None
    if cached is None:
        require_on_hub(name)


def read_config(name: str) -> PreTrainedConfig:
    """Load a model's configuration without its weights.

    Raises:
        ModelError, EnvironmentFault: as `load_causal_lm`; ModelError also if sizes do not match the weights.
    """
    check_hub(name)
    with translate_loading_errors(name):
        config = cast(PreTrainedConfig, AutoConfig.from_pretrained(name, trust_remote_code=False))
    _check_sizes(name, config)
    return config


def _check_sizes(name: str, config: PreTrainedConfig) -> None:
    """Check that the weight files can have the sizes of the configuration, before memory is allocated."""
    n_tensors = largest = 0
    with suppress(SafetensorError, OSError):  # loading reports damaged files
        for path in Path(name).glob("*.safetensors") if Path(name).is_dir() else ():
            with safe_open(path, framework="pt") as file:
                shapes = [file.get_slice(key).get_shape() for key in file.keys()]  # noqa: SIM118 - not a mapping
            n_tensors += len(shapes)
            largest = max([largest, *(size for shape in shapes for size in shape)])
    bounds = dict.fromkeys(("hidden_size", "num_attention_heads", "vocab_size"), largest)
    bounds["num_hidden_layers"] = 10 * n_tensors  # layers may share weights
    for key, bound in bounds.items():
        size = getattr(config.get_text_config(), key, None)
        if isinstance(size, int) and (size < 1 or (n_tensors and size > bound)):
            what = f"{key} is {size:,}, which does not fit the weights" if size > 0 else f"{key} is {size:,}"
            hint = "restore config.json from the original model"
            raise ModelError(what, where=f"{name}/config.json", hint=hint)
    for key, value in config.get_text_config().to_dict().items():
        is_rate = key.endswith(("dropout", "dropout_prob", "pdrop")) and isinstance(value, int | float)
        if (isinstance(value, float) and math.isnan(value)) or (is_rate and not 0 <= value <= 1):
            hint = "restore config.json from the original model"
            raise ModelError(f"{key} is {value}", where=f"{name}/config.json", hint=hint)


def read_architecture(name: str) -> tuple[str, str]:
    """Return the first entry of `architectures` in config.json (empty if there is none) and the `model_type`.

    Raises:
        ModelError, EnvironmentFault: as `load_causal_lm`.
    """
    config = read_config(name)
    names = config.architectures or []
    if not isinstance(names, list) or not all(isinstance(each, str) for each in names):
        hint = "restore config.json from the original model"
        raise ModelError(f"{names!r} is not a list of names", where=f"{name}/config.json, architectures", hint=hint)
    return next(iter(names), ""), config.model_type


def is_causal(architecture: str, model_type: str) -> bool:
    """Whether a model is a causal language model."""
    if not architecture:
        return model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and not is_masked(architecture, model_type)
    return architecture.endswith(("ForCausalLM", "LMHeadModel")) and not architecture.startswith("Bert")


def is_masked(architecture: str, model_type: str) -> bool:
    """Whether a model is a masked language model. Google's miniature BERTs name no architecture."""
    if not architecture:
        return model_type in families_of("mlm")
    return architecture.endswith("ForMaskedLM") or architecture == "BertForPreTraining"


def no_head(name: str, what: str) -> UsageError:
    """Return the error for a model that lacks the head for a task."""
    hint = "give a language model, such as a run of pretrain-clm; or train this model with finetune-cls"
    what = f"{name!r} is a {what}, not a ForCausalLM, ForMaskedLM or ForSequenceClassification model"
    return UsageError(what, where=f"{name}/config.json, architectures", hint=hint)


def read_kind(name: str) -> Kind:
    """Return the kind of a model, such as a causal language model or a classifier.

    Raises:
        UsageError: the model has none of these kinds.
        ModelError, EnvironmentFault: as `load_causal_lm`.
    """
    architecture, model_type = read_architecture(name)
    if is_causal(architecture, model_type):
        return "causal"
    if is_masked(architecture, model_type):
        return "masked"
    for ending, kind in _KINDS_BY_ENDING.items():
        if architecture.endswith(ending):
            return kind
    raise no_head(name, architecture or model_type)


def wrong_kind(name: str, kind: Kind, path: str) -> UsageError:
    """Return the error for a model of the wrong kind; it names the commands that accept the model."""
    what, commands = COMMANDS_BY_KIND[kind]
    hint = f"use the model with: {commands}"
    return UsageError(f"{name!r} is {what}", where=f"{path}/config.json, architectures", hint=hint)


def check_causal(name: str) -> None:
    """Check that a model is a causal language model.

    Raises:
        UsageError: another kind of model; the error names the commands that accept it.
        ModelError, EnvironmentFault: as `load_causal_lm`.
    """
    if (kind := read_kind(name)) != "causal":
        raise wrong_kind(name, kind, name)


def load_pretrained(name: str, auto_class: Any, **options: Any) -> tuple[PreTrainedModel, dict[str, set[Any]]]:
    """Load a model in fp32 on the CPU, in evaluation mode; returns it with transformers' report on its weights.

    Raises:
        ModelError, EnvironmentFault: as `load_causal_lm`.
    """
    with translate_loading_errors(name):
        model, info = auto_class.from_pretrained(
            name, dtype=torch.float32, use_safetensors=True, trust_remote_code=False, output_loading_info=True,
            **options,
        )  # fmt: skip
    model.eval()
    return model, info


def load_complete(name: str, auto_class: Any, hint: str) -> PreTrainedModel:
    """Like `load_pretrained`, but missing weights are an error; transformers would initialize them at random.

    Raises:
        ModelError: weights are missing; `hint` is the hint of the error.
    """
    model, info = load_pretrained(name, auto_class)
    if missing := info["missing_keys"]:
        what = f"the model lacks {console.count(len(missing), 'tensor')} of its weights: {min(missing)}"
        raise ModelError(what + (" and others" if len(missing) > 1 else ""), where=name, hint=hint)
    return model


def load_masked_lm(name: str) -> PreTrainedModel:
    """Load a masked language model of any architecture in fp32 on the CPU, in evaluation mode.

    Raises:
        ModelError: weights are missing, which transformers would initialize at random; or as `load_causal_lm`.
        EnvironmentFault: as `load_causal_lm`.
    """
    return load_complete(name, AutoModelForMaskedLM, "give a complete masked language model")


def load_causal_lm(name: str) -> PreTrainedModel:
    """Load a causal language model in fp32 on the CPU, in evaluation mode.

    Raises:
        UsageError: another kind of model, or a model whose tokens attend to later tokens, such as XLNet or a RoBERTa.
        ModelError: missing weights, missing or damaged files, pickled weights, or remote code.
        EnvironmentFault: a hub name without network access.
    """
    check_causal(name)
    model = load_complete(name, AutoModelForCausalLM, "give a complete causal language model")
    if not sees_only_the_past(model):
        what = f"the tokens of this {type(model).__name__} attend to later tokens, so it cannot score or generate text"
        hint = "use the model with finetune-cls; a decoder of this type has is_decoder: true in config.json"
        raise UsageError(what, where=f"{name}/config.json, architectures", hint=hint)
    return model


@torch.inference_mode()
def sees_only_the_past(model: PreTrainedModel) -> bool:
    """Whether changing the last token leaves the logits before it unchanged, tested on two short inputs.

    llmkit's own architectures are not tested.
    """
    if any(model.config.model_type == each.model_type for each in ARCHITECTURES.values()):
        return True
    ids = torch.arange(4) % embedding_rows(model)
    logits = model(input_ids=torch.stack([ids, torch.cat([ids[:3], ids[:1]])])).logits[:, :3]
    return torch.allclose(logits[0], logits[1], rtol=1e-3, atol=1e-3, equal_nan=True)


def embedding_rows(model: PreTrainedModel) -> int:
    """Return the number of token embeddings, which is also the width of the logits.

    Raises:
        ModelError: the model has no table of token embeddings, such as CANINE, which hashes characters.
    """
    try:
        return len(cast(nn.Embedding, model.get_input_embeddings()).weight)
    except (NotImplementedError, AttributeError):
        hint = "give a model that reads the tokens of a tokenizer"
        what = f"a model of type {model.config.model_type} has no table of token embeddings"
        raise ModelError(what, where="config.json, model_type", hint=hint) from None


def max_context_length(model: PreTrainedModel) -> int | None:
    """Return the maximum number of input tokens; None if unlimited."""
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding) and module.padding_idx is not None:
            return module.num_embeddings - module.padding_idx - 1  # RoBERTa's positions start after padding_idx
    positions = getattr(model.config, "max_position_embeddings", None)
    return None if positions is None or positions <= 0 else int(positions)  # -1 in XLNet, which has no limit


def put_on_device(model: PreTrainedModel) -> PreTrainedModel:
    """Move the model to `pick_device()`."""
    model.to(pick_device())  # type: ignore[arg-type]  # transformers' decorator hides the method's own signature
    return model


def check_vocabulary(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, name: str) -> None:
    """Check that the model has an embedding for each id of the tokenizer; larger ids crash or give wrong results.

    Raises:
        ModelError: an id has no embedding; the error gives both sizes.
    """
    rows = embedding_rows(model)
    if (n_ids := count_ids(tokenizer)) > rows:
        ids = "" if n_ids == len(tokenizer) else f" and ids up to {n_ids - 1}"
        what = f"the tokenizer has {len(tokenizer)} entries{ids}, but the model's embedding has only {rows}"
        hint = "use the model's own tokenizer, or set model.resize_embeddings=true to grow the model"
        raise ModelError(what, where=name, hint=hint)


def _is_generation_config_bad(folder: Path) -> bool:
    """Whether transformers refuses the settings of generation_config.json, which it reads with the weights."""
    if not (folder / "generation_config.json").is_file():
        return False
    try:
        GenerationConfig.from_pretrained(folder)
    except Exception:  # of nearly any type
        return True
    return False


class translate_loading_errors:  # noqa: N801 - used like a function: with translate_loading_errors(name)
    """Context manager around each `from_pretrained`: checks the model's files and converts exceptions.

    Raises:
        ModelError: a file refers to a path outside of the model (untrusted.py), or the model cannot be loaded.
        EnvironmentFault: a hub name that cannot be downloaded.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def __enter__(self) -> None:
        check_model_files(self.name, fetch_from_hub(self.name))

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if error is None or not isinstance(error, Exception) or isinstance(error, LlmkitError):
            return
        message = first_line(error)
        if "ignore_mismatched_sizes" in message:
            message = "the shapes of its weights differ from config.json"
        if "trust_remote_code" in str(error):  # transformers' own message advises to run remote code
            hint = "give a model of an architecture that transformers or llmkit has"
            raise ModelError("the model needs remote code, which is never run", where=self.name, hint=hint) from error
        if Path(self.name).exists():
            what = f"the model cannot be loaded: {message}"
            if _is_generation_config_bad(Path(self.name)):
                hint = "remove the setting or the file; llmkit reads only eos_token_id from it"
                raise ModelError(what, where=f"{self.name}/generation_config.json", hint=hint) from error
            raise ModelError(
                what, where=self.name, hint="give a complete model in safetensors without remote code"
            ) from error
        if "safetensors" in message:
            raise ModelError(
                f"the weights of {self.name!r} are not safetensors", where=self.name, hint=CONVERT
            ) from error
        what = f"{self.name!r} is not a local folder and could not be downloaded from the hub: {message}"
        hint = "check the name and the network; HF_HUB_OFFLINE=1 uses only what is in the cache"
        raise EnvironmentFault(what, where="Hugging Face hub", hint=hint) from error
