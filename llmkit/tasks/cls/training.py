"""Set up and run training of classifiers on labelled rows."""

from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from llmkit.config.evaluate import Evaluate
from llmkit.config.recipe import ClsRecipe
from llmkit.core import console, distributed
from llmkit.core.errors import UsageError, did_you_mean
from llmkit.datasets.examples import Examples, make_augmenter
from llmkit.datasets.labelled import set_template
from llmkit.metrics.spec import MetricSet
from llmkit.models.classifier import (
    build_classifier,
    check_can_classify,
    count_positions,
    fold_target_scale,
    load_classifier_for_training,
)
from llmkit.models.inputs import reads_token_types
from llmkit.models.layers import add_lora, freeze_layers, merge_lora, require_peft
from llmkit.models.loading import read_config, resolve_model
from llmkit.models.padding import describe_padding
from llmkit.models.saved_head import HeadSpec, labels_of, match_head, rename_labels
from llmkit.tables.train_sample import sample_of
from llmkit.tasks.base import TrainingData, TrainingRequest, TrainingSetup, TrainingTask
from llmkit.tasks.cls.custom_metrics import CustomMetric, check_custom_metrics, load_custom_metrics, measure_custom
from llmkit.tasks.cls.data import LabelledData, load_labelled
from llmkit.tasks.cls.defaults import describe_chosen, resolve, start_pooler
from llmkit.tasks.cls.evaluation import RowEvaluation
from llmkit.tasks.cls.label_type import LabelType
from llmkit.tasks.cls.labelled_split import LabelledSplit
from llmkit.tasks.cls.metrics import NGRAM_BASELINE, with_custom_metrics
from llmkit.tasks.cls.model_card import describe_use
from llmkit.tasks.cls.objective import Classification
from llmkit.tasks.cls.prediction import RowScorer, score_rows
from llmkit.tasks.cls.row_format import CONFIG_KEY, save_format
from llmkit.tasks.row_request import check_request
from llmkit.tasks.starting_model import adapt_model, check_positions, check_training, set_dropout
from llmkit.tokens.loading import load_tokenizer
from llmkit.tokens.tokenizer import ensure_special_tokens, match_tokenizer
from llmkit.training.contract import Plan
from llmkit.training.folder import RunFolder, describe_origin, load_origin


