"""Fine-tuning an encoder on sentences: llmkit compared with run_glue.py and with Trainer's fastest settings.

    python benchmarks/classification.py --model MINILM --train train.tsv --test test.tsv --json speed.json
    python benchmarks/classification.py --model MINILM --train train.tsv --test test.tsv --accuracy --seeds 3

`glue` does what transformers' run_glue.py does: `Trainer` in fp32, every text padded to 128 tokens. `flags-fp32` and
`flags-bf16` are Trainer with dynamic padding and length grouping; which is faster depends on the machine. `ours` is
`llmkit finetune-cls`. Model, rows, batch size, learning rate, schedule, weight decay and epochs are the same; Trainer
keeps the model's dropout, llmkit uses its own default. Rows per second are those of steps 50 to 100, one whole chunk of
rows sorted by length; `glue` has steps of equal length and is measured over steps 3 to 13. Figures are medians over
rounds. `--accuracy` trains for `--epochs` epochs instead and scores the test file. Files are .tsv with a header and the
columns label and text. Run it on an idle machine.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

from turns import call, finish, make_row, take_turns

BATCH, LONGEST, RATE = 32, 128, 1e-4
STEPS = {"ours": (50, 100), "glue": (3, 13), "flags-fp32": (50, 100), "flags-bf16": (50, 100)}
"""Between which optimizer steps the clock runs."""
NAMES = {
    "ours": "llmkit",
    "glue": "run_glue's way",
    "flags-fp32": "Trainer, best flags, fp32",
    "flags-bf16": "Trainer, best flags, bf16",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="a BERT's folder, such as MiniLM's")
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--test", type=Path, required=True)
    parser.add_argument("--ways", nargs="+", choices=STEPS, default=list(STEPS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--accuracy", action="store_true", help="train to the end and score the test file")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=float, default=2)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--only", choices=STEPS, help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        print(json.dumps((run_ours if options.only == "ours" else run_trainer)(options)))
        return
    if not options.accuracy:
        turns = {NAMES[way]: partial(measure_speed, way) for way in options.ways}
        finish([make_row("classification, batch 32", take_turns(turns, options.rounds), unit="rows/s")], options)
        return
    found: dict[str, list[dict[str, float]]] = {way: [] for way in options.ways}
    for number in range(options.seeds):
        for way in options.ways:
            found[way].append(measure(way, number))
            print(f"{number} {way}: {found[way][-1]}", flush=True)
    show_accuracies(found)
    if options.json:
        options.json.write_text(json.dumps(found, indent=2))


def measure(way: str, seed: int) -> dict[str, float]:
    """One run in a new process."""
    found: dict[str, float] = json.loads(
        call(sys.executable, *sys.argv, "--only", way, "--seed", seed).splitlines()[-1]
    )
    return found


def measure_speed(way: str) -> float:
    return measure(way, 0)["rows_per_second"]


def show_accuracies(found: dict[str, list[dict[str, float]]]) -> None:
    """Mean and standard deviation over seeds."""
    for way, runs in found.items():
        values = [run["accuracy"] for run in runs]
        deviation = statistics.stdev(values) if len(values) > 1 else 0.0
        seconds = statistics.median(run["seconds"] for run in runs)
        print(f"{way:<6} {statistics.fmean(values):.2%} +- {deviation:.2%}  {values}  {seconds:.0f} s")


def run_trainer(options: argparse.Namespace) -> dict[str, float]:
    """Plain Trainer, with or without its faster settings."""
    import datasets
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        DataCollatorWithPadding,
        Trainer,
        TrainerCallback,
        TrainingArguments,
        default_data_collator,
    )

    way, accuracy = options.only, options.accuracy
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    train, names = read_rows(options.train, [])
    test, _ = read_rows(options.test, names)
    padding: Any = "max_length" if way == "glue" else False

    def encode(rows: list[dict[str, Any]]) -> Any:
        texts = tokenizer([row["text"] for row in rows], truncation=True, max_length=LONGEST, padding=padding)
        return datasets.Dataset.from_dict({**texts, "label": [row["label"] for row in rows]})

    model = AutoModelForSequenceClassification.from_pretrained(options.model, num_labels=len(names))
    ends: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, *arguments: object, **more: object) -> None:
            ends.append(time.perf_counter())

    fast: dict[str, Any] = {}
    if way.startswith("flags"):
        fast = {"bf16": way.endswith("bf16"), "train_sampling_strategy": "group_by_length"}
    first, last = STEPS[way]
    length: dict[str, Any] = {"num_train_epochs": options.epochs} if accuracy else {"max_steps": last}
    with tempfile.TemporaryDirectory() as out:
        arguments = TrainingArguments(
            out, per_device_train_batch_size=BATCH, per_device_eval_batch_size=64, learning_rate=RATE,
            weight_decay=0.01, lr_scheduler_type="linear", warmup_steps=0.1, seed=options.seed, use_cpu=True,
            report_to=[], save_strategy="no", disable_tqdm=True, **length, **fast,
        )  # fmt: skip
        trainer = Trainer(
            model, arguments, train_dataset=encode(train), eval_dataset=encode(test),
            data_collator=default_data_collator if way == "glue" else DataCollatorWithPadding(tokenizer),
            compute_metrics=lambda found: {"accuracy": float((found[0].argmax(-1) == found[1]).mean())},
            callbacks=[Clock()],
        )  # fmt: skip
        started = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - started
        if accuracy:
            return {"accuracy": trainer.evaluate()["eval_accuracy"], "seconds": seconds}
    return {"rows_per_second": BATCH * (last - first) / (ends[last - 1] - ends[first - 1])}


def run_ours(options: argparse.Namespace) -> dict[str, float]:
    """`llmkit finetune-cls`; its speed is read from its log."""
    from llmkit.config.loading import load_recipe
    from llmkit.runs.train import finetune

    accuracy, (first, last) = options.accuracy, STEPS["ours"]
    length = [f"train.epochs={options.epochs}"] if accuracy else [f"train.max_steps={last + 1}", "train.log_steps=10"]
    overrides = [
        f"train.block_size={LONGEST}", f"train.global_batch_size={BATCH}", f"optim.learning_rate={RATE}",
        f"train.seed={options.seed}", "cls.validation=0", *length,
    ]  # fmt: skip
    with tempfile.TemporaryDirectory() as out:
        run = Path(out) / "run"
        metrics = finetune(
            load_recipe(None, overrides, task="cls"), out=run, model=str(options.model),
            files={"train": str(options.train), "test": str(options.test)},
        )  # fmt: skip
        records = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    if accuracy:
        return {"accuracy": metrics["test"]["accuracy"], "seconds": metrics["training"]["seconds"]}
    seconds = {record["step"]: record["seconds"] for record in records if record["kind"] == "train"}
    return {"rows_per_second": BATCH * (last - first) / (seconds[last] - seconds[first])}


def read_rows(path: Path, names: list[str]) -> tuple[list[dict[str, Any]], list[str]]:
    """Rows as texts and label ids, and the label names: those given, or all found, sorted."""
    _, *lines = path.read_text(encoding="utf-8").splitlines()
    cells = [line.split("\t") for line in lines]
    names = names or sorted({label for label, _ in cells})
    return [{"label": names.index(label), "text": text} for label, text in cells], names


if __name__ == "__main__":
    main()
