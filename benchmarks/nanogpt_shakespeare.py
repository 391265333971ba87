"""nanoGPT's CPU recipe compared with llmkit's on tinyshakespeare, with the same training time on this machine.

    python benchmarks/nanogpt_shakespeare.py --nanogpt ~/nanoGPT --text input.txt --seconds 57 --json result.json

Both train on the first 90 % of the characters and are scored on all of the last 10 %, block by block, every character
once. Seconds are of training alone, without start-up, data preparation and evaluation. A short trial chooses nanoGPT's
number of iterations so that training takes `--seconds`; its learning rate decays over these iterations. The two
alternate. Run it on an idle machine: both use all cores.

Needs a checkout of github.com/karpathy/nanoGPT, which is run in a temporary copy.
"""

import argparse
import importlib.util
import json
import math
import pickle
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

REPOSITORY = Path(__file__).resolve().parents[1]
BLOCK_SIZE, BATCH_SIZE = 64, 12
# The CPU command of nanoGPT's README, but for the number of iterations.
RECIPE = (
    "config/train_shakespeare_char.py --device=cpu --compile=False --eval_iters=20 --log_interval=1"
    f" --block_size={BLOCK_SIZE} --batch_size={BATCH_SIZE} --n_layer=4 --n_head=4 --n_embd=128 --dropout=0.0"
).split()
TRIAL_ITERATIONS = 150
"""The first third of them is warm-up and not counted."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of one of the two. `n_bytes` is the size of the scored text in UTF-8."""

    name: str
    bits_per_byte: float
    nats_per_token: float
    n_bytes: int
    seconds: float
    tokens_per_second: float
    steps: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nanogpt", type=Path, required=True, help="a checkout of nanoGPT")
    parser.add_argument("--text", type=Path, required=True, help="tinyshakespeare's input.txt")
    parser.add_argument("--seconds", type=float, default=57, help="training time of nanoGPT; ours is in the recipe")
    parser.add_argument("--recipe", type=Path, default=REPOSITORY / "recipes/shakespeare-cpu.yaml", help="ours")
    parser.add_argument("--only", choices=("nanogpt", "llmkit"), help="run only one of the two")
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    arguments = parser.parse_args()
    if arguments.only != "llmkit" and not (arguments.nanogpt / "train.py").is_file():
        parser.error(f"{arguments.nanogpt} has no train.py: --nanogpt wants a checkout of nanoGPT")
    if not arguments.text.is_file():
        parser.error(f"--text {arguments.text} is no file")

    outcomes = []
    with tempfile.TemporaryDirectory() as folder:
        if arguments.only != "llmkit":
            outcomes.append(run_nanogpt(arguments.nanogpt, arguments.text, arguments.seconds, Path(folder, "nanogpt")))
        if arguments.only != "nanogpt":
            outcomes.append(run_llmkit(arguments.recipe.resolve(), arguments.text.resolve(), Path(folder, "llmkit")))
    print(format_table(outcomes))
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(outcome) for outcome in outcomes], indent=2) + "\n")


