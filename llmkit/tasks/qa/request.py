"""Check the model and the files of a training command before slow imports. Does not import torch."""

from collections.abc import Mapping

from llmkit.config.qa import Qa
from llmkit.config.recipe import QaRecipe
from llmkit.tables.questions import open_questions
from llmkit.tables.rows import open_rows
from llmkit.tasks import row_request
from llmkit.text.inputs import is_stream
from llmkit.text.records.rows import RowStream

CONTENT = "questions, contexts and answers"


def check_request(model: str | None, files: Mapping[str, str]) -> str:
    """Return the model's name. Raises UsageError, see `row_request.check_request`."""
    return row_request.check_request(model, files, CONTENT)


def check_files(recipe: QaRecipe, files: Mapping[str, str]) -> None:
    """Read the first rows of each file and choose their columns.

    Data sets of the hub and streams, which can be read only once, are not opened.

    Raises:
        DataError: see `open_rows` and `open_questions`.
    """
    given = named_columns(recipe.qa)
    for path in files.values():
        if path.startswith("hf:") or is_stream(path):
            continue
        with open_rows(path, recipe.prepare.read, wanted=[name for name in given.values() if name]) as rows:
            open_questions(rows, given, need_answers=True, separator=recipe.qa.separator)


def named_columns(section: Qa) -> dict[str, str | None]:
    """Return the columns that the user named, by the roles of `QuestionColumns`."""
    return {
        "question": section.question, "context": section.context, "answers": section.answer,
        "answer_start": section.answer_start,
    }  # fmt: skip


def known_columns(
    rows: RowStream, given: Mapping[str, str | None], trained: Mapping[str, str]
) -> dict[str, str | None]:
    """Return the columns that the user named, else those of the train file that this file has too."""
    return {
        role: name or (trained.get(role) if trained.get(role) in rows.columns else None) for role, name in given.items()
    }
