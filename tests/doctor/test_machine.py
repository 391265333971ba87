"""Processors, quotas, memory and limits of machines that are written down in a folder."""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from llmkit.core.machine import Source, ThreadCount
from llmkit.doctor.machine import (
    Cpu,
    check_cpu,
    check_memory,
    check_open_files,
    check_shared_memory,
    check_threads,
    read_cpu,
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


def test_two_threads_of_a_core_are_one_core_and_only_allowed_ones_count(tmp_path: Path) -> None:
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
def test_one_thread_a_core_and_none_beyond_the_quota(
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
def test_doctor_says_what_decided_the_number_of_threads(source: Source, reason: str) -> None:
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


def test_small_or_full_shared_memory_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_few_open_files_are_said() -> None:
    assert [check_open_files(soft).status for soft in (64, 256, 1024, 2**31)] == ["fault", "warn", "ok", "ok"]
    assert check_open_files(256).advice == "ulimit -n 4096"
    assert check_open_files().figures["soft_limit"] > 0
