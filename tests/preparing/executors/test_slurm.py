"""The Slurm executor with a fake sbatch that runs jobs on this machine."""

import os
import signal
import stat
import sys
from pathlib import Path

import pytest
from books import settings, write_books
from tiny import digests

from llmkit.core.errors import Interrupted
from llmkit.preparing import shards
from llmkit.preparing.executors import LOCAL, slurm
from llmkit.preparing.prepare import prepare
from llmkit.preparing.staging_dir import WorkersLost


@pytest.fixture(scope="module")
def books(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_books(tmp_path_factory.mktemp("books"))


SBATCH = """#!{python}
import os, re, subprocess, sys
options, script = sys.argv[1:-1], sys.argv[-1]
assert "--wait" in options and "--parsable" in options
last = int(re.search(r"--array=0-(\\d+)", " ".join(options))[1])
log = next(option for option in options if option.startswith("--output=")).partition("=")[2]
print("4711;somewhere", flush=True)
tries = int(re.search(r"try-(\\d+)", script)[1])
bad = 0
for number in range(last + 1):
    if os.environ.get("DIES", "") in (f"{{tries}}:{{number}}", "always"):
        bad = 137
        continue
    with open(log.replace("%a", str(number)), "w") as file:
        done = subprocess.run(["/bin/sh", script], env=os.environ | {{"SLURM_ARRAY_TASK_ID": str(number)}},
                              stdout=file, stderr=subprocess.STDOUT)
    bad = max(bad, done.returncode)
sys.exit(bad)
"""


@pytest.fixture
def sbatch(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bin")
    path = folder / "sbatch"
    path.write_text(SBATCH.format(python=sys.executable))
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    return path


def write_script(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def test_slurm_jobs_give_the_bytes_of_one_process_though_one_dies(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, books: Path, sbatch: Path
) -> None:
    monkeypatch.setattr(slurm, "MAX_ARRAY", 2)
    monkeypatch.setattr(shards, "SHARD_BYTES", 80_000)
    monkeypatch.setenv("DIES", "0:1")
    wanted = settings("prepare.split.validation=0", "prepare.split.test=0")
    for name, engine in (("one", LOCAL), ("jobs", "slurm")):
        prepare([str(books)], tmp_path / name, wanted, engine=engine)
    assert digests(tmp_path / "jobs") == digests(tmp_path / "one")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["jobs", "one"]


def test_slurm_jobs_that_always_die_are_reported_and_finished_stages_are_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, sbatch: Path
) -> None:
    monkeypatch.setenv("DIES", "always")
    write_script(sbatch.parent / "scancel", f"echo $1 > {tmp_path}/cancelled")
    with slurm.open_slurm(tmp_path) as run, pytest.raises(WorkersLost, match="3 of 3 tasks have no result"):
        list(run(str, [1, 2, 3]))
    assert (tmp_path / "cancelled").read_text().startswith("--name=llmkit-"), "none is left behind"


def test_slurm_jobs_that_outlive_sbatch_are_waited_for_and_not_started_twice(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, sbatch: Path
) -> None:
    monkeypatch.setattr(slurm, "POLL_SECONDS", 0.05)
    jobs = 'for n in 0 1 2; do SLURM_ARRAY_TASK_ID=$n /bin/sh "$script"; done; rm running'
    write_script(
        sbatch,
        f"""cd {tmp_path}; echo 4711; echo once >> submitted; touch running; for script; do :; done
(sleep 1; {jobs}) > /dev/null 2>&1 &
exit 1""",
    )
    away_at_first = "[ -e asked ] || { touch asked; exit 1; }"
    write_script(sbatch.parent / "squeue", f"cd {tmp_path}; {away_at_first}; [ ! -e running ] || echo 4711_0")
    with slurm.open_slurm(tmp_path) as run:
        assert list(run(str, [1, 2, 3])) == ["1", "2", "3"]
    assert (tmp_path / "submitted").read_text() == "once\n" and (tmp_path / "asked").exists()


def test_slurm_that_does_not_answer_is_not_asked_without_end(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, sbatch: Path
) -> None:
    monkeypatch.setattr(slurm, "POLL_SECONDS", 0)
    monkeypatch.setattr(slurm, "MAX_UNANSWERED", 3)
    monkeypatch.setenv("DIES", "always")
    write_script(sbatch.parent / "squeue", f"echo asked >> {tmp_path}/asked; exit 1")
    with slurm.open_slurm(tmp_path) as run, pytest.raises(WorkersLost, match="no result after 4 tries"):
        list(run(str, [1]))
    assert len((tmp_path / "asked").read_text().split()) == 12


def test_refused_slurm_jobs_are_reported_with_its_message(tmp_path: Path, sbatch: Path) -> None:
    sbatch.write_text("#!/bin/sh\necho 'sbatch: error: invalid partition specified: gpu' >&2\nexit 1\n")
    with slurm.open_slurm(tmp_path) as run, pytest.raises(WorkersLost, match="invalid partition"):
        list(run(str, [1, 2, 3]))


def test_slurm_jobs_end_with_the_command_that_waits_for_them(tmp_path: Path, sbatch: Path) -> None:
    sbatch.write_text("#!/bin/sh\necho 4711\nsleep 2\nkill -TERM $PPID\nexec sleep 60\n")
    write_script(sbatch.parent / "scancel", f"echo $1 > {tmp_path}/cancelled")

    def interrupt(number: int, frame: object) -> None:
        raise Interrupted(number, "stopped")

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        with slurm.open_slurm(tmp_path) as run, pytest.raises(Interrupted):
            list(run(str, [1, 2, 3]))
    finally:
        signal.signal(signal.SIGTERM, before)
    assert (tmp_path / "cancelled").read_text().startswith("--name=llmkit-")
