"""Apply a saved tagger to rows, for `eval` and `predict`; and the `predict` command."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from llmkit.config.evaluate import Evaluate
from llmkit.config.ner import Ner
from llmkit.config.recipe import NerRecipe
from llmkit.core import console
from llmkit.core.distributed import all_reduce_sum, shard
from llmkit.core.errors import DataError, ModelError, UsageError
from llmkit.core.progress import ProgressBar
from llmkit.datasets.tagged import NO_TOKEN, TaggedInputs
from llmkit.models.classifier import load_classifier
from llmkit.models.inputs import collate_inputs, group_by_length, reads_token_types, score_tokens, translate_failure
from llmkit.models.loading import max_context_length
from llmkit.models.padding import NO_PAD_TOKEN, describe_padding
from llmkit.models.saved_head import TOKEN_LABELS, labels_of
from llmkit.tables.rows import describe_left_out
from llmkit.tables.tag_schemes import read_entities
from llmkit.tables.tagged import SpanCounts, TaggedRow, choose_tag_columns, group_words, open_tagged, read_tagged
from llmkit.tasks.base import PredictionRequest
from llmkit.tasks.evaluation import load_for_inference
from llmkit.tasks.ner.decoding import decode_constrained, decode_greedily, find_allowed
from llmkit.tasks.ner.objective import read_logits
from llmkit.tasks.ner.row_format import TagFormat, WordCounts, encode_chunk, read_chunks, read_format

DEFAULT_BLOCK_SIZE = 512
COLUMN = "entities"


class Tagged(NamedTuple):
    """The predictions for the words of some rows: ids of tags, and their probabilities, (words,) each."""

    tags: NDArray[np.int64]
    probabilities: NDArray[np.float32]


@torch.inference_mode()
def score_words(
    model: PreTrainedModel, tagged: TaggedInputs, *, token_types: bool, tokens_at_once: int, precision: str = "fp32"
) -> NDArray[np.float32]:
    """Return logits (words, tags); zeros for words without a token. The model must be in evaluation mode."""
    device: torch.device = model.device
    inputs, tokens = tagged.inputs, tagged.tokens
    order = np.argsort(tokens, kind="stable")
    order = order[tokens[order] != NO_TOKEN]
    starts = np.append(0, inputs.ends)
    # The words of window n are order[begins[n]:begins[n + 1]].
    begins = np.searchsorted(tokens[order], starts)
    scores = np.zeros((len(tokens), model.config.num_labels or 1), np.float32)
    for windows, counts in shard(group_by_length(np.diff(starts), tokens_at_once)):
        rows = [[inputs.read_input(int(window))] for window in windows]
        batch = collate_inputs(rows, model.config.pad_token_id or 0, token_types)
        with translate_failure(model), torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            logits = score_tokens(model, {name: each.to(device) for name, each in batch.items()}, read_logits)
        if counts:
            words = np.concatenate([order[begins[window] : begins[window + 1]] for window in windows])
            numbers = np.repeat(np.arange(len(windows)), begins[windows + 1] - begins[windows])
            places = tokens[words] - starts[windows][numbers]
            scores[words] = logits[numbers, places].cpu().numpy()
    scores = all_reduce_sum({"scores": scores})["scores"]  # words that other ranks scored are zero
    if not np.isfinite(scores).all():
        hint = "the weights are damaged, or too large for the precision: train the model again, or give another one"
        raise ModelError("the model's scores are not finite numbers", where=model.name_or_path or "model", hint=hint)
    return scores


def decode(scores: NDArray[np.float32], tagged: TaggedInputs, names: Sequence[str], decoding: str) -> Tagged:
    """Return the tags of all words, and their probabilities.

    A word without a token continues the entity around it; if the words around it are not one entity, it is O.
    """
    exponents = np.exp(scores - scores.max(1, keepdims=True))
    probabilities = exponents / exponents.sum(1, keepdims=True)
    known = tagged.places != NO_TOKEN
    tags = np.zeros(len(scores), np.int64)
    if decoding == "greedy":
        tags[known] = decode_greedily(scores[known])
    else:
        allowed = find_allowed(names)
        logs = scores - scores.max(1, keepdims=True) - np.log(exponents.sum(1, keepdims=True))
        for row in range(len(tagged)):
            words = tagged.words_of(row)
            own = np.flatnonzero(known[words]) + words.start
            tags[own] = decode_constrained(logs[own], allowed)
    chosen = probabilities[np.arange(len(scores)), tags]
    for row in range(len(tagged)) if not known.all() else ():
        words = tagged.words_of(row)
        _fill_in(tags[words], chosen[words], known[words], names)
    return Tagged(tags, chosen)


def _fill_in(
    tags: NDArray[np.int64], probabilities: NDArray[np.float32], known: NDArray[np.bool_], names: Sequence[str]
) -> None:
    """Set the tags and probabilities of the words of a row that have no token, in place; see `decode`."""
    following = "O"
    tag_after: dict[int, str] = {}
    for word in range(len(tags) - 1, -1, -1):
        tag_after[word] = following
        following = names[tags[word]] if known[word] else following
    ids = {name: number for number, name in enumerate(names)}
    for word in np.flatnonzero(~known).tolist():
        before, after = names[tags[word - 1]] if word else "O", tag_after[word]
        if after.startswith("I-") and before[2:] == after[2:]:
            tags[word] = ids[after]
        probabilities[word] = probabilities[word - 1] if word else 1.0


@dataclass(frozen=True)
class TagScorer:
    """A tagger with its tokenizer and row format."""

    network: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    format: TagFormat
    settings: Evaluate
    counts: WordCounts = field(default_factory=WordCounts)

    @property
    def names(self) -> list[str]:
        """Return the tags in the order of their ids."""
        return labels_of(self.network.config)

    def predict(self, tagged: TaggedInputs) -> Tagged:
        """Return the tags of all words."""
        scores = score_words(
            self.network, tagged, token_types=reads_token_types(self.network.config, self.tokenizer),
            tokens_at_once=self.settings.batch_size * self.format.block_size, precision=self.settings.precision,
        )  # fmt: skip
        return decode(scores, tagged, self.names, self.format.decoding)

    def encode(self, rows: Sequence[TaggedRow]) -> TaggedInputs:
        """Encode rows in the format of the model."""
        return encode_chunk(rows, self.format, self.tokenizer, self.counts)


def open_scorer(path: str, settings: Evaluate, section: Ner) -> TagScorer:
    """Load a tagger. A model that llmkit did not train reads windows of up to 512 tokens, if it has as many positions.

    Raises:
        UsageError: evaluate.block_size exceeds the model's positions.
        ModelError: the model cannot be loaded, its tags are not of the form B-TYPE, or its tokenizer does not fit.
    """
    network, tokenizer = load_for_inference(
        lambda name: load_classifier(name, TOKEN_LABELS), path, path, settings.precision
    )
    if network.config.pad_token_id is None:
        network.config.pad_token_id = NO_PAD_TOKEN
    for note in describe_padding(network.config):
        console.info(note)
    longest = max_context_length(network)
    if settings.block_size is not None and longest is not None and settings.block_size > longest:
        what = f"block_size {settings.block_size} does not fit the model's {longest} positions"
        raise UsageError(what, where="evaluate.block_size", hint=f"set it to {longest} or less")
    names = labels_of(network.config)
    if wrong := [name for name in names if name != "O" and not name.startswith(("B-", "I-"))]:
        hint = "give a tagger with BIO tags; `llmkit finetune-ner` trains one from files of any scheme"
        what = f"the model's label {wrong[0]!r} is neither O nor of the form B-TYPE or I-TYPE"
        raise ModelError(what, where=f"{path}/config.json, id2label", hint=hint)
    block_size = min(longest or DEFAULT_BLOCK_SIZE, tokenizer.model_max_length, DEFAULT_BLOCK_SIZE)
    row_format = read_format(network.config, block_size).with_settings(section, settings.block_size)
    return TagScorer(network, tokenizer, row_format, settings)


def predict_entities(recipe: NerRecipe, request: PredictionRequest) -> dict[str, Any]:
    """Write each row with its entities; returns row counts.

    Raises:
        DataError: the file cannot be read, or already has a column that `predict` adds.
        ModelError: the model cannot be used.
    """
    section = recipe.ner
    scorer = open_scorer(request.path, recipe.evaluate, section)
    n_rows = n_entities = 0
    with open_tagged(request.data, section, recipe.prepare.read) as opened:
        columns = choose_tag_columns(opened, section, need_tags=False, saved=scorer.format.columns)
        rows = group_words(opened, columns)
        console.info(f"{rows.path}: {columns.describe()}")
        added = COLUMN if COLUMN not in rows.columns else f"predicted_{COLUMN}"
        if added in rows.columns:
            hint = "rename the column in the file: the output keeps all columns and adds one of this name"
            raise DataError(f"the file already has a column {added!r}", where=rows.path, hint=hint)
        kept = [name for name in rows.columns if name not in rows.computed]
        made = ["text"] if columns.tokens and "text" not in kept else []
        emit = request.open_writer([*kept, *made, added])
        found = read_tagged(rows, columns, scorer.format.words, SpanCounts())
        with ProgressBar("predicting", "rows", log=True) as progress:
            for chunk in read_chunks(found):
                for row, entities in zip(chunk, _predict_chunk(scorer, chunk), strict=True):
                    cells = {name: cell for name, cell in row.cells.items() if name not in rows.computed}
                    emit(cells | dict.fromkeys(made, row.text) | {added: entities})
                    n_entities += len(entities)
                n_rows += len(chunk)
                progress.add(len(chunk))
        n_skipped = sum(opened.source.skipped.values())
    notes = describe_left_out(n_skipped, rows.path, "that cannot be read")
    for note in [*notes, *scorer.counts.describe(rows.path, rows.unit)]:
        console.info(note)
    return {"n_rows": n_rows, "n_entities": n_entities, "n_skipped": n_skipped}


def _predict_chunk(scorer: TagScorer, chunk: Sequence[TaggedRow]) -> Iterator[list[dict[str, Any]]]:
    tagged = scorer.encode(chunk)
    predicted = scorer.predict(tagged)
    for number, row in enumerate(chunk):
        words = tagged.words_of(number)
        yield to_records(row, predicted.tags[words], predicted.probabilities[words], scorer.names)


def to_records(
    row: TaggedRow, tags: NDArray[np.int64], probabilities: NDArray[np.float32], names: Sequence[str]
) -> list[dict[str, Any]]:
    """Return the entities of a row: text, label, score, and the character range `start`, `end` in the row's text.

    The score is the mean probability of the tags of the entity's words.
    """
    records = []
    for first, last, kind in read_entities([names[tag] for tag in tags]):
        start, end = row.places[first][0], row.places[last - 1][1]
        score = round(float(probabilities[first:last].mean()), 6)
        records.append({"text": row.text[start:end], "label": kind, "score": score, "start": start, "end": end})
    return records
