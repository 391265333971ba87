"""An engine's name or accelerate's own file become settings; what llmkit has not is refused."""

from pathlib import Path

import pytest
import yaml
from accelerate.commands.config.config_args import ClusterConfig
from accelerate.commands.config.default import write_basic_config
from accelerate.utils import ComputeEnvironment, DistributedType

from llmkit.cli.app import app
from llmkit.config.engine_file import engine_overrides
from llmkit.config.loading import load_recipe
from llmkit.config.recipe import Recipe
from llmkit.errors import UsageError


def overrides(tmp_path: Path, **config: object) -> list[str]:
    path = tmp_path / "accelerate.yaml"
    path.write_text(yaml.safe_dump(config))
    return engine_overrides(str(path))


def test_name_of_an_engine_is_a_setting() -> None:
    assert engine_overrides("zero2") == ["train.engine=zero2"] and engine_overrides(None) == []


def test_mistyped_engine_is_met_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="neither an engine nor a file") as caught:
        engine_overrides("fsdp")
    assert "fsdp2" in caught.value.problems[0].hint


@pytest.mark.parametrize(
    ("config", "engine"),
    [
        ({"distributed_type": "MULTI_GPU"}, "ddp"),
        ({"distributed_type": "FSDP", "fsdp_config": {"fsdp_version": 2, "fsdp_reshard_after_forward": True}}, "fsdp2"),
        ({"distributed_type": "FSDP", "fsdp_config": {"fsdp_reshard_after_forward": False}}, "zero2"),
        ({"distributed_type": "FSDP", "fsdp_config": {"fsdp_sharding_strategy": "SHARD_GRAD_OP"}}, "zero2"),
        ({"distributed_type": "FSDP", "fsdp_config": {"fsdp_sharding_strategy": 2}}, "zero2"),
        ({"distributed_type": "FSDP", "fsdp_config": {"fsdp_sharding_strategy": 1}}, "fsdp2"),
        ({"distributed_type": "FSDP", "fsdp_config": {"fsdp_sharding_strategy": "NO_SHARD"}}, "ddp"),
        ({"distributed_type": "FSDP", "fsdp_config": {"fsdp_reshard_after_forward": "NO_SHARD"}}, "ddp"),
        ({"distributed_type": "DEEPSPEED", "deepspeed_config": {"zero_stage": 3}}, "zero3"),
    ],
)
def test_accelerate_s_file_names_an_engine(config: dict[str, object], engine: str, tmp_path: Path) -> None:
    assert overrides(tmp_path, **config) == [f"train.engine={engine}"]


def test_precision_and_checkpointing_are_read_too(tmp_path: Path) -> None:
    found = overrides(
        tmp_path, distributed_type="FSDP", mixed_precision="bf16", fsdp_config={"fsdp_activation_checkpointing": True}
    )
    assert found == ["train.engine=fsdp2", "train.precision=bf16", "train.gradient_checkpointing=true"]


def test_all_that_llmkit_has_not_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        overrides(
            tmp_path, distributed_type="MEGATRON_LM", mixed_precision="fp8",
            deepspeed_config={"offload_optimizer_device": "cpu"},
        )  # fmt: skip
    said = [problem.what.partition(":")[0] for problem in caught.value.problems]
    assert said == ["distributed_type", "mixed_precision", "offload_optimizer_device"]


@pytest.mark.parametrize(
    ("config", "key", "hint"),
    [
        ({"dynamo_config": {"dynamo_backend": "INDUCTOR"}}, "dynamo_backend", "train.compile"),
        ({"dynamo_config": "INDUCTOR"}, "dynamo_config", "leave it out"),
        ({"gradient_accumulation_steps": 4}, "gradient_accumulation_steps", "micro_batch_size"),
        ({"distributed_type": "FSDP", "fsdp_config": [1]}, "fsdp_config", "leave it out"),
        (
            {"distributed_type": "FSDP", "fsdp_config": {"fsdp_sharding_strategy": 4}},
            "fsdp_sharding_strategy",
            "NO_SHARD",
        ),
        (
            {
                "distributed_type": "FSDP",
                "fsdp_config": {"fsdp_reshard_after_forward": True, "fsdp_sharding_strategy": "NO_SHARD"},
            },
            "fsdp_sharding_strategy",
            "one key only",
        ),
        ({"distributed_type": "DEEPSPEED", "deepspeed_config": {"zero_stage": "auto"}}, "zero_stage", "2 or 3"),
        ({"distributed_type": "DEEPSPEED", "deepspeed_config": {}}, "zero_stage", "2 or 3"),
        ({"parallelism_config": {"parallelism_config_tp_size": 2}}, "parallelism_config_tp_size", "leave it out"),
        ({"gpu_ids": "0,1"}, "gpu_ids", "CUDA_VISIBLE_DEVICES"),
        ({"quantum_config": {"qubits": 7}}, "quantum_config", "leave it out"),
    ],
)
def test_one_thing_that_llmkit_has_not_is_refused_by_its_name(
    config: dict[str, object], key: str, hint: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError) as caught:
        overrides(tmp_path, **{"distributed_type": "MULTI_GPU", **config})
    (problem,) = caught.value.problems
    assert problem.what.startswith(f"{key}: ") and hint in problem.hint


