"""Fine-tuning a small model of one's own: llmkit's defaults, Trainer's defaults, and the n-gram baseline.

    python benchmarks/small_models.py --model RUN/model --seeds 3 \\
        --set chapters chapters-train.csv chapters-test.csv --set polarity train.tsv test.tsv --json small.json

`ours` is `llmkit finetune-cls` without settings. `trainer` is `transformers.Trainer` with its own defaults: 3 epochs,
rate 5e-5, batches of 8, fp32. `baseline` is the linear model over n-grams that llmkit reports beside every result. Each
run is a process of its own; CPU seconds are those of that process, its start included. Files are .csv or .tsv with a
header, a column text and one column of labels; the test file is scored by the last weights (Trainer) or those of the
best epoch (llmkit).
"""

import argparse
import csv
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from turns import call

Rows = tuple[list[str], list[str]]
LONGEST = 128


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="folder of a BERT")
    parser.add_argument("--set", nargs=3, action="append", required=True, metavar=("NAME", "TRAIN", "TEST"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--ways", nargs="+", choices=("ours", "trainer"), default=["ours", "trainer"])
    parser.add_argument("--json", type=Path, help="results are read from and added to this file")
    parser.add_argument("--only", choices=("ours", "trainer"), help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        _, train, test = options.set[0]
        run = run_ours if options.only == "ours" else run_trainer
        found = run(str(options.model), train, test, options.seed)
        print(json.dumps(found | {"cpu_seconds": time.process_time()}))
        return
    path: Path | None = options.json
    known: dict[str, dict[str, float]] = json.loads(path.read_text()) if path and path.exists() else {}
    for seed in range(options.seeds):
        for name, train, test in options.set:
            for way in options.ways:
                key = f"{name} {way} {seed}"
                if key not in known:
                    known[key] = measure(options.model, (name, train, test), way, seed)
                    print(key, known[key], flush=True)
                if path:
                    path.write_text(json.dumps(known, indent=1))
    show(known)


def measure(model: Path, files: tuple[str, str, str], way: str, seed: int) -> dict[str, float]:
    """One run in a new process."""
    words = ("--model", model, "--set", *files, "--only", way, "--seed", seed)
    found: dict[str, float] = json.loads(call(sys.executable, __file__, *words).splitlines()[-1])
    return found


def run_ours(model: str, train: str, test: str, seed: int) -> dict[str, float]:
    from llmkit.config.loading import load_recipe
    from llmkit.runs.train import finetune

    with tempfile.TemporaryDirectory() as out:
        recipe = load_recipe(None, [f"train.seed={seed}"], task="cls")
        found = finetune(recipe, files={"train": train, "test": test}, out=Path(out) / "run", model=model)
    scores = found["test"]
    return {
        "accuracy": scores["accuracy"], "f1_macro": scores["f1_macro"], "epochs": found["training"]["epochs"],
        "baseline_accuracy": scores["ngram_baseline_accuracy"], "baseline_f1_macro": scores["ngram_baseline_f1_macro"],
    }  # fmt: skip


def run_trainer(model: str, train: str, test: str, seed: int) -> dict[str, float]:
    import datasets
    from sklearn.metrics import f1_score
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        DataCollatorWithPadding,
        Trainer,
        TrainingArguments,
    )

    tokenizer = AutoTokenizer.from_pretrained(model)
    rows = {name: read_rows(path) for name, path in (("train", train), ("test", test))}
    names = sorted(set(rows["train"][1]))

    def encode(part: Rows) -> Any:
        texts = tokenizer(part[0], truncation=True, max_length=LONGEST)
        return datasets.Dataset.from_dict({**texts, "label": [names.index(label) for label in part[1]]})

    network = AutoModelForSequenceClassification.from_pretrained(model, num_labels=len(names))
    with tempfile.TemporaryDirectory() as out:
        arguments = TrainingArguments(out, seed=seed, use_cpu=True, report_to=[], save_strategy="no", disable_tqdm=True)
        trainer = Trainer(
            network, arguments, train_dataset=encode(rows["train"]), data_collator=DataCollatorWithPadding(tokenizer)
        )
        trainer.train()
        found = trainer.predict(encode(rows["test"]))
    predicted = found.predictions.argmax(-1)
    return {
        "accuracy": float((predicted == found.label_ids).mean()),
        "f1_macro": float(f1_score(found.label_ids, predicted, average="macro")),
    }


def read_rows(path: str) -> Rows:
    """Texts and labels of a file."""
    with Path(path).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t" if path.endswith("tsv") else ","))
    label = next(name for name in rows[0] if name != "text")
    return [row["text"] for row in rows], [row[label] for row in rows]


def show(known: dict[str, dict[str, float]]) -> None:
    """Print means over seeds as a table."""
    groups: dict[str, list[dict[str, float]]] = {}
    for key, found in known.items():
        name, way, _ = key.split()
        groups.setdefault(f"{name} | {way}", []).append(found)
        if "baseline_accuracy" in found:
            both = {"accuracy": found["baseline_accuracy"], "f1_macro": found["baseline_f1_macro"]}
            groups.setdefault(f"{name} | baseline", []).append(both)
    print("| set | way | accuracy | macro F1 | CPU seconds |\n| --- | --- | --- | --- | --- |")
    for group, runs in groups.items():
        cells = []
        for figure in ("accuracy", "f1_macro"):
            values = [100 * run[figure] for run in runs]
            deviation = f" ± {statistics.stdev(values):.1f}" if len(set(values)) > 1 else ""
            cells.append(f"{statistics.fmean(values):.1f}{deviation}")
        seconds = [run["cpu_seconds"] for run in runs if "cpu_seconds" in run]
        cells.append(f"{statistics.fmean(seconds):.0f}" if seconds else "")
        print(f"| {group} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
