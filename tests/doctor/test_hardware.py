"""Processors, memory, limits and GPUs of described machines, and the speed of the CPU against its limit."""

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from llmkit.core.machine import Source, ThreadCount
from llmkit.doctor import hardware
from llmkit.doctor.hardware import (
    Cpu,
    Driver,
    check_accelerators,
    check_cpu,
    check_cpu_speed,
    check_memory,
    check_open_files,
    check_precision,
    check_shared_memory,
    check_threads,
    has_kernels,
    peak_fp32_flops,
    read_cpu,
    read_driver,
)


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def cpuinfo(cores: list[tuple[int, int]]) -> str:
    """A line for each logical processor, by (socket, core)."""
    return "".join(
        f"processor\t: {number}\nvendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel name\t: Xeon: fast\n"
        f"cpu MHz\t\t: 2000.000\nphysical id\t: {socket}\ncore id\t\t: {core}\nflags\t\t: fpu avx2 avx512f amx_bf16\n\n"
        for number, (socket, core) in enumerate(cores)
    )


TWO_SOCKETS = [(0, 0), (0, 1), (1, 0), (1, 1), (0, 0), (0, 1), (1, 0), (1, 1)]


def test_hyper_threads_are_one_core_and_only_allowed_ones_count(tmp_path: Path) -> None:
    root = write(tmp_path, {"proc/cpuinfo": cpuinfo(TWO_SOCKETS)})
    cpu = read_cpu(root, frozenset(range(8)))
    assert (cpu.name, cpu.n_logical, cpu.n_physical, cpu.megahertz) == ("Xeon: fast", 8, 4, 2000.0)
    assert {"avx512f", "amx_bf16"} <= cpu.flags
    bound = read_cpu(root, frozenset({0, 4, 1}))
    assert (bound.n_logical, bound.n_physical) == (3, 2)
    assert "amx_bf16" in check_cpu(cpu).value


def test_clock_is_the_highest_that_the_governor_allows(tmp_path: Path) -> None:
    files = {
        "proc/cpuinfo": cpuinfo([(0, 0)]),
        "sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq": "3700000\n",
    }
    assert read_cpu(write(tmp_path, files), frozenset({0})).megahertz == 3700


def test_arm_names_no_cores_and_macos_has_no_proc(tmp_path: Path) -> None:
    block = "processor : {}\nBogoMIPS : 50\nFeatures : fp asimd bf16\n\n"
    arm = read_cpu(write(tmp_path, {"proc/cpuinfo": block.format(0) + block.format(1)}), frozenset({0, 1}))
    assert (arm.n_physical, arm.megahertz, "bf16" in arm.flags) == (2, None, True)
    mac = read_cpu(tmp_path / "nowhere", frozenset(range(10)))
    assert (mac.n_physical, mac.flags, mac.quota) == (10, frozenset(), None)
    assert check_cpu(mac).status == "ok"


def machine(n_physical: int, quota: float | None = None) -> Cpu:
    return Cpu("a CPU", "", frozenset(), 2 * n_physical, n_physical, None, quota)


@pytest.mark.parametrize(
    ("cpu", "threads", "source", "status", "advice"),
    [
        (machine(8), 8, "cores", "ok", ""),
        (machine(8), 16, "OMP_NUM_THREADS", "warn", "export OMP_NUM_THREADS=8"),
        (machine(8), 1, "OMP_NUM_THREADS", "warn", "unset OMP_NUM_THREADS, or export OMP_NUM_THREADS=8"),
        (machine(8), 1, "MKL_NUM_THREADS", "warn", "unset MKL_NUM_THREADS, or export MKL_NUM_THREADS=8"),
        (machine(8), 4, "cores", "warn", "export OMP_NUM_THREADS=8"),
        (machine(32, quota=2.0), 32, "cores", "warn", "export OMP_NUM_THREADS=2"),
        (machine(32, quota=2.0), 2, "quota", "ok", ""),
        (machine(32, quota=1.5), 2, "quota", "ok", ""),
        (machine(32, quota=0.5), 2, "OMP_NUM_THREADS", "warn", "export OMP_NUM_THREADS=1"),
        (machine(32, quota=0.5), 1, "quota", "ok", ""),
    ],
)
def test_best_is_one_thread_per_core_within_the_quota(
    cpu: Cpu, threads: int, source: Source, status: str, advice: str
) -> None:
    found = check_threads(cpu, threads, ThreadCount(threads, source, cpu.quota))
    assert found.status == status
    assert found.advice.startswith(advice)
    assert bool(found.advice) == bool(advice)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("OMP_NUM_THREADS", "set by OMP_NUM_THREADS=2"),
        ("quota", "set by the container's quota"),
        ("cores", "set by cores"),
    ],
)
def test_source_of_the_number_of_threads_is_reported(source: Source, reason: str) -> None:
    assert reason in check_threads(machine(2), 2, ThreadCount(2, source)).value


