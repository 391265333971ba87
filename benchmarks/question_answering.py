"""Question answering with a small encoder: llmkit compared with run_qa.py of transformers.

    python benchmarks/question_answering.py --model MINILM --train train.json --test test.json --questions 2000

`run_qa` does what transformers' run_qa.py did: `Trainer` in fp32, every window padded to 384 tokens, the first
reference answer as the label, the best of 20 starts and 20 ends per window as the answer. `ours` is
`llmkit finetune-qa`. Model, questions, windows, batch size, learning rate, schedule, weight decay and epochs are the
same. Trainer keeps the model's dropout; llmkit uses its own default. Both are scored by the rules of SQuAD's script.
Files have the form of SQuAD 1.1. Run it on an idle machine.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from turns import call

BATCH, LONGEST, STRIDE, RATE, N_BEST, MAX_ANSWER = 32, 384, 128, 1.4e-4, 20, 30
WAYS = ("ours", "run_qa")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="a BERT's folder, such as MiniLM's")
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--test", type=Path, required=True)
    parser.add_argument("--questions", type=int, help="train on the first of them; default: all")
    parser.add_argument("--epochs", type=float, default=1)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--only", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        print(json.dumps((run_ours if options.only == "ours" else run_trainer)(options)))
        return
    found: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    for seed in range(options.seeds):
        for way in WAYS:
            output = call(sys.executable, *sys.argv, "--only", way, "--seed", seed)
            found[way].append(json.loads(output.splitlines()[-1]))
            print(f"seed {seed}, {way}: {found[way][-1]}", flush=True)
    if options.json:
        options.json.write_text(json.dumps(found, indent=2))


def read_questions(path: Path, n_questions: int | None) -> list[dict[str, Any]]:
    articles = json.loads(path.read_text(encoding="utf-8"))["data"]
    rows = [
        {"question": asked["question"].strip(), "context": paragraph["context"], "answers": asked["answers"]}
        for article in articles
        for paragraph in article["paragraphs"]
        for asked in paragraph["qas"]
    ]
    return rows[:n_questions]


def run_ours(options: argparse.Namespace) -> dict[str, float]:
    import llmkit

    with tempfile.TemporaryDirectory() as folder:
        train = Path(folder) / "train.jsonl"
        rows = read_questions(options.train, options.questions)
        train.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        out = Path(folder) / "run"
        metrics: Any = llmkit.finetune(
            data=train, model=options.model, out=out, task="qa", qa__validation=0, qa__stride=STRIDE,
            train__block_size=LONGEST, train__global_batch_size=BATCH, train__epochs=options.epochs,
            train__seed=options.seed, optim__learning_rate=RATE, train__keep_checkpoints=False,
        )  # fmt: skip
        started = time.perf_counter()
        scored: Any = llmkit.evaluate(out, data=options.test)
        scoring = time.perf_counter() - started
    return make_result(scored["exact_match"], scored["answer_f1"], scored["n_questions"] / scoring) | {
        "train_questions_per_second": len(rows) * options.epochs / metrics["training"]["seconds"]
    }


def run_trainer(options: argparse.Namespace) -> dict[str, float]:
    import datasets
    import torch
    from transformers import (
        AutoModelForQuestionAnswering,
        AutoTokenizer,
        Trainer,
        TrainingArguments,
        default_data_collator,
    )

    tokenizer = AutoTokenizer.from_pretrained(options.model)
    rows, test = read_questions(options.train, options.questions), read_questions(options.test, None)
    features = datasets.Dataset.from_list([add_labels(each, rows, tokenizer) for each in cut(rows, tokenizer)])
    torch.manual_seed(options.seed)
    model = AutoModelForQuestionAnswering.from_pretrained(options.model)
    with tempfile.TemporaryDirectory() as folder:
        settings = TrainingArguments(
            folder, per_device_train_batch_size=BATCH, per_device_eval_batch_size=16, learning_rate=RATE,
            num_train_epochs=options.epochs, weight_decay=0.01, warmup_steps=0.1, lr_scheduler_type="linear",
            save_strategy="no", report_to=[], seed=options.seed, use_cpu=not torch.cuda.is_available(),
            disable_tqdm=True,
        )  # fmt: skip
        trainer = Trainer(model, settings, data_collator=default_data_collator, train_dataset=features)
        seconds = trainer.train().metrics["train_runtime"]
        started = time.perf_counter()
        windows = cut(test, tokenizer)
        names = ("input_ids", "attention_mask", "token_type_ids")
        inputs = datasets.Dataset.from_list([{name: each[name] for name in names if name in each} for each in windows])
        starts, ends = trainer.predict(inputs).predictions[:2]
        texts = choose_answers(test, windows, starts, ends)
        scoring = time.perf_counter() - started
    from llmkit.metrics.answers import score_answers

    found = score_answers(texts, [[answer["text"] for answer in row["answers"]] for row in test], "squad_1.1")
    result = make_result(float(found.exact.mean()), float(found.f1.mean()), len(test) / scoring)
    return result | {"train_questions_per_second": len(rows) * options.epochs / seconds}


def make_result(exact_match: float, answer_f1: float, questions_per_second: float) -> dict[str, float]:
    return {"exact_match": exact_match, "answer_f1": answer_f1, "questions_per_second": questions_per_second}


def cut(rows: list[dict[str, Any]], tokenizer: Any) -> list[dict[str, Any]]:
    """The padded windows of all questions, with the row and the characters of each context token."""
    encoded = tokenizer(
        [row["question"] for row in rows], [row["context"] for row in rows], truncation="only_second",
        max_length=LONGEST, stride=STRIDE, padding="max_length", return_overflowing_tokens=True,
        return_offsets_mapping=True,
    )  # fmt: skip
    windows = []
    for number, row in enumerate(encoded["overflow_to_sample_mapping"]):
        sides = encoded.sequence_ids(number)
        offsets = [
            span if side == 1 else None for span, side in zip(encoded["offset_mapping"][number], sides, strict=True)
        ]
        inputs = {name: encoded[name][number] for name in tokenizer.model_input_names}
        windows.append(inputs | {"row": row, "offsets": offsets})
    return windows


def add_labels(window: dict[str, Any], rows: list[dict[str, Any]], tokenizer: Any) -> dict[str, Any]:
    """The inputs with the tokens of the first answer, or the class token if the window does not hold it."""
    answer = rows[window["row"]]["answers"][0]
    start, stop = answer["answer_start"], answer["answer_start"] + len(answer["text"])
    tokens = [token for token, span in enumerate(window["offsets"]) if span is not None]
    inside = [token for token in tokens if window["offsets"][token][0] < stop and window["offsets"][token][1] > start]
    holds = window["offsets"][tokens[0]][0] <= start and window["offsets"][tokens[-1]][1] >= stop
    first, last = (inside[0], inside[-1]) if holds and inside else (0, 0)
    return {name: window[name] for name in tokenizer.model_input_names} | {
        "start_positions": first, "end_positions": last
    }  # fmt: skip


def choose_answers(
    rows: list[dict[str, Any]], windows: list[dict[str, Any]], starts: np.ndarray, ends: np.ndarray
) -> list[str]:
    """The text of the span with the highest sum of logits among the best starts and ends of each window."""
    best: list[tuple[float, str]] = [(-np.inf, "")] * len(rows)
    for window, start_logits, end_logits in zip(windows, starts, ends, strict=True):
        offsets, context = window["offsets"], rows[window["row"]]["context"]
        for first in np.argsort(-start_logits)[:N_BEST]:
            for last in np.argsort(-end_logits)[:N_BEST]:
                if offsets[first] is None or offsets[last] is None or not first <= last < first + MAX_ANSWER:
                    continue
                score = float(start_logits[first] + end_logits[last])
                if score > best[window["row"]][0]:
                    best[window["row"]] = (score, context[offsets[first][0] : offsets[last][1]])
    return [text for _, text in best]


if __name__ == "__main__":
    main()
