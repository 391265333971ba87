"""Time of a training step with Muon and with AdamW, for the recipes that use Muon.

    python benchmarks/optimizers.py --recipes gpt2-tiny gpt2-mini bert-tiny --json optimizers.json

Alternates steps of the two on synthetic tokens, with the recipe's model, block size and batch size, in the precision
that `train.precision: auto` selects. Run it with ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 too: such a process
has no bf16, like most laptops.
"""

import argparse
import json
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

from llmkit.config.loading import load_recipe
from llmkit.models.kernels.optimized import optimized
from llmkit.models.loading import pick_device
from llmkit.runs.plan import make_trial, plan_micro_batches
from llmkit.tasks.synthetic import Vocabulary
from llmkit.tasks.table import TASKS
from llmkit.training.speed import choose_precision

RECIPES = Path(__file__).resolve().parents[1] / "recipes"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipes", nargs="+", default=["gpt2-tiny", "gpt2-mini", "bert-tiny"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=6.0, help="of each side in each round")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = [measure(name, options.rounds, options.seconds) for name in options.recipes]
    for row in rows:
        print(
            f"{row['recipe']:<12} {row['precision']}: AdamW {row['adamw']:.3f} s, Muon {row['muon']:.3f} s a step, "
            f"{row['ratio']:.2f} times (rounds {', '.join(f'{ratio:.2f}' for ratio in row['ratios'])})"
        )
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


def measure(name: str, rounds: int, seconds: float) -> dict[str, Any]:
    """Median seconds of a step with either optimizer, and Muon's over AdamW's in each round."""
    recipe = load_recipe(RECIPES / f"{name}.yaml", [])
    device = pick_device()
    precision, _ = choose_precision("auto", device)
    task: Any = TASKS[recipe.task].make_synthetic(recipe, Vocabulary(recipe.prepare.tokenizer.vocab_size))
    network = task.build_model()
    optimized(network, precision, device)
    trial = make_trial(recipe, task, network, precision, device)
    batches = plan_micro_batches(recipe, task, trial)
    found: dict[str, list[float]] = {"adamw": [], "muon": []}
    for _ in range(rounds):
        for optimizer, steps in found.items():
            optim = recipe.optim.model_copy(update={"name": optimizer})
            steps.append(replace(trial, optim=optim).measure(batches, seconds).total)
    ratios = [muon / adamw for muon, adamw in zip(found["muon"], found["adamw"], strict=True)]
    medians = {optimizer: statistics.median(steps) for optimizer, steps in found.items()}
    return {"recipe": name, "precision": precision, **medians, "ratio": statistics.median(ratios), "ratios": ratios}


if __name__ == "__main__":
    main()
