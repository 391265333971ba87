"""Scoring a language model on a prepared folder or on text: what causal and masked ones share."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from llmkit.config.loading import load_recipe
from llmkit.config.recipe import Recipe
from llmkit.core.errors import UsageError
from llmkit.models.loading import check_vocabulary
from llmkit.tasks.base import EvaluationRequest
from llmkit.tasks.scoring import prepare_for_inference
from llmkit.tasks.starting_model import other_tokenizer
from llmkit.tokens.prepared import Prepared, load_prepared
from llmkit.tokens.tokenizer import ensure_special_tokens, fingerprint_tokenizer, load_tokenizer


@dataclass(frozen=True, slots=True)
class OpenedToScore:
    """A model and what it is scored on: a prepared folder, or else files."""

    network: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    prepared: Prepared | None
    files: list[str]
    block_size: int | None
    """Of the model's own run, where that is what it is scored on."""


def open_to_score(
    recipe: Recipe, request: EvaluationRequest, open_model: Callable[[str], PreTrainedModel]
) -> OpenedToScore:
    """The model and the data; without data, what the model's run was trained on.

    Raises:
        UsageError: nothing to score on.
        DataError: a prepared folder that is damaged.
        ModelError: data made with another tokenizer.
    """
    network = prepare_for_inference(open_model(request.path), recipe.evaluate.precision)
    tokenizer = load_tokenizer(request.path)
    check_vocabulary(network, tokenizer, request.model)
    data, block_size = list(request.data), None
    own = not data and request.run is not None
    if not data and request.run is not None:
        data, block_size = [str(request.run.data_path)], load_recipe(request.run.recipe).block_size
    if not data:
        raise UsageError("there is nothing to score on", where="--data", hint="give a prepared folder or text files")
    if not own and (len(data) > 1 or not (Path(data[0]) / "manifest.json").is_file()):
        return OpenedToScore(network, tokenizer, None, data, block_size)
    prepared = load_prepared(Path(data[0]))
    prepared.verify(recipe.evaluate.split)
    _check_tokenizer(prepared, tokenizer, request.model)
    return OpenedToScore(network, tokenizer, prepared, [], block_size)


def _check_tokenizer(prepared: Prepared, tokenizer: PreTrainedTokenizerBase, model: str) -> None:
    before = fingerprint_tokenizer(tokenizer)
    ensure_special_tokens(tokenizer)  # as `prepare` did with it
    if prepared.fingerprint["tokenizer"] not in (before, fingerprint_tokenizer(tokenizer)):
        raise other_tokenizer(prepared, before, model)
