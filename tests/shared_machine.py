"""Several users, commands and jobs on one machine: no data is lost, and no process is left running.

    python tests/shared_machine.py

Two users of a group (started as root; left out otherwise) work in one folder, one after the other and at once. Two
commands write one result, two jobs of two ranks run at once, and the launcher of a job is killed at ten moments, after
each of which the job is resumed. Prints a table; ends with exit code 1 if a line of it is not as it must be.
"""

import encodings.latin_1  # noqa: F401 - torch.load needs it in forks of users that cannot read this Python
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import uuid
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}

import torch
from four_kinds import make_commands
from tiny import make_messages, write_table

from llmkit.cli.app import app
from llmkit.cli.app import main as run_llmkit

GROUP, USERS = 54_321, {"ann": 54_322, "ben": 54_323}
JOB = "LLMKIT_TEST_JOB"
"""Environment variable by which the processes of a job are found."""
ORPHAN_SECONDS = 10
N_ROWS = 2000
STEPS_TO_KILL_AT = (1, 4, 8, 11, 14, 17, 20)
SECONDS_TO_KILL_AT = (0.1, 0.3, 0.6)
"""Before the first step: parts of the time until a job takes it."""
SETTINGS = ["-s", "train.max_steps=20", "-s", "train.save_steps=3"]


@dataclass
class Checks:
    """The lines of the table."""

    lines: list[tuple[str, str, bool]] = field(default_factory=list)

    def add(self, what: str, found: object, wanted: object) -> None:
        ok = found == wanted
        self.lines.append((what, str(found) if ok else f"{found}, not {wanted}", ok))
        print(f"{'ok ' if ok else 'BAD'} {what}: {self.lines[-1][1]}", file=sys.stderr, flush=True)


# ---- commands in forks ----


def start(words: list[str], log: Path, user: str | None = None, umask: int = 0o022) -> int:
    """Start `llmkit WORDS` in a fork, as another user if one is given; returns its process number."""
    process = os.fork()
    if process:
        return process
    try:
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(file, 1)
        os.dup2(file, 2)
        os.umask(umask)
        if user is not None:
            os.setgroups([])
            os.setgid(GROUP)
            os.setuid(USERS[user])
        sys.argv = ["llmkit", *words]
        run_llmkit()
    except SystemExit as end:
        os._exit(int(end.code or 0))
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(70)


def run_here(words: list[str]) -> None:
    """Run a command in this process: its forks then have its libraries, which other users may not be able to read."""
    with redirect_stdout(io.StringIO()):
        app(words, standalone_mode=False)


def wait_for(*processes: int) -> list[int]:
    """The exit code of each."""
    return [os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) for process in processes]


def at_once(first: Callable[[], int], second: Callable[[], int], lock: Path) -> list[int]:
    """Start the second command when the first one holds the lock; the exit code of each."""
    process = first()
    ends = time.monotonic() + 60
    while not lock.exists() and time.monotonic() < ends:
        time.sleep(0.001)
    return wait_for(process, second())


def count_rows(path: Path) -> int:
    return len(path.read_text().splitlines()) - 1 if path.is_file() else -1


def tracebacks(folder: Path) -> list[str]:
    """The logs that have a traceback."""
    return [path.name for path in sorted(folder.glob("*.log")) if "Traceback" in path.read_text()]


# ---- two users ----


