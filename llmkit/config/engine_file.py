"""What `--engine` says, as settings: the name of an engine, or a file that `accelerate config` wrote.

Of such a file is read what llmkit can do itself; what it cannot, and what it does not know, is refused, never passed
over. What says nothing, such as `no` or an empty section, may stand anywhere. How many processes and machines there are
is said by --nproc and --nnodes; how weights are fetched ahead, loaded and saved is llmkit's own business (NOT_ASKED).
"""

from pathlib import Path
from typing import get_args

import yaml

from llmkit.config.train import Train
from llmkit.errors import Problem, UsageError, did_you_mean, first_line

ENGINES: tuple[str, ...] = get_args(Train.model_fields["engine"].annotation)
WHOLE = ("no", "multi_cpu", "multi_gpu")
PRECISIONS = {"no": "fp32", "false": "fp32", "bf16": "bf16"}
"""YAML reads a bare `no` as false."""
SHARDINGS = {
    "full_shard": "fsdp2", "1": "fsdp2", "true": "fsdp2",
    "shard_grad_op": "zero2", "2": "zero2", "false": "zero2",
    "no_shard": "ddp", "3": "ddp",
}  # fmt: skip
"""Version 1 of FSDP has names and torch's numbers for them; version 2 says whether a layer is given back after use."""
ZERO_STAGES = {"2": "zero2", "3": "zero3"}
SECTIONS = (
    "fsdp_config", "deepspeed_config", "dynamo_config", "parallelism_config", "megatron_lm_config", "mpirun_config",
    "fp8_config",
)  # fmt: skip
SHARDING_KEYS = ("fsdp_reshard_after_forward", "fsdp_sharding_strategy")
READ = ("distributed_type", "mixed_precision", "zero_stage", *SHARDING_KEYS)
NOT_ASKED = (
    "num_processes", "num_machines", "machine_rank", "main_process_ip", "main_process_port", "rdzv_backend",
    "same_network", "use_cpu", "deepspeed_multinode_launcher", "deepspeed_hostfile",
    "fsdp_transformer_layer_cls_to_wrap", "fsdp_backward_prefetch", "fsdp_forward_prefetch", "fsdp_use_orig_params",
    "fsdp_sync_module_states", "fsdp_cpu_ram_efficient_loading", "fsdp_state_dict_type",
    "zero3_init_flag", "zero3_save_16bit_model",
    "parallelism_config_dp_shard_size",  # with all other sizes 1 it is the number of ranks
)  # fmt: skip
NOTHING = ("none", "no", "false", "auto", "", "[]", "{}")
KNOWN = {
    "compute_environment": ("local_machine",),
    "gpu_ids": ("all",),
    "main_training_function": ("main",),
    "fsdp_version": ("1", "2"),
    "fsdp_auto_wrap_policy": ("transformer_based_wrap",),
    "fsdp_activation_checkpointing": ("true",),
    "fsdp_min_num_params": ("0",),
    "gradient_accumulation_steps": ("1",),
    "dynamo_mode": ("default",),
    "parallelism_config_dp_replicate_size": ("1",),
    "parallelism_config_tp_size": ("1",),
    "parallelism_config_cp_size": ("1",),
    "parallelism_config_sp_size": ("1",),
}
HINTS = {
    "compute_environment": "LOCAL_MACHINE",
    "gpu_ids": "leave it out, and set CUDA_VISIBLE_DEVICES",
    "fsdp_auto_wrap_policy": "TRANSFORMER_BASED_WRAP: llmkit shards layer by layer",
    "gradient_accumulation_steps": "leave it out: it follows from train.global_batch_size and train.micro_batch_size",
    "gradient_clipping": "leave it out, and set optim.max_grad_norm by -s or in the recipe",
    "deepspeed_config_file": "leave it out, and say zero_stage here",
    "dynamo_backend": "leave it out; -s train.compile=whole compiles a step, layers each layer",
}


def engine_overrides(engine: str | None) -> list[str]:
    """As `--set` would say it; what the user sets by it comes after these, and beats them.

    Raises:
        UsageError: neither an engine nor a file, or a file that asks for what llmkit has not; all of it at once.
    """
    if engine is None:
        return []
    if engine in ENGINES:
        return [f"train.engine={engine}"]
    if not Path(engine).is_file():
        hint = did_you_mean(engine, ENGINES)
        raise UsageError(f"{engine!r} is neither an engine nor a file", where="--engine", hint=hint)
    return _read(Path(engine))


def _read(path: Path) -> list[str]:
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        what = f"{str(path)!r} is not YAML: {first_line(error)}"
        raise UsageError(what, where="--engine", hint="give a file that `accelerate config` wrote") from None
    if not isinstance(config, dict) or "distributed_type" not in config:
        hint = "give a file that `accelerate config` wrote"
        raise UsageError(f"{str(path)!r} has no distributed_type", where=str(path), hint=hint)
    pairs = _flatten(config)
    words = dict(pairs)
    overrides: dict[str, str] = {}
    refused = _find_engine(words, overrides)
    if words.get("mixed_precision", "none") in PRECISIONS:
        overrides["train.precision"] = PRECISIONS[words["mixed_precision"]]
    elif words.get("mixed_precision", "none") != "none":
        refused["mixed_precision"] = "bf16 or no"
    if words.get("fsdp_activation_checkpointing") == "true":
        overrides["train.gradient_checkpointing"] = "true"
    for name, word in pairs:
        if name not in READ + NOT_ASKED and word not in NOTHING + KNOWN.get(name, ()):
            refused[name] = HINTS.get(name, "leave it out")
    if refused:
        problems = [
            Problem(f"{name}: {words.get(name)} is nothing that llmkit has", str(path), hint)
            for name, hint in refused.items()
        ]
        raise UsageError.from_problems(problems)
    return [f"{name}={value}" for name, value in overrides.items()]


def _flatten(config: dict[object, object]) -> list[tuple[str, str]]:
    """Each key with its value as a word in small letters; the sections' keys beside the others. A section that is none
    stays a key, which nothing knows."""
    pairs: list[tuple[object, object]] = []
    for key, value in config.items():
        pairs += value.items() if key in SECTIONS and isinstance(value, dict) else [(key, value)]
    return [(str(key), str(value).strip().lower()) for key, value in pairs]


def _find_engine(words: dict[str, str], overrides: dict[str, str]) -> dict[str, str]:
    """Put the name that llmkit has for it into `overrides`; otherwise the key that is at fault, with a hint."""
    kind = words["distributed_type"]
    if kind == "fsdp":
        said = [name for name in SHARDING_KEYS if words.get(name, "none") != "none"]
        engines = {SHARDINGS.get(words[name], "") for name in said} or {"fsdp2"}
        if len(engines) > 1 or "" in engines:
            return {said[-1]: "by one key only: FULL_SHARD, SHARD_GRAD_OP, NO_SHARD, true or false"}
        overrides["train.engine"] = engines.pop()
    elif kind == "deepspeed":
        if words.get("zero_stage") not in ZERO_STAGES:
            return {"zero_stage": "2 or 3"}
        overrides["train.engine"] = ZERO_STAGES[words["zero_stage"]]
    elif kind in WHOLE:
        overrides["train.engine"] = "ddp"
    else:
        return {"distributed_type": "FSDP, DEEPSPEED with zero_stage 2 or 3, MULTI_GPU or MULTI_CPU"}
    return {}
