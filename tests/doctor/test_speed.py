"""Measured rates held against what the hardware should reach."""

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch

from llmkit.doctor import speed as doctor_speed
from llmkit.doctor.machine import Cpu
from llmkit.doctor.speed import (
    Limit,
    check_cpu_speed,
    check_precision,
    choose_side,
    cpu_flops,
    judge_speed,
    measure_product,
)

ZEN4 = frozenset({"avx2", "avx512f", "avx512_bf16"})
SAPPHIRE = frozenset({"avx2", "avx512f", "avx512_bf16", "amx_bf16"})


def cpu(flags: frozenset[str], vendor: str = "GenuineIntel", family: int = 6, **changes: float | None) -> Cpu:
    return Cpu("a CPU", vendor, family, flags, 8, 4, changes.get("megahertz", 2000.0), changes.get("quota"))


@pytest.mark.parametrize(
    ("machine", "expected"),
    [
        # 4 cores x 2 GHz x operations a cycle, in GFLOP/s
        (cpu(frozenset({"avx2"})), {"fp32": 4 * 2 * 32}),
        (cpu(SAPPHIRE), {"fp32": 4 * 2 * 64, "bf16": 4 * 2 * 1024}),
        (cpu(ZEN4, "AuthenticAMD", 25), {"fp32": 4 * 2 * 32, "bf16": 4 * 2 * 64}),
        (cpu(ZEN4, "AuthenticAMD", 26), {"fp32": 4 * 2 * 64, "bf16": 4 * 2 * 128}),
        (cpu(frozenset({"avx2"}), quota=1.0), {"fp32": 1 * 2 * 32}),
        (cpu(frozenset({"avx2"}), megahertz=None), {}),
        (cpu(frozenset({"asimd"})), {}),
    ],
)
def test_limit_is_cores_times_clock_times_width(machine: Cpu, expected: dict[str, float]) -> None:
    assert cpu_flops(machine, 4) == {name: pytest.approx(value * 1e9) for name, value in expected.items()}


def test_threads_that_torch_does_not_use_do_not_count() -> None:
    assert cpu_flops(cpu(ZEN4), 1)["fp32"] == 2e9 * 64
    assert cpu_flops(cpu(ZEN4), 8) == cpu_flops(cpu(ZEN4), 4)


def test_below_a_third_is_a_warning_with_what_to_look_at() -> None:
    limit = Limit(100e9, "its data sheet")
    assert judge_speed("product", 34e9, "FLOP/s", limit, "cool it").status == "ok"
    slow = judge_speed("product", 33e9, "FLOP/s", limit, "cool it")
    assert (slow.status, slow.advice) == ("warn", "cool it")
    assert slow.value == "33 GFLOP/s, 33% of the 100 GFLOP/s by its data sheet"
    shared = judge_speed("product", 33e9, "FLOP/s", limit, "cool it", busy=1.5)
    assert (shared.status, "load 1.5" in shared.advice) == ("warn", True)
    assert judge_speed("product", 33e9, "FLOP/s", None, "cool it").status == "ok"


def test_product_is_counted_by_its_multiplications(monkeypatch: pytest.MonkeyPatch) -> None:
    def two_seconds(work: Callable[[], object], wait: Callable[[], object]) -> float:
        work()
        return 2.0

    monkeypatch.setattr(doctor_speed, "time_best", two_seconds)
    monkeypatch.setattr(doctor_speed, "CPU_SIDE", 10)
    assert measure_product(torch, torch.device("cpu"), "fp32") == 2 * 10**3 / 2


def test_product_takes_two_milliseconds_even_on_a_server_with_amx() -> None:
    assert choose_side(None) == choose_side(300e9) == 1024
    for limit in (5e12, 218e12):
        assert 2e-3 <= 2 * choose_side(limit) ** 3 / limit < 4e-3


@pytest.mark.parametrize(("flops", "status"), [(100e9, "warn"), (200e9, "ok")])
def test_slow_cpu_is_a_warning_and_a_virtual_core_may_be_half_a_core(
    monkeypatch: pytest.MonkeyPatch, flops: float, status: str
) -> None:
    monkeypatch.setattr(doctor_speed, "measure_product", lambda *_: flops)
    monkeypatch.setattr(doctor_speed, "measure_copy", lambda *_: 8e9)
    monkeypatch.setattr(doctor_speed.os, "getloadavg", lambda: (0.1, 0, 0))
    fake = SimpleNamespace(device=torch.device, get_num_threads=lambda: 4)
    whole, virtual = cpu(SAPPHIRE), cpu(SAPPHIRE | {"hypervisor"})
    assert [each.status for each in check_cpu_speed(fake, whole)] == [status, "warn", "ok"]
    assert [each.status for each in check_cpu_speed(fake, virtual)] == ["ok", "warn", "ok"]


def test_precision_is_the_one_that_training_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmkit.training.speed.has_bf16_instructions", lambda: True)
    monkeypatch.setattr(
        "llmkit.training.speed.measure_matmul", lambda dtype, _: 2.0 if dtype == torch.bfloat16 else 1.0
    )
    found = check_precision()
    assert found.figures == {"precision": "bf16"}
    assert "2.0 times" in found.value
