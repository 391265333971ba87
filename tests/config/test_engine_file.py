"""An engine's name or accelerate's own file become settings; what llmkit has not is refused."""

from pathlib import Path

import pytest
import yaml

from llmkit.config.engine_file import engine_overrides
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
        ({"distributed_type": "DEEPSPEED", "deepspeed_config": {"zero_stage": 3}}, "zero3"),
    ],
)
def test_accelerate_s_file_names_an_engine(config: dict[str, object], engine: str, tmp_path: Path) -> None:
    assert overrides(tmp_path, **config) == [f"train.engine={engine}", "train.precision=fp32"]


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


@pytest.mark.parametrize("text", ["{", "- 1", "num_processes: 2"])
def test_other_files_are_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text(text)
    with pytest.raises(UsageError, match=r"YAML|distributed_type"):
        engine_overrides(str(tmp_path / "other.yaml"))
