"""What a table of several runs does not say by itself: where its figures are not quite about the same thing.

Takes the rows of reporting/compare.py. A note is one sentence; no note means that nothing was found.
"""

from collections.abc import Callable, Sequence
from typing import Any

from llmkit.training.run_record import Record

BUDGET_TOLERANCE = 1.05
"""Training tokens that differ by no more are called equal."""
LOSSY_TOKENIZERS = {
    "wordpiece": "white space and, where it folds it, case",
    "word": "how many spaces stand between words and, where it folds it, case",
}
"""What the tokens of a tokenizer's kind do not hold of a text, beside what is unknown to it."""
_NO_CONTEXT = ("precision", "data", "split")
"""What else `method` says of an evaluation."""


def write_notes(rows: Sequence[Record], *, same_tokenizer: bool) -> list[str]:
    """Notes on all runs, the gravest first."""
    notes = []
    for row in rows:
        if row["n_unknown_tokens"]:
            share = f" ({row['n_unknown_tokens'] / row['n_tokens']:.2%} of all)" if row["n_tokens"] else ""
            notes.append(
                f"{mark_name(row)}: {row['n_unknown_tokens']:,} held-out tokens{share} are unknown to its tokenizer; "
                "what they stood for is not paid for, so bits per byte and perplexity a word flatter it"
            )
    if not same_tokenizer:
        notes += [
            f"{row['run']}: its {(kind := row['tokenizer']['kind'])} tokens do not hold {LOSSY_TOKENIZERS[kind]}; "
            "bits per byte and perplexity a word flatter it a little"
            for row in rows
            if row["tokenizer"]["kind"] in LOSSY_TOKENIZERS
        ]
        notes.append(
            "the tokenizers differ: loss and perplexity a token are about different tokens and do not compare the runs"
        )
    budgets = [row["n_training_tokens"] for row in rows if row["n_training_tokens"]]
    if budgets and max(budgets) > BUDGET_TOLERANCE * min(budgets):
        shown = ", ".join(f"{row['run']} {_budget(row)}" for row in rows)
        notes.append(f"trained on different numbers of tokens: {shown}")
    if _differ(rows, lambda row: row["train_documents"]):
        notes.append("trained on different text")
    if _differ(rows, describe_context):
        shown = "; ".join(f"{row['run']} {describe_context(row)}" for row in rows)
        notes.append(f"scored with different context, and more of it gives a better figure: {shown}")
    if _differ(rows, lambda row: row["machine"]):
        notes.append("trained on different machines: time and tokens a second do not compare the models")
    return notes


def mark_name(row: Record) -> str:
    """The run's name, with a star where unknown tokens make its figures, and perhaps its rank, better than it is."""
    return f"{row['run']} *" if row["n_unknown_tokens"] else str(row["run"])


def _budget(row: Record) -> str:
    return f"{row['n_training_tokens']:,.0f}" if row["n_training_tokens"] else "unknown"


def describe_context(row: Record) -> str:
    """`block-wise, block size 256, stride 256`: how much of the text before a token the model saw."""
    method = {key: value for key, value in row["method"].items() if key not in _NO_CONTEXT}
    words = (f"{key.replace('_', ' ')} {value}" for key, value in method.items() if key != "windows")
    return ", ".join([str(method["windows"]), *words] if "windows" in method else words)


def _differ(rows: Sequence[Record], read: Callable[[Record], Any]) -> bool:
    values = [read(row) for row in rows]
    return any(value != values[0] for value in values)
