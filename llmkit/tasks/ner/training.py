"""Set up and run training of taggers on tagged rows."""

from collections.abc import Mapping
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
from llmkit.config.recipe import NerRecipe
from llmkit.core import console, distributed
from llmkit.core.errors import UsageError, did_you_mean
from llmkit.datasets.examples import Examples
from llmkit.datasets.labelled import set_template
from llmkit.datasets.tagged import NO_TOKEN, TokenLabels
from llmkit.metrics.entities import count_entities
from llmkit.metrics.spec import MetricSet
from llmkit.models.classifier import (
    build_classifier,
    check_can_classify,
    count_positions,
    load_classifier_for_training,
)
from llmkit.models.inputs import reads_token_types
from llmkit.models.layers import add_lora, freeze_layers, merge_lora, require_peft
from llmkit.models.loading import read_config, resolve_model
from llmkit.models.padding import describe_padding
from llmkit.models.saved_head import TOKEN_LABELS, HeadSpec
from llmkit.tables.tag_schemes import read_entities
from llmkit.tables.train_sample import sample_of
from llmkit.tasks.base import TrainingData, TrainingRequest, TrainingSetup, TrainingTask
from llmkit.tasks.fine_tuning import describe_defaults, resolve_defaults
from llmkit.tasks.ner.data import TaggedData, load_tagged
from llmkit.tasks.ner.evaluation import TagEvaluation
from llmkit.tasks.ner.metrics import METRICS, WORD_BASELINE
from llmkit.tasks.ner.model_card import describe_use
from llmkit.tasks.ner.objective import IGNORED, Tagging
from llmkit.tasks.ner.prediction import TagScorer, decode, score_words
from llmkit.tasks.ner.request import CONTENT
from llmkit.tasks.ner.row_format import save_format
from llmkit.tasks.row_request import check_request
from llmkit.tasks.starting_model import adapt_model, check_positions, check_training, set_dropout
from llmkit.tokens.loading import load_tokenizer
from llmkit.tokens.tokenizer import ensure_special_tokens, match_tokenizer
from llmkit.training.contract import Plan
from llmkit.training.folder import RunFolder, describe_origin, load_origin

MIN_STEPS = 300
SELECTABLE = ("loss", "entity_f1", "entity_precision", "entity_recall", "token_accuracy")


