"""The snippet of a saved tagger's model card gives the entities of `predict`."""

import re
from pathlib import Path
from typing import Any

from tasks.ner.conftest import find_entities

from llmkit.tables.tagged import TagColumns
from llmkit.tasks.ner.model_card import describe_use
from llmkit.tasks.ner.row_format import TagFormat


def test_snippet_gives_the_entities_of_predict(run: Path) -> None:
    code = re.search(r"```python\n(.*?)```", (run / "model/README.md").read_text(), re.DOTALL)
    assert code
    names: dict[str, Any] = {}
    lines = code[1].replace("PATH_OF_THIS_FOLDER", str(run / "model")).strip().splitlines()
    exec("\n".join(lines[:-1]), names)
    (row,) = find_entities(run, ["you win cash at home"])
    assert [e["word"] for e in names["find"]("you win cash at home")] == [e["text"] for e in row["entities"]]


def test_differences_from_the_pipeline_are_named() -> None:
    plain = describe_use(TagFormat(TagColumns(), "BIO", "punctuation", 64, 16, "greedy"))
    other = describe_use(TagFormat(TagColumns(), "BIO", "spaces", 64, 16, "constrained"))
    assert "splits texts at" not in plain and "64 tokens" in plain and "stride=16" in plain
    assert "splits texts at" in other and "no I- tag follows" in other
