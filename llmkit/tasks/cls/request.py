"""Check the model and the files of a fine-tuning command before slow imports. Does not import torch."""

from collections.abc import Mapping
from pathlib import Path

from llmkit.config.cls import Cls
from llmkit.config.recipe import ClsRecipe
from llmkit.core.errors import UsageError
from llmkit.tables.joined_columns import join_texts, list_labels
from llmkit.tables.label_columns import Columns, choose_columns
from llmkit.tables.rows import open_rows
from llmkit.text.inputs import is_stream
from llmkit.text.records.rows import RowStream


def check_request(model: str | None, files: Mapping[str, str]) -> str:
    """Return the model's name.

    Raises:
        UsageError: there are no train rows or no model, or the train file cannot be used for training.
    """
    if "train" not in files:
        raise UsageError("no training data is given", where="--data", hint="give a file with texts and labels")
    if files["train"] == "-":
        hint = "write the rows to a file first: --resume and eval read them again"
        raise UsageError("training cannot read from stdin", where="--data", hint=hint)
    if (Path(files["train"]) / "manifest.json").is_file():
        hint = "give a table of texts and labels; llmkit pretrain takes prepared folders"
        raise UsageError(f"{files['train']!r} is a prepared folder", where="--data", hint=hint)
    if model is None:
        hint = "give a run of pretrain-mlm or pretrain-clm, a model folder, or a hub name"
        raise UsageError("there is no model to fine-tune", where="--model", hint=hint)
    return model


def check_files(recipe: ClsRecipe, files: Mapping[str, str]) -> None:
    """Read the first rows of each file, and choose the columns of the train file.

    Data sets of the hub and streams, which can be read only once, are not opened.

    Raises:
        DataError: see `open_rows` and `find_train_columns`.
    """
    section = recipe.cls
    for name, path in files.items():
        if path.startswith("hf:") or is_stream(path):
            continue
        with open_rows(path, recipe.prepare.read, header=section.header, wanted=named_columns(section)) as rows:
            if name == "train":
                find_train_columns(section, rows)


def named_columns(section: Cls) -> list[str]:
    """Return the columns that the user named."""
    return [name for name in (section.text, section.pair, section.label) if name]


def find_train_columns(section: Cls, rows: RowStream) -> Columns:
    """Return the columns of the train file; adds joined columns to `rows`.

    Raises:
        DataError: a named column does not exist, or the choice is ambiguous.
    """
    join_texts(rows, section.text, required=True)
    list_labels(rows, section.label, required=True)
    return choose_columns(
        rows.columns, [row.cells for row in rows.sample],
        text=section.text, pair=section.pair, label=section.label, need_label=True, where=rows.path,
    )  # fmt: skip
