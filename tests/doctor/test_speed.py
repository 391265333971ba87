"""The speed of the CPU is compared with the limit of its cores."""

import pytest
import torch

from llmkit.doctor import speed as doctor_speed
from llmkit.doctor.machine import Cpu
from llmkit.doctor.speed import check_cpu_speed, check_precision, peak_fp32_flops

AVX512 = frozenset({"avx2", "avx512f"})


def cpu(
    flags: frozenset[str], vendor: str = "GenuineIntel", megahertz: float | None = 2000.0, quota: float | None = None
) -> Cpu:
    return Cpu("a CPU", vendor, flags, 8, 4, megahertz, quota)


@pytest.mark.parametrize(
    ("machine", "n_threads", "expected"),
    [
        # cores x 2 GHz x operations per cycle, in GFLOP/s
        (cpu(frozenset({"avx2"})), 4, 4 * 2 * 32),
        (cpu(AVX512), 4, 4 * 2 * 64),
        (cpu(AVX512), 8, 4 * 2 * 64),
        (cpu(AVX512), 1, 1 * 2 * 64),
        (cpu(AVX512, "AuthenticAMD"), 4, 4 * 2 * 32),
        (cpu(frozenset({"avx2"}), quota=1.0), 4, 1 * 2 * 32),
        (cpu(frozenset({"avx2"}), megahertz=None), 4, None),
        (cpu(frozenset({"asimd"})), 4, None),
    ],
)
def test_limit_is_cores_times_clock_times_width(machine: Cpu, n_threads: int, expected: float | None) -> None:
    assert peak_fp32_flops(machine, n_threads) == (expected and expected * 1e9)


@pytest.mark.parametrize(
    ("flops", "flags", "load", "status", "advice"),
    [
        (200e9, AVX512, 0.1, "ok", ""),
        (100e9, AVX512, 0.1, "warn", "power profile"),
        (100e9, AVX512, 12.0, "warn", "load 1.5 per core"),
        (100e9, AVX512 | {"hypervisor"}, 0.1, "ok", ""),
        (1e9, frozenset(), 0.1, "ok", ""),
    ],
)
def test_slow_cpu_is_a_warning_and_a_virtual_core_may_be_half_a_core(
    monkeypatch: pytest.MonkeyPatch, flops: float, flags: frozenset[str], load: float, status: str, advice: str
) -> None:
    monkeypatch.setattr("llmkit.training.speed.measure_matmul", lambda *_: flops)
    monkeypatch.setattr(doctor_speed.os, "getloadavg", lambda: (load, 0, 0))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    found = check_cpu_speed(torch, cpu(flags))
    assert (found.status, advice in found.advice) == (status, True)


def test_precision_is_the_one_that_training_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmkit.training.speed.has_bf16_instructions", lambda: True)
    monkeypatch.setattr(
        "llmkit.training.speed.measure_matmul", lambda dtype, _: 2.0 if dtype == torch.bfloat16 else 1.0
    )
    found = check_precision()
    assert found.figures == {"precision": "bf16"}
    assert "2.0 times" in found.value
