"""Accuracy of `llmkit plan --measure`: its forecasts compared with actual runs.

    python benchmarks/plan.py --text books/ --models gpt2-tiny gpt2-mini gpt2-small bert-mini bert-base
    python benchmarks/plan.py --gpu

The plan gets the prepared text, or with `--made-up` only its vocabulary size. Each run is a separate process: its
memory is the peak resident size of the whole command, its step time the median of its log without the first two
records. Plans and runs alternate; the table has the median peak and the fastest step of all rounds, as other load
only slows steps.

`--gpu` compares the formula's memory of GPT-2 124M in micro-batches of 8 x 1,024 with torch's peak on the GPU. It was
written without a GPU and HAS NOT RUN.
"""

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

LLMKIT = [sys.executable, "-m", "llmkit"]
SHAPES = {
    "gpt2": {"tiny": (128, 16), "mini": (256, 8), "small": (512, 2)},
    "bert": {"tiny": (128, 32), "mini": (128, 32), "small": (128, 32), "medium": (128, 16), "base": (128, 8)},
}
"""Block and global batch by size."""
TOKENIZERS = {"gpt2": ("byte-bpe", 16384), "bert": ("wordpiece", 8192)}
WARMUP_STEPS = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", nargs="+", default=["builtin:python-docs"], help="what is prepared and trained on")
    parser.add_argument("--models", nargs="+", default=["gpt2-tiny", "gpt2-mini", "bert-mini"], help="FAMILY-SIZE")
    parser.add_argument("--steps", type=int, default=12, help="optimizer steps of the run")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--made-up", action="store_true", help="plan without the text")
    parser.add_argument("--precision", choices=["auto", "bf16", "fp32"], default="bf16")
    parser.add_argument("--gpu", action="store_true", help="GPT-2 124M on the GPU of this machine")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    if options.gpu:
        results = [check_gpu()]
    else:
        with tempfile.TemporaryDirectory() as folder:
            results = check_models(options, Path(folder))
    if options.json:
        options.json.write_text(json.dumps(results, indent=2))


def check_models(options: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """One row per model: forecast, measured by the plan, seen in the run; memory in MB, steps in seconds."""
    heads = "".join(f"{what:>18}{'measured':>10}{'run':>8}{'off':>7}" for what in ("MB: forecast", "seconds: forecast"))
    print(f"{'':<12}{heads}")
    rows = []
    for model in options.models:
        family, size = model.split("-")
        data = folder / family
        kind, n_tokens = TOKENIZERS[family]
        if not data.exists():
            more = ["-s", f"prepare.tokenizer.kind={kind}", "-s", f"prepare.tokenizer.vocab_size={n_tokens}"]
            more += ["-s", "prepare.split.validation=0.005", "-s", "prepare.split.test=0"]
            subprocess.run(
                [*LLMKIT, "prepare", *options.text, "--out", str(data), *more], check=True, capture_output=True
            )
        n_tokens = json.loads((data / "manifest.json").read_text())["tokenizer"]["vocab_size"]
        block_size, batch = SHAPES[family][size]
        settings = [
            f"task={'clm' if family == 'gpt2' else 'mlm'}", f"model.size={size}", f"train.block_size={block_size}",
            f"train.global_batch_size={batch}", f"train.max_steps={options.steps}", f"train.eval_steps={options.steps}",
            f"train.precision={options.precision}", "train.log_steps=1", "train.sample_prompt=null",
            "train.max_eval_samples=8", f"prepare.tokenizer.vocab_size={n_tokens}",
        ]  # fmt: skip
        sets = [word for setting in settings for word in ("-s", setting)]
        given = [] if options.made_up else ["--data", str(data)]
        rounds = []
        for _ in range(options.rounds):
            found = plan([*sets, *given])
            seen = found["measured"]
            for figures in (seen, seen["forecast"]):
                figures["peak_bytes"] += found["memory"]["evaluation"]  # the run evaluates, too
            rounds.append((seen, run(data, folder / model, sets)))
        row = {"model": model, "peak_bytes": take(rounds, "peak_bytes", statistics.median)}
        row["seconds_per_step"] = take(rounds, "seconds_per_step", min)
        rows.append(row | {"rounds": rounds})
        print(f"{model:<12}{show(row['peak_bytes'], 1e-6, 0)}{show(row['seconds_per_step'], 1, 3)}", flush=True)
    return rows


def take(rounds: list[Any], name: str, choose: Any) -> dict[str, float]:
    """One figure of all rounds: forecast, measured by the plan, seen in the run."""
    return {
        "forecast": choose([seen["forecast"][name] for seen, _ in rounds]),
        "measured": choose([seen[name] for seen, _ in rounds]),
        "run": choose([found[name] for _, found in rounds]),
    }


def show(row: dict[str, float], unit: float, digits: int) -> str:
    """Columns under the heading of `check_models`."""
    numbers = "".join(
        f"{row[name] * unit:>{width},.{digits}f}" for name, width in (("forecast", 18), ("measured", 10), ("run", 8))
    )
    return f"{numbers}{row['measured'] / row['run'] - 1:>+7.1%}"


def plan(settings: list[str]) -> dict[str, Any]:
    """The output of `llmkit plan --measure`."""
    done = subprocess.run([*LLMKIT, "plan", "--measure", "--json", *settings], check=True, stdout=subprocess.PIPE)
    return dict(json.loads(done.stdout))


def run(data: Path, out: Path, settings: list[str]) -> dict[str, float]:
    """Run the training: the command's peak memory, and the median seconds per step."""
    with (out.parent / "output").open("w") as output:
        command = [*LLMKIT, "pretrain", os.devnull, "--data", str(data), "--out", str(out), "--overwrite", *settings]
        process = subprocess.Popen(command, stdout=output, stderr=output)
        _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit((out.parent / "output").read_text())
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    steps = [line for line in lines if line["kind"] == "train"]
    n_tokens = [after["n_tokens"] - before["n_tokens"] for before, after in itertools.pairwise(steps)]
    seconds = [n / line["tokens_per_second"] for n, line in zip(n_tokens, steps[1:], strict=True)]
    return {"peak_bytes": 1024 * usage.ru_maxrss, "seconds_per_step": statistics.median(seconds[WARMUP_STEPS - 1 :])}


def check_gpu() -> dict[str, Any]:
    """GPT-2 124M, eight sequences of 1,024 at once, two micro-batches a step."""
    import torch

    if not torch.cuda.is_available():
        sys.exit("there is no GPU here: nothing was measured")
    settings = [
        "model.size=small",
        "prepare.tokenizer.vocab_size=50257",
        "train.block_size=1024",
        "train.max_steps=100",
    ]
    settings += ["train.global_batch_size=16", "train.micro_batch_size=8"]
    found = plan([word for setting in settings for word in ("-s", setting)])
    seen = found["measured"]
    machine, forecast = found["machine"], seen["forecast"]
    print(f"{machine['device']['title']}, {machine['precision']}")
    print(f"memory    forecast {forecast['peak_bytes'] / 1e9:.2f} GB, torch {seen['peak_bytes'] / 1e9:.2f} GB")
    print(f"error     {seen['error']['peak_bytes']:+.1%}")
    print(f"per step  {seen['seconds_per_step']:.3f} s, which is an MFU of {machine['mfu']:.1%}")
    return found


if __name__ == "__main__":
    main()
