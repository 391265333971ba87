"""Label the rows of a file with a classifier, in their order."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmkit.config.recipe import ClsRecipe
from llmkit.core import console
from llmkit.core.errors import DataError
from llmkit.core.progress import ProgressBar
from llmkit.tables.labelled import read_labelled
from llmkit.tables.rows import open_rows
from llmkit.tasks.base import PredictionRequest
from llmkit.tasks.cls.label_types import name_probabilities
from llmkit.tasks.cls.row_reading import describe_left_out
from llmkit.tasks.cls.row_scoring import RowScorer, open_scorer


def predict_rows(recipe: ClsRecipe, request: PredictionRequest) -> dict[str, Any]:
    """Each row with its label and the label's probability; several labels are all whose probability reaches their
    threshold; for regression it is a number.

    Raises:
        DataError: what tables/rows.py and tables/labelled.py raise; a column that is called as a new one.
        ModelError: the model cannot be used.
    """
    section, data = recipe.cls, request.data
    scorer = open_scorer(request.path, recipe.evaluate)
    wanted = [name for name in (section.text, section.pair, scorer.format.text) if name]
    n_rows, n_cut = 0, 0
    opened = open_rows(data, recipe.prepare.read, header=section.header, wanted=wanted)
    with opened as rows, ProgressBar("predicting", "rows", log=True) as line:
        columns = scorer.format.find_columns(rows, need_label=False, text=section.text, pair=section.pair)
        columns = replace(columns, label=None)  # labels that are there already are cells like others
        console.info(f"{data}: text {columns.text!r}" + (f", pair {columns.pair!r}" if columns.pair else ""))
        names = scorer.labels.columns(scorer.names, all_probabilities=request.all_probabilities)
        if taken := [name for name in names if name in rows.columns]:
            hint = "rename it in the file: the result keeps all columns and adds this one"
            raise DataError(f"there is a column {taken[0]!r} already", where=data, hint=hint)
        emit = request.open_writer([*rows.columns, *names])
        scorer = scorer.with_format(scorer.format.with_columns(columns))
        for chunk, inputs, outputs in scorer.score(read_labelled(rows, columns, scorer.labels.parser(None))):
            for row, cells in zip(chunk, _to_cells(scorer, outputs, request.all_probabilities), strict=True):
                emit({**row.cells, **cells})
            n_rows += len(chunk)
            n_cut += inputs.n_cut
            line.add(len(chunk))
        n_skipped = sum(rows.source.skipped.values())
    notes = describe_left_out(n_skipped, data, "that cannot be read")
    for note in [*notes, *scorer.format.describe_cut(n_cut, n_rows, data)]:
        console.info(note)
    return {"n_rows": n_rows, "n_truncated": n_cut, "n_skipped": n_skipped}


def _to_cells(scorer: RowScorer, outputs: NDArray[np.float64], all_probabilities: bool) -> Iterator[dict[str, Any]]:
    """The new cells of each row."""
    labels, names = scorer.labels, scorer.names
    for predicted, output in zip(scorer.predict(outputs), outputs, strict=True):
        cells = labels.to_cells(predicted, output, names)
        if all_probabilities and labels.has_names:
            values = (round(float(value), 6) for value in output)
            cells |= dict(zip(name_probabilities(names), values, strict=True))
        yield cells
