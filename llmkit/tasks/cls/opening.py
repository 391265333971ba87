"""Set up the training of a classifier: read the labelled files, load the model or a checkpoint."""

import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from llmkit.config.recipe import ClsRecipe
from llmkit.core import console, distributed
from llmkit.core.errors import UsageError
from llmkit.datasets.labelled import set_template
from llmkit.models.classifier import check_can_classify, count_positions, load_classifier_for_training
from llmkit.models.loading import check_vocabulary, embedding_rows, read_config, resolve_model
from llmkit.models.lora import require_peft
from llmkit.tasks.base import TrainingRequest, TrainingSetup
from llmkit.tasks.cls.data import LabelledData, load_labelled
from llmkit.tasks.cls.row_format import reads_token_types
from llmkit.tasks.cls.training import ClsTraining
from llmkit.tasks.starting_model import check_positions, check_training, resize_embeddings, set_dropout
from llmkit.tokens.tokenizer import ensure_special_tokens, load_tokenizer
from llmkit.training.folder import RunFolder, describe_origin, load_origin

RATE_OF_BASE, WIDTH_OF_BASE = 5e-5, 768
MIN_STEPS, STEPS_PER_LABEL, MIN_EPOCHS, MAX_EPOCHS = 300, 20, 3, 20
LORA_FACTOR = 10.0


def open_classifier_training(recipe: ClsRecipe, request: TrainingRequest) -> TrainingSetup:
    """Read the rows; load the model with a head for their labels, or the checkpoint that is resumed.

    Raises:
        UsageError, DataError, EnvironmentFault, ModelError: see errors.py.
    """
    resume = request.resume
    model, files = request.model, request.data
    if resume:
        model, files = load_origin(RunFolder(request.out), model, files)
    name = _check_request(recipe, model, files)
    path = resolve_model(name)
    config = read_config(path)
    check_can_classify(config, path)
    tokenizer, n_own, changes = _open_tokenizer(recipe, path)
    positions = count_positions(config)
    recipe = recipe.with_block_size(positions, tokenizer.model_max_length)
    check_positions(recipe, positions, resume=resume)
    known = {str(label): int(number) for label, number in (config.label2id or {}).items()}
    read = partial(load_labelled, fold=request.fold, known=known, quiet=request.quiet)
    labelled = distributed.broadcast_from_main(
        lambda: read(recipe.cls, recipe.prepare.read, files, tokenizer, recipe.block_size)
    )
    check_training(recipe, has_validation="validation" in labelled.splits, split_key="cls.validation")
    recipe = resolve(recipe, config, labelled)
    origin = {**describe_origin(name, files, request.out), "fold": request.fold}
    task = ClsTraining(recipe, labelled, tokenizer, reads_token_types(config, tokenizer), request.show_samples, origin)
    task.check()
    if request.checkpoint is not None:
        return TrainingSetup(recipe, task, task.open_model(str(request.checkpoint)))
    network = _start(recipe, labelled, path, tokenizer, n_own, changes)
    task.prepare_model(network)
    return TrainingSetup(recipe, task, network)


def _check_request(recipe: ClsRecipe, model: str | None, files: Mapping[str, str]) -> str:
    """The model's name; raises UsageError if the data or the model cannot be trained on."""
    if "train" not in files:
        raise UsageError("there is nothing to train on", where="--data", hint="give a file with texts and labels")
    if files["train"] == "-":
        hint = "write it to a file first: the rows are read again by --resume and eval"
        raise UsageError("training cannot read from stdin", where="--data", hint=hint)
    if (Path(files["train"]) / "manifest.json").is_file():
        hint = "give a table of texts and labels; llmkit pretrain takes prepared folders"
        raise UsageError(f"{files['train']!r} is a prepared folder", where="--data", hint=hint)
    if model is None:
        hint = "give a run of pretrain-mlm or pretrain-clm, a model folder, or a hub name"
        raise UsageError("there is no model to fine-tune", where="--model", hint=hint)
    if recipe.cls.lora_rank:
        require_peft()
    return model


def _open_tokenizer(recipe: ClsRecipe, path: str) -> tuple[PreTrainedTokenizerBase, int, list[str]]:
    """The tokenizer with the special tokens that training needs, its size before, and notes on what was added."""
    tokenizer = load_tokenizer(path)
    n_own = len(tokenizer)
    changes = ensure_special_tokens(tokenizer)
    set_template(tokenizer)
    if recipe.cls.augment.mask and tokenizer.mask_token_id is None:
        hint = "set it to 0; delete and swap need no mask token"
        raise UsageError("the model's tokenizer has no mask token", where="cls.augment.mask", hint=hint)
    return tokenizer, n_own, changes


def resolve(recipe: ClsRecipe, config: PreTrainedConfig, labelled: LabelledData) -> ClsRecipe:
    """The recipe with defaults that depend on model and data: learning rate, epochs, eval_steps.

    The learning rate is 5e-5 for BERT-base (Devlin et al. 2019, appendix A.3) and higher for narrower models. Small
    data sets get more epochs, up to 20, for at least 300 steps and 20 per label (Mosbach et al. 2021; docs/log.md).
    """
    train, optim = recipe.train, recipe.optim
    n_rows = len(labelled.splits["train"])
    chosen: dict[str, Any] = {}
    if train.epochs is None and train.max_steps is None and train.max_minutes is None:
        n_steps = max(MIN_STEPS, STEPS_PER_LABEL * len(labelled.label2id))
        epochs = math.ceil(n_steps * train.global_batch_size / n_rows)
        chosen["epochs"] = float(min(MAX_EPOCHS, max(MIN_EPOCHS, epochs)))
    if train.eval_steps is None and train.max_minutes is None:
        steps_per_epoch = -(-n_rows // train.global_batch_size)
        chosen["eval_steps"] = max(1, min(steps_per_epoch, train.max_steps or steps_per_epoch))
    if optim.learning_rate is None:
        rate = RATE_OF_BASE * (WIDTH_OF_BASE / config.hidden_size) ** 1.5 * (LORA_FACTOR if recipe.cls.lora_rank else 1)
        optim = optim.with_updates(learning_rate=float(f"{rate:.2g}"))
    return recipe.with_updates(train=train.with_updates(**chosen), optim=optim)


def _start(
    recipe: ClsRecipe, labelled: LabelledData, path: str, tokenizer: PreTrainedTokenizerBase, n_own: int,
    changes: list[str],
) -> PreTrainedModel:  # fmt: skip
    network, notes = load_classifier_for_training(
        path, labelled.label_type.problem_type, labelled.label2id, recipe.train.seed,
        label_frequencies=labelled.label_type.label_frequencies(labelled.splits["train"].labels),
        from_scratch=recipe.cls.from_scratch,
    )  # fmt: skip
    set_dropout(network, recipe.model)
    if recipe.model.resize_embeddings or n_own <= embedding_rows(network):
        resize_embeddings(network, len(tokenizer), recipe.train.seed, changes)
    check_vocabulary(network, tokenizer, path)
    network.config.pad_token_id = tokenizer.pad_token_id
    for note in notes:
        console.info(note)
    return network
