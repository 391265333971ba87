"""Evaluate a classifier on a labelled file or on the held-out rows of its run.

A file is read in chunks; only its labels and predictions stay in memory.
"""

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from llmkit.config.loading import load_recipe
from llmkit.config.recipe import ClsRecipe
from llmkit.core import console
from llmkit.core.errors import DataError, UsageError
from llmkit.core.progress import ProgressBar
from llmkit.datasets.labelled import Inputs
from llmkit.metrics.bootstrap import Bootstrap
from llmkit.tables.labelled import LabelledRow
from llmkit.tables.train_sample import sample_of
from llmkit.tasks.base import EvaluationRequest
from llmkit.tasks.cls.baseline import BaselineOutputs, Texts, cut_text, measure_baseline
from llmkit.tasks.cls.custom_metrics import CustomMetric, check_custom_metrics, load_custom_metrics, measure_custom
from llmkit.tasks.cls.data import load_labelled
from llmkit.tasks.cls.label_type import LabelType
from llmkit.tasks.cls.labelled_split import LabelledSplit
from llmkit.tasks.cls.metrics import NGRAM_BASELINE
from llmkit.tasks.cls.prediction import RowScorer, describe_method, open_scorer
from llmkit.tasks.cls.row_format import open_labelled, read_format
from llmkit.tasks.cls.saved_predictions import SavedPredictions, save_predictions
from llmkit.tasks.evaluation import is_train_file, note_unused_split
from llmkit.training.contract import read_fingerprint
from llmkit.training.folder import RunFolder, origin_files

MAX_ERRORS = 20


@dataclass
class ErrorExamples:
    """The most severe errors so far, with the beginnings of their texts.

    Texts that `add` does not get are decoded from the model's input (possibly lower-cased or truncated).
    """

    label_type: LabelType
    names: Sequence[str]
    thresholds: NDArray[np.float64]
    tokenizer: PreTrainedTokenizerBase
    _errors: list[tuple[float, dict[str, Any]]] = field(default_factory=list)

    def add(
        self, labels: NDArray[Any], outputs: NDArray[np.float64], inputs: Inputs, lines: NDArray[np.int64],
        texts: Texts | None = None,
    ) -> None:  # fmt: skip
        """Add the errors among these rows."""
        predictions = self.label_type.predict(outputs, self.thresholds)
        for severity, row in self.label_type.find_errors(labels, outputs, self.thresholds, MAX_ERRORS):
            true, predicted = (self.label_type.format_label(each[row], self.names) for each in (labels, predictions))
            record: dict[str, Any] = {"line": int(lines[row]), "label": true, "predicted": predicted}
            if self.label_type.has_names:
                record["probability"] = severity
            self._errors.append((severity, record | self._read(inputs, row, texts)))
        self._errors = sorted(self._errors, key=lambda error: -error[0])[:MAX_ERRORS]

    def worst(self) -> list[dict[str, Any]]:
        """Return the errors as JSON records, most severe first."""
        return [record for _, record in self._errors]

    def _read(self, inputs: Inputs, row: int, texts: Texts | None) -> dict[str, str]:
        if texts is not None:
            given, other = texts[row]
            return {"text": given} | ({"pair": other} if other else {})
        first = inputs.read(row)[0]
        parts = (first.ids[: first.n_first], first.ids[first.n_first :])
        text, pair = (self.tokenizer.decode(ids.tolist(), skip_special_tokens=True) for ids in parts)
        return {"text": str(text)} | ({"pair": str(pair)} if pair else {})