def check_users(commands: dict[str, list[str]], folder: Path, checks: Checks) -> None:
    """Two users of one group in a folder of it (setgid) with umask 002."""
    if os.name == "nt" or os.getuid() != 0:
        print("not root: the checks of two users are left out", file=sys.stderr)
        return
    first, messages = folder / "first", write_table(folder / "few.csv", make_messages(8))
    run_here(["prepare", str(folder / "book.txt"), "--out", str(folder / "first-data"), "-s", "prepare.split.test=0"])
    run_here([*commands["cls"], "--out", str(first), "-s", "train.max_steps=2"])
    run_here(["eval", str(first), "--data", messages])
    run_here(["predict", str(first), "--data", messages, "--out", str(folder / "first.csv")])
    run_here([*commands["cls"], "--out", str(first), "-s", "train.max_steps=2", "--resume"])

    shared, home = folder / "shared", folder / "home"
    for path in (shared, home):
        path.mkdir()
        os.chown(path, 0, GROUP)
        path.chmod(0o2775)
    os.environ["HOME"] = str(home)
    book, rows = str(folder / "book.txt"), write_table(folder / "rows.csv", make_messages(N_ROWS))
    data, run, out = shared / "data", shared / "run", shared / "out.csv"
    prepare = ["prepare", book, "--out", str(data), "-s", "prepare.tokenizer.vocab_size=300"]
    train = [*commands["cls"], "--out", str(run), *SETTINGS]
    predict = ["predict", str(run), "--data", rows, "--out", str(out)]

    def by(user: str, words: list[str], umask: int = 0o002) -> Callable[[], int]:
        return lambda: start(words, folder / "users.log", user, umask)

    def code(user: str, words: list[str], umask: int = 0o002) -> int:
        return wait_for(by(user, words, umask)())[0]

    in_turn = [
        ("ann prepares, ben takes it over", [("ann", prepare), ("ben", prepare)], [0, 0]),
        ("ben prepares it anew, ann too", [
            ("ben", [*prepare, "-s", "prepare.split.test=0", "--overwrite"]), ("ann", [*prepare, "--overwrite"]),
        ], [0, 0]),
        ("ann trains, ben resumes what has ended", [("ann", train), ("ben", [*train, "--resume", "auto"])], [0, 0]),
        ("ben evaluates the run of ann and ann again", [("ben", ["eval", str(run), "--data", rows])] * 2, [0, 0]),
        ("ben trains it anew", [("ben", [*train, "--overwrite"])], [0]),
        ("ann predicts, ben overwrites it", [("ann", predict), ("ben", [*predict, "--overwrite"])], [0, 0]),
    ]  # fmt: skip
    for what, steps, wanted in in_turn:
        checks.add(f"one after the other: {what}", [code(*step) for step in steps], wanted)
    checks.add("rows of the result", count_rows(out), N_ROWS)
    kept = (run / "model/model.safetensors").read_bytes()

    stopped = by("ann", [*train, "--overwrite"])()
    wait_until(lambda: logged_step(run) >= 7 and not (run / "model").exists())
    os.kill(stopped, signal.SIGKILL)
    wait_for(stopped)
    checks.add("a run of ann is killed, ben resumes it", code("ben", [*train, "--resume"]), 0)
    checks.add("its weights are those of an unbroken run", (run / "model/model.safetensors").read_bytes() == kept, True)

    again = [*prepare, "--overwrite"]
    lock = shared / ".data.lock"
    checks.add("at once: prepare, one folder", at_once(by("ann", again), by("ben", again), lock), [0, 4])
    other = [*train[: train.index("--out")], "--out", str(shared / "other"), *train[train.index("--out") + 2 :]]
    found = at_once(by("ann", other), by("ben", [*other, "--resume", "auto"]), shared / ".other.lock")
    checks.add("at once: training, one run", found, [0, 4])
    new = [*predict, "--overwrite"]
    checks.add(
        "at once: predict, one result", at_once(by("ben", new), by("ann", new), shared / ".out.csv.lock"), [0, 4]
    )
    checks.add("rows of the result", count_rows(out), N_ROWS)
    modes = {path.name: oct(path.stat().st_mode & 0o777) for path in (out, run / "model/model.safetensors")}
    checks.add("files are the group's too", set(modes.values()), {"0o664"})
    private = shared / "private"
    alone = [*train[: train.index("--out")], "--out", str(private), *train[train.index("--out") + 2 :]]
    found = [code("ann", alone, 0o022), code("ben", [*alone, "--overwrite"], 0o022)]
    checks.add("umask 022: ann trains, ben may not replace it", found, [0, 4])
    checks.add("the run of ann is as it was", (private / "model/model.safetensors").read_bytes() == kept, True)
    checks.add("left beside the results", leftovers(shared), [])


def leftovers(folder: Path) -> list[str]:
    """Locks and temporary files."""
    return sorted(path.name for path in folder.rglob(".*") if path.suffix in (".lock", ".partial", ".old"))


# ---- one result ----


def check_results(commands: dict[str, list[str]], folder: Path, checks: Checks) -> None:
    run, both = folder / "classifier", folder / "both.csv"
    words = [*commands["cls"], "--out", str(run), *SETTINGS]
    checks.add("a classifier is trained", wait_for(start(words, folder / "classifier.log")), [0])
    tables = [write_table(folder / f"{n}.csv", [(f"{text} {n}", y) for text, y in make_messages(N_ROWS)]) for n in "ab"]
    first, second = (["predict", str(run), "--data", table, "--out", str(both)] for table in tables)
    log = folder / "predict.log"
    found = at_once(lambda: start(first, log), lambda: start(second, log), folder / ".both.csv.lock")
    checks.add("two predict at once, one result", found, [0, 4])
    lines = both.read_text().splitlines()[1:]
    own = sum(line.split(",")[0].endswith(" a") for line in lines)
    checks.add("rows of the first, of all", (own, len(lines)), (N_ROWS, N_ROWS))
    both.unlink()
    codes = wait_for(start(first, log), start(second, log))  # without waiting for the lock
    checks.add("two predict in the same instant: one of them wrote", sorted(codes)[0], 0)
    checks.add("rows of the result", count_rows(both), N_ROWS)
    checks.add("left beside the results", leftovers(folder), [])


# ---- jobs of several ranks ----


def launch(words: list[str], log: Path, job: str) -> "subprocess.Popen[bytes]":
    with log.open("ab") as file:
        command = [sys.executable, "-m", "llmkit", *words, "--nproc", "2"]
        return subprocess.Popen(command, stdout=file, stderr=file, env={**os.environ, JOB: job})


def processes_of(job: str) -> Iterator[tuple[int, dict[str, str]]]:
    """The processes with the job's variable, and the environment of each; zombies have none."""
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            words = path.read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if f"{JOB}={job}" in words:
            yield int(path.parent.name), dict(word.partition("=")[::2] for word in words)


