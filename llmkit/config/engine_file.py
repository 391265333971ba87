"""What `--engine` says, as settings: the name of an engine, or a file that `accelerate config` wrote.

Of such a file is read what llmkit can do itself; what it cannot is refused, never passed over. How many processes and
machines there are is said by --nproc and --nnodes.
"""

from pathlib import Path
from typing import Any, get_args

import yaml

from llmkit.config.train import Train
from llmkit.errors import Problem, UsageError, did_you_mean

ENGINES: tuple[str, ...] = get_args(Train.model_fields["engine"].annotation)
WHOLE = ("NO", "MULTI_CPU", "MULTI_GPU")
PRECISIONS = {"no": "fp32", "bf16": "bf16"}
OFFLOADS = ("fsdp_offload_params", "offload_optimizer_device", "offload_param_device")


def engine_overrides(engine: str | None) -> list[str]:
    """As `--set` would say it.

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
        what = f"{str(path)!r} is not YAML: {str(error).splitlines()[0]}"
        raise UsageError(what, where="--engine", hint="give a file that `accelerate config` wrote") from None
    if not isinstance(config, dict) or "distributed_type" not in config:
        hint = "give a file that `accelerate config` wrote"
        raise UsageError(f"{str(path)!r} has no distributed_type", where=str(path), hint=hint)
    fsdp, zero = (config.get(name) or {} for name in ("fsdp_config", "deepspeed_config"))
    engine = _find_engine(str(config["distributed_type"]), fsdp, zero)
    precision = PRECISIONS.get(str(config.get("mixed_precision", "no")).lower())
    refused: dict[str, str] = {}
    if engine is None:
        refused["distributed_type"] = "FSDP, DEEPSPEED with zero_stage 2 or 3, MULTI_GPU or MULTI_CPU"
    if precision is None:
        refused["mixed_precision"] = "bf16 or no"
    refused |= dict.fromkeys([name for name in OFFLOADS if _is_set({**fsdp, **zero}.get(name))], "leave it out")
    if refused:
        problems = [Problem(f"{name}: llmkit has no such thing", str(path), hint) for name, hint in refused.items()]
        raise UsageError.from_problems(problems)
    checkpointing = ["train.gradient_checkpointing=true"] if _is_set(fsdp.get("fsdp_activation_checkpointing")) else []
    return [f"train.engine={engine}", f"train.precision={precision}", *checkpointing]


def _find_engine(kind: str, fsdp: dict[str, Any], zero: dict[str, Any]) -> str | None:
    """The name that llmkit has for it."""
    if kind == "FSDP":  # ZeRO 2 is what version 1 called SHARD_GRAD_OP and version 2 says with false
        kept = (fsdp.get("fsdp_reshard_after_forward"), fsdp.get("fsdp_sharding_strategy"))
        return "zero2" if str(kept[0]).upper() in ("FALSE", "SHARD_GRAD_OP") or kept[1] == "SHARD_GRAD_OP" else "fsdp2"
    if kind == "DEEPSPEED":
        return {2: "zero2", 3: "zero3"}.get(int(zero.get("zero_stage", 0)))
    return "ddp" if kind in WHOLE else None


def _is_set(value: Any) -> bool:
    return str(value).lower() not in ("none", "false")