def meminfo(available_kb: int, swap_kb: int = 0, swap_free_kb: int = 0) -> str:
    return (
        f"MemTotal:       16000000 kB\nMemAvailable:   {available_kb} kB\n"
        f"SwapTotal:  {swap_kb} kB\nSwapFree: {swap_free_kb} kB\nHugePages_Total:       0\n"
    )


def test_memory_is_what_the_container_allows(tmp_path: Path) -> None:
    files = {
        "proc/meminfo": meminfo(12_000_000),
        "proc/self/cgroup": "0::/\n",
        "sys/fs/cgroup/memory.max": "2147483648\n",
    }
    memory = check_memory(write(tmp_path, files))
    assert (memory.status, memory.figures["available_bytes"]) == ("warn", 2 << 30)
    assert "container limit 2.15 GB" in memory.value
    (tmp_path / "sys/fs/cgroup/memory.max").write_text("max\n")
    assert check_memory(tmp_path).figures["available_bytes"] == 12_000_000 * 1024


@pytest.mark.parametrize(
    ("available_kb", "swap_free_kb", "status"),
    [(12_000_000, 4_000_000, "ok"), (12_000_000, 1_000_000, "warn"), (1_000_000, 4_000_000, "warn")],
)
def test_swapping_or_little_memory_is_a_warning(
    tmp_path: Path, available_kb: int, swap_free_kb: int, status: str
) -> None:
    root = write(tmp_path, {"proc/meminfo": meminfo(available_kb, 4_000_000, swap_free_kb)})
    found = check_memory(root)
    assert (found.status, "swapped out" in found.value) == (status, swap_free_kb < 4_000_000)


def test_small_or_full_shared_memory_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def state(total: int, free: int) -> object:
        return lambda _: SimpleNamespace(f_frsize=1, f_blocks=total, f_bavail=free)

    assert check_shared_memory(tmp_path / "none").status == "ok"
    monkeypatch.setattr(os, "statvfs", state(64 << 20, 64 << 20))
    docker = check_shared_memory(tmp_path)
    assert (docker.status, "--shm-size" in docker.advice) == ("warn", True)
    monkeypatch.setattr(os, "statvfs", state(16 << 30, 1 << 20))
    assert check_shared_memory(tmp_path).status == "warn"
    monkeypatch.setattr(os, "statvfs", state(16 << 30, 15 << 30))
    assert check_shared_memory(tmp_path).status == "ok"


def test_low_limit_of_open_files_is_reported() -> None:
    assert [check_open_files(soft).status for soft in (64, 256, 1024, 2**31)] == ["fault", "warn", "ok", "ok"]
    assert check_open_files(256).advice == "ulimit -n 4096"
    assert check_open_files().figures["soft_limit"] > 0


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
    monkeypatch.setattr(hardware.os, "getloadavg", lambda: (load, 0, 0))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    found = check_cpu_speed(torch, cpu(flags))
    assert (found.status, advice in found.advice) == (status, True)


def test_precision_is_the_one_that_training_chooses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmkit.training.speed.has_bf16_instructions", lambda: True)
    monkeypatch.setattr(
        "llmkit.training.speed.measure_matmul", lambda dtype, _: 2.0 if dtype == torch.bfloat16 else 1.0
    )
    found = check_precision()
    assert found.figures == {"precision": "bf16"}
    assert "2.0 times" in found.value


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


def test_working_gpu_reports_memory_and_precisions(tmp_path: Path) -> None:
    (found,) = check_accelerators(make_torch(1), driver(), tmp_path)
    assert found.status == "ok"
    assert found.value == f"{H100}, 79.2 GB of 80 GB free, bf16"
    (old,) = check_accelerators(make_torch(1, major=8, name="A"), driver(), tmp_path)
    assert old.status == "ok"


def test_gpu_in_use_or_too_old_for_this_torch_is_reported(tmp_path: Path) -> None:
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


def test_torch_without_cuda_or_rocm_is_reported_if_there_is_a_gpu(tmp_path: Path) -> None:
    (found,) = check_accelerators(make_torch(cuda=None), driver(), tmp_path)
    assert (found.status, "torch build with CUDA" in found.advice) == ("warn", True)
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/kfd").write_text("")
    (amd,) = check_accelerators(make_torch(cuda=None), NONE, tmp_path)
    assert (amd.status, "ROCm" in amd.advice) == ("warn", True)
    (tmp_path / "dev/kfd").unlink()
    (none,) = check_accelerators(make_torch(cuda=None), NONE, tmp_path)
    assert (none.status, none.value) == ("ok", "none; llmkit uses the CPU")


def test_several_gpus_without_nccl_are_a_warning(tmp_path: Path) -> None:
    found = list(check_accelerators(make_torch(2, nccl=False), driver(), tmp_path))
    assert [(each.name, each.status) for each in found] == [("gpu 0", "ok"), ("gpu 1", "ok"), ("nccl", "warn")]


def test_gpu_whose_first_kernel_fails_is_a_fault(tmp_path: Path) -> None:
    (found,) = check_accelerators(make_torch(1, working=False), driver(), tmp_path)
    assert found.status == "fault"
    assert found.value.endswith("cannot compute: CUDA error: no kernel image is available")
