"""Pretrain a language model on a prepared folder: from scratch, from a model, or on from a checkpoint."""

import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, Literal

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from llmkit.config.model import READ_BY, Model
from llmkit.config.recipe import FAMILIES, Recipe
from llmkit.core import ranks
from llmkit.core.errors import ModelError, say
from llmkit.models.families import family_of, is_recurrent, sums_its_loss
from llmkit.models.kernels.output_layer import describe_output_layer
from llmkit.models.loading import embedding_rows, longest_context, read_config, resolve_model
from llmkit.runs.train import check_training, find_resume_point, open_for_training, train_run
from llmkit.tasks.clm.scoring import check_no_windows
from llmkit.tasks.clm.task import CausalTask
from llmkit.tasks.starting_model import check_positions
from llmkit.tokens.prepared import Prepared, load_prepared
from llmkit.tokens.tokenizer import load_tokenizer
from llmkit.training.folder import RunFolder


def task_class(objective: str) -> Callable[[Recipe, Prepared, PreTrainedTokenizerBase], Any]:
    """What a recipe's `objective` means; only that task is imported."""
    if objective == "clm":
        return CausalTask
    from llmkit.tasks.mlm.task import MaskedTask

    return MaskedTask


def pretrain(
    recipe: Recipe,
    *,
    data: Path,
    out: Path,
    model: str | None = None,
    resume: bool | Literal["auto"] = False,
    overwrite: bool = False,
    dry_run: bool = False,
    allow: Collection[str] = (),
    started: float | None = None,
) -> dict[str, Any]:
    """Train in `out`; see training_run.py. With `dry_run` everything is checked and nothing is written.

    `train.max_minutes` count from `started`, a `time.perf_counter()`, or from this call.

    Raises:
        UsageError, DataError, EnvironmentFault, TrainingFailed, ModelError: see errors.py.
        Interrupted: a signal came; the run was saved and can be resumed.
    """
    started = time.perf_counter() if started is None else started
    with open_for_training(recipe, out, resume=resume, overwrite=overwrite, dry_run=dry_run, allow=allow) as start:
        if start.metrics is not None:
            return start.metrics
        return _pretrain(recipe, data, out, model, start.resume, start.overwrite, dry_run, allow, started)


def _pretrain(
    recipe: Recipe, data: Path, out: Path, model: str | None, resume: bool, overwrite: bool, dry_run: bool,
    allow: Collection[str], started: float,
) -> dict[str, Any]:  # fmt: skip
    prepared = load_prepared(data)
    check_training(recipe, has_validation=prepared.has_split("validation"))
    if not dry_run:
        ranks.from_first(lambda: prepared.verify("tokenizer", "train", "validation"))
    checkpoint = find_resume_point(RunFolder(out)) if resume else None
    if (start := str(checkpoint) if checkpoint else model) is not None:
        recipe = _with_model_of(recipe, start)
    recipe = recipe.with_block_size()
    task = task_class(recipe.objective)(recipe, prepared, load_tokenizer(str(prepared.tokenizer_path)))
    if checkpoint is not None:
        network = task.open_model(str(checkpoint))  # with its own configuration
    else:
        network = task.build_model() if model is None else task.start_from(model)
    _check_model(recipe, network, prepared, resume=checkpoint is not None)
    if is_recurrent(network.config):
        check_no_windows(recipe.evaluate)
    if recipe.model.adaptive_cutoffs and prepared.manifest["tokenizer"]["kind"] not in ("word", "char"):
        say("adaptive_cutoffs want ids in the order of frequency, as word and char tokenizers number them")
    if sums_its_loss(network.config):
        say(describe_output_layer(network.get_submodule("lm_head")))
    return train_run(
        recipe, task, network, out=out, checkpoint=checkpoint, overwrite=overwrite, dry_run=dry_run, allow=allow,
        started=started,
    )  # fmt: skip


def _with_model_of(recipe: Recipe, start: str) -> Recipe:
    """The recipe with the family of the model that training starts from, which decides how the data is read, and with
    a block size that it has positions for.

    Raises:
        UsageError: the recipe has a setting that this family does not read.
    """
    config = read_config(resolve_model(start))
    recipe = recipe.with_block_size(getattr(config, "max_position_embeddings", None))
    family = family_of(config)
    if family == recipe.model.family or family not in FAMILIES[recipe.objective]:  # or one that llmkit does not build
        return recipe
    kept = recipe.model.model_dump(include={"dropout", "attention_dropout", "resize_embeddings"})
    if family not in READ_BY["attention_dropout"]:
        del kept["attention_dropout"]
    return recipe.with_updates(model=Model().with_updates(family=family, **kept))  # its weights say the rest


def _check_model(recipe: Recipe, network: PreTrainedModel, prepared: Prepared, *, resume: bool) -> None:
    """The model must have a position for every token of a sequence, and a row for every id.

    An id beyond the embedding crashes on a CPU and reads foreign memory on some GPUs.
    """
    check_positions(recipe, longest_context(network), resume=resume)
    rows, largest = embedding_rows(network), prepared.split("train").stream.max_id()
    if largest >= rows:
        what = f"the data holds token id {largest}, the model's embedding has {rows} rows"
        raise ModelError(what, where=str(prepared.path), hint="prepare the data with this model's tokenizer")