FSDP_1 = {
    "fsdp_version": 1, "fsdp_reshard_after_forward": "SHARD_GRAD_OP", "fsdp_offload_params": False,
    "fsdp_auto_wrap_policy": "TRANSFORMER_BASED_WRAP", "fsdp_transformer_layer_cls_to_wrap": "GPT2Block",
    "fsdp_backward_prefetch": "BACKWARD_PRE", "fsdp_state_dict_type": "FULL_STATE_DICT",
    "fsdp_forward_prefetch": False, "fsdp_use_orig_params": True, "fsdp_cpu_ram_efficient_loading": True,
    "fsdp_sync_module_states": True, "fsdp_activation_checkpointing": False,
}  # fmt: skip
FSDP_2 = {
    "fsdp_version": 2, "fsdp_reshard_after_forward": True, "fsdp_offload_params": False,
    "fsdp_auto_wrap_policy": "TRANSFORMER_BASED_WRAP", "fsdp_state_dict_type": "SHARDED_STATE_DICT",
    "fsdp_cpu_ram_efficient_loading": True, "fsdp_activation_checkpointing": True,
}  # fmt: skip
DEEPSPEED = {
    "zero_stage": 3, "offload_optimizer_device": "none", "offload_param_device": "none",
    "gradient_accumulation_steps": 1, "zero3_save_16bit_model": True, "zero3_init_flag": True,
}  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "sections", "wanted"),
    [
        (DistributedType.NO, {}, ["train.engine=ddp", "train.precision=bf16"]),
        (DistributedType.MULTI_CPU, {}, ["train.engine=ddp", "train.precision=bf16"]),
        (DistributedType.FSDP, {"fsdp_config": FSDP_1}, ["train.engine=zero2", "train.precision=bf16"]),
        (
            DistributedType.FSDP,
            {"fsdp_config": FSDP_2},
            ["train.engine=fsdp2", "train.precision=bf16", "train.gradient_checkpointing=true"],
        ),
        (DistributedType.DEEPSPEED, {"deepspeed_config": DEEPSPEED}, ["train.engine=zero3", "train.precision=bf16"]),
    ],
)
def test_file_of_accelerate_s_own_questions_with_its_defaults_is_taken(
    kind: DistributedType, sections: dict[str, dict[str, object]], wanted: list[str], tmp_path: Path
) -> None:
    """All that its `get_cluster_input` writes where each question is answered by Enter."""
    path = tmp_path / "accelerate.yaml"
    names = ("deepspeed_config", "fsdp_config", "parallelism_config", "megatron_lm_config")
    answers: dict[str, dict[str, object]] = {name: {} for name in names}
    ClusterConfig(
        compute_environment=ComputeEnvironment.LOCAL_MACHINE, distributed_type=kind, mixed_precision="bf16",
        use_cpu=kind == DistributedType.MULTI_CPU, debug=False, num_processes=8, gpu_ids="all", downcast_bf16="no",
        machine_rank=1, num_machines=2, main_process_ip="10.0.0.1", main_process_port=29500, same_network=True,
        main_training_function="main", rdzv_backend="static", tpu_env=[], tpu_use_sudo=False, tpu_use_cluster=False,
        mpirun_config={}, dynamo_config={}, enable_cpu_affinity=False, **{**answers, **sections},
    ).to_yaml_file(path)  # fmt: skip
    assert engine_overrides(str(path)) == wanted


def test_file_of_accelerate_s_that_asks_nothing_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "default.json"
    write_basic_config("no", str(path))
    assert engine_overrides(str(path)) == ["train.engine=ddp", "train.precision=fp32"]


@pytest.mark.parametrize("command", [["pretrain-clm", "--data", "d"], ["finetune-cls", "--data", "d", "--model", "m"]])
def test_what_the_user_sets_beats_the_file(command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Seen(Exception):  # noqa: N818 - no error
        pass

    recipes: list[Recipe] = []

    def load(*given: object, **more: object) -> None:
        recipes.append(load_recipe(*given, **more))  # type: ignore[arg-type]  # as the command gives them
        raise Seen

    monkeypatch.setattr("llmkit.config.loading.load_recipe", load)
    path = tmp_path / "accelerate.yaml"
    path.write_text(yaml.safe_dump({"distributed_type": "MULTI_GPU", "mixed_precision": "no"}))
    with pytest.raises(Seen):
        words = ["--out", str(tmp_path / "run"), "--engine", str(path), "-s", "train.precision=bf16"]
        app([*command, *words], standalone_mode=False)
    assert (recipes[0].train.engine, recipes[0].train.precision) == ("ddp", "bf16")


@pytest.mark.parametrize("text", ["{", "- 1", "num_processes: 2"])
def test_other_files_are_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text(text)
    with pytest.raises(UsageError, match=r"YAML|distributed_type"):
        engine_overrides(str(tmp_path / "other.yaml"))
