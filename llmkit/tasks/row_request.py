"""Check the model and the train file of a command that trains on rows, before slow imports. Does not import torch."""

from collections.abc import Mapping
from pathlib import Path

from llmkit.core.errors import UsageError


def check_request(model: str | None, files: Mapping[str, str], content: str = "texts and labels") -> str:
    """Return the model's name; `content` says what the rows hold, for hints.

    Raises:
        UsageError: there are no train rows or no model, or the train file cannot be used for training.
    """
    if "train" not in files:
        raise UsageError("no training data is given", where="--data", hint=f"give a file with {content}")
    if files["train"] == "-":
        hint = "write the rows to a file first: --resume and eval read them again"
        raise UsageError("training cannot read from stdin", where="--data", hint=hint)
    if (Path(files["train"]) / "manifest.json").is_file():
        hint = f"give a file with {content}; llmkit pretrain takes prepared folders"
        raise UsageError(f"{files['train']!r} is a prepared folder", where="--data", hint=hint)
    if model is None:
        hint = "give a run of pretrain-mlm or pretrain-clm, a model folder, or a hub name"
        raise UsageError("there is no model to fine-tune", where="--model", hint=hint)
    return model
