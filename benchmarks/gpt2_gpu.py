"""GPT-2 124M on one GPU: llmkit compared with nanoGPT (compiled): tokens per second, MFU and peak memory.

    python benchmarks/gpt2_gpu.py --nanogpt ~/nanoGPT --rounds 3 --json gpu.json
    python benchmarks/gpt2_gpu.py --nanogpt ~/nanoGPT --tiny          # on a CPU, only to try the script

bf16, blocks of 1,024, micro-batches of 12 sequences, four micro-batches per step, no dropout, synthetic tokens of
GPT-2's vocabulary; llmkit compiles if its trial finds that faster. A step is the median after the first ten. MFU of
both is 6 N + 12 L d T over the dense bf16 rate in llmkit/core/hardware.yaml. For two GPUs, see the log of `pretrain-clm
--nproc 2`.

Written without a GPU: it HAS NOT RUN on one. Needs a checkout of github.com/karpathy/nanoGPT, which is run in a
temporary copy.
"""

import argparse
import json
import pickle
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

SHAPE = {"vocab_size": 50_257, "block_size": 1024, "batch": 12, "n_layer": 12, "n_head": 12, "n_embd": 768}
TINY = {"vocab_size": 500, "block_size": 64, "batch": 4, "n_layer": 2, "n_head": 2, "n_embd": 64}
ACCUMULATED = 4
WARMUP, STEPS = 10, 40


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nanogpt", type=Path, required=True, help="a checkout of nanoGPT")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tiny", action="store_true", help="a small model on the CPU, to try the script")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    shape = TINY if options.tiny else SHAPE
    found: dict[str, list[dict[str, Any]]] = {"nanoGPT": [], "ours": []}
    for _ in range(options.rounds):
        found["nanoGPT"].append(run_nanogpt(options.nanogpt, shape, on_gpu=not options.tiny))
        found["ours"].append(run_ours(shape, on_gpu=not options.tiny))
    speeds = {name: statistics.median(run["tokens_per_second"] for run in runs) for name, runs in found.items()}
    for name, runs in found.items():
        memory = max(run["peak_bytes"] for run in runs) / 1e9
        mfu = found["ours"][0]["mfu"] * speeds[name] / found["ours"][0]["tokens_per_second"]
        print(f"{name:<8} {speeds[name]:>10,.0f} tokens/s  MFU {mfu:.1%}  peak {memory:.2f} GB")
    print(f"ours is {speeds['ours'] / speeds['nanoGPT']:.2f} times nanoGPT")
    if options.json:
        options.json.write_text(json.dumps(found, indent=2))


def run_ours(shape: dict[str, int], *, on_gpu: bool) -> dict[str, Any]:
    """Train as `llmkit plan --measure` does: the trainer alone, in its own process."""
    settings = {
        "model.n_layer": shape["n_layer"], "model.n_head": shape["n_head"], "model.n_embd": shape["n_embd"],
        "prepare.tokenizer.vocab_size": shape["vocab_size"], "train.block_size": shape["block_size"],
        "train.micro_batch_size": shape["batch"], "train.global_batch_size": shape["batch"] * ACCUMULATED,
        "train.max_steps": STEPS, "train.precision": "bf16", "train.compile": "auto" if on_gpu else "none",
    }  # fmt: skip
    sets = [word for name, value in settings.items() for word in ("-s", f"{name}={value}")]
    command = [sys.executable, "-m", "llmkit", "plan", "--measure", "--json", *sets]
    plan = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    seen = plan["measured"]
    tokens = shape["batch"] * ACCUMULATED * shape["block_size"]
    return {
        "tokens_per_second": tokens / seen["seconds_per_step"],
        "mfu": plan["mfu"]["share"],
        "peak_bytes": seen["peak_bytes"],
    }


def run_nanogpt(checkout: Path, shape: dict[str, int], *, on_gpu: bool) -> dict[str, Any]:
    """Run nanoGPT's train.py on random tokens; time is read from its output, memory from torch."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "nanoGPT"
        shutil.copytree(checkout, folder, ignore=shutil.ignore_patterns(".git"))
        data = folder / "data/made_up"
        data.mkdir(parents=True)
        tokens = np.random.default_rng(0).integers(0, shape["vocab_size"], 2_000_000).astype(np.uint16)
        for split in ("train", "val"):
            tokens.tofile(data / f"{split}.bin")
        with (data / "meta.pkl").open("wb") as file:
            pickle.dump({"vocab_size": shape["vocab_size"]}, file)
        device = "cuda" if on_gpu else "cpu"
        settings = {
            "dataset": "made_up", "device": device, "compile": on_gpu, "dtype": "bfloat16", "dropout": 0.0,
            "batch_size": shape["batch"], "gradient_accumulation_steps": ACCUMULATED, "block_size": shape["block_size"],
            "n_layer": shape["n_layer"], "n_head": shape["n_head"], "n_embd": shape["n_embd"], "max_iters": STEPS,
            "eval_interval": 10**6, "eval_iters": 1, "log_interval": 1,
        }  # fmt: skip
        script = (
            "import runpy, torch\nrunpy.run_path('train.py', run_name='__main__')\n"
            "import resource\nm = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else "
            "1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\nprint('peak', m)\n"
        )
        words = [f"--{key}={value}" for key, value in settings.items()]
        command = [sys.executable, "-W", "ignore", "-c", script, *words]
        output = subprocess.run(command, cwd=folder, check=True, stdout=subprocess.PIPE, text=True).stdout
    milliseconds = [float(text) for text in re.findall(r"iter \d+: loss [\d.]+, time ([\d.]+)ms", output)][WARMUP:]
    tokens_per_step = shape["batch"] * ACCUMULATED * shape["block_size"]
    peak = int(re.findall(r"peak (\d+)", output)[-1])
    return {"tokens_per_second": 1000 * tokens_per_step / statistics.median(milliseconds), "peak_bytes": peak}


if __name__ == "__main__":
    main()