@dataclass(frozen=True)
class NerTraining(TrainingTask):
    """Training of a tagger on the rows of tagged files."""

    recipe: NerRecipe
    labelled: TaggedData
    tokenizer: PreTrainedTokenizerBase
    token_types: bool
    show_samples: bool
    origin: dict[str, Any]
    """Model and files, for the run's manifest."""
    output_fraction: float = 0.0
    cuts_by_tokens: bool = True
    scored: dict[str, TagEvaluation] = field(default_factory=dict)
    """The scored rows of each split, kept by `score` for `save_predictions`."""

    @cached_property
    def data(self) -> TrainingData:
        described, splits = self.labelled.describe(), self.labelled.splits
        train = described["splits"]["train"]
        return TrainingData(
            path=None,
            manifest=described,
            fingerprint={"data": self.labelled.fingerprint()},
            n_train_tokens=train["tokens"],
            train_size=f"{train['rows']:,} rows",
            sequence_length=train["tokens"] / len(splits["train"].tagged.inputs.ends),
            n_held_out=len(splits["validation"]) if "validation" in splits else 0,
            n_final=sum(len(split) for name, split in splits.items() if name != "train"),
        )

    @cached_property
    def objective(self) -> Tagging:
        return Tagging(self.tokenizer.pad_token_id, self.token_types, self._class_weights())

    @cached_property
    def samples(self) -> Examples:
        train, section = self.labelled.splits["train"], self.recipe.train
        return Examples(
            train.tagged.windows, TokenLabels(train.tagged, train.labels, IGNORED), seed=section.seed,
            global_batch_size=section.global_batch_size, block_size=self.recipe.block_size,
        )  # fmt: skip

    @property
    def metrics(self) -> MetricSet:
        return METRICS

    def check(self) -> None:
        """Raise UsageError if ner.metric or a type of ner.class_weights does not exist."""
        _ = self.objective
        if (metric := self.recipe.ner.metric) not in SELECTABLE:
            hint = did_you_mean(metric, SELECTABLE)
            raise UsageError(f"there is no metric {metric!r} to select the weights by", where="ner.metric", hint=hint)

    def prepare_model(self, network: PreTrainedModel) -> None:
        """Freeze layers, or add LoRA adapters."""
        section = self.recipe.ner
        if section.lora_rank:
            seed, targets = self.recipe.train.seed, section.lora_target_modules
            add_lora(network, section.lora_rank, section.lora_alpha, seed, targets=targets, section="ner")
        else:
            freeze_layers(network, section.freeze, "ner")

    def open_model(self, path: str) -> PreTrainedModel:
        network = build_classifier(read_config(path), TOKEN_LABELS)
        set_dropout(network, self.recipe.model)
        self.prepare_model(network)
        network.load_state_dict(load_file(Path(path) / "model.safetensors"))
        network.eval()
        return network

    def describe(self) -> dict[str, Any]:
        return {"labels": self.labelled.tags, "metric": self.recipe.ner.metric, "origin": self.origin}

    def evaluate(self, network: PreTrainedModel, plan: Plan) -> dict[str, Any]:
        split = self.labelled.splits["validation"].take_evenly(
            plan.max_eval_samples or self.recipe.train.max_eval_samples
        )
        tokens_at_once = plan.batches.tokens_at_once or 16 * self.recipe.block_size
        scores = score_words(
            network, split.tagged, token_types=self.token_types, tokens_at_once=tokens_at_once, precision=plan.precision
        )
        known = split.tagged.places != NO_TOKEN
        losses = Tagging(0, False).losses(torch.from_numpy(scores[known]), torch.from_numpy(split.labels[known]))
        tags = decode(scores, split.tagged, self.labelled.tags, self.recipe.ner.decoding).tags
        rows = [split.tagged.words_of(row) for row in range(len(split))]
        true, predicted = ([self._read(each[words]) for words in rows] for each in (split.labels, tags))
        counts = count_entities(true, predicted)
        hits, n_true, n_predicted = (int(each.sum()) for each in (counts.hits, counts.n_true, counts.n_predicted))
        return {
            "loss": losses.double().mean().item(),
            "metric": self.recipe.ner.metric,
            "entity_f1": 2 * hits / max(1, n_true + n_predicted),
            "entity_precision": hits / max(1, n_predicted),
            "entity_recall": hits / max(1, n_true),
            "token_accuracy": float((tags == split.labels).mean()) if len(tags) else 0.0,
        }

    def _read(self, tags: NDArray[np.int64]) -> list[tuple[int, int, str]]:
        return read_entities([self.labelled.tags[tag] for tag in tags])

    def selection_key(self, metrics: dict[str, Any]) -> tuple[float, ...]:
        return self.metrics.selection_key(metrics, self.recipe.ner.metric)

    def finish_model(self, network: PreTrainedModel, share: float) -> None:
        if self.recipe.ner.lora_rank:
            merge_lora(network)
        save_format(network.config, self.labelled.format)

    def score(self, network: PreTrainedModel, settings: Evaluate, share: float = 1.0) -> dict[str, dict[str, Any]]:
        found = {}
        for name, split in self.labelled.splits.items():
            if name == "train":
                continue
            scorer = TagScorer(network, self.tokenizer, self.labelled.format, settings)
            evaluation = TagEvaluation(scorer, self.show_samples)
            evaluation.chosen_on = name == "validation"
            evaluation.add_split(split.take_fraction(share))
            self.scored[name] = evaluation
            found[name] = evaluation.measure(Path(split.path).name)
            found[name] |= {"n_held_out_rows": len(split)} if share < 1 else {}
        return found

    def save_predictions(self, run: Path) -> None:
        for name, evaluation in self.scored.items():
            evaluation.save_counts(run, name)

    def describe_failure(self, metrics: dict[str, Any]) -> str | None:
        if metrics["entity_f1"] > 0 or not metrics["n_entities"]:
            return None
        return "entity f1 0.0000 is no better than a constant prediction of O, 0.0000"

    def compare_with_baseline(self, metrics: dict[str, Any]) -> str | None:
        value, other = metrics["entity_f1"], metrics.get(f"{WORD_BASELINE}_entity_f1")
        if other is None or value >= other:
            return None
        advice = "try more train.epochs, or a --model that was pretrained on more text of this kind"
        found = f"entity f1 {other:.4f} against {value:.4f} of this model"
        return f"the baseline, the most frequent tag of each word, is better: {found}; {advice}"

    def finish_tokenizer(self, network: PreTrainedModel) -> PreTrainedTokenizerBase:
        return match_tokenizer(self.tokenizer, self.recipe.block_size, token_types=self.token_types)

    def describe_model(self) -> tuple[str, str, str]:
        n_types = (len(self.labelled.tags) - 1) // 2
        return "token-classification", f"tagger of {n_types} types of entities", "AutoModelForTokenClassification"

    def describe_use(self, network: PreTrainedModel) -> str:
        return describe_use(self.labelled.format)

    def _class_weights(self) -> torch.Tensor | None:
        """Return the weights of the tags, (tags,). Raises UsageError for a type that does not exist."""
        wanted, tags = self.recipe.ner.class_weights, self.labelled.tags
        if wanted == "none":
            return None
        counts = np.maximum(1, np.bincount(self.labelled.splits["train"].labels, minlength=len(tags)))
        weights = self._weights_by_type(wanted) if isinstance(wanted, Mapping) else 1 / counts
        return torch.tensor(weights * counts.sum() / (weights * counts).sum(), dtype=torch.float32)

    def _weights_by_type(self, wanted: Mapping[str, float]) -> NDArray[np.float64]:
        types = [tag[2:] or tag for tag in self.labelled.tags]
        if unknown := sorted(set(wanted) - set(types)):
            hint = did_you_mean(unknown[0], types)
            raise UsageError(f"there is no type {unknown[0]!r}", where="ner.class_weights", hint=hint)
        return np.array([wanted.get(name, 1.0) for name in types])