@dataclass(frozen=True)
class ClsTraining(TrainingTask):
    """Training of a classifier on the rows of labelled files."""

    recipe: ClsRecipe
    labelled: LabelledData
    tokenizer: PreTrainedTokenizerBase
    token_types: bool
    show_samples: bool
    custom: list[CustomMetric]
    origin: dict[str, Any]
    """Model and files, for the run's manifest."""
    output_fraction: float = 0.0
    cuts_by_tokens: bool = True
    scored: dict[str, RowEvaluation] = field(default_factory=dict)
    """The scored rows of each split, kept by `score` for `save_predictions`."""

    @cached_property
    def data(self) -> TrainingData:
        described = self.labelled.describe()
        validation = self.labelled.splits.get("validation")
        return TrainingData(
            path=None,
            manifest=described,
            fingerprint={"data": self.labelled.fingerprint()},
            n_train_tokens=described["splits"]["train"]["tokens"],
            train_size=f"{described['splits']['train']['rows']:,} rows",
            sequence_length=described["splits"]["train"]["tokens"] / len(self.labelled.splits["train"]),
            n_held_out=0 if validation is None else len(validation),
            n_final=sum(len(split) for name, split in self.labelled.splits.items() if name != "train"),
        )

    @cached_property
    def objective(self) -> Classification:
        section = self.recipe.cls
        return Classification(
            self.label_type, len(self.labelled.label2id), self.tokenizer.pad_token_id, self.token_types,
            self._class_weights(), section.focal_gamma, section.label_smoothing,
        )  # fmt: skip

    @cached_property
    def target_scale(self) -> tuple[float, float]:
        """Return mean and standard deviation of the train labels, for regression."""
        return self.label_type.target_scale(self.labelled.splits["train"].labels)

    @cached_property
    def samples(self) -> Examples:
        train, section, block_size = self.labelled.splits["train"], self.recipe.train, self.recipe.block_size
        change = make_augmenter(self.recipe.cls.augment, self.tokenizer.mask_token_id)
        return Examples(
            train.inputs, self._to_targets(train.labels), seed=section.seed,
            global_batch_size=section.global_batch_size, block_size=block_size, change=change,
        )  # fmt: skip

    @property
    def label_type(self) -> LabelType:
        return self.labelled.label_type

    @property
    def metrics(self) -> MetricSet:
        return with_custom_metrics(self.label_type.metrics, {each.key: each.describe() for each in self.custom})

    @cached_property
    def metric(self) -> str:
        """Return the model-selection metric."""
        metric = self.recipe.cls.metric
        return self.label_type.best_by if metric == "auto" else metric

    def check(self) -> None:
        """Raise UsageError if cls.metric or a label of cls.class_weights does not exist."""
        _ = self.objective
        split = self.labelled.splits.get("validation", self.labelled.splits["train"])
        names = list(self.labelled.label2id)
        known = self.label_type.measure_quickly(
            split.labels[[0, -1]], self.label_type.constant_outputs(2, len(names)), names
        )
        selectable = ["loss", *known, *(each.key for each in self.custom)]
        if self.metric not in selectable:
            hint = did_you_mean(self.metric, selectable)
            raise UsageError(f"there is no metric {self.metric!r}", where="cls.metric", hint=hint)

    def prepare_model(self, network: PreTrainedModel) -> None:
        """Freeze layers, or add LoRA adapters."""
        section = self.recipe.cls
        if section.lora_rank:
            seed, targets = self.recipe.train.seed, section.lora_target_modules
            add_lora(network, section.lora_rank, section.lora_alpha, seed, targets=targets)
        else:
            freeze_layers(network, section.freeze)

    def open_model(self, path: str) -> PreTrainedModel:
        network = build_classifier(read_config(path))
        set_dropout(network, self.recipe.model)
        self.prepare_model(network)
        network.load_state_dict(load_file(Path(path) / "model.safetensors"))
        network.eval()
        return network

    def describe(self) -> dict[str, Any]:
        facts: dict[str, Any] = {"labels": list(self.labelled.label2id), "label_type": self.label_type.name}
        facts |= {"metric": self.metric}
        if self.custom:
            facts["custom_metrics"] = {each.key: each.describe() for each in self.custom}
        return facts | {"origin": self.origin}

    def evaluate(self, network: PreTrainedModel, plan: Plan) -> dict[str, Any]:
        n_rows = plan.max_eval_samples or self.recipe.train.max_eval_samples
        split = self.labelled.splits["validation"].take_evenly(n_rows)
        outputs, scores = self._score(network, split, plan.precision, plan.batches.tokens_at_once)
        targets = torch.from_numpy(self._to_targets(split.labels)).to(self.label_type.target_dtype)
        objective = Classification(self.label_type, 0, 0, False)  # without class weights and smoothing
        loss = objective.losses(torch.from_numpy(scores), targets).double().mean().item()
        names = list(self.labelled.label2id)
        metrics = self.label_type.measure_quickly(split.labels, outputs, names)
        thresholds = self.label_type.best_thresholds(split.labels, outputs, len(names))
        metrics |= measure_custom(self.custom, self.label_type, split.labels, outputs, thresholds, names)
        return {"loss": loss, "metric": self.metric} | metrics

    def selection_key(self, metrics: dict[str, Any]) -> tuple[float, ...]:
        return self.metrics.selection_key(metrics, self.metric)

    def finish_model(self, network: PreTrainedModel, share: float) -> None:
        if self.recipe.cls.lora_rank:
            merge_lora(network)
        extra: dict[str, Any] = {}
        if self.recipe.cls.positive_label is not None:
            extra["positive_label"] = self.recipe.cls.positive_label
        mean, std = self.target_scale
        if (mean, std) != (0.0, 1.0) and not fold_target_scale(network, mean, std):
            extra["target_mean"], extra["target_std"] = mean, std
            kind = network.config.model_type
            what = f"the head of {kind} has no bias, so in other tools the model returns standardized scores"
            console.info(f"{what}; the model's README.md has the formula to convert them")
        if self.label_type.tunes_thresholds and "validation" in self.labelled.splits:
            split = self.labelled.splits["validation"].take_fraction(share)
            outputs, _ = self._score(network, split, "fp32", None)
            best = self.label_type.best_thresholds(split.labels, outputs, len(self.labelled.label2id))
            extra["thresholds"] = best.tolist()
        save_format(network.config, self.labelled.format, **extra)

    def score(self, network: PreTrainedModel, settings: Evaluate, share: float = 1.0) -> dict[str, dict[str, Any]]:
        return {
            name: self.score_split(network, name, split.take_fraction(share), settings)
            | ({"n_held_out_rows": len(split)} if share < 1 else {})
            for name, split in self.labelled.splits.items()
            if name != "train"
        }

    def save_predictions(self, run: Path) -> None:
        for name, evaluation in self.scored.items():
            evaluation.save_predictions(run, name)

    def describe_failure(self, metrics: dict[str, Any]) -> str | None:
        metric = self.metrics.find(self.label_type.must_beat)
        assert metric is not None
        value, baseline = metrics.get(metric.key), metrics.get(metric.baseline)
        if value is None or baseline is None or (value > baseline if metric.higher_is_better else value < baseline):
            return None
        if value == (1.0 if metric.higher_is_better else 0.0):  # perfect, for example if all rows have one label
            return None
        return f"{metric.key.replace('_', ' ')} {value:.4f} is no better than a constant prediction, {baseline:.4f}"

    def compare_with_baseline(self, metrics: dict[str, Any]) -> str | None:
        metric = self.metrics.find(self.label_type.must_beat)
        assert metric is not None
        value, other = metrics.get(metric.key), metrics.get(f"{NGRAM_BASELINE}_{metric.key}")
        if value is None or other is None or (value >= other if metric.higher_is_better else value <= other):
            return None
        advice = "try more train.epochs, or a --model that was pretrained on more text of this kind"
        found = f"{metric.key.replace('_', ' ')} {other:.4f} against {value:.4f} of this model"
        return f"the n-gram baseline is better: {found}; {advice}"

    def score_split(
        self, network: PreTrainedModel, name: str, split: LabelledSplit, settings: Evaluate
    ) -> dict[str, Any]:
        """Return all metrics of the split `name`, with tables and intervals."""
        n_labels = len(self.labelled.label2id)
        saved = getattr(network.config, CONFIG_KEY, None) or {}  # saved by finish_model
        chosen = saved.get("thresholds", [])
        thresholds = np.array(chosen if len(chosen) == n_labels else [0.5] * n_labels)
        scorer = RowScorer(network, self.tokenizer, self.labelled.format, thresholds, saved, settings)
        evaluation = RowEvaluation(scorer, self.show_samples, self.custom)
        evaluation.chosen_on = name == "validation"
        evaluation.add_split(split)
        self.scored[name] = evaluation
        return evaluation.measure(Path(split.path).name)

    def finish_tokenizer(self, network: PreTrainedModel) -> PreTrainedTokenizerBase:
        return match_tokenizer(self.tokenizer, self.recipe.block_size, token_types=self.token_types)

    def describe_model(self) -> tuple[str, str, str]:
        what = self.label_type.describes_model.format(n_labels=len(self.labelled.label2id))
        if self.label_type.positive is not None and self.label_type.tunes_thresholds:
            what += f" that predicts {self.recipe.cls.positive_label} above the threshold in config.json, not above 0.5"
        return "text-classification", what, "AutoModelForSequenceClassification"

    def describe_use(self, network: PreTrainedModel) -> str:
        saved = getattr(network.config, CONFIG_KEY, None) or {}
        return describe_use(self.labelled.format, is_scaled="target_std" not in saved)

    def _score(
        self, network: PreTrainedModel, split: LabelledSplit, precision: str, tokens_at_once: int | None
    ) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        """Return (outputs of the label type, logits (rows, labels))."""
        tokens_at_once = tokens_at_once or 16 * self.recipe.block_size
        scores = score_rows(
            network, split.inputs, token_types=self.token_types, tokens_at_once=tokens_at_once, precision=precision
        )
        mean, std = self.target_scale
        return self.label_type.to_outputs(scores, {"target_mean": mean, "target_std": std}), scores

    def _to_targets(self, labels: NDArray[Any]) -> NDArray[Any]:
        return self.label_type.scale(labels, *self.target_scale)

    def _class_weights(self) -> torch.Tensor | None:
        """Return the weights of the recipe, (labels,). Raises UsageError for a label that does not exist."""
        wanted, names = self.recipe.cls.class_weights, list(self.labelled.label2id)
        if wanted == "none":
            return None
        labels = self.labelled.splits["train"].labels
        counts = np.maximum(1, self.label_type.count(labels, len(names)))
        if wanted == "balanced":
            return torch.tensor(self.label_type.balanced_weights(counts, len(labels)), dtype=torch.float32)
        if unknown := sorted(set(wanted) - set(names)):
            hint = did_you_mean(unknown[0], names)
            raise UsageError(f"there is no label {unknown[0]!r}", where="cls.class_weights", hint=hint)
        weights = np.array([wanted.get(name, 1.0) for name in names])
        return torch.tensor(self.label_type.normalize_weights(weights, counts, len(labels)), dtype=torch.float32)


