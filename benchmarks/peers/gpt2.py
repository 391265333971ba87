"""GPT-2 in plain transformers: Trainer with its defaults, as run_clm.py has it, or a bare loop of one's own.

    python benchmarks/peers/gpt2.py trainer --data PREPARED --layers 6 --width 384 --block 256 --batch 32 --steps 8

Prints JSON: the median tokens a second of the steps after the first three. The bare loop has what a careful person
would write by hand: the same formula of GELU in one kernel, no dropout, fused AdamW, clipped gradients, bf16 if asked.
"""

import argparse
import itertools
import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainerCallback, TrainingArguments

from llmkit.tokens.prepared import load_prepared

WARMUP_STEPS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("way", choices=["trainer", "loop"])
    parser.add_argument("--data", type=Path, required=True)
    for name in ("layers", "heads", "width", "block", "batch", "steps"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--first-step", action="store_true", help="say when it is done")
    options = parser.parse_args()
    blocks = Blocks(options.data, options.block)
    ends = (train_with_trainer if options.way == "trainer" else train_in_a_loop)(options, blocks)
    if options.first_step:
        return
    seconds = [end - start for start, end in itertools.pairwise(ends)][WARMUP_STEPS - 1 :]
    print(json.dumps(options.batch * options.block / statistics.median(seconds)))


class Blocks(Dataset[dict[str, list[int]]]):
    """Consecutive blocks of the train split, as lists of numbers: what `datasets` gives a Trainer."""

    def __init__(self, data: Path, block: int) -> None:
        self.stream, self.block = load_prepared(data).split("train").stream, block
        self.vocab_size = json.loads((data / "manifest.json").read_text(encoding="utf-8"))["tokenizer"]["vocab_size"]

    def __len__(self) -> int:
        return len(self.stream) // self.block

    def __getitem__(self, number: int) -> dict[str, list[int]]:
        ids = self.stream.read(number * self.block, self.block).tolist()
        return {"input_ids": ids, "attention_mask": [1] * self.block, "labels": ids}


def make_config(options: argparse.Namespace, blocks: Blocks, **more: object) -> GPT2Config:
    shape = {"n_layer": options.layers, "n_head": options.heads, "n_embd": options.width}
    return GPT2Config(vocab_size=blocks.vocab_size, n_positions=options.block, **shape, **more)


def train_with_trainer(options: argparse.Namespace, blocks: Blocks) -> list[float]:
    """The time at the end of every step."""
    ends: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, *arguments: object, **more: object) -> None:
            ends.append(time.perf_counter())
            if options.first_step and len(ends) == 1:
                print("first step", flush=True)

    with tempfile.TemporaryDirectory() as out:
        arguments = TrainingArguments(
            out, per_device_train_batch_size=options.batch, max_steps=options.steps, bf16=options.bf16, report_to=[],
            save_strategy="no", disable_tqdm=True,
        )  # fmt: skip
        model = GPT2LMHeadModel(make_config(options, blocks))
        Trainer(model, arguments, train_dataset=blocks, callbacks=[Clock()]).train()
    return ends


def train_in_a_loop(options: argparse.Namespace, blocks: Blocks) -> list[float]:
    """The same."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    plain = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0, "activation_function": "gelu_pytorch_tanh"}
    model = GPT2LMHeadModel(make_config(options, blocks, **plain)).to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    draw, ends = np.random.default_rng(0), []
    for _ in range(options.steps):
        starts = draw.integers(0, len(blocks.stream) - options.block - 1, options.batch)
        rows = np.stack([blocks.stream.read(int(start), options.block + 1) for start in starts]).astype(np.int64)
        ids = torch.from_numpy(rows).to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=options.bf16):
            logits = model(input_ids=ids[:, :-1], use_cache=False).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), ids[:, 1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        loss.item()  # waits for a GPU
        ends.append(time.perf_counter())
    return ends


if __name__ == "__main__":
    main()