def open_tagger_training(recipe: NerRecipe, request: TrainingRequest) -> TrainingSetup:
    """Read the rows, and load the model with a head for their tags, or the checkpoint to resume.

    Raises:
        UsageError, DataError, EnvironmentFault, ModelError: see errors.py.
    """
    model, files = request.model, request.data
    if request.resume:
        model, files = load_origin(RunFolder(request.out), model, files)
    name = check_request(model, files, CONTENT)
    if recipe.ner.lora_rank:
        require_peft("ner.lora_rank")
    path = resolve_model(name)
    config = read_config(path)
    check_can_classify(config, path, TOKEN_LABELS)
    tokenizer = load_tokenizer(path)
    n_own = len(tokenizer)
    changes = ensure_special_tokens(tokenizer)
    set_template(tokenizer)
    positions = count_positions(config, TOKEN_LABELS)
    recipe = recipe.with_block_size(positions, tokenizer.model_max_length)
    check_positions(recipe, positions, resume=request.resume)
    section = recipe.ner.with_updates(baseline=recipe.ner.baseline and not request.dry_run)
    read = partial(load_tagged, fold=request.fold, sample=sample_of(recipe.train), quiet=request.quiet)
    labelled = distributed.broadcast_from_main(
        lambda: read(section, recipe.prepare.read, files, tokenizer, recipe.block_size)
    )
    check_training(recipe, has_validation="validation" in labelled.splits, split_key="ner.validation")
    uses_lora = recipe.ner.lora_rank > 0
    n_samples = len(labelled.splits["train"].tagged.inputs.ends)
    given, recipe = recipe, resolve_defaults(recipe, config, n_samples, MIN_STEPS, uses_lora=uses_lora)
    if not request.quiet:
        for note in describe_defaults(given, recipe, config, MIN_STEPS):
            console.info(note)
    origin = {**describe_origin(name, files, request.out), "fold": request.fold}
    token_types = reads_token_types(config, tokenizer)
    task = NerTraining(recipe, labelled, tokenizer, token_types, request.show_samples, origin)
    task.check()
    if request.checkpoint is not None:
        return TrainingSetup(recipe, task, task.open_model(str(request.checkpoint)))
    labels = labelled.splits["train"].labels
    frequencies = (np.bincount(labels, minlength=len(labelled.tags)) / len(labels)).tolist()
    label2id = {tag: number for number, tag in enumerate(labelled.tags)}
    head = HeadSpec("single_label_classification", label2id, frequencies, kind=TOKEN_LABELS)
    network, notes = load_classifier_for_training(path, head, recipe.train.seed, from_scratch=recipe.ner.from_scratch)
    adapt_model(network, recipe, tokenizer, path, n_own, changes)
    network.config.pad_token_id = tokenizer.pad_token_id
    for note in [*notes, *describe_padding(network.config)]:
        console.info(note)
    task.prepare_model(network)
    return TrainingSetup(recipe, task, network)