def open_classifier_training(recipe: ClsRecipe, request: TrainingRequest) -> TrainingSetup:
    """Read the rows, and load the model with a head for their labels, or the checkpoint to resume.

    Raises:
        UsageError, DataError, EnvironmentFault, ModelError: see errors.py.
    """
    resume = request.resume
    model, files = request.model, request.data
    if resume:
        model, files = load_origin(RunFolder(request.out), model, files)
    name = check_request(model, files)
    if recipe.cls.lora_rank:
        require_peft()
    custom = load_custom_metrics(recipe.cls.metrics)
    path = resolve_model(name)
    config = read_config(path)
    check_can_classify(config, path)
    tokenizer = load_tokenizer(path)
    n_own = len(tokenizer)
    changes = ensure_special_tokens(tokenizer)
    set_template(tokenizer)
    if recipe.cls.augment.mask and tokenizer.mask_token_id is None:
        hint = "set cls.augment.mask to 0; delete and swap need no mask token"
        raise UsageError("the model's tokenizer has no mask token", where="cls.augment.mask", hint=hint)
    positions = count_positions(config)
    recipe = recipe.with_block_size(positions, tokenizer.model_max_length)
    check_positions(recipe, positions, resume=resume)
    known = {name: number for number, name in enumerate(rename_labels(labels_of(config), recipe.cls.label_map))}
    section = recipe.cls.with_updates(baseline=recipe.cls.baseline and not request.dry_run)
    read = partial(load_labelled, fold=request.fold, sample=sample_of(recipe.train), known=known, quiet=request.quiet)
    labelled = distributed.broadcast_from_main(
        lambda: read(section, recipe.prepare.read, files, tokenizer, recipe.block_size)
    )
    check_training(recipe, has_validation="validation" in labelled.splits, split_key="cls.validation")
    n_labels = len(labelled.label2id)
    given, recipe = recipe, resolve(recipe, config, len(labelled.splits["train"]), n_labels)
    if not request.quiet:
        for note in describe_chosen(given, recipe, config, n_labels):
            console.info(note)
    origin = {**describe_origin(name, files, request.out), "fold": request.fold}
    held_out = labelled.splits.get("validation", labelled.splits["train"]).labels
    names = list(labelled.label2id)
    custom = check_custom_metrics(custom, labelled.label_type, names, held_out, quiet=request.quiet)
    token_types = reads_token_types(config, tokenizer)
    task = ClsTraining(recipe, labelled, tokenizer, token_types, request.show_samples, custom, origin)
    task.check()
    if request.checkpoint is not None:
        return TrainingSetup(recipe, task, task.open_model(str(request.checkpoint)))
    frequencies = labelled.label_type.label_frequencies(labelled.splits["train"].labels)
    head = HeadSpec(
        labelled.label_type.problem_type, labelled.label2id, frequencies, recipe.cls.label_map, task.target_scale
    )
    network, notes = load_classifier_for_training(path, head, recipe.train.seed, from_scratch=recipe.cls.from_scratch)
    is_new = recipe.cls.from_scratch or not match_head(config, head).rows
    notes += start_pooler(network, recipe, is_new=is_new)
    adapt_model(network, recipe, tokenizer, path, n_own, changes)
    network.config.pad_token_id = tokenizer.pad_token_id
    for note in [*notes, *describe_padding(network.config)]:
        console.info(note)
    task.prepare_model(network)
    return TrainingSetup(recipe, task, network)
