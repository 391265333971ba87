"""Kill training at random moments, resume, again and again until it is done, and compare with an unbroken run.

    python tests/chaos.py --kills 200

Half of the kills come at a random time, half at a named moment of writing (llmkit.core.files.failpoint), most inside a
save. A quarter of those at a random time are SIGHUP, which saves and ends the run; another quarter are SIGKILL some
time after the run was stopped and continued (SIGSTOP, SIGCONT). Every attempt is the command line itself with
`--resume auto`, in a fork of this process, which has the libraries loaded already; the signals are real. Ends with exit
code 1 if a run was lost, if a byte of model.safetensors differs, or if more than `save_steps` steps were done again.
"""

import argparse
import collections
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}

import torch
import tqdm
from four_kinds import KINDS, SAVE_STEPS, make_commands, read_log

import llmkit.core.files
import llmkit.runs.train
import llmkit.training.checkpoints
from llmkit.cli.app import main as run_llmkit
from llmkit.core.errors import ModelError
from llmkit.training.checkpoints import find_checkpoint

LONGEST = 300
"""Seconds in which each run of this script ends."""
POINTS_OF_A_RUN = 60
"""About how many named moments a short run passes."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    chance = random.Random(options.seed)
    found: collections.Counter[str] = collections.Counter()
    most_again = 0
    torch.set_num_threads(1)
    tqdm.tqdm.monitor_interval = 0
    tqdm.tqdm.set_lock(threading.RLock())  # by default, forks share a semaphore, which a killed one may hold for ever
    folder = Path(tempfile.mkdtemp())  # no TemporaryDirectory: each fork that ends would delete it
    try:
        commands = make_commands(folder)
        seconds = {kind: run_whole(commands[kind], folder / f"{kind}-whole") for kind in KINDS}
        wanted = {kind: (folder / f"{kind}-whole/model/model.safetensors").read_bytes() for kind in KINDS}
        while found["kills"] < options.kills:
            kind = KINDS[found["runs"] % len(KINDS)]
            out = folder / f"run-{found['runs']}"
            most_again = max(most_again, kill_until_done(commands[kind], out, seconds[kind], chance, found))
            found["runs"] += 1
            found["runs of " + kind] += 1
            model = out / "model/model.safetensors"
            found["lost runs"] += not model.is_file()
            found["differing models"] += model.is_file() and model.read_bytes() != wanted[kind]
            found["differing logs"] += read_log(out) != read_log(folder / f"{kind}-whole")
            print(f"run {found['runs']} ({kind}): {found['kills']} kills so far", file=sys.stderr, flush=True)
    finally:
        shutil.rmtree(folder)
    for name in sorted(found):
        print(f"{name:<40} {found[name]}")
    print(f"{'most steps done again':<40} {most_again} (save_steps {SAVE_STEPS})")
    wrong = found["lost runs"] + found["differing models"] + found["differing logs"]
    sys.exit(1 if wrong or most_again > SAVE_STEPS else 0)


def run_whole(command: list[str], out: Path) -> float:
    """An unbroken run; its seconds."""
    started = time.perf_counter()
    code = wait_for(fork_llmkit([*command, "--out", str(out)], out, None))
    assert code == 0, (out.parent / f"{out.name}.log").read_text()
    return time.perf_counter() - started


def kill_until_done(
    command: list[str], out: Path, seconds: float, chance: random.Random, found: collections.Counter[str]
) -> int:
    """Start and kill until the run ends by itself; the most steps that one kill cost."""
    most_again = 0
    while True:
        armed = chance.random() < 0.5
        moment = chance.randrange(POINTS_OF_A_RUN) if armed else None
        workers = ["-s", f"train.num_workers={chance.choice((0, 0, 0, 2))}"]
        process = fork_llmkit([*command, "--out", str(out), "--resume", "auto", *workers], out, moment)
        how = "armed moments" if armed else chance.choice(("SIGKILL", "SIGKILL", "SIGHUP", "SIGSTOP, SIGCONT, SIGKILL"))
        code = wait_for(process) if armed else interrupt(process, how, chance.uniform(0, seconds), chance)
        if code == 0:
            return most_again
        ends = (-signal.SIGHUP, 128 + signal.SIGHUP) if how == "SIGHUP" else (-signal.SIGKILL,)
        assert code in ends, f"{how}, exit code {code}:\n" + (out.parent / f"{out.name}.log").read_text()
        found["kills"] += 1
        found["kills inside a save"] += any((out / "checkpoints").glob(".step-*.partial"))
        found[f"kills by {how}"] += 1
        most_again = max(most_again, last_step(out) - saved_step(out))


def fork_llmkit(arguments: list[str], out: Path, moment: int | None) -> int:
    """Start the command line in a fork, which dies at the given moment of writing; its process number."""
    process = os.fork()
    if process:
        return process
    log = os.open(out.parent / f"{out.name}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup ignores it
    if moment is not None:
        arm(moment)
    sys.argv = ["llmkit", *arguments]
    try:
        run_llmkit()
    except SystemExit as end:
        os._exit(int(end.code or 0))
    finally:
        os._exit(70)


def arm(moment: int) -> None:
    passed = 0

    def failpoint(point: str) -> None:
        nonlocal passed
        passed += 1
        if passed > moment:
            os.kill(os.getpid(), signal.SIGKILL)

    for module in (llmkit.core.files, llmkit.training.checkpoints):
        module.failpoint = failpoint


def interrupt(process: int, how: str, after: float, chance: random.Random) -> int:
    """Send signals to a running process after a number of seconds, wait for its end, and return its exit code."""
    is_stopped = how == "SIGSTOP, SIGCONT, SIGKILL"
    if (code := wait_for(process, after / 2 if is_stopped else after)) is not None:
        return code
    if is_stopped:
        os.kill(process, signal.SIGSTOP)
        time.sleep(chance.uniform(0, 0.5))
        os.kill(process, signal.SIGCONT)
        if (code := wait_for(process, chance.uniform(0, after))) is not None:
            return code
    os.kill(process, signal.SIGHUP if how == "SIGHUP" else signal.SIGKILL)
    code = wait_for(process)
    assert code is not None, f"{how} did not end the run in {LONGEST} s"
    return code


def wait_for(process: int, seconds: float = LONGEST) -> int | None:
    """Return the exit code, or minus the signal's number; None if the process still runs after `seconds`."""
    ends = time.perf_counter() + seconds
    while True:
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if time.perf_counter() > ends:
            return None
        time.sleep(0.005)


def last_step(out: Path) -> int:
    """The last optimizer step that was logged."""
    if not (out / "log.jsonl").is_file():
        return 0
    lines = (out / "log.jsonl").read_text().split("\n")[:-1]  # a torn last line has no end
    return max((int(record["step"]) for record in map(json.loads, lines) if record["kind"] == "train"), default=0)


def saved_step(out: Path) -> int:
    """The step that a resume begins from."""
    try:
        return int(find_checkpoint(out / "checkpoints")[1]["step"])
    except ModelError:
        return 0


if __name__ == "__main__":
    main()
