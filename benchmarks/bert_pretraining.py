"""BERT pretraining: llmkit compared with run_mlm.py on the same prepared text.

    python benchmarks/bert_pretraining.py --json result.json
    python benchmarks/bert_pretraining.py --sizes base --block-size 512 --batch 32 --bf16 --steps 60  # on a GPU

The peer does what transformers' run_mlm.py does: `Trainer` with its defaults, `BertForMaskedLM`, blocks of concatenated
text, `DataCollatorForLanguageModeling`, and no sentence pairs. llmkit is `pretrain-mlm` with whole-word masking and
sentence pairs. Vocabulary, model size, block size and batch size are the same. Tokens per second exclude padding: the
median over the steps of a run after the first three, then the median over rounds. `--bf16` applies to the peer; llmkit
chooses its precision. The two alternate. Run it on an idle machine: both use all cores.
"""

import argparse
import itertools
import json
import statistics
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from turns import call, call_llmkit, finish, make_row, take_turns

SHAPES = {"mini": (4, 256, 4, 32), "base": (12, 768, 12, 8)}
"""Layers, width, heads, and the batch unless --batch is given."""
WARMUP_STEPS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", type=Path, help="prepared with a wordpiece tokenizer; default: Python's documentation"
    )
    parser.add_argument("--sizes", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--block-size", type=int, default=128)
    parser.add_argument("--batch", type=int, help="sequences per step; default: 32 for mini, 8 for base")
    parser.add_argument("--bf16", action="store_true", help="for the peer")
    parser.add_argument("--steps", type=int, default=13, help="optimizer steps per run")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--only", choices=["peer", "ours"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        run = run_peer if options.only == "peer" else run_ours
        print(json.dumps(run(options, options.sizes[0])))
        return
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        data = options.data or prepare_documentation(Path(folder))
        for size in options.sizes:
            ways = {"llmkit": "ours", "run_mlm's way": "peer"}
            turns = {name: partial(measure, way, data, size, options) for name, way in ways.items()}
            n_layer, width, _, batch = SHAPES[size]
            work = f"BERT {n_layer}x{width}, block {options.block_size}, batch {options.batch or batch}"
            rows.append(make_row(work, take_turns(turns, options.rounds)))
    finish(rows, options)


def prepare_documentation(folder: Path) -> Path:
    """Prepare Python's own documentation with a WordPiece vocabulary of 8,192."""
    data = folder / "data"
    kind = ["-s", "prepare.tokenizer.kind=wordpiece", "-s", "prepare.tokenizer.vocab_size=8192"]
    call_llmkit("prepare", "builtin:python-docs", "--out", data, *kind)
    return data


def measure(name: str, data: Path, size: str, options: argparse.Namespace) -> float:
    """Tokens per second of one run in a new process."""
    given = ["--steps", options.steps, "--block-size", options.block_size, *(["--bf16"] if options.bf16 else [])]
    given += ["--batch", options.batch] if options.batch else []
    output = call(sys.executable, __file__, "--only", name, "--data", data, "--sizes", size, *given)
    return float(json.loads(output.splitlines()[-1]))


def run_peer(options: argparse.Namespace, size: str) -> float:
    """Plain Trainer, as run_mlm.py sets it up with --line_by_line off."""
    from transformers import (
        AutoTokenizer,
        BertConfig,
        BertForMaskedLM,
        DataCollatorForLanguageModeling,
        Trainer,
        TrainerCallback,
        TrainingArguments,
    )

    from llmkit.tokens.store import Split

    n_layer, width, n_head, batch = SHAPES[size]
    batch, block_size = options.batch or batch, options.block_size
    tokenizer = AutoTokenizer.from_pretrained(options.data / "tokenizer")
    stream = Split(options.data / "train").stream
    n_blocks = min(options.steps * batch, len(stream) // block_size)
    blocks = [stream.read(number * block_size, block_size).tolist() for number in range(n_blocks)]
    rows = [{"input_ids": block, "attention_mask": [1] * block_size} for block in blocks]
    ends: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, *arguments: object, **more: object) -> None:
            ends.append(time.perf_counter())

    config = BertConfig(
        vocab_size=len(tokenizer), num_hidden_layers=n_layer, hidden_size=width, num_attention_heads=n_head,
        intermediate_size=4 * width, max_position_embeddings=block_size,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as out:
        arguments = TrainingArguments(
            out, per_device_train_batch_size=batch, max_steps=options.steps, report_to=[], save_strategy="no",
            disable_tqdm=True, bf16=options.bf16,
        )  # fmt: skip
        Trainer(
            BertForMaskedLM(config), arguments, train_dataset=rows,
            data_collator=DataCollatorForLanguageModeling(tokenizer), callbacks=[Clock()],
        ).train()  # fmt: skip
    seconds = [end - start for start, end in itertools.pairwise(ends)][WARMUP_STEPS - 1 :]
    return batch * block_size / statistics.median(seconds)


def run_ours(options: argparse.Namespace, size: str) -> float:
    """`llmkit pretrain-mlm` without evaluation until the end; speeds are read from its log."""
    from llmkit.config.loading import load_recipe
    from llmkit.runs.train import pretrain

    batch, steps = options.batch or SHAPES[size][3], options.steps
    overrides = [
        f"model.size={size}", f"train.block_size={options.block_size}", f"train.global_batch_size={batch}",
        f"train.max_steps={steps}", "train.log_steps=1", f"train.eval_steps={steps}", "train.max_eval_samples=1",
    ]  # fmt: skip
    with tempfile.TemporaryDirectory() as out:
        run = Path(out) / "run"
        pretrain(load_recipe(None, overrides, "mlm"), data=options.data, out=run)
        records = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    speeds = [record["tokens_per_second"] for record in records if record["kind"] == "train"]
    return statistics.median(speeds[WARMUP_STEPS:])


if __name__ == "__main__":
    main()
