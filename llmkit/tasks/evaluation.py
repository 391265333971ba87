"""What evaluation has in common across tasks: device, context, data and tokenizer of the model that is evaluated."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from llmkit.config.evaluate import Evaluate
from llmkit.config.loading import load_recipe
from llmkit.config.prepare import Read
from llmkit.config.recipe import Recipe
from llmkit.core.devices import tune_malloc
from llmkit.core.errors import UsageError
from llmkit.models.kernels.optimized import optimized
from llmkit.models.loading import check_vocabulary, max_context_length, put_on_device
from llmkit.tasks.base import EvaluationRequest
from llmkit.tasks.starting_model import tokenizer_mismatch
from llmkit.text.documents import Document
from llmkit.tokens.prepared import Prepared, load_prepared
from llmkit.tokens.tokenizer import ensure_special_tokens, fingerprint_tokenizer, load_tokenizer


def prepare_for_inference(network: PreTrainedModel, precision: str = "fp32") -> PreTrainedModel:
    """The same model on the device where it is to be used, not trained, with what makes it quick there."""
    put_on_device(network)
    optimized(network, precision, network.device)
    if network.device.type == "cpu":
        tune_malloc()
    return network


def choose_block_size(network: PreTrainedModel, settings: Evaluate, own: int | None, default: int) -> int:
    """The context in tokens: as asked for, as in the model's own training, its longest, or the default.

    Raises:
        UsageError: the model has fewer positions.
    """
    positions = max_context_length(network)
    block = settings.block_size or own or positions or default
    if positions is not None and block > positions:
        what = f"block_size {block} does not fit the model's {positions} positions"
        raise UsageError(what, where="evaluate.block_size", hint=f"set evaluate.block_size to {positions} or less")
    return block


def read_raw_documents(files: Sequence[str], read: Read) -> Iterator[Document]:
    """Documents uncleaned, but for lone surrogates, which JSON can spell and nothing can encode."""
    from llmkit.text.readers import read_documents  # with what reads web pages and archives
    from llmkit.text.sources import find_files

    for document in read_documents(find_files(files), read, []):
        yield replace(document, text=document.text.encode("utf-8", "replace").decode())


@dataclass(frozen=True, slots=True)
class EvaluationSetup:
    """A model and what it is scored on: a prepared folder, or else files."""

    network: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    prepared: Prepared | None
    files: list[str]
    block_size: int | None
    """Of the model's own run, where that is what it is scored on."""


def open_for_evaluation(
    recipe: Recipe, request: EvaluationRequest, open_model: Callable[[str], PreTrainedModel]
) -> EvaluationSetup:
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
        return EvaluationSetup(network, tokenizer, None, data, block_size)
    prepared = load_prepared(Path(data[0]))
    prepared.verify(recipe.evaluate.split)
    _check_tokenizer(prepared, tokenizer, request.model)
    return EvaluationSetup(network, tokenizer, prepared, [], block_size)


def _check_tokenizer(prepared: Prepared, tokenizer: PreTrainedTokenizerBase, model: str) -> None:
    before = fingerprint_tokenizer(tokenizer)
    ensure_special_tokens(tokenizer)  # as `prepare` did with it
    if prepared.fingerprint["tokenizer"] not in (before, fingerprint_tokenizer(tokenizer)):
        raise tokenizer_mismatch(prepared, before, model)
