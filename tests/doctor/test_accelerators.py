"""GPUs that are there, are not seen, were not built for, or cannot compute, with a made-up driver and torch."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from llmkit.doctor.accelerators import Driver, check_accelerators, has_kernels, read_driver

H100 = "NVIDIA H100 80GB HBM3"
NONE = Driver([])


def _refuse() -> Any:
    raise RuntimeError("CUDA error: no kernel image is available\nmore")


def make_torch(
    n_gpus: int = 0, *, cuda: str | None = "13.0", hip: str | None = None, free: float = 0.99, major: int = 9,
    name: str = H100, nccl: bool = True, working: bool = True,
) -> Any:  # fmt: skip
    return SimpleNamespace(
        version=SimpleNamespace(cuda=cuda, hip=hip),
        cuda=SimpleNamespace(
            is_available=lambda: n_gpus > 0,
            device_count=lambda: n_gpus,
            get_device_properties=lambda _: SimpleNamespace(name=name, major=major, minor=0),
            get_device_name=lambda _: name,
            mem_get_info=lambda _: (free * 80e9, 80e9),
            is_bf16_supported=lambda including_emulation: major >= 8,
            get_arch_list=lambda: ["sm_80", "sm_90", "compute_90"],
        ),
        backends=SimpleNamespace(mps=SimpleNamespace(is_available=lambda: False)),
        distributed=SimpleNamespace(is_nccl_available=lambda: nccl),
        ones=lambda *_, device: torch.ones(2, 2) if working else _refuse(),
    )


def driver(cuda: str | None = "13.0") -> Driver:
    return Driver([H100], "580.1", cuda)


def test_driver_is_read_from_what_nvidia_smi_prints() -> None:
    def run(command: list[str]) -> str:
        if len(command) == 1:
            return "| NVIDIA-SMI 580.1   Driver Version: 580.1   CUDA Version: 13.0     |\n"
        return f"{H100}, 580.1\nTesla T4, 580.1\n"

    assert read_driver(run) == Driver([H100, "Tesla T4"], "580.1", "13.0")
    assert read_driver(lambda _: "") == NONE


def test_sound_gpu_says_memory_and_precisions(tmp_path: Path) -> None:
    (found,) = check_accelerators(make_torch(1), driver(), tmp_path)
    assert found.status == "ok"
    assert found.value == f"{H100}, 79.2 GB of 80 GB free, bf16"
    (old,) = check_accelerators(make_torch(1, major=8, name="A"), driver(), tmp_path)
    assert old.status == "ok"


def test_gpu_that_is_in_use_or_too_old_for_this_torch_is_said(tmp_path: Path) -> None:
    (shared,) = check_accelerators(make_torch(1, free=0.5), driver(), tmp_path)
    assert (shared.status, "nvidia-smi" in shared.advice) == ("warn", True)
    (old,) = check_accelerators(make_torch(1, major=6), driver(), tmp_path)
    assert (old.status, "sm_60" in old.advice) == ("fault", True)
    assert "no bf16" in old.value


@pytest.mark.parametrize(
    ("capability", "architectures", "expected"),
    [
        ((8, 6), ["sm_80"], True),
        ((8, 0), ["sm_86"], False),
        ((9, 0), ["sm_80"], False),
        ((9, 0), ["sm_80", "compute_80"], True),
        ((12, 0), ["sm_120a"], True),
        ((10, 3), ["sm_90", "sm_100f"], True),
        ((7, 0), ["compute_75"], False),
        ((7, 0), [], True),
    ],
)
def test_machine_code_runs_on_its_own_major_version_and_ptx_on_later_ones(
    capability: tuple[int, int], architectures: list[str], expected: bool
) -> None:
    assert has_kernels(*capability, architectures) is expected


def test_driver_that_is_older_than_torchs_cuda_is_a_fault(tmp_path: Path) -> None:
    (found,) = check_accelerators(make_torch(cuda="13.0"), driver(cuda="12.4"), tmp_path)
    assert found.status == "fault"
    assert "supports CUDA 12.4, torch needs 13.0" in found.value
    assert "CUDA 12" in found.advice


def test_gpu_that_torch_cannot_use_for_another_reason_is_a_fault(tmp_path: Path) -> None:
    (found,) = check_accelerators(make_torch(cuda="12.8"), driver(), tmp_path)
    assert (found.status, "CUDA_VISIBLE_DEVICES" in found.advice) == ("fault", True)


def test_torch_without_cuda_or_rocm_beside_a_gpu_is_said(tmp_path: Path) -> None:
    (found,) = check_accelerators(make_torch(cuda=None), driver(), tmp_path)
    assert (found.status, "torch with CUDA" in found.advice) == ("warn", True)
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/kfd").write_text("")
    (amd,) = check_accelerators(make_torch(cuda=None), NONE, tmp_path)
    assert (amd.status, "ROCm" in amd.advice) == ("warn", True)
    (tmp_path / "dev/kfd").unlink()
    (none,) = check_accelerators(make_torch(cuda=None), NONE, tmp_path)
    assert (none.status, none.value) == ("ok", "none; llmkit uses the CPU")


def test_several_gpus_without_nccl_are_said(tmp_path: Path) -> None:
    found = list(check_accelerators(make_torch(2, nccl=False), driver(), tmp_path))
    assert [(each.name, each.status) for each in found] == [("gpu 0", "ok"), ("gpu 1", "ok"), ("nccl", "warn")]


def test_gpu_whose_first_kernel_fails_is_a_fault(tmp_path: Path) -> None:
    (found,) = check_accelerators(make_torch(1, working=False), driver(), tmp_path)
    assert found.status == "fault"
    assert found.value.endswith("cannot compute: CUDA error: no kernel image is available")