def run_nanogpt(checkout: Path, text: Path, seconds: float, folder: Path) -> Outcome:
    """Train nanoGPT for `seconds` in a copy of the checkout, and score it on the held-out text."""
    shutil.copytree(checkout, folder, ignore=shutil.ignore_patterns(".git", "data", "assets", "out*"))
    held_out = write_characters(text, folder / "data" / "shakespeare_char")
    trial = train_nanogpt(folder, TRIAL_ITERATIONS)[TRIAL_ITERATIONS // 3 :]
    n_iterations = max(1, round(seconds / statistics.fmean(trial)))
    info(f"nanoGPT: {1000 * statistics.fmean(trial):.1f} ms an iteration in the trial, so {n_iterations:,} iterations")
    duration = sum(train_nanogpt(folder, n_iterations))
    if abs(duration - seconds) > 0.1 * seconds:
        info(f"warning: training took {duration:.0f} s, not {seconds:.0f}: the machine was not idle; run it again")
    nats = measure_nanogpt(folder, held_out)
    n_bytes = len("".join(held_out["characters"][1:]).encode())
    return Outcome(
        name="nanoGPT",
        bits_per_byte=nats / math.log(2) / n_bytes,
        nats_per_token=nats / (len(held_out["ids"]) - 1),
        n_bytes=n_bytes,
        seconds=duration,
        tokens_per_second=n_iterations * BATCH_SIZE * BLOCK_SIZE / duration,
        steps=n_iterations,
    )


def write_characters(text: Path, folder: Path) -> dict[str, Any]:
    """Number the characters and write both splits in the format of nanoGPT. Returns the held-out split."""
    characters = text.read_text(encoding="utf-8")
    vocabulary = sorted(set(characters))
    number = {character: i for i, character in enumerate(vocabulary)}
    ids = np.fromiter((number[character] for character in characters), dtype=np.uint16, count=len(characters))
    cut = int(len(characters) * 0.9)
    folder.mkdir(parents=True)
    ids[:cut].tofile(folder / "train.bin")
    ids[cut:].tofile(folder / "val.bin")
    meta = {"vocab_size": len(vocabulary), "itos": dict(enumerate(vocabulary)), "stoi": number}
    (folder / "meta.pkl").write_bytes(pickle.dumps(meta))
    return {"characters": characters[cut:], "ids": ids[cut:]}


def train_nanogpt(folder: Path, n_iterations: int) -> list[float]:
    """Train for a number of iterations and return the seconds of each, without evaluations.

    nanoGPT always evaluates at the start; one evaluation at the end writes the checkpoint.
    """
    n = n_iterations
    limits = [f"--max_iters={n}", f"--lr_decay_iters={n}", f"--eval_interval={n}", "--always_save_checkpoint=True"]
    output = call([sys.executable, "train.py", *RECIPE, *limits], folder)
    info(f"its own estimate, of a few random windows: {re.findall(r'^step .*', output, re.MULTILINE)[-1]}")
    seconds = [float(found) / 1000 for found in re.findall(r"^iter \d+: .* time ([\d.]+)ms", output, re.MULTILINE)]
    # The last iteration comes after the checkpoint; the first one's time holds the first evaluation.
    rest = seconds[1:n_iterations]
    return [statistics.median(rest), *rest]


def measure_nanogpt(folder: Path, held_out: dict[str, Any]) -> float:
    """Sum of the loss in nats over the held-out text but its first character, in consecutive blocks."""
    spec = importlib.util.spec_from_file_location("nanogpt_model", folder / "model.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["nanogpt_model"] = module  # its dataclass looks itself up there
    spec.loader.exec_module(module)
    checkpoint = torch.load(folder / "out-shakespeare-char" / "ckpt.pt", map_location="cpu", weights_only=True)
    model = module.GPT(module.GPTConfig(**checkpoint["model_args"]))
    model.load_state_dict(checkpoint["model"])
    model.eval()
    ids = torch.from_numpy(held_out["ids"].astype(np.int64))
    nats, n_guessed = 0.0, 0
    with torch.inference_mode():
        for start in range(0, len(ids) - 1, BLOCK_SIZE):
            block = ids[start : start + BLOCK_SIZE + 1]
            _, loss = model(block[None, :-1], block[None, 1:])
            nats += loss.item() * (len(block) - 1)
            n_guessed += len(block) - 1
    assert n_guessed == len(ids) - 1
    return nats


def run_llmkit(recipe: Path, text: Path, folder: Path) -> Outcome:
    """llmkit's three commands, as a user would type them."""
    llmkit = [sys.executable, "-m", "llmkit"]
    data, run = str(folder / "data"), str(folder / "run")
    call([*llmkit, "prepare", str(text), "--recipe", str(recipe), "--out", data], REPOSITORY)
    call([*llmkit, "pretrain-clm", str(recipe), "--data", data, "--out", run], REPOSITORY)
    result = json.loads(call([*llmkit, "eval", run, "--json"], REPOSITORY))
    training = json.loads(Path(run, "metrics.json").read_text(encoding="utf-8"))["training"]
    return Outcome(
        name="llmkit",
        bits_per_byte=result["bits_per_byte"],
        nats_per_token=result["loss"],
        n_bytes=result["n_bytes"],
        seconds=training["seconds"],
        tokens_per_second=training["n_tokens"] / training["seconds"],
        steps=training["steps"],
    )


def call(command: list[str], folder: Path) -> str:
    """Run a command and return its stdout; exit with its output if it fails."""
    info("$ " + " ".join(command))
    finished = subprocess.run(command, cwd=folder, capture_output=True, text=True, encoding="utf-8", check=False)
    if finished.returncode:
        printed = (finished.stdout + finished.stderr).splitlines()[-20:]
        sys.exit("\n".join([*printed, f"{' '.join(command[:4])} ended with exit code {finished.returncode}"]))
    return finished.stdout


def format_table(outcomes: list[Outcome]) -> str:
    """One line per outcome, and for two outcomes the ratio of llmkit to nanoGPT."""
    names = ("bits per byte", "nats a token", "held-out bytes", "training s", "tokens/s", "steps")
    lines = [f"{'':<10}" + "".join(f"{name:>16}" for name in names)]
    lines += [
        f"{o.name:<10}{o.bits_per_byte:>16.4f}{o.nats_per_token:>16.4f}{o.n_bytes:>16,}{o.seconds:>16.1f}"
        f"{o.tokens_per_second:>16,.0f}{o.steps:>16,}"
        for o in outcomes
    ]
    if len(outcomes) == 2:
        theirs, ours = outcomes
        keys = ("bits_per_byte", None, None, "seconds", "tokens_per_second", None)
        ratios = [f"{getattr(ours, key) / getattr(theirs, key):.3f}" if key else "" for key in keys]
        lines.append(f"{'ratio':<10}" + "".join(f"{ratio:>16}" for ratio in ratios))
        if abs(ours.n_bytes - theirs.n_bytes) > 2:  # nanoGPT cannot guess the first character, and ours may
            lines.append("The two were NOT judged on the same text: the numbers of held-out bytes differ.")
    return "\n".join(lines)


def info(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