def wait_until(holds: Callable[[], bool], seconds: float = 120) -> bool:
    ends = time.monotonic() + seconds
    while not (found := holds()) and time.monotonic() < ends:
        time.sleep(0.002)
    return found


def logged_step(run: Path) -> int:
    """The last optimizer step in the log."""
    log = run / "log.jsonl"
    lines = log.read_text().split("\n")[:-1] if log.is_file() else []
    return max((int(json.loads(line)["step"]) for line in lines), default=0)


def has_logged(run: Path, step: int) -> bool:
    return logged_step(run) >= step


def has_ended(job: str) -> bool:
    return not any(processes_of(job))


def check_jobs(commands: dict[str, list[str]], folder: Path, checks: Checks) -> tuple[bytes, float]:
    """Two jobs at once; returns their model, and the seconds until one took its first step."""
    jobs = [uuid.uuid4().hex for _ in range(2)]
    runs = [folder / f"job-{n}" for n in range(2)]
    ports: dict[str, str] = {}
    started = time.monotonic()
    launched = [
        launch([*commands["clm"], "--out", str(run), *SETTINGS], folder / "jobs.log", job)
        for run, job in zip(runs, jobs, strict=True)
    ]
    wait_until(lambda: logged_step(runs[0]) > 0)
    seconds = time.monotonic() - started
    while any(process.poll() is None for process in launched):
        for job in jobs:
            for _, variables in processes_of(job):
                if "RANK" in variables:
                    ports[job] = variables["MASTER_PORT"]
        time.sleep(0.05)
    checks.add("two jobs of two ranks at once", [process.returncode for process in launched], [0, 0])
    checks.add("their ports differ", len(set(ports.values())), 2)
    models = [(run / "model/model.safetensors").read_bytes() for run in runs]
    checks.add("their models are equal", models[0] == models[1], True)
    return models[0], seconds


def check_launcher(commands: dict[str, list[str]], folder: Path, checks: Checks, whole: bytes, seconds: float) -> None:
    """Kill the launcher at ten moments of one run, resumed after each; 20 is in the end of a run, after its steps."""
    run, log = folder / "killed", folder / "killed.log"
    moments = [*((share, 0) for share in SECONDS_TO_KILL_AT), *((0.0, step) for step in STEPS_TO_KILL_AT)]
    slowest = 0.0
    for share, step in moments:
        job = uuid.uuid4().hex
        workers = ["-s", f"train.num_workers={2 * (step % 2)}"]
        process = launch([*commands["clm"], "--out", str(run), *SETTINGS, *workers, "--resume", "auto"], log, job)
        if step:
            what, reached = f"step {step}", wait_until(partial(has_logged, run, step))
        else:
            what, reached = f"{share * seconds:.1f} s after its start", True
            time.sleep(share * seconds)
        running = process.poll() is None
        process.kill()
        process.wait()
        killed = time.monotonic()
        wait_until(partial(has_ended, job), ORPHAN_SECONDS)
        slowest = max(slowest, time.monotonic() - killed)
        found = (reached, running, len(list(processes_of(job))))
        checks.add(f"launcher killed at {what}: reached, alive, orphans", found, (True, True, 0))
    ended = launch([*commands["clm"], "--out", str(run), *SETTINGS, "--resume", "auto"], log, uuid.uuid4().hex).wait()
    checks.add("the job goes on and ends", ended, 0)
    model = run / "model/model.safetensors"
    checks.add("its weights are those of an unbroken run", model.is_file() and model.read_bytes() == whole, True)
    checks.add("left beside the run", leftovers(folder), [])
    print(f"the last rank ended {slowest:.1f} s after its launcher", file=sys.stderr)


def main() -> None:
    checks = Checks()
    torch.set_num_threads(1)
    folder = Path(tempfile.mkdtemp())  # no TemporaryDirectory: each fork that ends would delete it
    folder.chmod(0o755)
    try:
        commands = make_commands(folder)
        for path in folder.rglob("*.safetensors"):
            path.chmod(0o644)  # transformers makes it for its owner alone
        check_results(commands, folder, checks)
        check_users(commands, folder, checks)
        whole, seconds = check_jobs(commands, folder, checks)
        check_launcher(commands, folder, checks, whole, seconds)
        checks.add("logs with a traceback", tracebacks(folder), [])
        for name in tracebacks(folder):
            print(f"---- {name}", (folder / name).read_text(), sep="\n", file=sys.stderr)
    except BaseException:
        for log in folder.glob("*.log"):
            print(f"---- {log.name}", *log.read_text().splitlines()[-30:], sep="\n", file=sys.stderr)
        raise
    finally:
        shutil.rmtree(folder)
    width = max(len(what) for what, _, _ in checks.lines)
    for what, found, ok in checks.lines:
        print(f"{what:<{width}}  {'ok' if ok else 'WRONG':<5}  {found}")
    sys.exit(0 if all(ok for _, _, ok in checks.lines) else 1)


if __name__ == "__main__":
    main()
