"""Start-up time of `llmkit --help`, of the first step of a tiny run, and of `eval`, `generate` and `predict`.

    python benchmarks/starting.py --json starting.json

The first step is compared with a script that only trains the same GPT-2 with transformers' Trainer (peers/gpt2.py), the
other commands with the import of the transformers class that each needs. Every command runs once before it is timed, so
that files are cached. Run it on an idle machine.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from made_text import prepare_made_text
from turns import PEERS, QUIET, Row, call_llmkit, finish, make_row, take_turns

BARE = "from transformers import AutoTokenizer, {name}; print('loaded')"
SHAPE = {"layers": 2, "heads": 2, "width": 64, "block": 64, "batch": 4, "steps": 1}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        finish(measure(options, Path(folder)), options)


def measure(options: argparse.Namespace, folder: Path) -> list[Row]:
    data = prepare_made_text(folder, 65, 100_000)
    run = [
        "pretrain-clm", "--data", str(data), "--out", str(folder / "run"), "--overwrite", "-s", "train.log_steps=1",
        "-s", f"model.n_layer={SHAPE['layers']}", "-s", f"model.n_head={SHAPE['heads']}",
        "-s", f"model.n_embd={SHAPE['width']}", "-s", f"train.block_size={SHAPE['block']}",
        "-s", f"train.global_batch_size={SHAPE['batch']}", "-s", "train.max_steps=2", "-s", "train.max_eval_samples=1",
    ]  # fmt: skip
    peer = [sys.executable, str(PEERS / "gpt2.py"), "trainer", "--data", str(data), "--first-step"]
    peer += [word for name, value in SHAPE.items() for word in (f"--{name}", str(value))]
    llmkit = [sys.executable, "-m", "llmkit"]
    times = {
        "llmkit": partial(seconds_until, [*llmkit, *run], "step      1/2"),
        "Trainer": partial(seconds_until, peer, "first step"),
    }
    helped = {"llmkit": partial(seconds_until, [*llmkit, "--help"], "pretrain-clm")}
    for each in (*times.values(), *helped.values()):
        each()
    used = {}
    for command, (words, printed, model) in prepare_uses(folder, data).items():
        bare = [sys.executable, "-c", BARE.format(name=model)]
        used[command] = {
            "llmkit": partial(seconds_until, [*llmkit, command, *words], printed),
            "transformers' import": partial(seconds_until, bare, "loaded"),
        }
    how = {"unit": "s", "lower_is_better": True}
    return [
        make_row("first step of a tiny run", take_turns(times, options.rounds), **how),
        make_row("--help", take_turns(helped, options.rounds), **how),
        *(make_row(command, take_turns(each, options.rounds), **how) for command, each in used.items()),
    ]


def prepare_uses(folder: Path, data: Path) -> dict[str, tuple[list[str], str, str]]:
    """By command: its arguments, what it says when it is done, and the class of transformers that it needs."""
    model = str(folder / "run")
    rows = folder / "rows.csv"
    rows.write_text("text,label\n" + "good day,yes\nbad night,no\n" * 40, encoding="utf-8")
    classifier = str(folder / "classifier")
    small = ["-s", "train.max_steps=2", "-s", "train.global_batch_size=4", "-s", "train.block_size=16"]
    call_llmkit("finetune-cls", "--model", model, "--data", rows, "--out", classifier, *small)
    return {
        "eval": ([model, "--data", str(data)], "perplexity a token", "GPT2LMHeadModel"),
        "generate": (
            [model, "--prompt", chr(0x4E00), "-s", "generate.max_new_tokens=1", "--json"], "text", "GPT2LMHeadModel",
        ),
        "predict": ([classifier, "--data", str(rows)], "prediction", "GPT2ForSequenceClassification"),
    }  # fmt: skip


def seconds_until(command: list[str], words: str) -> float:
    """From the start of the command until it prints the words."""
    started = time.perf_counter()
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ, **QUIET}
    )
    assert process.stdout is not None
    printed, found = [], 0.0
    for line in process.stdout:
        printed.append(line)
        if words in line and not found:
            found = time.perf_counter() - started
    if process.wait() or not found:
        raise SystemExit("".join(printed[-20:]) + f"{' '.join(command[:5])} did not say {words!r}")
    return found


if __name__ == "__main__":
    main()
