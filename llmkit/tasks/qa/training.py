"""Set up and run training of models that answer questions."""

from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.torch import load_file
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from llmkit.config.evaluate import Evaluate
from llmkit.config.recipe import QaRecipe
from llmkit.core import console, distributed
from llmkit.datasets.examples import Examples
from llmkit.datasets.labelled import set_template
from llmkit.metrics.answers import Rules, choose_rules, choose_threshold, score_answers
from llmkit.metrics.spec import MetricSet
from llmkit.models.classifier import build_classifier, check_can_classify, count_positions
from llmkit.models.inputs import reads_token_types
from llmkit.models.layers import add_lora, freeze_layers, merge_lora, require_peft
from llmkit.models.loading import read_config, resolve_model
from llmkit.models.padding import describe_padding
from llmkit.models.reader import load_reader_for_training
from llmkit.models.saved_head import ANSWER_SPANS
from llmkit.tables.train_sample import sample_of
from llmkit.tasks.base import TrainingData, TrainingRequest, TrainingSetup, TrainingTask
from llmkit.tasks.fine_tuning import describe_defaults, resolve_defaults
from llmkit.tasks.qa.answer_format import AnswerFormat, save_format
from llmkit.tasks.qa.baseline import WordOverlap
from llmkit.tasks.qa.data import QuestionData, QuestionSplit, load_questions
from llmkit.tasks.qa.evaluation import QuestionEvaluation, fit_baseline
from llmkit.tasks.qa.metrics import BASELINE, METRICS
from llmkit.tasks.qa.model_card import describe_use
from llmkit.tasks.qa.objective import SpanPositions
from llmkit.tasks.qa.prediction import Reader, Reading, read_answers, score_windows
from llmkit.tasks.qa.request import check_request
from llmkit.tasks.qa.windows import Windows
from llmkit.tasks.starting_model import adapt_model, check_positions, check_training, set_dropout
from llmkit.tokens.loading import load_tokenizer
from llmkit.tokens.tokenizer import ensure_special_tokens, match_tokenizer
from llmkit.training.contract import Plan
from llmkit.training.folder import RunFolder, describe_origin, load_origin

MIN_STEPS = 300


