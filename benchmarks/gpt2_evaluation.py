"""Scoring held-out text with GPT-2: llmkit's evaluation compared with Trainer.evaluate on the same model and blocks.

    python benchmarks/gpt2_evaluation.py --json evaluation.json

`Trainer` is set up as in run_clm.py: fp32, batches of 8, accuracy by `preprocess_logits_for_metrics`. llmkit computes
loss and accuracy too, in fp32, the default of `llmkit eval`, and in bf16 (`-s evaluate.precision=bf16`). Losses must be
equal within 1e-6 in fp32 and 1e-3 in bf16. One warm-up pass is not counted. Run it on an idle machine.
"""

import argparse
import json
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
from made_text import prepare_made_text
from torch.utils.data import Dataset
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments
from turns import Row, call, finish, make_row, take_turns

from llmkit.models.kernels.optimized import optimized
from llmkit.tasks.clm.evaluation import evaluate_causal_lm
from llmkit.tokens.prepared import load_prepared

BLOCK_SIZE = 256
TOLERANCE = {"llmkit": 1e-6, "llmkit, bf16": 1e-3}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, default=128, help="of 256 tokens")
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--width", type=int, default=384)
    parser.add_argument("--vocabulary", type=int, nargs="+", default=[65, 16_384])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--only", help=argparse.SUPPRESS)
    parser.add_argument("--data", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        print(json.dumps(run(options)))
        return
    with tempfile.TemporaryDirectory() as folder:
        finish([row for size in options.vocabulary for row in measure(size, options, Path(folder))], options)


def measure(vocab_size: int, options: argparse.Namespace, folder: Path) -> list[Row]:
    data = prepare_made_text(folder, vocab_size, max(options.blocks * BLOCK_SIZE * 2, 4 * vocab_size))
    losses: dict[str, float] = {}

    def evaluate(name: str) -> float:
        shape = ["--layers", options.layers, "--width", options.width, "--vocabulary", vocab_size]
        output = call(sys.executable, __file__, "--only", name, "--data", data, "--blocks", options.blocks, *shape)
        found = json.loads(output.splitlines()[-1])
        losses[name] = found["loss"]
        return float(found["tokens_per_second"])

    names = ("llmkit", "llmkit, bf16", "Trainer.evaluate")
    figures = take_turns({name: partial(evaluate, name) for name in names}, options.rounds)
    for name, allowed in TOLERANCE.items():
        apart = abs(losses[name] / losses["Trainer.evaluate"] - 1)
        if apart > allowed:
            raise SystemExit(f"{name} and Trainer.evaluate find losses that are {apart:.1e} apart: {losses}")
    work = f"evaluating GPT-2 {options.layers}x{options.width}, vocabulary {vocab_size:,}"
    theirs = {"Trainer.evaluate, fp32": figures["Trainer.evaluate"]}
    return [
        make_row(f"{work}, fp32", {"llmkit": figures["llmkit"], **theirs}),
        make_row(f"{work}, bf16", {"llmkit": figures["llmkit, bf16"], **theirs}),
    ]


class Blocks(Dataset[dict[str, Any]]):
    """Consecutive blocks; every token but the first of a block is scored, on both sides."""

    def __init__(self, data: Path, n_blocks: int) -> None:
        self.stream, self.n_blocks = load_prepared(data).split("train").stream, n_blocks

    def __len__(self) -> int:
        return self.n_blocks

    def __getitem__(self, number: int) -> dict[str, Any]:
        ids = self.stream.read(number * (BLOCK_SIZE - 1), BLOCK_SIZE).tolist()
        # The first token is guessed by nobody, but Trainer.evaluate would divide by it too: a loss 1/256 too small.
        return {"input_ids": ids, "attention_mask": [1] * BLOCK_SIZE, "labels": [-100, *ids[1:]]}


class Beginning:
    """The tokens of the blocks as one stream for llmkit: blocks overlap by the one token that is not scored."""

    def __init__(self, blocks: Blocks) -> None:
        self.blocks = blocks

    def __len__(self) -> int:
        return self.blocks.n_blocks * (BLOCK_SIZE - 1)

    def read(self, start: int, count: int) -> Any:
        return self.blocks.stream.read(start + 1, count)


def run(options: argparse.Namespace) -> dict[str, float]:
    """Tokens per second, and the loss."""
    torch.manual_seed(0)
    (vocab_size,) = options.vocabulary
    shape = {"n_layer": options.layers, "n_head": options.width // 64, "n_embd": options.width}
    model = GPT2LMHeadModel(GPT2Config(vocab_size=vocab_size, n_positions=BLOCK_SIZE, initializer_range=0.05, **shape))
    blocks = Blocks(options.data, options.blocks)
    n_tokens = options.blocks * (BLOCK_SIZE - 1)
    if options.only == "Trainer.evaluate":
        return run_trainer(model.eval(), blocks, n_tokens)
    precision = "bf16" if options.only.endswith("bf16") else "fp32"
    optimized(model.eval(), precision, model.device)
    for _ in range(2):
        started = time.perf_counter()
        sums = evaluate_causal_lm(model, Beginning(blocks), block_size=BLOCK_SIZE - 1, precision=precision)
        seconds = time.perf_counter() - started
    return {"tokens_per_second": n_tokens / seconds, "loss": sums["nats"] / sums["n_tokens"]}


def run_trainer(model: GPT2LMHeadModel, blocks: Blocks, n_tokens: int) -> dict[str, float]:
    def score(found: Any) -> dict[str, float]:
        guessed, labels = found
        return {"accuracy": float((guessed[:, :-1] == labels[:, 1:]).mean())}

    with tempfile.TemporaryDirectory() as out:
        trainer = Trainer(
            model, TrainingArguments(out, report_to=[], disable_tqdm=True), eval_dataset=blocks, compute_metrics=score,
            preprocess_logits_for_metrics=lambda logits, labels: logits.argmax(-1),
        )  # fmt: skip
        for _ in range(2):
            started = time.perf_counter()
            metrics = trainer.evaluate()
            seconds = time.perf_counter() - started
    return {"tokens_per_second": n_tokens / seconds, "loss": metrics["eval_loss"]}


if __name__ == "__main__":
    main()
