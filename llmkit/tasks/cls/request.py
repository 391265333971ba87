"""Check the files of a classifier's training before slow imports. Does not import torch."""

from collections.abc import Mapping

from llmkit.config.cls import Cls
from llmkit.config.recipe import ClsRecipe
from llmkit.tables.joined_columns import join_texts, list_labels
from llmkit.tables.label_columns import Columns, choose_columns
from llmkit.tables.rows import open_rows
from llmkit.text.inputs import is_stream
from llmkit.text.records.rows import RowStream


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
