"""Training GPT-2: llmkit compared with transformers' Trainer, a plain loop and nanoGPT, at the same model size.

    python benchmarks/gpt2_training.py --shapes 6x384 4x128 124m --nanogpt ~/nanoGPT --json training.json

llmkit is `pretrain-clm` with only the model size set; its figures are read from its log. `Trainer` has its defaults, as
in run_clm.py. `loop` is a hand-written loop in fp32 and in bf16 (peers/gpt2.py). `nanoGPT` is an unmodified checkout,
and `nanoGPT, bf16` a copy with autocast enabled for CPUs. Tokens per second are the median over steps after the first
ones. The programs alternate. Run it on an idle machine: all use all cores.
"""

import argparse
import json
import pickle
import re
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from made_text import prepare_made_text
from turns import Row, call, call_llmkit, call_peer, finish, make_row, take_turns

from llmkit.tokens.prepared import load_prepared

WARMUP_STEPS = 3


@dataclass(frozen=True, slots=True)
class Shape:
    """The model size, and the number of steps."""

    layers: int
    heads: int
    width: int
    block: int
    batch: int
    vocab_size: int
    steps: int

    def describe(self) -> str:
        return (
            f"GPT-2 {self.layers}x{self.width}, block {self.block}, batch {self.batch}, vocabulary {self.vocab_size:,}"
        )


SHAPES = {
    "6x384": Shape(6, 6, 384, 256, 32, 65, 8),
    "4x128": Shape(4, 4, 128, 64, 12, 65, 200),
    "124m": Shape(12, 12, 768, 512, 4, 50_257, 7),
    "tiny": Shape(1, 2, 32, 16, 4, 65, 6),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=["6x384", "4x128", "124m"])
    parser.add_argument("--ways", nargs="+", default=["llmkit", "Trainer", "loop", "nanoGPT"])
    parser.add_argument("--nanogpt", type=Path, help="a checkout of nanoGPT")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        finish([measure(SHAPES[name], options, Path(folder)) for name in options.shapes], options)


def measure(shape: Shape, options: argparse.Namespace, folder: Path) -> Row:
    data = prepare_made_text(folder, shape.vocab_size, max(400_000, 12 * shape.vocab_size))
    ways: dict[str, Callable[[], float]] = {
        "llmkit": partial(train_with_llmkit, shape, data, folder / "run"),
        "Trainer": partial(train_with_peer, shape, data, "trainer"),
        "loop, fp32": partial(train_with_peer, shape, data, "loop"),
        "loop, bf16": partial(train_with_peer, shape, data, "loop", "--bf16"),
    }
    if options.nanogpt:
        for name, bf16 in (("nanoGPT", False), ("nanoGPT, bf16", True)):
            ways[name] = partial(train_with_nanogpt, shape, data, options.nanogpt, folder / "nanogpt", bf16=bf16)
    wanted = {name: way for name, way in ways.items() if name.split(",")[0] in options.ways}
    print(shape.describe(), file=sys.stderr)
    return make_row(shape.describe(), take_turns(wanted, options.rounds))


def train_with_llmkit(shape: Shape, data: Path, run: Path) -> float:
    settings = {
        "model.n_layer": shape.layers, "model.n_head": shape.heads, "model.n_embd": shape.width,
        "train.block_size": shape.block, "train.global_batch_size": shape.batch, "train.max_steps": shape.steps,
        "train.log_steps": max(1, shape.steps // 40), "train.eval_steps": shape.steps, "train.max_eval_samples": 1,
        "train.sample_prompt": "null",
    }  # fmt: skip
    typed = [word for name, value in settings.items() for word in ("-s", f"{name}={value}")]
    shutil.rmtree(run, ignore_errors=True)
    call_llmkit("pretrain-clm", "--data", data, "--out", run, *typed)
    log = [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    speeds = [record["tokens_per_second"] for record in log if record["kind"] == "train"]
    return statistics.median(speeds[WARMUP_STEPS:])


def train_with_peer(shape: Shape, data: Path, way: str, *more: str) -> float:
    numbers = {
        "--layers": shape.layers, "--heads": shape.heads, "--width": shape.width, "--block": shape.block,
        "--batch": shape.batch, "--steps": shape.steps,
    }  # fmt: skip
    return float(call_peer("gpt2.py", way, "--data", data, *(word for pair in numbers.items() for word in pair), *more))


def train_with_nanogpt(shape: Shape, data: Path, checkout: Path, copy: Path, *, bf16: bool) -> float:
    """Run a copy of nanoGPT's train.py on the same tokens."""
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(checkout, copy, ignore=shutil.ignore_patterns(".git", "data", "assets", "out*"))
    if bf16:
        script = (copy / "train.py").read_text(encoding="utf-8")
        switched = re.sub(r"nullcontext\(\) if device_type == 'cpu' else ", "", script)
        assert switched != script, "nanoGPT's train.py has changed: autocast could not be switched on"
        (copy / "train.py").write_text(switched, encoding="utf-8")
    own = copy / "data" / "made"
    own.mkdir(parents=True)
    stream = load_prepared(data).split("train").stream
    ids = np.asarray(stream.read(0, len(stream))).astype(np.uint16)
    for name in ("train.bin", "val.bin"):
        ids.tofile(own / name)
    (own / "meta.pkl").write_bytes(pickle.dumps({"vocab_size": shape.vocab_size}))
    settings = {
        "dataset": "made", "device": "cpu", "compile": False, "eval_iters": 1, "log_interval": 1,
        "eval_interval": 10**9,
        "block_size": shape.block, "batch_size": shape.batch, "gradient_accumulation_steps": 1, "dropout": 0.0,
        "n_layer": shape.layers, "n_head": shape.heads, "n_embd": shape.width, "max_iters": shape.steps,
    }  # fmt: skip
    if bf16:
        settings["dtype"] = "bfloat16"
    output = call(sys.executable, "train.py", *(f"--{name}={value}" for name, value in settings.items()), folder=copy)
    seconds = [float(found) / 1000 for found in re.findall(r"^iter \d+: .* time ([\d.]+)ms", output, re.MULTILINE)]
    return shape.batch * shape.block / statistics.median(seconds[WARMUP_STEPS:])


if __name__ == "__main__":
    main()
