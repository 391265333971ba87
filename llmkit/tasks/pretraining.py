"""Base class of the pretraining tasks, and the setup of pretraining on a prepared folder."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from llmkit.architectures import ARCHITECTURES
from llmkit.config.evaluate import Evaluate
from llmkit.config.model import Model
from llmkit.config.recipe import Recipe
from llmkit.core import console, distributed
from llmkit.core.errors import ModelError
from llmkit.metrics.spec import MetricSet
from llmkit.models.families import family_of, has_chunked_loss, is_recurrent
from llmkit.models.kernels.output_layer import describe_output_layer
from llmkit.models.loading import embedding_rows, max_context_length, read_config, resolve_model
from llmkit.tasks.base import TrainingData, TrainingRequest, TrainingSetup, TrainingTask
from llmkit.tasks.evaluation import EvaluationData, open_split
from llmkit.tasks.starting_model import check_no_windows, check_positions, check_training, fit_to_data
from llmkit.tokens.loading import load_tokenizer
from llmkit.tokens.normalization import set_normalization
from llmkit.tokens.prepared import Prepared, load_prepared

NO_METRICS = MetricSet(())


@dataclass(frozen=True)
class PretrainingTask(TrainingTask, ABC):
    """Base of the pretraining tasks: training on the tokens of a prepared folder, or on random tokens for `plan`."""

    recipe: Any
    """The recipe of the task."""
    prepared: Any
    """A `Prepared`, or `RandomPrepared` for `llmkit plan` without data."""
    tokenizer: PreTrainedTokenizerBase
    metrics: MetricSet = NO_METRICS
    cuts_by_tokens: bool = False

    @cached_property
    def data(self) -> TrainingData:
        prepared, block_size = self.prepared, self.recipe.block_size
        held_out = len(prepared.split("validation").stream) if prepared.has_split("validation") else 0
        return TrainingData(
            prepared.path,
            {name: value for name, value in prepared.manifest.items() if name != "request"},
            prepared.fingerprint,
            len(prepared.split("train").stream),
            f"{prepared.manifest['splits']['train']['bytes']:,} bytes of text",
            block_size,
            -(-held_out // block_size),
            -(-held_out // block_size),
        )

    @abstractmethod
    def build_model(self) -> PreTrainedModel:
        """Return a new model with random weights, as configured in the recipe."""

    @abstractmethod
    def open_start(self, path: str) -> tuple[PreTrainedModel, list[str]]:
        """Load the model from which training starts; returns the model and notes on what was changed in it."""

    @abstractmethod
    def score_split(
        self, network: PreTrainedModel, data: EvaluationData, settings: Evaluate, share: float
    ) -> dict[str, Any]:
        """Return metrics of a held-out split, or of its evenly spaced fraction `share`."""

    def score(self, network: PreTrainedModel, settings: Evaluate, share: float = 1.0) -> dict[str, dict[str, Any]]:
        if not self.data.n_held_out:
            return {}
        held_out = open_split(self.prepared, "validation", self.recipe.block_size)
        return {"validation": self.score_split(network, held_out, settings, share)}


def open_pretraining(
    recipe: Recipe,
    request: TrainingRequest,
    make_task: Callable[[Recipe, Prepared, PreTrainedTokenizerBase], PretrainingTask],
) -> TrainingSetup:
    """Open the prepared folder `request.data["train"]` and a model: a new one, the model of `--model`, or a checkpoint.

    Raises:
        UsageError, DataError, EnvironmentFault, ModelError: see errors.py.
    """
    prepared = load_prepared(Path(request.data["train"]))
    check_training(recipe, has_validation=prepared.has_split("validation"), split_key="prepare.split.validation")
    if not request.dry_run:
        distributed.broadcast_from_main(lambda: prepared.verify("tokenizer", "train", "validation"))
    if (start := str(request.checkpoint) if request.checkpoint else request.model) is not None:
        recipe = _with_model_of(recipe, start)
    recipe = recipe.with_block_size()
    tokenizer = load_tokenizer(str(prepared.tokenizer_path))
    set_normalization(tokenizer, prepared.manifest.get("normalization"))
    task = make_task(recipe, prepared, tokenizer)
    if request.checkpoint is not None:
        network = task.open_model(str(request.checkpoint))  # with its own configuration
    elif request.model is not None:
        network = fit_to_data(request.model, task.open_start, recipe, prepared, task.tokenizer)
    else:
        network = task.build_model()
    check_positions(recipe, max_context_length(network), resume=request.checkpoint is not None)
    rows, largest = embedding_rows(network), prepared.split("train").stream.max_id()
    if largest >= rows:  # such an id crashes on a CPU, and reads other memory on some GPUs
        what = f"the data contains token id {largest}, but the model's embedding has {rows} rows"
        raise ModelError(what, where=str(prepared.path), hint="prepare the data with this model's tokenizer")
    if is_recurrent(network.config):
        check_no_windows(recipe.evaluate)
    if recipe.model.adaptive_cutoffs and prepared.manifest["tokenizer"]["kind"] not in ("word", "char"):
        console.info("adaptive_cutoffs need ids in descending order of frequency, as in word and char tokenizers")
    if has_chunked_loss(network.config):
        console.info(describe_output_layer(network.get_submodule("lm_head")))
    return TrainingSetup(recipe, task, network)


def _with_model_of(recipe: Recipe, start: str) -> Recipe:
    """Return the recipe with the family of the starting model, and with a default block size that fits it.

    Raises:
        UsageError: the recipe has a setting that this family does not support.
    """
    config = read_config(resolve_model(start))
    recipe = recipe.with_block_size(getattr(config, "max_position_embeddings", None))
    family = family_of(config)
    if family == recipe.model.family or family not in recipe.FAMILIES:  # FAMILIES are those that llmkit builds
        return recipe
    kept = recipe.model.model_dump(include={"dropout", "attention_dropout", "resize_embeddings"})
    if "attention_dropout" not in ARCHITECTURES[family].reads:
        del kept["attention_dropout"]
    return recipe.with_updates(
        model=Model().with_updates(family=family, **kept)
    )  # the model's configuration has the rest
