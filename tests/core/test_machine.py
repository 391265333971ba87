"""The description of the machine in a run's manifest.

Threads and cores by affinity, quotas and the user's variables; a folder describes each machine.
"""

import getpass
import json
import os
import platform
import socket
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import torch

import llmkit
from llmkit.core import machine
from llmkit.core.errors import UsageError
from llmkit.core.machine import (
    ThreadCount,
    count_cores,
    decide_threads,
    describe_machine,
    describe_versions,
    limit_threads,
    read_limits,
    read_memory,
    thread_count,
    total_memory,
)
from llmkit.training.launch import _divide_cores


def test_description_is_json_and_names_neither_host_nor_user() -> None:
    found = describe_machine()
    text = json.dumps(found)
    assert socket.gethostname() not in text
    assert getpass.getuser() not in text.split('"')
    assert found["threads"] == torch.get_num_threads()
    assert found["cores"] == len(os.sched_getaffinity(0))
    assert found["accelerator"] is None or found["accelerator"]["name"]


def test_memory_is_what_the_control_group_allows_of_the_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = total_memory()
    assert whole == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for limit, memory in ((None, whole), (10**9, 10**9), (10**18, whole)):
        monkeypatch.setattr(machine, "read_limits", lambda limit=limit: (None, limit))
        assert read_memory() == memory
    monkeypatch.setattr(machine, "total_memory", lambda: None)
    assert read_memory() == 10**18
    monkeypatch.setattr(machine, "read_limits", lambda: (None, None))
    assert read_memory() is None


def test_versions_are_those_that_are_installed_and_what_is_missing_is_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(machine, "PACKAGES", ("torch", "no-such-package"))
    found = describe_versions()
    assert found == {
        "llmkit": llmkit.__version__, "python": platform.python_version(), "torch": version("torch")
    }  # fmt: skip


CORES = frozenset(range(64))


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def write_quota(root: Path, cores: float, version: int = 2) -> Path:
    if version == 2:
        return write(root, {"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/cpu.max": f"{int(cores * 1e5)} 100000\n"})
    files = {"cpu.cfs_quota_us": f"{int(cores * 1e5)}\n", "cpu.cfs_period_us": "100000\n"}
    files = {f"sys/fs/cgroup/cpu/a/{name}": text for name, text in files.items()}
    return write(root, {"proc/self/cgroup": "1:cpu,cpuacct:/a\n", **files})


def test_strictest_control_group_of_version_2_applies(tmp_path: Path) -> None:
    group = "sys/fs/cgroup/pods/mine"
    files = {
        "proc/self/cgroup": "0::/pods/mine\n",
        f"{group}/cpu.max": "400000 100000\n",
        f"{group}/memory.max": "8000000000\n",
        "sys/fs/cgroup/pods/cpu.max": "250000 100000\n",
        "sys/fs/cgroup/pods/memory.max": "max\n",
    }
    assert read_limits(write(tmp_path, files)) == (2.5, 8_000_000_000)
    (tmp_path / group / "cpu.max").write_text("max 100000\n")
    assert read_limits(tmp_path)[0] == 2.5


def test_control_groups_of_version_1_are_read_and_minus_one_is_no_limit(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "4:memory:/job\n1:cpu,cpuacct:/job\n9:name=systemd:/\n",
        "sys/fs/cgroup/cpu/job/cpu.cfs_quota_us": "-1\n",
        "sys/fs/cgroup/cpu/job/cpu.cfs_period_us": "100000\n",
        "sys/fs/cgroup/memory/job/memory.limit_in_bytes": "9223372036854771712\n",
    }
    assert read_limits(write(tmp_path, files)) == (None, None)
    (tmp_path / "sys/fs/cgroup/cpu/job/cpu.cfs_quota_us").write_text("150000\n")
    (tmp_path / "sys/fs/cgroup/memory/job/memory.limit_in_bytes").write_text("1073741824\n")
    assert read_limits(tmp_path) == (1.5, 1 << 30)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(("quota", "expected"), [(0.5, 1), (1.5, 2), (2.0, 2), (100.0, 64)])
def test_quota_bounds_cores_and_is_rounded_up(tmp_path: Path, version: int, quota: float, expected: int) -> None:
    assert count_cores(write_quota(tmp_path, quota, version), CORES) == expected


def test_cores_are_those_of_the_affinity_mask_where_there_is_no_quota(tmp_path: Path) -> None:
    assert count_cores(tmp_path, frozenset({3, 5, 7})) == 3


@pytest.mark.parametrize("version", [1, 2])
def test_quota_of_one_and_a_half_cores_starts_two_threads_of_64(tmp_path: Path, version: int) -> None:
    assert decide_threads({}, write_quota(tmp_path, 1.5, version), CORES) == ThreadCount(2, "quota", 1.5)


