"""Benefit of pretraining: a model fine-tuned on few rows per class, and the same architecture with random weights.

    python benchmarks/pretraining_pays.py --model runs/bert --train train.tsv --test test.tsv --json result.json

The train rows are sampled from a .tsv with the columns label and text; each seed has its own sample, which both
models use. All rows of the test file are scored. Both models are trained by `llmkit finetune-cls` with its defaults
and `--set`; the one with random weights has `cls.from_scratch=true`.
"""

import argparse
import json
import random
import statistics
import tempfile
from pathlib import Path
from typing import Any

from llmkit.config.loading import load_recipe
from llmkit.runs.train import finetune


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--test", type=Path, required=True)
    parser.add_argument("--rows", type=int, nargs="+", default=[20, 100], help="rows per class")
    parser.add_argument("--set", "-s", action="append", default=[], help="section.key=value, for both; repeatable")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    found: list[dict[str, Any]] = []
    for n_rows in options.rows:
        for weights in ("pretrained", "random"):
            values = [run(options, n_rows, weights, seed) for seed in range(options.seeds)]
            mean, deviation = statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0
            found.append({"rows_a_class": n_rows, "weights": weights, "accuracies": values})
            print(f"{n_rows:>4} rows per class, {weights:<10} {mean:.2%} +- {deviation:.2%}", flush=True)
    if options.json:
        options.json.write_text(json.dumps(found, indent=2))


def run(options: argparse.Namespace, n_rows: int, weights: str, seed: int) -> float:
    """Accuracy on the test file."""
    with tempfile.TemporaryDirectory() as folder:
        few = Path(folder) / "few.tsv"
        sample_rows(options.train, n_rows, seed, few)
        overrides = [
            *options.set,
            f"train.seed={seed}",
            "cls.validation=0",
            f"cls.from_scratch={str(weights == 'random').lower()}",
        ]
        metrics = finetune(
            load_recipe(None, overrides, task="cls"), out=Path(folder) / "run", model=options.model, quiet=True,
            files={"train": str(few), "test": str(options.test)},
        )  # fmt: skip
    return float(metrics["test"]["accuracy"])


def sample_rows(source: Path, n_rows: int, seed: int, target: Path) -> None:
    """Sample this many rows per label with the seed."""
    header, *lines = source.read_text(encoding="utf-8").splitlines()
    by_label: dict[str, list[str]] = {}
    for line in random.Random(seed).sample(lines, len(lines)):
        by_label.setdefault(line.split("\t")[0], []).append(line)
    kept = [line for label in sorted(by_label) for line in by_label[label][:n_rows]]
    target.write_text("\n".join([header, *kept]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
