"""Run many commands from one process that has imported torch, each in a fork with limits; started by `run_warm`.

Reads [[arguments, stop], ...] from stdin. Prints for each command its exit code, CPU seconds, the memory in MB above
that of the parent, and what it wrote to stderr. With `stop`, a command ends with code 0 after its first optimizer step,
or after its first results of a model, as hours would pass before its own end.
"""

import json
import os
import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

MAX_CPU_SECONDS = 300
MAX_VIRTUAL_BYTES = 6 << 30


class Outcome(NamedTuple):
    """How a command ended."""

    code: int
    """99: a traceback."""
    cpu_seconds: float
    megabytes: float
    stderr: str


def run_warm(commands: Sequence[Sequence[str]], folder: Path, *, stop: bool = True) -> list[Outcome]:
    """Run the commands in the folder, one after the other."""
    request = json.dumps([[list(command), stop] for command in commands])
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, __file__], input=request, text=True, stdout=subprocess.PIPE, cwd=folder, env=environment,
        check=True,
    )  # fmt: skip
    return [Outcome(*each) for each in json.loads(done.stdout)]


def _stop_early() -> None:
    import transformers

    from llmkit.training.loop import TrainingLoop

    after_step = TrainingLoop._after_step

    def stop_after_step(*args: Any) -> None:
        after_step(*args)
        os._exit(0)

    TrainingLoop._after_step = stop_after_step  # type: ignore[method-assign]
    for kind in (transformers.GPT2LMHeadModel, transformers.BertForSequenceClassification):

        def stop_after_forward(self: Any, *args: Any, forward: Any = kind.forward, **more: Any) -> Any:
            forward(self, *args, **more)
            os._exit(0)

        if sys.argv[1] in ("eval", "generate", "predict"):
            kind.forward = stop_after_forward


def _run(words: list[str], stop: bool, errors: str) -> None:
    os.dup2(os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    resource.setrlimit(resource.RLIMIT_CPU, (MAX_CPU_SECONDS, MAX_CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (_virtual_bytes() + MAX_VIRTUAL_BYTES,) * 2)
    sys.argv = ["llmkit", *words]
    from llmkit.cli import app

    try:
        if stop:
            _stop_early()
        app.main()
    except BaseException:
        import traceback

        traceback.print_exc()
        os._exit(99)


def _virtual_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def _resident_megabytes() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


def _main() -> None:
    import sklearn.linear_model  # noqa: F401 - imported once, before the forks
    import torch
    import transformers

    import llmkit.cli.app
    import llmkit.evaluating.evaluate
    import llmkit.evaluating.predict
    import llmkit.generating.generate
    import llmkit.preparing.prepare
    import llmkit.runs.train
    import llmkit.tasks.table

    torch.set_num_threads(1)
    for kind in ("GPT2LMHeadModel", "BertForPreTraining", "BertForSequenceClassification", "AutoTokenizer"):
        getattr(transformers, kind)
    for task in llmkit.tasks.table.TASKS.values():
        str(task)
    outcomes = []
    errors = str(Path("stderr.txt").absolute())
    for words, stop in json.load(sys.stdin):
        before = _resident_megabytes()
        process = os.fork()
        if process == 0:
            _run(words, stop, errors)
        _, status, usage = os.wait4(process, 0)
        text = Path(errors).read_text(errors="replace")[-3000:]
        seconds = usage.ru_utime + usage.ru_stime
        outcomes.append(Outcome(os.waitstatus_to_exitcode(status), seconds, usage.ru_maxrss / 1024 - before, text))
    print(json.dumps(outcomes))


if __name__ == "__main__":
    _main()