def test_quota_above_the_physical_cores_leaves_the_count_to_torch(tmp_path: Path) -> None:
    root = write_quota(tmp_path, 3)
    folder = "sys/devices/system/cpu"
    siblings = {f"{folder}/cpu{n}/topology/thread_siblings_list": f"{n % 2},{n % 2 + 2}\n" for n in range(4)}
    assert decide_threads({}, write(root, siblings), frozenset(range(4))) == ThreadCount(None, "cores", 3)
    assert decide_threads({}, tmp_path / "nowhere", CORES) == ThreadCount(None, "cores")


@pytest.mark.parametrize(
    ("environ", "expected", "source"),
    [
        ({"OMP_NUM_THREADS": "3"}, 3, "OMP_NUM_THREADS"),
        ({"OMP_NUM_THREADS": " 2,4 "}, 2, "OMP_NUM_THREADS"),
        ({"MKL_NUM_THREADS": "3", "OMP_NUM_THREADS": "5"}, 3, "MKL_NUM_THREADS"),
        ({"OMP_NUM_THREADS": ""}, 2, "quota"),
    ],
)
def test_users_number_of_threads_has_priority_over_the_quota(
    tmp_path: Path, environ: dict[str, str], expected: int, source: str
) -> None:
    count = decide_threads(environ, write_quota(tmp_path, 1.5), CORES)
    assert (count.n, count.source) == (expected, source)


@pytest.mark.parametrize("value", ["garbage", "0", "-1", "2,", "2,0", "1.5", "2 4", "99999999999", "\u0663"])
@pytest.mark.parametrize("name", ["OMP_NUM_THREADS", "MKL_NUM_THREADS"])
def test_invalid_number_of_threads_is_refused(name: str, value: str) -> None:
    with pytest.raises(UsageError, match="is not a number of threads") as caught:
        decide_threads({name: value})
    assert name in caught.value.problems[0].where


def test_mkl_takes_no_list() -> None:
    with pytest.raises(UsageError):
        decide_threads({"MKL_NUM_THREADS": "2,4"})


@pytest.fixture
def quota_of_one_and_a_half(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    monkeypatch.setattr(machine, "_decided", None)
    monkeypatch.setattr(machine, "read_limits", lambda *_: (1.5, None))
    monkeypatch.setattr(machine, "allowed_cores", lambda: CORES)


@pytest.mark.usefixtures("quota_of_one_and_a_half")
def test_quota_stays_the_reported_reason_after_the_variable_is_set() -> None:
    limit_threads()
    assert os.environ.pop("OMP_NUM_THREADS") == "2"
    assert thread_count() == ThreadCount(2, "quota", 1.5)


@pytest.mark.usefixtures("quota_of_one_and_a_half")
def test_processes_of_a_launcher_share_the_quota(monkeypatch: pytest.MonkeyPatch) -> None:
    limit_threads()
    _divide_cores(2)
    assert os.environ["OMP_NUM_THREADS"] == "1"
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    limit_threads()
    _divide_cores(2)
    assert os.environ["OMP_NUM_THREADS"] == "7"


@pytest.mark.parametrize("name", ["OMP_NUM_THREADS", "MKL_NUM_THREADS"])
def test_command_refuses_a_wrong_number_in_three_lines_before_torch_loads(tmp_path: Path, name: str) -> None:
    command = [sys.executable, "-X", "importtime", "-m", "llmkit", "eval", str(tmp_path)]
    done = subprocess.run(command, env={**os.environ, name: "garbage"}, capture_output=True, text=True)
    output = [line for line in done.stderr.splitlines() if not line.startswith("import time:")]
    assert done.returncode == 2
    assert [line[:6] for line in output] == ["error:", "where:", "hint: "]
    assert f"{name}='garbage'" in output[0]
    assert "torch" not in done.stderr
    assert not done.stdout


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="no affinity on this system")
def test_torch_uses_the_given_number_of_threads() -> None:
    code = (
        "from llmkit.core.machine import limit_threads; limit_threads(); import torch; print(torch.get_num_threads())"
    )
    environ = {name: value for name, value in os.environ.items() if name not in machine.VARIABLES}
    one = f"import os; os.sched_setaffinity(0, {{{min(os.sched_getaffinity(0))}}}); "
    for more, start, expected in (({}, one, "1"), ({"OMP_NUM_THREADS": "1,4"}, "", "1")):
        done = subprocess.run(
            [sys.executable, "-c", start + code], env=environ | more, capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == expected


def test_little_address_space_is_refused_before_a_library_ends_the_process() -> None:
    code = """
import resource
from pathlib import Path
from llmkit.core.machine import MIN_ADDRESS_SPACE, require_address_space
require_address_space(10**15, "nothing is limited yet")
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + MIN_ADDRESS_SPACE + 50_000_000,) * 2)
require_address_space(1_000_000, "little")
require_address_space(200_000_000, "encoding text")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-3:]
    assert "encoding text needs 0.6 GB of address space, and 0.5 GB are left" in last[0]
    assert "ulimit -v" in last[1]