@dataclass(frozen=True)
class QaTraining(TrainingTask):
    """Training of a model on questions with their contexts and answers."""

    recipe: QaRecipe
    questions: QuestionData
    tokenizer: PreTrainedTokenizerBase
    token_types: bool
    show_samples: bool
    origin: dict[str, Any]
    """Model and files, for the run's manifest."""
    output_fraction: float = 0.0
    cuts_by_tokens: bool = True
    scored: dict[str, QuestionEvaluation] = field(default_factory=dict)
    """The scored questions of each split, kept by `score` for `save_predictions`."""

    @cached_property
    def data(self) -> TrainingData:
        described, splits = self.questions.describe(), self.questions.splits
        train, n_windows = described["splits"]["train"], len(splits["train"].windows)
        validation = splits.get("validation")
        return TrainingData(
            path=None,
            manifest=described,
            fingerprint={"data": self.questions.fingerprint()},
            n_train_tokens=train["tokens"],
            train_size=f"{train['rows']:,} questions",
            sequence_length=train["tokens"] / n_windows,
            n_held_out=0 if validation is None else len(validation),
            n_final=sum(len(split) for name, split in splits.items() if name != "train"),
        )

    @cached_property
    def objective(self) -> SpanPositions:
        return SpanPositions(self.tokenizer.pad_token_id, self.token_types)

    @cached_property
    def samples(self) -> Examples:
        train, section = self.questions.splits["train"], self.recipe.train
        return Examples(
            train.windows, train.labels, seed=section.seed, global_batch_size=section.global_batch_size,
            block_size=self.recipe.block_size,
        )  # fmt: skip

    @property
    def metrics(self) -> MetricSet:
        return METRICS

    @property
    def metric(self) -> str:
        """Return the model-selection metric."""
        return METRICS.best_by if self.recipe.qa.metric == "auto" else self.recipe.qa.metric

    @property
    def format(self) -> AnswerFormat:
        return self.questions.format

    def prepare_model(self, network: PreTrainedModel) -> None:
        """Freeze layers, or add LoRA adapters."""
        section = self.recipe.qa
        if section.lora_rank:
            seed, targets = self.recipe.train.seed, section.lora_target_modules
            add_lora(network, section.lora_rank, section.lora_alpha, seed, targets=targets, section="qa")
        else:
            freeze_layers(network, section.freeze, "qa")

    def open_model(self, path: str) -> PreTrainedModel:
        network = build_classifier(read_config(path), ANSWER_SPANS)
        set_dropout(network, self.recipe.model)
        self.prepare_model(network)
        network.load_state_dict(load_file(Path(path) / "model.safetensors"))
        network.eval()
        return network

    def describe(self) -> dict[str, Any]:
        return {"metric": self.metric, "origin": self.origin}

    def evaluate(self, network: PreTrainedModel, plan: Plan) -> dict[str, Any]:
        n_rows = plan.max_eval_samples or self.recipe.train.max_eval_samples
        split = self.questions.splits["validation"].take_evenly(n_rows)
        scores = self._score(network, split, plan.precision, plan.batches.tokens_at_once)
        readings = list(read_answers(split.windows, scores, self.format, n_best=1))
        answer_format = self.format
        if answer_format.may_decline:
            answer_format = replace(answer_format, no_answer_threshold=self._choose_threshold(split, readings))
        texts = [reading.choose(answer_format).text for reading in readings]
        found = score_answers(texts, [each.references for each in split.questions], self._rules(split))
        metrics = {"exact_match": float(found.exact.mean()), "answer_f1": float(found.f1.mean())}
        return {"loss": mean_loss(split.windows, scores, split.labels), "metric": self.metric} | metrics

    def selection_key(self, metrics: dict[str, Any]) -> tuple[float, ...]:
        return self.metrics.selection_key(metrics, self.metric)

    def finish_model(self, network: PreTrainedModel, share: float) -> None:
        if self.recipe.qa.lora_rank:
            merge_lora(network)
        answer_format = self.format
        if answer_format.may_decline and "validation" in self.questions.splits:
            split = self.questions.splits["validation"].take_fraction(share)
            scores = self._score(network, split, "fp32", None)
            threshold = self._choose_threshold(split, list(read_answers(split.windows, scores, self.format, n_best=1)))
            answer_format = replace(answer_format, no_answer_threshold=threshold)
        save_format(network.config, answer_format)

    def _choose_threshold(self, split: QuestionSplit, readings: list[Reading]) -> float:
        """Return the threshold that the recipe sets, else the one with the best F1 on the questions of a split."""
        if self.recipe.qa.no_answer_threshold is not None:
            return self.recipe.qa.no_answer_threshold
        texts = [each.candidates[0].text if each.candidates else "" for each in readings]
        found = score_answers(texts, [each.references for each in split.questions], self._rules(split))
        # The score of no answer is infinite if the question has no context; the threshold must be finite.
        values = np.clip([each.no_answer_score for each in readings], -1e6, 1e6)
        return choose_threshold(values, found.f1, found.is_answerable)

    def _rules(self, split: QuestionSplit) -> Rules:
        return choose_rules(self.questions.language, has_unanswerable=split.n_unanswerable > 0)

    def score(self, network: PreTrainedModel, settings: Evaluate, share: float = 1.0) -> dict[str, dict[str, Any]]:
        return {
            name: self.score_split(network, name, split.take_fraction(share), settings)
            | ({"n_held_out_rows": len(split)} if share < 1 else {})
            for name, split in self.questions.splits.items()
            if name != "train"
        }

    def score_split(
        self, network: PreTrainedModel, name: str, split: QuestionSplit, settings: Evaluate
    ) -> dict[str, Any]:
        """Return all metrics of the split `name`, with intervals."""
        answer_format = AnswerFormat(**network.config.llmkit)  # saved by finish_model
        reader = Reader(network, self.tokenizer, answer_format, settings)
        evaluation = QuestionEvaluation(reader, self.questions.language, self.show_samples)
        evaluation.chosen_on = name == "validation"
        baseline = self._baseline if self.recipe.qa.baseline else None
        evaluation.add_split(split, baseline)
        self.scored[name] = evaluation
        return evaluation.measure(Path(split.path).name)

    @cached_property
    def _baseline(self) -> WordOverlap:
        return fit_baseline(self.questions)

    def save_predictions(self, run: Path) -> None:
        for name, evaluation in self.scored.items():
            evaluation.save_scores(run, name)

    def describe_failure(self, metrics: dict[str, Any]) -> str | None:
        share = 1 - metrics["n_answerable"] / metrics["n_questions"]
        if metrics["answer_f1"] > share:
            return None
        if not share:
            return "no answer shares a word with a reference answer"
        return f"F1 of answers {metrics['answer_f1']:.2%} is no better than giving no answer, {share:.2%}"

    def compare_with_baseline(self, metrics: dict[str, Any]) -> str | None:
        value, other = metrics["answer_f1"], metrics.get(f"{BASELINE}_answer_f1")
        if other is None or value >= other:
            return None
        advice = "try more train.epochs, or a --model that was pretrained on more text of this kind"
        return f"answers chosen by word overlap are better: F1 {other:.2%} against {value:.2%} of this model; {advice}"

    def finish_tokenizer(self, network: PreTrainedModel) -> PreTrainedTokenizerBase:
        return match_tokenizer(self.tokenizer, self.recipe.block_size, token_types=self.token_types)

    def describe_model(self) -> tuple[str, str, str]:
        what = "model that answers questions with a part of a text"
        return "question-answering", what, "AutoModelForQuestionAnswering"

    def describe_use(self, network: PreTrainedModel) -> str:
        return describe_use(AnswerFormat(**network.config.llmkit))

    def _score(
        self, network: PreTrainedModel, split: QuestionSplit, precision: str, tokens_at_once: int | None
    ) -> NDArray[np.float32]:
        tokens_at_once = tokens_at_once or 16 * self.recipe.block_size
        return score_windows(
            network, split.windows, token_types=self.token_types, tokens_at_once=tokens_at_once, precision=precision
        )


