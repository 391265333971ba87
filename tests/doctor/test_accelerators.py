"""GPUs that are there, are not seen, were not built for, or are slow: with a driver and a torch that are made up."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from llmkit.doctor import accelerators as doctor_accelerators
from llmkit.doctor.accelerators import (
    Card,
    Driver,
    ask_driver,
    check_accelerators,
    check_gpu_speed,
    has_kernels,
    judge_evenness,
)

H100 = "NVIDIA H100 80GB HBM3"
NONE = Driver([], None)


def make_torch(
    n_gpus: int = 0, *, cuda: str | None = "13.0", hip: str | None = None, free: float = 0.99, major: int = 9,
    name: str = H100, nccl: bool = True,
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
        device=lambda kind, index: f"{kind}:{index}",
        get_float32_matmul_precision=lambda: "highest",
    )


def driver(cuda: str | None = "13.0", link: float | None = 63e9, n_cards: int = 1) -> Driver:
    return Driver([Card(H100, "580.1", link)] * n_cards, cuda)


def test_driver_is_read_from_what_nvidia_smi_prints() -> None:
    def run(command: list[str]) -> str:
        if len(command) == 1:
            return "| NVIDIA-SMI 580.1   Driver Version: 580.1   CUDA Version: 13.0     |\n"
        return f"{H100}, 580.1, 5, 16\nTesla T4, 580.1, [N/A], [N/A]\n"

    found = ask_driver(run)
    assert found.cuda == "13.0"
    assert [card.name for card in found.cards] == [H100, "Tesla T4"]
    assert found.cards[0].link == pytest.approx(63e9, rel=0.01)
    assert found.cards[1].link is None
    assert ask_driver(lambda _: "") == NONE


def test_sound_gpu_says_memory_and_precisions(tmp_path: Path) -> None:
    (found,) = check_accelerators(make_torch(1), driver(), tmp_path)
    assert found.status == "ok"
    assert found.value == f"{H100}, 79.2 GB of 80 GB free, bf16, TF32 off"
    (old,) = check_accelerators(make_torch(1, major=8, name="A"), driver(), tmp_path)
    assert old.status == "ok"


def test_gpu_that_is_in_use_or_too_old_for_this_torch_is_said(tmp_path: Path) -> None:
    (shared,) = check_accelerators(make_torch(1, free=0.5), driver(), tmp_path)
    assert (shared.status, "nvidia-smi" in shared.advice) == ("warn", True)
    (old,) = check_accelerators(make_torch(1, major=6), driver(), tmp_path)
    assert (old.status, "sm_60" in old.advice) == ("fault", True)
    assert "no bf16, TF32 none" in old.value


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
    assert "serves CUDA 12.4, torch wants 13.0" in found.value
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
    assert (none.status, none.value) == ("ok", "none; the CPU computes")


def test_several_gpus_without_nccl_are_said(tmp_path: Path) -> None:
    found = list(check_accelerators(make_torch(2, nccl=False), driver(), tmp_path))
    assert [(each.name, each.status) for each in found] == [("gpu 0", "ok"), ("gpu 1", "ok"), ("nccl", "warn")]


@pytest.fixture
def rates(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """FLOP/s by device, and bytes a second of copies."""
    rates = {"cuda:0": 700e12, "cuda:1": 690e12, "copy": 2.8e12, "host": 50e9}
    monkeypatch.setattr(doctor_accelerators, "measure_product", lambda torch, device, _: rates[device])
    monkeypatch.setattr(doctor_accelerators, "measure_copy", lambda *_: rates["copy"])
    monkeypatch.setattr(doctor_accelerators, "measure_transfer", lambda *_: rates["host"])
    return rates


def test_gpus_are_held_against_the_data_sheet(rates: dict[str, float]) -> None:
    found = list(check_gpu_speed(make_torch(2), driver(n_cards=2)))
    assert {each.status for each in found} == {"ok"}
    assert found[0].figures == {"reached": 700e12, "limit": 989e12}
    assert found[1].figures["limit"] == 3350e9
    assert found[2].figures["limit"] == 63e9
    assert found[-1].name == "gpus alike"


def test_slow_product_copy_or_slot_is_a_warning_and_a_slow_one_of_two_is_said(rates: dict[str, float]) -> None:
    rates |= {"cuda:1": 300e12, "copy": 1e12, "host": 6e9}
    found = {each.name: each.status for each in check_gpu_speed(make_torch(2), driver(n_cards=2))}
    assert found["gpu 0 bf16 product"] == "ok"
    assert found["gpu 1 bf16 product"] == "warn"
    assert (found["gpu 0 copy"], found["gpu 0 from host"], found["gpus alike"]) == ("warn", "warn", "warn")


def test_gpu_that_is_not_in_the_table_is_measured_and_not_judged(rates: dict[str, float]) -> None:
    found = list(check_gpu_speed(make_torch(1, name="NVIDIA Something"), NONE))
    assert [each.status for each in found] == ["ok", "ok", "ok"]
    assert "not known" in found[0].value


def test_first_kernel_that_fails_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> float:
        raise RuntimeError("CUDA error: no kernel image is available\nmore")

    monkeypatch.setattr(doctor_accelerators, "measure_product", refuse)
    (found,) = check_gpu_speed(make_torch(1), driver())
    assert (found.status, found.value) == ("fault", "CUDA error: no kernel image is available")


def test_all_wait_for_the_slowest() -> None:
    assert judge_evenness({0: 100.0, 1: 90.0}).status == "ok"
    uneven = judge_evenness({0: 100.0, 1: 70.0, 2: 99.0})
    assert (uneven.status, "gpu 1" in uneven.advice) == ("warn", True)
