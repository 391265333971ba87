"""Set up pretraining on a prepared folder."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from llmkit.architectures import ARCHITECTURES
from llmkit.config.model import Model
from llmkit.config.recipe import Recipe
from llmkit.core import console, distributed
from llmkit.core.errors import ModelError
from llmkit.models.families import family_of, has_chunked_loss, is_recurrent
from llmkit.models.kernels.output_layer import describe_output_layer
from llmkit.models.loading import embedding_rows, max_context_length, read_config, resolve_model
from llmkit.tasks.base import TrainingData, TrainingRequest, TrainingSetup, TrainingTask
from llmkit.tasks.starting_model import check_no_windows, check_positions, check_training
from llmkit.tokens.normalization import set_normalization
from llmkit.tokens.prepared import Prepared, load_prepared
from llmkit.tokens.tokenizer import load_tokenizer


class PretrainingTask(TrainingTask, Protocol):
    """A task that can build a new model or start from an existing one."""

    def build_model(self) -> PreTrainedModel: ...
    def start_from(self, name: str) -> PreTrainedModel: ...


_Recipe = TypeVar("_Recipe", bound=Recipe)


def open_pretraining(
    recipe: _Recipe,
    request: TrainingRequest,
    make_task: Callable[[_Recipe, Prepared, PreTrainedTokenizerBase], PretrainingTask],
) -> TrainingSetup:
    """The task on the prepared folder `request.data["train"]`, with a new model, that of `--model`, or a checkpoint's.

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
    else:
        network = task.build_model() if request.model is None else task.start_from(request.model)
    _check_model(recipe, network, prepared, resume=request.checkpoint is not None)
    if is_recurrent(network.config):
        check_no_windows(recipe.evaluate)
    if recipe.model.adaptive_cutoffs and prepared.manifest["tokenizer"]["kind"] not in ("word", "char"):
        console.info("adaptive_cutoffs want ids in the order of frequency, as word and char tokenizers number them")
    if has_chunked_loss(network.config):
        console.info(describe_output_layer(network.get_submodule("lm_head")))
    return TrainingSetup(recipe, task, network)


def describe_data(prepared: Prepared, block_size: int) -> TrainingData:
    """Describe a prepared folder that is read in blocks."""
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


def _with_model_of(recipe: _Recipe, start: str) -> _Recipe:
    """The recipe with the family of the model that training starts from, and with a default block size that fits it.

    Raises:
        UsageError: the recipe has a setting that this family does not support.
    """
    config = read_config(resolve_model(start))
    recipe = recipe.with_block_size(getattr(config, "max_position_embeddings", None))
    family = family_of(config)
    if family == recipe.model.family or family not in recipe.FAMILIES:  # or a family that llmkit does not build
        return recipe
    kept = recipe.model.model_dump(include={"dropout", "attention_dropout", "resize_embeddings"})
    if "attention_dropout" not in ARCHITECTURES[family].reads:
        del kept["attention_dropout"]
    return recipe.with_updates(model=Model().with_updates(family=family, **kept))  # the rest is in its configuration


def _check_model(recipe: Recipe, network: PreTrainedModel, prepared: Prepared, *, resume: bool) -> None:
    """Raises UsageError if a block exceeds the positions, ModelError if an id exceeds the embedding.

    An id beyond the embedding crashes on a CPU and reads other memory on some GPUs.
    """
    check_positions(recipe, max_context_length(network), resume=resume)
    rows, largest = embedding_rows(network), prepared.split("train").stream.max_id()
    if largest >= rows:
        what = f"the data holds token id {largest}, the model's embedding has {rows} rows"
        raise ModelError(what, where=str(prepared.path), hint="prepare the data with this model's tokenizer")
