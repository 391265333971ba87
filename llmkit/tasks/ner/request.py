"""Check the files of a tagger's training before slow imports. Does not import torch."""

from collections.abc import Mapping

from llmkit.config.recipe import NerRecipe
from llmkit.tables.tagged import choose_tag_columns, open_tagged
from llmkit.text.inputs import is_stream

CONTENT = "words and tags"


def check_files(recipe: NerRecipe, files: Mapping[str, str]) -> None:
    """Read the first rows of each file, and choose the columns of the train file.

    Data sets of the hub and streams, which can be read only once, are not opened.

    Raises:
        DataError: see `open_tagged` and `choose_tag_columns`.
    """
    for name, path in files.items():
        if path.startswith("hf:") or is_stream(path):
            continue
        with open_tagged(path, recipe.ner, recipe.prepare.read) as rows:
            if name == "train":
                choose_tag_columns(rows, recipe.ner, need_tags=True)
