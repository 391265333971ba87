"""Notes on a comparison of runs: differences between them that the table of metrics does not show.

Takes the rows of reporting/compare.py. A note is one sentence.
"""

from collections.abc import Callable, Sequence
from typing import Any

from llmkit.training.run_record import Record

BUDGET_TOLERANCE = 1.05
"""Numbers of training tokens within this ratio count as equal."""
LOSSY_TOKENIZERS = {
    "wordpiece": "white space and, if the tokenizer lowercases, case",
    "word": "the number of spaces between words and, if the tokenizer lowercases, case",
}
"""The parts of a text that a tokenizer of this kind loses, besides unknown tokens."""
_NOT_CONTEXT = ("precision", "data", "split")
"""Keys of `method` that do not describe how much context each scored token had."""


def write_notes(rows: Sequence[Record], *, same_tokenizer: bool) -> list[str]:
    """Return notes on all runs, most serious first."""
    notes = []
    for row in rows:
        if row["n_unknown_tokens"]:
            share = f" ({row['n_unknown_tokens'] / row['n_tokens']:.2%} of all)" if row["n_tokens"] else ""
            notes.append(
                f"{mark_name(row)}: {row['n_unknown_tokens']:,} held-out tokens{share} are unknown to its tokenizer; "
                "the replaced text is not scored, so bits per byte and word perplexity are too low"
            )
    if not same_tokenizer:
        notes += [
            f"{row['run']}: its {(kind := row['tokenizer']['kind'])} tokens do not keep {LOSSY_TOKENIZERS[kind]}; "
            "its bits per byte and word perplexity are a little too low"
            for row in rows
            if row["tokenizer"]["kind"] in LOSSY_TOKENIZERS
        ]
        notes.append("the tokenizers differ, so loss and perplexity per token cannot be compared")
    budgets = [row["n_training_tokens"] for row in rows if row["n_training_tokens"]]
    if budgets and max(budgets) > BUDGET_TOLERANCE * min(budgets):
        shown = ", ".join(
            f"{row['run']} {n:,.0f}" if (n := row["n_training_tokens"]) else f"{row['run']} unknown" for row in rows
        )
        notes.append(f"trained on different numbers of tokens: {shown}")
    if _differ(rows, lambda row: row["train_documents"]):
        notes.append("trained on different text")
    if _differ(rows, describe_context):
        shown = "; ".join(f"{row['run']} {describe_context(row)}" for row in rows)
        notes.append(f"scored with different amounts of context, and more context lowers the loss: {shown}")
    if _differ(rows, lambda row: row["machine"]):
        notes.append("trained on different machines, so time and tokens per second cannot be compared")
    return notes


def mark_name(row: Record) -> str:
    """Return the run's name, with a star if unknown tokens make its metrics look better than they are."""
    return f"{row['run']} *" if row["n_unknown_tokens"] else str(row["run"])


def describe_context(row: Record) -> str:
    """Describe the context of each scored token: `block-wise, block size 256, stride 256`."""
    method = {key: value for key, value in row["method"].items() if key not in _NOT_CONTEXT}
    words = (f"{key.replace('_', ' ')} {value}" for key, value in method.items() if key != "windows")
    return ", ".join([str(method["windows"]), *words] if "windows" in method else words)


def _differ(rows: Sequence[Record], read: Callable[[Record], Any]) -> bool:
    return any(read(row) != read(rows[0]) for row in rows)