def evaluate_classifier(recipe: ClsRecipe, request: EvaluationRequest) -> dict[str, Any]:
    """Return metrics on a labelled file or, if no file is given, on the held-out rows of the model's run.

    Raises:
        UsageError: no data to score, or more than one file.
        DataError: the file cannot be read, see tables/rows.py and tables/labelled.py.
        ModelError: the model cannot be used.
    """
    data, run = request.data, request.run
    if len(data) > 1:
        hint = "score the files one by one, or concatenate them"
        raise UsageError(f"{len(data)} files are given, but only one can be scored", where="--data", hint=hint)
    if not data and run is None:
        raise UsageError("no data to score is given", where="--data", hint="give a file with texts and labels")
    custom = load_custom_metrics(recipe.cls.metrics)
    scorer = open_scorer(request.path, recipe.evaluate, recipe.cls)
    custom = check_custom_metrics(custom, scorer.label_type, scorer.names, scorer.label_type.make_labels(scorer.names))
    scored = RowEvaluation(scorer, request.show_samples, custom)
    if run is not None:
        _note_unnamed_code(run, custom)
    if data:
        note_unused_split(recipe.evaluate)
        scored.add_file(recipe, data[0])
        if run is not None and is_train_file(data[0], run):
            console.info(f"the run was trained on rows of {data[0]}, so the metrics are too optimistic")
        return scored.measure(Path(data[0]).name)
    assert run is not None
    metrics = scored.measure(scored.add_held_out_rows(recipe, run))
    scored.save_predictions(run.path, recipe.evaluate.split)
    return metrics


def _note_unnamed_code(run: RunFolder, custom: Sequence[CustomMetric]) -> None:
    """Print how to compute the custom metrics of the run's recipe, if the user has not named any."""
    kept = load_recipe(run.recipe).code if run.recipe.is_file() else []
    if kept and not custom:
        hint = shlex.join(["-s", *kept])
        console.info(f"custom metrics of the run are not computed; to run their code, if you trust it, add: {hint}")


