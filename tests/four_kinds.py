"""One tiny run of each kind of training, as command-line arguments; for tests and for chaos.py."""

import json
from pathlib import Path
from typing import Any

from tiny import FILLER, HAM, SPAM, make_messages, make_tagged, save_bert, write_conll, write_table

from llmkit.config.loading import load_recipe
from llmkit.preparing.prepare import prepare

KINDS = ("clm", "mlm", "gru", "cls", "ner")
N_STEPS, SAVE_STEPS = 12, 3
TRAINING = {
    "train.max_steps": N_STEPS, "train.save_steps": SAVE_STEPS, "train.eval_steps": 4, "train.log_steps": 1,
    "train.precision": "fp32", "train.global_batch_size": 8, "train.micro_batch_size": 4, "model.dropout": 0.1,
}  # fmt: skip
SMALL = {"model.n_layer": 2, "model.n_head": 2, "model.n_embd": 32, "train.block_size": 64}
SENTENCES = {"train.block_size": 32}
RECURRENT = {"model.family": "gru", "model.n_layer": 2, "model.n_embd": 32, "train.block_size": 64}
MEASURED = (
    "seconds",
    "tokens_per_second",
    "tokens_per_second_per_device",
    "mfu",
    "data_wait",
    "peak_memory",
    "peak_memory_total",
)


def make_commands(folder: Path) -> dict[str, list[str]]:
    """Write data and a model to `folder`; the arguments of a run of each kind, all but `--out`."""
    texts = [f"{text}. It is {number} o'clock!" for number, (text, _) in enumerate(make_messages(120))]
    (folder / "book.txt").write_text("\n".join([*SPAM, *HAM, *FILLER, *texts]), encoding="utf-8")
    for kind in ("char", "wordpiece"):
        tokenizer = [f"prepare.tokenizer.kind={kind}", "prepare.tokenizer.vocab_size=200"]
        settings = load_recipe(None, ["prepare.split.validation=0.2", "prepare.split.test=0", *tokenizer]).prepare
        prepare([str(folder / "book.txt")], folder / kind, settings)
    table = write_table(folder / "messages.csv", make_messages(96))
    model = save_bert(folder / "bert")
    return {
        "clm": ["pretrain-clm", "--data", str(folder / "char"), *as_options(TRAINING | SMALL)],
        "mlm": ["pretrain-mlm", "--data", str(folder / "wordpiece"), *as_options(TRAINING | SMALL | SENTENCES)],
        "gru": ["pretrain-clm", "--data", str(folder / "char"), *as_options(TRAINING | RECURRENT)],
        "cls": [
            "finetune-cls", "--data", table, "--model", model,
            *as_options(TRAINING | {"cls.validation": 0.25, "optim.learning_rate": 1e-2}),
        ],
        "ner": [
            "finetune-ner", "--data", write_conll(folder / "words.conll", make_tagged(96)), "--model", model,
            *as_options(TRAINING | {"ner.validation": 0.25, "optim.learning_rate": 1e-2}),
        ],
    }  # fmt: skip


def as_options(settings: dict[str, Any]) -> list[str]:
    return [word for name, value in settings.items() for word in ("-s", f"{name}={value}")]


def read_log(run: Path, kind: str | None = None) -> list[dict[str, Any]]:
    """Its records, or those of one kind, without what clocks and the machine say."""
    records = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    ours = (record for record in records if kind in (None, record["kind"]))
    return [{name: value for name, value in record.items() if name not in MEASURED} for record in ours]
