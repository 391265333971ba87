"""Run tasks as an array of Slurm jobs: `sbatch --wait` starts the jobs and returns when all have ended.

Tasks, results and logs are files in a shared folder. Tasks without a result are submitted again when `squeue` no longer
lists the jobs. Set partition, account, time and memory with Slurm's variables, such as SBATCH_PARTITION, SBATCH_ACCOUNT
and SBATCH_TIMELIMIT.
"""

import os
import pickle
import shlex
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from llmkit.core.errors import EnvironmentFault
from llmkit.core.files import read_json, write_json
from llmkit.preparing.staging_dir import WorkersLost

MAX_TRIES = 4
POLL_SECONDS = 10
MAX_UNANSWERED = 60
"""Number of consecutive failures of squeue after which the jobs count as ended: ten minutes."""
MAX_ARRAY = 1000
"""Maximum number of jobs; Slurm's default limit is 1001 (MaxArraySize). With more tasks, each job runs several."""


def require_slurm() -> None:
    """Raise EnvironmentFault if there is no sbatch."""
    if shutil.which("sbatch") is None:
        hint = "run the command on a login node of the cluster, or use --engine local"
        raise EnvironmentFault("sbatch is not on the PATH", where="--engine slurm", hint=hint)


@contextmanager
def open_slurm(work: Path) -> Iterator[Callable[[Any, Sequence[Any]], Generator[Any, None, None]]]:
    """Yield a function that submits an array of jobs per call."""
    yield partial(_run, work)


def _run(work: Path, function: Callable[[Any], Any], tasks: Sequence[Any]) -> Generator[Any, None, None]:
    folder = work / "slurm" / uuid.uuid4().hex  # jobs of an earlier caller may still run
    folder.mkdir(parents=True)
    with (folder / "tasks.pickle").open("wb") as file:
        pickle.dump((function, list(tasks)), file)
    name = f"llmkit-{uuid.uuid4().hex[:12]}"  # so that jobs can be cancelled before sbatch prints their id
    try:
        _run_jobs(folder, name, len(tasks))
    except BaseException:
        with suppress(OSError):
            subprocess.run(["scancel", f"--name={name}"], check=False, capture_output=True)
        raise
    for number in range(len(tasks)):
        yield pickle.loads(_result(folder, number).read_bytes())


def _run_jobs(folder: Path, name: str, n_tasks: int) -> None:
    """Run jobs until all tasks have a result; raises WorkersLost after `MAX_TRIES`."""
    for attempt in range(MAX_TRIES):
        missing = _missing(folder, n_tasks)
        if not missing:
            return
        write_json(folder / f"try-{attempt}.json", missing)
        _submit(folder, name, attempt, min(len(missing), MAX_ARRAY))
        _wait_for_jobs(folder, name, n_tasks)
    missing = _missing(folder, n_tasks)
    if missing:
        what = f"{len(missing)} of {n_tasks} tasks have no result after {MAX_TRIES} tries: {_last_line(folder)}"
        hint = "the same command resumes from the finished stages; was SBATCH_TIMELIMIT or the memory too small?"
        raise WorkersLost(what, where=str(folder), hint=hint)


def _submit(folder: Path, name: str, attempt: int, n_jobs: int) -> None:
    """Start an array of jobs and wait until all have ended, successfully or not."""
    script = folder / f"try-{attempt}.sh"
    code = f"from {__name__} import worker_main; worker_main()"  # not -m, which loads a module of a package twice
    command = shlex.join([sys.executable, "-c", code, str(folder), str(attempt), str(n_jobs)])
    script.write_text(f"#!/bin/sh\nexport TOKENIZERS_PARALLELISM=false\nexec {command}\n")
    options = [f"--array=0-{n_jobs - 1}", f"--job-name={name}", f"--output={folder}/try-{attempt}-%a.log"]
    arguments = ["sbatch", "--wait", "--parsable", *options, str(script)]
    done = subprocess.run(arguments, check=False, capture_output=True, text=True)
    if not done.stdout.strip():  # otherwise it is the job id, and the jobs started
        output = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        hint = "sbatch reads SBATCH_PARTITION, SBATCH_ACCOUNT, SBATCH_TIMELIMIT and the like from the environment"
        raise WorkersLost(f"sbatch refused the jobs: {output[-1]}", where="sbatch", hint=hint)


def _wait_for_jobs(folder: Path, name: str, n_tasks: int) -> None:
    """Wait until the jobs have left the queue, if results are missing.

    When slurmctld is restarted, `sbatch --wait` returns early while its jobs continue to run.
    """
    n_unanswered = 0
    while _missing(folder, n_tasks) and n_unanswered < MAX_UNANSWERED:
        try:
            asked = subprocess.run(
                ["squeue", "--noheader", "--format=%i", f"--name={name}"], check=False, capture_output=True, text=True
            )
        except FileNotFoundError:
            return
        if asked.returncode == 0 and not asked.stdout.strip():
            return
        n_unanswered = n_unanswered + 1 if asked.returncode else 0
        time.sleep(POLL_SECONDS)


def _missing(folder: Path, n_tasks: int) -> list[int]:
    """Return the tasks without a result."""
    return [number for number in range(n_tasks) if not _result(folder, number).exists()]


def _result(folder: Path, number: int) -> Path:
    return folder / f"{number}.result"


def _last_line(folder: Path) -> str:
    """Return the last line of the jobs' logs."""
    lines = [line for log in sorted(folder.glob("*.log")) for line in log.read_text(errors="replace").splitlines()]
    return lines[-1] if lines else "no job has left a log"


def worker_main() -> None:
    """Run one job of an array: every `n_jobs`-th task of this attempt."""
    folder, attempt, n_jobs = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    with (folder / "tasks.pickle").open("rb") as file:
        function, tasks = pickle.load(file)
    for number in read_json(folder / f"try-{attempt}.json")[int(os.environ["SLURM_ARRAY_TASK_ID"]) :: n_jobs]:
        aside = folder / f"{number}.{uuid.uuid4().hex}"
        aside.write_bytes(pickle.dumps(function(tasks[number])))
        aside.rename(_result(folder, number))