def mean_loss(windows: Windows, scores: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """Return the loss of `SpanPositions` per window, from the logits of `score_windows`."""
    begins = np.cumsum(windows.lengths) - windows.lengths
    logits = scores.astype(np.float64)
    totals = np.logaddexp.reduceat(logits, begins)
    chosen = np.stack([logits[begins + labels[:, side], side] for side in (0, 1)], axis=1)
    return float((totals - chosen).mean())


def open_reader_training(recipe: QaRecipe, request: TrainingRequest) -> TrainingSetup:
    """Read the questions, and load the model with a head for answers, or the checkpoint to resume.

    Raises:
        UsageError, DataError, EnvironmentFault, ModelError: see errors.py.
    """
    resume = request.resume
    model, files = request.model, request.data
    if resume:
        model, files = load_origin(RunFolder(request.out), model, files)
    name = check_request(model, files)
    if recipe.qa.lora_rank:
        require_peft()
    path = resolve_model(name)
    config = read_config(path)
    check_can_classify(config, path, ANSWER_SPANS)
    tokenizer = load_tokenizer(path)
    n_own = len(tokenizer)
    changes = ensure_special_tokens(tokenizer)
    set_template(tokenizer)
    positions = count_positions(config, ANSWER_SPANS)
    recipe = recipe.with_block_size(positions, tokenizer.model_max_length)
    check_positions(recipe, positions, resume=resume)
    read = partial(load_questions, fold=request.fold, sample=sample_of(recipe.train), quiet=request.quiet)
    questions = distributed.broadcast_from_main(
        lambda: read(recipe.qa, recipe.prepare.read, files, tokenizer, recipe.block_size)
    )
    check_training(recipe, has_validation="validation" in questions.splits, split_key="qa.validation")
    given, n_windows = recipe, len(questions.splits["train"].windows)
    recipe = resolve_defaults(recipe, config, n_windows, MIN_STEPS, uses_lora=recipe.qa.lora_rank > 0)
    if not request.quiet:
        for note in describe_defaults(given, recipe, config, MIN_STEPS):
            console.info(note)
    origin = {**describe_origin(name, files, request.out), "fold": request.fold}
    token_types = reads_token_types(config, tokenizer)
    task = QaTraining(recipe, questions, tokenizer, token_types, request.show_samples, origin)
    if request.checkpoint is not None:
        return TrainingSetup(recipe, task, task.open_model(str(request.checkpoint)))
    network, notes = load_reader_for_training(path, recipe.train.seed, from_scratch=recipe.qa.from_scratch)
    adapt_model(network, recipe, tokenizer, path, n_own, changes)
    network.config.pad_token_id = tokenizer.pad_token_id
    for note in [*notes, *describe_padding(network.config)]:
        console.info(note)
    task.prepare_model(network)
    return TrainingSetup(recipe, task, network)
