"""Load a model and its tokenizer for evaluation or prediction, and open the evaluation data."""

import math
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from llmkit.config.evaluate import Evaluate
from llmkit.config.loading import load_recipe
from llmkit.config.prepare import Prepare, Read
from llmkit.config.recipe import Recipe
from llmkit.core import console
from llmkit.core.devices import tune_malloc
from llmkit.core.errors import DataError, UsageError
from llmkit.core.files import hash_file
from llmkit.datasets.rows import TextCounts, describe_unknown_tokens, encode_rows
from llmkit.models.kernels.optimized import optimized
from llmkit.models.loading import check_vocabulary, max_context_length, put_on_device
from llmkit.tasks.base import EvaluationRequest
from llmkit.tasks.starting_model import tokenizer_mismatch
from llmkit.text.cleaning.normalization import count_uncleaned, normalize_documents
from llmkit.text.documents import Document, StepCounts
from llmkit.text.language.words import choose_segmenter
from llmkit.text.sources import Source, describe_encodings
from llmkit.tokens.loading import load_tokenizer
from llmkit.tokens.normalization import normalization_of
from llmkit.tokens.prepared import Prepared, load_prepared
from llmkit.tokens.store import Split, write_split
from llmkit.tokens.tokenizer import ensure_special_tokens, fingerprint_tokenizer, id_dtype
from llmkit.training.folder import RunFolder, origin_files