class RowEvaluation:
    """Collects labels and outputs of rows and measures them."""

    def __init__(self, scorer: RowScorer, show_samples: bool, custom: Sequence[CustomMetric] = ()) -> None:
        self.scorer, self.custom = scorer, custom
        self.labels: list[Any] = []
        self.outputs: list[Any] = []
        self.keys: list[NDArray[np.uint64]] = []
        """Hashes of the rows of splits; rows of a file have none."""
        self.n_truncated, self.n_windows = 0, 0
        self.chosen_on = False
        """Whether the run selected its weights and thresholds on these rows."""
        self.baseline: BaselineOutputs | None = None
        self.errors = ErrorExamples(scorer.label_type, scorer.names, scorer.thresholds, scorer.tokenizer)
        self.show_samples = show_samples

    def add_file(self, recipe: ClsRecipe, path: str) -> None:
        """Score all rows of a file."""
        scorer = self.scorer
        label2id = {name: number for number, name in enumerate(scorer.names)}
        arguments: tuple[Any, ...] = (path, recipe.cls, recipe.prepare.read, scorer.format, label2id)
        if path != "-" and not path.startswith("hf:"):
            with open_labelled(*arguments) as file:  # reports bad labels before hours of scoring
                for _ in file:
                    pass
        with open_labelled(*arguments) as file:
            console.info(file.format.describe(file.rows))
            self._add_rows(scorer.with_format(file.format), file, label2id)
            notes = file.describe_left_out()
        if not self.labels:
            hint = "all rows were skipped: the model does not know their labels, or they have errors"
            raise DataError("no row can be scored", where=path, hint=hint)
        n_rows = sum(map(len, self.labels))
        cut = file.format.describe_cut(self.n_truncated, n_rows, path)
        for note in [*notes, *cut, *scorer.counts.describe(path, file.rows.unit)]:
            console.info(note)

    def _add_rows(self, scorer: RowScorer, rows: Iterable[LabelledRow], label2id: Mapping[str, int]) -> None:
        with ProgressBar("scoring", "rows", log=True) as progress:
            for chunk, inputs, outputs in scorer.score(rows):
                labels = scorer.label_type.encode([row.label for row in chunk if row.label is not None], label2id)
                texts = [cut_text(row.text, row.pair) for row in chunk] if self.show_samples else None
                self.add(labels, outputs, inputs, np.array([row.line for row in chunk]), texts)
                progress.add(len(chunk))

    def add(self, labels: Any, outputs: Any, inputs: Inputs, lines: Any, texts: Texts | None = None) -> None:
        """Add scored rows."""
        self.labels.append(labels)
        self.outputs.append(outputs)
        self.n_truncated += inputs.n_cut
        self.n_windows += len(inputs.ends)
        if self.show_samples:
            self.errors.add(labels, outputs, inputs, lines, texts)

    def add_split(self, split: LabelledSplit) -> None:
        """Score the rows of a split of the run's data; keep the n-gram baseline's predictions for comparison."""
        self.add(split.labels, self.scorer.score_inputs(split.inputs), split.inputs, split.lines, split.texts)
        self.keys.append(split.keys)
        self.baseline = split.baseline

    def save_predictions(self, run: Path, split: str) -> None:
        """Save the predictions for the rows of a split in the folder of the run, for `compare`."""
        scorer, outputs = self.scorer, np.concatenate(self.outputs)
        predictions, positive = scorer.label_type.predict(outputs, scorer.thresholds), scorer.label_type.positive
        saved = SavedPredictions(
            scorer.label_type.name, list(scorer.names), np.concatenate(self.keys), np.concatenate(self.labels),
            predictions, "" if positive is None else scorer.names[positive],
        )  # fmt: skip
        save_predictions(run, split, saved)

    def add_held_out_rows(self, recipe: ClsRecipe, run: RunFolder) -> str:
        """Split the run's files again and score the rows that the run held out; returns the name of the file."""
        scorer, manifest = self.scorer, run.read_manifest()
        origin, split = manifest.get("origin", {}), recipe.evaluate.split
        files = origin_files(run.path, origin)
        if not files:
            raise UsageError(
                "the run's manifest does not name its training data", where=str(run.manifest), hint="give --data"
            )
        saved, _ = read_format(scorer.network.config, scorer.format.block_size)
        if saved != scorer.format:
            what = "the run's held-out rows can be read only as they were in training"
            hint = "give a file with --data, or remove the setting"
            raise UsageError(what, where="evaluate.block_size, cls.long_texts, stride, max_windows", hint=hint)
        fold, run_recipe = origin.get("fold"), load_recipe(run.recipe)  # another recipe would split differently
        assert isinstance(run_recipe, ClsRecipe)
        known = {name: number for number, name in enumerate(scorer.names)}
        labelled = load_labelled(
            run_recipe.cls, run_recipe.prepare.read, files, scorer.tokenizer, scorer.format.block_size,
            fold=tuple(fold) if fold else None, sample=sample_of(run_recipe.train), known=known, quiet=True,
        )  # fmt: skip
        if labelled.fingerprint() != read_fingerprint(manifest).get("data"):
            hint = "set --data to a file with rows that the run was not trained on"
            what = "the rows have changed since the run began, so the rows that it held out are unknown"
            raise UsageError(what, where=", ".join(files.values()), hint=hint)
        if split not in labelled.splits:
            hint = f"its splits: {', '.join(labelled.splits)}; choose one with --split, or a file with --data"
            raise UsageError(f"the run has no {split} rows", where="evaluate.split", hint=hint)
        part = labelled.splits[split]
        self.add_split(part)
        self.chosen_on = split == "validation"
        return Path(part.path).name

    def measure(self, name: str) -> dict[str, Any]:
        """Return all metrics of the added rows; `name` is the name of the data."""
        scorer, settings = self.scorer, self.scorer.settings
        labels, outputs = np.concatenate(self.labels), np.concatenate(self.outputs)
        metrics: dict[str, Any] = {"label_type": scorer.label_type.name}
        bootstrap = Bootstrap(seed=settings.seed)
        metrics |= scorer.label_type.measure(labels, outputs, scorer.names, scorer.thresholds, bootstrap)
        measure = partial(measure_custom, self.custom, scorer.label_type, labels, names=scorer.names)
        metrics |= measure(outputs, scorer.thresholds)
        if self.custom:
            metrics["custom_metrics"] = {each.key: each.describe() for each in self.custom}
        if self.baseline is not None:
            found, intervals = measure_baseline(self.baseline, scorer.label_type, labels, scorer.names, bootstrap)
            of_baseline = measure(self.baseline.outputs.astype(np.float64), self.baseline.thresholds)
            found |= {f"{NGRAM_BASELINE}_{key}": value for key, value in of_baseline.items()}
            metrics |= found | {"intervals": metrics["intervals"] | intervals}
        if self.show_samples:
            metrics["mistakes"] = self.errors.worst()
        metrics |= {"n_truncated": self.n_truncated, "n_windows": self.n_windows}
        return metrics | {"method": describe_method(name, settings, scorer.label_type, self.chosen_on, metrics)}
