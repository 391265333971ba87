"""Load a model for evaluation or prediction, with its tokenizer and the data that it is evaluated on."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from llmkit.config.evaluate import Evaluate
from llmkit.config.loading import load_recipe
from llmkit.config.prepare import Read
from llmkit.config.recipe import Recipe
from llmkit.core import console
from llmkit.core.devices import tune_malloc
from llmkit.core.errors import UsageError
from llmkit.models.kernels.optimized import optimized
from llmkit.models.loading import check_vocabulary, max_context_length, put_on_device
from llmkit.tasks.base import EvaluationRequest
from llmkit.tasks.starting_model import tokenizer_mismatch
from llmkit.text.documents import Document, StepCounts
from llmkit.text.normalization import normalize_documents
from llmkit.tokens.normalization import normalization_of
from llmkit.tokens.prepared import Prepared, load_prepared
from llmkit.tokens.tokenizer import ensure_special_tokens, fingerprint_tokenizer, load_tokenizer


def load_for_inference(
    open_model: Callable[[str], PreTrainedModel], path: str, name: str, precision: str = "fp32"
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A model on its device, optimized for inference, and its tokenizer; errors call the model `name`.

    Raises:
        ModelError: the model cannot be loaded, or its tokenizer does not fit.
    """
    network = open_model(path)
    put_on_device(network)
    optimized(network, precision, network.device)
    if network.device.type == "cpu":
        tune_malloc()
    tokenizer = load_tokenizer(path)
    check_vocabulary(network, tokenizer, name)
    return network, tokenizer


def choose_block_size(network: PreTrainedModel, settings: Evaluate, own: int | None, default: int) -> int:
    """The context in tokens: of the settings, of the model's training (`own`), its maximum, or the default.

    Raises:
        UsageError: the model has fewer positions.
    """
    positions = max_context_length(network)
    block = settings.block_size or own or positions or default
    if positions is not None and block > positions:
        what = f"block_size {block} does not fit the model's {positions} positions"
        raise UsageError(what, where="evaluate.block_size", hint=f"set evaluate.block_size to {positions} or less")
    return block


def read_raw_documents(
    files: Sequence[str], read: Read, tokenizer: PreTrainedTokenizerBase | None = None
) -> Iterator[Document]:
    """Documents without cleaning, but normalized as the training text of the tokenizer's model, which is said.

    Lone surrogates, which JSON allows and UTF-8 does not, are replaced.
    """
    from llmkit.text.readers import read_documents  # loads the readers of web pages and archives
    from llmkit.text.sources import find_files

    documents = read_documents(find_files(files), read, [])
    counts: dict[str, StepCounts] = {}
    if tokenizer is not None and (normalization := normalization_of(tokenizer)) is not None:
        documents = normalize_documents(documents, normalization, counts)
    for document in documents:
        yield replace(document, text=document.text.encode("utf-8", "replace").decode())
    if steps := [f"{name} in {count.changed:,}" for name, count in counts.items() if count.changed]:
        console.info(f"documents normalized as the model's training text: {', '.join(steps)}")


@dataclass(frozen=True, slots=True)
class EvaluationSetup:
    """A model and its evaluation data: a prepared folder, or files."""

    network: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    prepared: Prepared | None
    files: list[str]
    block_size: int | None
    """That of the model's run, if it is evaluated on the data of its run."""


def open_for_evaluation(
    recipe: Recipe, request: EvaluationRequest, open_model: Callable[[str], PreTrainedModel]
) -> EvaluationSetup:
    """The model and the data; without `request.data`, the data of the model's run.

    Raises:
        UsageError: there is no data.
        DataError: the prepared folder is damaged.
        ModelError: the data was prepared with another tokenizer.
    """
    network, tokenizer = load_for_inference(open_model, request.path, request.model, recipe.evaluate.precision)
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
    before = fingerprint_tokenizer(tokenizer)
    ensure_special_tokens(tokenizer)  # as `prepare` does
    if prepared.fingerprint["tokenizer"] not in (before, fingerprint_tokenizer(tokenizer)):
        raise tokenizer_mismatch(prepared, before, request.model)
    return EvaluationSetup(network, tokenizer, prepared, [], block_size)
