"""Evaluate a model on a file of questions or on the held-out questions of its run."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from llmkit.config.loading import load_recipe
from llmkit.config.recipe import QaRecipe
from llmkit.core import console
from llmkit.core.errors import UsageError
from llmkit.core.progress import ProgressBar
from llmkit.metrics.answers import (
    RULES,
    AnswerScores,
    Language,
    Rules,
    choose_language,
    choose_rules,
    measure_answers,
    score_answers,
)
from llmkit.metrics.bootstrap import Bootstrap
from llmkit.tables.questions import Question
from llmkit.tables.train_sample import sample_of
from llmkit.tasks.base import EvaluationRequest
from llmkit.tasks.evaluation import is_train_file, note_unused_split
from llmkit.tasks.qa.answer_format import read_format
from llmkit.tasks.qa.baseline import WordOverlap, fit_word_overlap
from llmkit.tasks.qa.data import QuestionData, QuestionSplit, describe_unknown, load_questions, read_questions
from llmkit.tasks.qa.metrics import BASELINE
from llmkit.tasks.qa.prediction import Candidate, Reader, Reading, open_reader, read_chunks
from llmkit.tasks.qa.saved_predictions import save_scores
from llmkit.training.contract import read_fingerprint
from llmkit.training.folder import RunFolder, origin_files

MAX_MISTAKES = 20
CONTEXT_CHARACTERS = 100
"""Characters of the context to show on each side of an answer."""


def evaluate_reader(recipe: QaRecipe, request: EvaluationRequest) -> dict[str, Any]:
    """Return metrics on a file or, if no file is given, on the held-out questions of the model's run.

    Raises:
        UsageError: no data to score, or more than one file.
        DataError: the file cannot be read.
        ModelError: the model cannot be used.
    """
    data, run, section = request.data, request.run, recipe.qa
    if len(data) > 1:
        hint = "score the files one by one, or concatenate them"
        raise UsageError(f"{len(data)} files are given, but only one can be scored", where="--data", hint=hint)
    if not data and run is None:
        hint = "give a file with questions, contexts and answers"
        raise UsageError("no data to score is given", where="--data", hint=hint)
    reader = open_reader(request.path, recipe.evaluate, section)
    scored = QuestionEvaluation(reader, section.language, request.show_samples)
    if not data:
        assert run is not None
        metrics = scored.measure(scored.add_held_out(recipe, run))
        scored.save_scores(run.path, recipe.evaluate.split)
        return metrics
    note_unused_split(recipe.evaluate)
    trained = reader.format.columns
    found = read_questions(data[0], section, recipe.prepare.read, keep_all=True, trained=trained)
    for note in found.notes:
        console.info(note)
    scored.add_questions(found.questions, data[0], found.unit)
    if run is not None and is_train_file(data[0], run):
        console.info(f"the run was trained on questions of {data[0]}, so the metrics are too optimistic")
    return scored.measure(Path(data[0]).name)


class QuestionEvaluation:
    """Collects the answers of questions and measures them."""

    def __init__(self, reader: Reader, language: Language | Literal["auto"], show_samples: bool = False) -> None:
        self.reader, self.language, self.show_samples = reader, language, show_samples
        self.questions: list[Question] = []
        self.answers: list[Candidate] = []
        self.keys: NDArray[np.uint64] | None = None
        """Hashes of the questions of a split; None for questions of a file."""
        self.n_windows = 0
        self.chosen_on = False
        """Whether the run selected its weights and threshold on these questions."""
        self.baseline: AnswerScores | None = None
        self.scores: AnswerScores | None = None
        self.rules: Rules = "squad_1.1"

    def add_questions(self, questions: Sequence[Question], path: str, unit: str) -> None:
        """Answer the questions of a file."""
        notes: list[str] = []
        with ProgressBar("scoring", "rows", log=True) as progress:
            for chunk in read_chunks(questions):
                windows = self.reader.encode(chunk)
                notes = notes or describe_unknown(windows, chunk, path, unit, self.reader.tokenizer)
                self._add(chunk, self.reader.read(windows, n_best=1), len(windows))
                progress.add(len(chunk))
        n_without = sum(not each.answers for each in self.questions)
        if n_without and not self.reader.format.may_decline:
            of = f"{n_without:,} of {len(self.questions):,} questions have no answer"
            notes.append(f"{of}, but the model always gives one; with -s qa.unanswerable=true it may give none")
        for note in notes:
            console.info(note)

    def add_split(self, split: QuestionSplit, baseline: WordOverlap | None = None) -> None:
        """Answer the questions of a split of the run's data, and score the baseline on them."""
        self._add(split.questions, self.reader.read(split.windows, n_best=1), len(split.windows))
        self.keys = split.keys
        if baseline is not None:
            self.baseline = baseline.score(split.questions, self._choose_rules())

    def _add(self, questions: Sequence[Question], readings: Iterable[Reading], n_windows: int) -> None:
        self.questions += questions
        self.answers += [reading.choose(self.reader.format) for reading in readings]
        self.n_windows += n_windows

    def _choose_rules(self) -> Rules:
        language = self.language
        if language == "auto":
            language = choose_language(each.question for each in self.questions)
        return choose_rules(language, has_unanswerable=any(not each.answers for each in self.questions))

    def add_held_out(self, recipe: QaRecipe, run: RunFolder) -> str:
        """Split the run's files again and answer the questions that the run held out; returns the name of the file."""
        manifest, split = run.read_manifest(), recipe.evaluate.split
        origin = manifest.get("origin", {})
        files = origin_files(run.path, origin)
        if not files:
            hint = "give --data"
            raise UsageError("the run's manifest does not name its training data", where=str(run.manifest), hint=hint)
        saved, _ = read_format(self.reader.network.config, self.reader.format.block_size)
        if saved.windows != self.reader.format.windows:
            what = "the run's held-out questions can be read only as they were in training"
            hint = "give --data, or remove the setting"
            raise UsageError(what, where="evaluate.block_size, qa.stride, qa.max_question_length", hint=hint)
        fold, own = origin.get("fold"), load_recipe(run.recipe)  # another recipe would split differently
        assert isinstance(own, QaRecipe)
        data = load_questions(
            own.qa, own.prepare.read, files, self.reader.tokenizer, saved.block_size,
            fold=tuple(fold) if fold else None, sample=sample_of(own.train), quiet=True,
        )  # fmt: skip
        if data.fingerprint() != read_fingerprint(manifest).get("data"):
            what = "the questions have changed since the run began, so the questions that it held out are unknown"
            hint = "set --data to a file with questions that the run was not trained on"
            raise UsageError(what, where=", ".join(files.values()), hint=hint)
        if split not in data.splits:
            hint = f"its splits: {', '.join(data.splits)}; choose one with --split, or a file with --data"
            raise UsageError(f"the run has no {split} questions", where="evaluate.split", hint=hint)
        part = data.splits[split]
        if self.language == "auto":
            self.language = data.language
        self.add_split(part, fit_baseline(data) if own.qa.baseline else None)
        self.chosen_on = split == "validation"
        return Path(part.path).name

    def measure(self, name: str) -> dict[str, Any]:
        """Return all metrics of the added questions; `name` is the name of the data."""
        settings, answer_format = self.reader.settings, self.reader.format
        self.rules = self._choose_rules()
        if self.language == "auto":
            console.info(f"{name}: answers are compared by {RULES[self.rules]} does; qa.language sets the rules")
        texts = [answer.text for answer in self.answers]
        self.scores = score_answers(texts, [each.references for each in self.questions], self.rules)
        metrics = measure_answers(self.scores, Bootstrap(seed=settings.seed))
        if self.baseline is not None:
            metrics |= self._measure_baseline(metrics)
        if self.show_samples:
            metrics["mistakes"] = self._find_mistakes()
        method: dict[str, Any] = {"data": name, "precision": settings.precision, "rules": self.rules}
        if answer_format.may_decline:
            method["no_answer_threshold"] = answer_format.no_answer_threshold
        if self.chosen_on:
            method["weights"] = "the best of the run on these rows"
            method |= {"thresholds": "tuned on these rows"} if answer_format.may_decline else {}
        return metrics | {"n_windows": self.n_windows, "method": method | metrics["method"]}

    def _measure_baseline(self, metrics: dict[str, Any]) -> dict[str, Any]:
        assert self.baseline is not None
        found = measure_answers(self.baseline, Bootstrap(seed=self.reader.settings.seed))
        keys = [key for key in ("exact_match", "answer_f1") if key in found]
        intervals = {f"{BASELINE}_{key}": found["intervals"][key] for key in keys if key in found["intervals"]}
        return {f"{BASELINE}_{key}": found[key] for key in keys} | {"intervals": metrics["intervals"] | intervals}

    def _find_mistakes(self) -> list[dict[str, Any]]:
        """Return up to MAX_MISTAKES answers with an F1 of 0, most confident first.

        Such an answer shares no word with a reference, is missing, or was given to a question that has none.
        """
        assert self.scores is not None
        wrong = np.flatnonzero(self.scores.f1 == 0)
        order = sorted(wrong.tolist(), key=lambda row: -self.answers[row].probability)[:MAX_MISTAKES]
        return [_describe_mistake(self.questions[row], self.answers[row]) for row in order]

    def save_scores(self, run: Path, split: str) -> None:
        """Save the scores of the questions of a split in the folder of the run, for `compare`."""
        if self.keys is not None and self.scores is not None:
            save_scores(run, split, self.rules, self.keys, self.questions, self.scores)


def fit_baseline(data: QuestionData) -> WordOverlap:
    """Return the word-overlap baseline of the train questions, its threshold tuned on the validation questions."""
    baseline = fit_word_overlap(data.splits["train"].questions)
    if data.format.may_decline and "validation" in data.splits:
        rules = choose_rules(data.language, has_unanswerable=True)
        baseline = baseline.with_threshold(data.splits["validation"].questions, rules)
    return baseline


def _describe_mistake(question: Question, answer: Candidate) -> dict[str, Any]:
    located = next((each for each in question.answers if each.start >= 0), None)
    center = answer.start if answer.start is not None else located.start if located is not None else 0
    end = answer.end if answer.end is not None else center
    begin, stop = max(0, center - CONTEXT_CHARACTERS), end + CONTEXT_CHARACTERS
    return {
        "line": question.line,
        "id": question.id,
        "question": question.question[:300],
        "answer": question.answers[0].text if question.answers else "",
        "predicted": answer.text,
        "probability": round(answer.probability, 6),
        "before": question.context[begin:center],
        "after": question.context[end:stop],
    }
