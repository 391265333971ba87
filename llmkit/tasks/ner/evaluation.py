"""Evaluate a tagger on a tagged file or on the held-out rows of its run."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmkit.config.loading import load_recipe
from llmkit.config.recipe import NerRecipe
from llmkit.core import console
from llmkit.core.errors import DataError, ModelError, UsageError
from llmkit.core.progress import ProgressBar
from llmkit.datasets.tagged import TaggedInputs
from llmkit.metrics.bootstrap import Bootstrap
from llmkit.metrics.entities import confuse_types, count_entities, score_entities, score_overlaps, tabulate_types
from llmkit.tables.label_splits import hash_row
from llmkit.tables.tag_schemes import Entity, read_entities, read_strict_entities
from llmkit.tables.tagged import TaggedRow
from llmkit.tables.train_sample import sample_of
from llmkit.tasks.base import EvaluationRequest
from llmkit.tasks.evaluation import is_train_file, note_unused_split
from llmkit.tasks.ner.data import check_types, load_tagged, read_file, to_labels
from llmkit.tasks.ner.metrics import WORD_BASELINE
from llmkit.tasks.ner.prediction import Tagged, TagScorer, open_scorer
from llmkit.tasks.ner.row_format import read_chunks
from llmkit.tasks.ner.saved_predictions import SavedCounts, save_counts
from llmkit.tasks.ner.tagged_split import TaggedSplit
from llmkit.training.contract import read_fingerprint
from llmkit.training.folder import RunFolder, origin_files

MAX_MISTAKES = 20
_CONTEXT_WORDS = 8


def evaluate_tagger(recipe: NerRecipe, request: EvaluationRequest) -> dict[str, Any]:
    """Return metrics on a tagged file or, if no file is given, on the held-out rows of the model's run.

    Raises:
        UsageError: no data to score, or more than one file.
        DataError: the file cannot be read.
        ModelError: the model cannot be used.
    """
    data, run = request.data, request.run
    if len(data) > 1:
        hint = "score the files one by one, or concatenate them"
        raise UsageError(f"{len(data)} files are given, but only one can be scored", where="--data", hint=hint)
    if not data and run is None:
        raise UsageError("no data to score is given", where="--data", hint="give a file with words and tags")
    scorer = open_scorer(request.path, recipe.evaluate, recipe.ner)
    scored = TagEvaluation(scorer, request.show_samples)
    if data:
        note_unused_split(recipe.evaluate)
        scored.add_file(recipe, data[0])
        if run is not None and is_train_file(data[0], run):
            console.info(f"the run was trained on rows of {data[0]}, so the metrics are too optimistic")
        return scored.measure(Path(data[0]).name)
    assert run is not None
    metrics = scored.measure(scored.add_held_out_rows(recipe, run))
    scored.save_counts(run.path, recipe.evaluate.split)
    return metrics


class TagEvaluation:
    """Collects the true and predicted entities of rows and measures them."""

    def __init__(self, scorer: TagScorer, show_samples: bool) -> None:
        self.scorer, self.show_samples = scorer, show_samples
        self.true: list[list[Entity]] = []
        self.predicted: list[list[Entity]] = []
        self.strict: list[list[Entity]] = []
        """Predicted entities without those that begin with an I- tag."""
        self.words: list[tuple[int, int]] = []
        """(words, words with the correct tag) of each row."""
        self.keys: list[int] = []
        self.baseline: list[list[Entity]] | None = None
        self.n_baseline_right = self.n_windows = self.n_long = 0
        self.mistakes: list[tuple[float, dict[str, Any]]] = []
        self.chosen_on = False
        """Whether the run selected its weights on these rows."""

    def add_file(self, recipe: NerRecipe, path: str) -> None:
        """Score all rows of a file."""
        scorer = self.scorer
        file = read_file(path, recipe.ner, recipe.prepare.read, saved=scorer.format)
        types = [name[2:] for name in scorer.names if name.startswith("B-")]
        for note in [*file.notes, *check_types(file, types, recipe.ner)]:
            console.info(note)
        labels = to_labels(file, np.arange(len(file.rows)), scorer.names)
        begin = 0
        with ProgressBar("scoring", "rows", log=True) as progress:
            for chunk in read_chunks(file.rows):
                tagged = scorer.encode(chunk)
                end = begin + len(tagged.places)
                self.add(chunk, tagged, labels[begin:end], scorer.predict(tagged))
                begin = end
                progress.add(len(chunk))
        for note in scorer.counts.describe(path, file.unit):
            console.info(note)

    def add(self, rows: Sequence[TaggedRow], tagged: TaggedInputs, labels: NDArray[np.int64], found: Tagged) -> None:
        """Add scored rows; the arrays have one entry per word."""
        names = self.scorer.names
        for number, row in enumerate(rows):
            words = tagged.words_of(number)
            true, predicted = ([names[tag] for tag in each[words]] for each in (labels, found.tags))
            self.true.append(read_entities(true))
            self.predicted.append(read_entities(predicted))
            self.strict.append(read_strict_entities(predicted))
            self.words.append((len(true), sum(map(str.__eq__, true, predicted))))
            self.keys.append(hash_row(row.text))
            if self.show_samples:
                self._add_mistakes(row, found.probabilities[words])
        self.n_windows += len(tagged.inputs.ends)
        self.n_long += int((np.diff(tagged.inputs.row_ends, prepend=0) > 1).sum())

    def add_split(self, split: TaggedSplit) -> None:
        """Score the rows of a split of the run's data; keeps the word baseline's entities for comparison."""
        self.add(split.rows, split.tagged, split.labels, self.scorer.predict(split.tagged))
        if split.baseline is not None:
            names, tagged = self.scorer.names, split.tagged
            rows = [split.baseline[tagged.words_of(row)] for row in range(len(split))]
            self.baseline = [read_entities([names[tag] for tag in row]) for row in rows]
            self.n_baseline_right = int((split.baseline == split.labels).sum())

    def add_held_out_rows(self, recipe: NerRecipe, run: RunFolder) -> str:
        """Split the run's files again and score the rows that the run held out; returns the name of the file."""
        scorer, manifest = self.scorer, run.read_manifest()
        origin, split = manifest.get("origin", {}), recipe.evaluate.split
        files = origin_files(run.path, origin)
        if not files:
            what = "the run's manifest does not name its training data"
            raise UsageError(what, where=str(run.manifest), hint="give --data")
        fold, run_recipe = origin.get("fold"), load_recipe(run.recipe)  # another recipe would split differently
        if not isinstance(run_recipe, NerRecipe):
            what = f"the run's recipe is of task {run_recipe.task}, but its model is a tagger"
            raise ModelError(what, where=str(run.recipe), hint="give --data")
        labelled = load_tagged(
            run_recipe.ner, run_recipe.prepare.read, files, scorer.tokenizer, run_recipe.block_size,
            fold=tuple(fold) if fold else None, sample=sample_of(run_recipe.train), quiet=True,
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

    def save_counts(self, run: Path, split: str) -> None:
        """Save the counts of the rows of a split in the folder of the run, for `compare`."""
        pairs = list(zip(self.true, self.predicted, self.words, strict=True))
        truth = np.array([[len(true), n] for true, _, (n, _) in pairs], np.int64)
        counts = np.array(
            [[len({*true} & {*found}), len(found), right] for true, found, (_, right) in pairs], np.int64
        )  # fmt: skip
        save_counts(run, split, SavedCounts(np.array(self.keys, np.uint64), truth, counts))

    def measure(self, name: str) -> dict[str, Any]:
        """Return all metrics of the added rows; `name` is the name of the data."""
        settings = self.scorer.settings
        n_words, n_right = (sum(each) for each in zip(*self.words, strict=True))
        if not n_words:
            raise DataError("there is no word to score", where=name, hint="give rows with words and tags")
        bootstrap = Bootstrap(seed=settings.seed)
        counts = count_entities(self.true, self.predicted)
        metrics = score_entities(counts, bootstrap)
        metrics |= score_overlaps(self.true, self.predicted)
        metrics["entity_f1_strict_bio"] = _f1(self.true, self.strict)
        metrics["token_accuracy"] = n_right / n_words
        metrics |= {"n_rows": len(self.true), "n_words": n_words, "n_entities": sum(map(len, self.true))}
        metrics |= {"n_windows": self.n_windows, "n_long": self.n_long, "per_type": tabulate_types(counts)}
        labels, confusion = confuse_types(self.true, self.predicted)
        metrics |= {"type_labels": labels, "type_confusion": confusion}
        if self.baseline is not None:
            metrics[f"{WORD_BASELINE}_entity_f1"] = _f1(self.true, self.baseline)
            metrics[f"{WORD_BASELINE}_token_accuracy"] = self.n_baseline_right / n_words
        if self.show_samples:
            metrics["mistakes"] = [record for _, record in sorted(self.mistakes, key=lambda each: -each[0])]
        method = {"data": name, "precision": settings.precision, "decoding": self.scorer.format.decoding}
        chosen = {"weights": "the best of the run on these rows"} if self.chosen_on else {}
        return metrics | {"method": method | chosen | metrics.get("method", {})}

    def _add_mistakes(self, row: TaggedRow, probabilities: NDArray[np.float32]) -> None:
        """Add the missed and the wrongly predicted entities of the last row, with the words around them.

        Of all rows, the MAX_MISTAKES entities with the highest probability are kept.
        """
        true, predicted = self.true[-1], self.predicted[-1]
        for entity in sorted({*predicted} ^ {*true}):
            first, last, kind = entity
            probability = float(probabilities[first:last].mean())
            begin, end = max(0, first - _CONTEXT_WORDS), min(len(row.places), last + _CONTEXT_WORDS)
            text_begin, text_end = row.places[begin][0], row.places[end - 1][1]
            found = [other for other in true if other[0] < last and first < other[1]]
            record = {
                "line": row.line,
                "probability": probability,
                "what": "predicted" if entity in predicted else "missed",
                "label": kind,
                "true": [other[2] for other in found] if entity in predicted else [kind],
                "text": row.text[text_begin:text_end],
                "spans": [
                    {
                        "start": row.places[other[0]][0] - text_begin,
                        "end": row.places[other[1] - 1][1] - text_begin,
                        "label": other[2],
                        "is_true": is_true,
                    }
                    for entities, is_true in ((true, True), (predicted, False))
                    for other in entities
                    if other[0] >= begin and other[1] <= end
                ],
            }
            self.mistakes.append((probability, record))
        self.mistakes = sorted(self.mistakes, key=lambda each: -each[0])[:MAX_MISTAKES]


def _f1(true: Sequence[Sequence[Entity]], predicted: Sequence[Sequence[Entity]]) -> float:
    hits = sum(len({*given} & {*found}) for given, found in zip(true, predicted, strict=True))
    n_entities = sum(map(len, true)) + sum(map(len, predicted))
    return 2 * hits / n_entities if n_entities else 0.0