def load_for_inference(
    open_model: Callable[[str], PreTrainedModel], path: str, name: str, precision: str = "fp32"
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a model onto its device, optimized for inference, and its tokenizer; `name` is used in errors.

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
    """Return the context in tokens: the first value that is set of evaluate.block_size, the block size of the model's
    training (`own`), the model's maximum, and `default`.

    Raises:
        UsageError: the block size exceeds the model's positions.
    """
    positions = max_context_length(network)
    block = settings.block_size or own or positions or default
    if positions is not None and block > positions:
        what = f"block_size {block} does not fit the model's {positions} positions"
        raise UsageError(what, where="evaluate.block_size", hint=f"set evaluate.block_size to {positions} or less")
    return block


def to_perplexity(nats: float) -> float | None:
    """Return exp(nats); None on overflow."""
    return math.exp(nats) if nats < 700 else None


@dataclass(frozen=True, slots=True)
class EvaluationData:
    """The split on which a language model is evaluated, from a prepared folder or from text files."""

    split: Split
    totals: Mapping[str, Any]
    """Counts of tokens, bytes, characters and words, as in the manifest of a prepared folder."""
    method: dict[str, Any]
    """Names of the data and of the split, which the metrics include."""
    segmenter: str | None = None
    block_size: int | None = None
    """Block size of the model's run, if it is evaluated on the data of that run."""
    first_token: int | None = None
    """Id from which the first token is predicted; None: that of the last token of the split, an end-of-text token."""

    @property
    def is_prepared(self) -> bool:
        return "split" in self.method

    def describe(self, metrics: dict[str, Any], method: Mapping[str, Any], effect: str) -> dict[str, Any]:
        """Return the metrics with their method and the number of unknown tokens; logs a note on the `effect` of unknown
        tokens.
        """
        if n_unknown := self.totals["unknown_tokens"]:
            console.info(f"{describe_unknown_tokens(self.totals, self.totals.get('unknown_examples', []))}: {effect}")
        return metrics | {"method": {**method, **self.method}, "n_unknown_tokens": n_unknown}


def open_split(prepared: Prepared, name: str, block_size: int | None = None) -> EvaluationData:
    """Open a split of a prepared folder. `block_size` is the block size of the model's run, if it used this folder."""
    split = prepared.split(name)
    totals, sentences = prepared.manifest["splits"][name], prepared.manifest.get("sentences") or {}
    method = {"data": prepared.path.name, "split": name}
    return EvaluationData(split, totals, method, sentences.get("chinese_words"), block_size)


def note_unused_split(settings: Evaluate) -> None:
    """If the settings name a split of a prepared folder, log that all text of the files is scored instead."""
    if settings.split != "validation":
        console.info(f"evaluate.split {settings.split} is not used: --data has no splits, so all text is scored")


def is_train_file(path: str, run: RunFolder) -> bool:
    """Whether the run was trained on this file, or on a file with the same bytes."""
    trained = origin_files(run.path, run.read_manifest().get("origin", {})).get("train", "")
    file, known = Path(path), Path(trained)
    if not file.is_file() or not known.is_file():
        return bool(trained) and path == trained
    same_size = file.stat().st_size == known.stat().st_size
    return file.samefile(known) or (same_size and hash_file(file) == hash_file(known))


@contextmanager
def encode_files(
    files: Sequence[str], prepare: Prepare, tokenizer: PreTrainedTokenizerBase, *, sentences: bool = False
) -> Iterator[EvaluationData]:
    """Encode text files to a temporary split; the text is normalized like the model's training text.

    An end-of-text token follows each document.

    Raises:
        DataError: the files have no text; with `sentences`, no sentence.
    """
    segmenter = choose_segmenter(prepare.chinese_words) if sentences else None
    counts = TextCounts(Counter())
    with tempfile.TemporaryDirectory() as folder:
        rows = encode_rows(read_raw_documents(files, prepare.read, tokenizer), tokenizer, counts, segmenter)
        write_split(Path(folder) / "text", rows, id_dtype(tokenizer), sentences=sentences)
        if not counts.totals["sentences" if sentences else "bytes"]:
            raise DataError("there is no text to score", where=", ".join(files), hint="give files with text in them")
        method = {"data": ", ".join(Path(file).name for file in files)}
        split = Split(Path(folder) / "text")
        totals = {**counts.totals, "unknown_examples": counts.unknown_examples()}
        yield EvaluationData(split, totals, method, segmenter, first_token=tokenizer.bos_token_id)


def read_raw_documents(
    files: Sequence[str], read: Read, tokenizer: PreTrainedTokenizerBase | None = None
) -> Iterator[Document]:
    """Read documents without cleaning, but normalized like the model's training text.

    Logs which steps of the normalization changed documents, and which cleaning steps of `prepare` would change them.
    Lone surrogates, which JSON allows and UTF-8 does not, are replaced.
    """
    from llmkit.text.inputs import find_files
    from llmkit.text.readers import read_documents  # loads the readers of web pages and archives

    sources: list[Source] = []
    documents = read_documents(find_files(files), read, sources)
    counts: dict[str, StepCounts] = {}
    uncleaned: dict[str, StepCounts] = {}
    if tokenizer is not None and (normalization := normalization_of(tokenizer)) is not None:
        documents = count_uncleaned(normalize_documents(documents, normalization, counts), uncleaned)
    for document in documents:
        yield replace(document, text=document.text.encode("utf-8", "replace").decode())
    for note in describe_encodings(sources) if read.encoding == "auto" else []:
        console.info(note)
    if steps := _list_changed(counts):
        console.info(f"documents normalized like the model's training text: {steps}")
    if steps := _list_changed(uncleaned):
        console.info(
            f"documents scored without the cleaning that prepare does by default: {steps}; docs/recipes.md (Cleaning) "
            "shows how to score cleaned text"
        )


def _list_changed(counts: Mapping[str, StepCounts]) -> str:
    return ", ".join(f"{name} in {count.changed:,}" for name, count in counts.items() if count.changed)


@contextmanager
def open_for_evaluation(
    recipe: Recipe, request: EvaluationRequest, open_model: Callable[[str], PreTrainedModel], *, sentences: bool = False
) -> Iterator[tuple[PreTrainedModel, PreTrainedTokenizerBase, EvaluationData]]:
    """Load a language model and open its data: a prepared folder, text files, or by default the data of its run.

    Raises:
        UsageError: there is no data.
        DataError: the prepared folder is damaged, or the files have no text.
        ModelError: the data was prepared with another tokenizer.
    """
    network, tokenizer = load_for_inference(open_model, request.path, request.model, recipe.evaluate.precision)
    data, block_size = list(request.data), None
    is_own = not data and request.run is not None
    if not data and request.run is not None:
        data, block_size = [str(request.run.data_path)], load_recipe(request.run.recipe).block_size
    if not data:
        raise UsageError("no data to score is given", where="--data", hint="give a prepared folder or text files")
    if not is_own and (len(data) > 1 or not (Path(data[0]) / "manifest.json").is_file()):
        note_unused_split(recipe.evaluate)
        if sentences:
            ensure_special_tokens(tokenizer)  # as `prepare` does; BERT's tokenizer has no end-of-text token
        with encode_files(data, recipe.prepare, tokenizer, sentences=sentences) as encoded:
            yield network, tokenizer, encoded
        return
    prepared = load_prepared(Path(data[0]))
    prepared.verify(recipe.evaluate.split)
    before = fingerprint_tokenizer(tokenizer)
    ensure_special_tokens(tokenizer)  # as `prepare` does
    if prepared.fingerprint["tokenizer"] not in (before, fingerprint_tokenizer(tokenizer)):
        raise tokenizer_mismatch(prepared, before, request.model)
    yield network, tokenizer, open_split(prepared, recipe.evaluate.split, block_size)
