"""Apply a saved classifier to rows, for `eval` and `predict`; and the `predict` command."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from llmkit.config.cls import Cls
from llmkit.config.evaluate import Evaluate
from llmkit.config.recipe import ClsRecipe
from llmkit.core import console
from llmkit.core.distributed import all_reduce_sum, shard
from llmkit.core.errors import DataError, ModelError, UsageError
from llmkit.core.progress import ProgressBar
from llmkit.datasets.labelled import Inputs
from llmkit.models.classifier import load_classifier
from llmkit.models.inputs import collate_inputs, group_by_length, reads_token_types, translate_failure
from llmkit.models.loading import max_context_length
from llmkit.models.padding import NO_PAD_TOKEN, describe_padding
from llmkit.models.saved_head import labels_of
from llmkit.tables.labelled import LabelledRow, has_default_names, read_labelled
from llmkit.tables.rows import describe_left_out, open_rows
from llmkit.tasks.base import PredictionRequest
from llmkit.tasks.cls.label_type import LabelType, name_probabilities
from llmkit.tasks.cls.objective import score_batch
from llmkit.tasks.cls.row_format import (
    RowFormat,
    encode_chunk,
    read_chunks,
    read_format,
)
from llmkit.tasks.evaluation import load_for_inference
from llmkit.tokens.row_counts import RowCounts


@torch.inference_mode()
def score_rows(
    model: PreTrainedModel, inputs: Inputs, *, token_types: bool, tokens_at_once: int, precision: str = "fp32"
) -> NDArray[np.float32]:
    """Return logits (rows, labels); one column for regression. The model must be in evaluation mode."""
    device: torch.device = model.device
    scores = np.zeros((len(inputs), model.config.num_labels or 1), np.float32)
    for rows, counts in shard(group_by_length(inputs.lengths, tokens_at_once)):
        batch = collate_inputs([inputs.read(int(row)) for row in rows], model.config.pad_token_id or 0, token_types)
        with translate_failure(model), torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            logits = score_batch(model, {name: tensor.to(device) for name, tensor in batch.items()})
        if counts:
            scores[rows] = logits.float().cpu().numpy()
    scores = all_reduce_sum({"scores": scores})["scores"]  # rows that other ranks scored are zero
    if n_wrong := int((~np.isfinite(scores).all(1)).sum()):
        what = f"the model's scores of {n_wrong:,} of {len(scores):,} rows are not finite numbers"
        hint = "the weights are damaged, or too large for the precision: train the model again, or give another one"
        raise ModelError(what, where=model.name_or_path or "model", hint=hint)
    return scores


DEFAULT_BLOCK_SIZE = 512


@dataclass(frozen=True)
class RowScorer:
    """A classifier with its tokenizer, row format and thresholds."""

    network: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    format: RowFormat
    thresholds: NDArray[np.float64]
    extra: dict[str, Any]
    settings: Evaluate
    label_map: Mapping[str, str] = field(default_factory=dict)
    """New names of the model's labels."""
    counts: RowCounts = field(default_factory=RowCounts)
    """Counts of the rows that were scored; copies made by `with_format` share them."""

    @property
    def label_type(self) -> LabelType:
        return self.format.label_type

    @property
    def names(self) -> list[str]:
        """Return the label names in the order of their ids."""
        return [self.label_map.get(name, name) for name in labels_of(self.network.config)]

    def with_format(self, row_format: RowFormat) -> "RowScorer":
        """Return a copy for a file with other column names."""
        return replace(self, format=row_format)

    def score(self, rows: Iterable[LabelledRow]) -> Iterator[tuple[list[LabelledRow], Inputs, NDArray[np.float64]]]:
        """Yield chunks of rows in order, with inputs and outputs: probabilities (rows, labels) or numbers (rows,)."""
        for chunk in read_chunks(rows):
            inputs = encode_chunk(chunk, self.format, self.tokenizer, self.counts)
            yield chunk, inputs, self.score_inputs(inputs)

    def score_inputs(self, inputs: Inputs) -> NDArray[np.float64]:
        """Return probabilities (rows, labels) or numbers (rows,)."""
        scores = score_rows(
            self.network, inputs, token_types=reads_token_types(self.network.config, self.tokenizer),
            tokens_at_once=self.settings.batch_size * self.format.block_size, precision=self.settings.precision,
        )  # fmt: skip
        return self.label_type.to_outputs(scores, self.extra)


def open_scorer(path: str, settings: Evaluate, section: Cls | None = None) -> RowScorer:
    """Load a classifier. A model that llmkit did not train reads single texts of up to 512 tokens, if it has as many
    positions.

    `section` may change how long texts are read (see `_apply_settings`) and the names of the model's labels: a key `0`
    of `label_map` also names the label LABEL_0, transformers' default name for the first label.

    Raises:
        UsageError: a setting does not fit the model, two labels would have the same name, or the model lacks the
            `positive_label`.
        ModelError: the model cannot be loaded, or its tokenizer does not fit.
    """
    network, tokenizer = load_for_inference(load_classifier, path, path, settings.precision)
    if network.config.pad_token_id is None:
        network.config.pad_token_id = NO_PAD_TOKEN
    for note in describe_padding(network.config):
        console.info(note)
    longest = max_context_length(network) or DEFAULT_BLOCK_SIZE
    block_size = min(longest, tokenizer.model_max_length, settings.block_size or DEFAULT_BLOCK_SIZE)
    row_format, extra = read_format(network.config, block_size)
    row_format = _apply_settings(row_format, settings.block_size, section, max_context_length(network))
    n_labels = network.config.num_labels or 1
    thresholds = np.array(extra.get("thresholds", [0.5] * n_labels), np.float64)
    renamed = {} if section is None else section.label_map
    label_map = {f"LABEL_{old}": new for old, new in renamed.items()} | renamed
    scorer = RowScorer(network, tokenizer, row_format, thresholds, extra, settings, label_map)
    if repeated := next((name for name, n in Counter(scorer.names).items() if n > 1), None):
        hint = "give each label of the model a different name"
        raise UsageError(f"two labels of the model would be called {repeated!r}", where="cls.label_map", hint=hint)
    if n_labels > 1 and has_default_names(scorer.names):
        example = ",".join(f"{number}=NAME" for number in range(2))
        console.info(
            f"the model's {n_labels} labels have no names; --label-map {example},... names LABEL_0, LABEL_1, ..."
        )
    if section is None or section.positive_label is None:
        return scorer
    label2id = {name: number for number, name in enumerate(scorer.names)}
    label_type = row_format.label_type.with_positive(section.positive_label, label2id)
    return scorer.with_format(replace(row_format, label_type=label_type))


def _apply_settings(
    row_format: RowFormat, block_size: int | None, section: Cls | None, positions: int | None
) -> RowFormat:
    """Return the format with the settings that `eval` and `predict` read: evaluate.block_size and, if set explicitly,
    cls.long_texts, cls.stride and cls.max_windows.

    Raises:
        UsageError: the block size exceeds the model's positions, or cls.labels differs from the model's labels.
    """
    if block_size is not None and positions is not None and block_size > positions:
        what, hint = (
            f"block_size {block_size} does not fit the model's {positions} positions",
            f"set it to {positions} or less",
        )
        raise UsageError(what, where="evaluate.block_size", hint=hint)
    changes: dict[str, Any] = {} if block_size is None else {"block_size": block_size}
    given = set() if section is None else section.model_fields_set
    changes |= {name: getattr(section, name) for name in ("long_texts", "stride", "max_windows") if name in given}
    if section is not None and "labels" in given and section.labels not in ("auto", row_format.label_type.name):
        what = f"the model's labels are of type {row_format.label_type.name}, not {section.labels}"
        hint = "leave it out: the model has one type of labels; finetune-cls trains a model of another type"
        raise UsageError(what, where="cls.labels", hint=hint)
    return replace(row_format, **changes)


def describe_method(
    data: str, settings: Evaluate, label_type: LabelType, chosen_on: bool, metrics: dict[str, Any]
) -> dict[str, Any]:
    """Return the settings behind the metrics, and whether weights or thresholds were selected on the same rows."""
    method: dict[str, Any] = {"data": data, "precision": settings.precision}
    if chosen_on:
        method["weights"] = "the best of the run on these rows"
        method |= {"thresholds": "tuned on these rows"} if label_type.tunes_thresholds else {}
    return {**method, **metrics.get("method", {})}


def predict_rows(recipe: ClsRecipe, request: PredictionRequest) -> dict[str, Any]:
    """Write each row with its prediction and, for single labels, the probability; returns row counts.

    Raises:
        DataError: the file cannot be read (tables/rows.py), or already has a column that `predict` adds.
        ModelError: the model cannot be used.
    """
    section = recipe.cls
    scorer = open_scorer(request.path, recipe.evaluate, recipe.cls)
    wanted = [name for name in (section.text, section.pair, scorer.format.text) if name]
    n_rows, n_cut = 0, 0
    opened = open_rows(request.data, recipe.prepare.read, header=section.header, wanted=wanted)
    with opened as rows, ProgressBar("predicting", "rows", log=True) as line:
        columns = scorer.format.find_columns(rows, need_label=False, text=section.text, pair=section.pair)
        columns = replace(columns, label=None)  # a label column is copied like any other
        console.info(f"{rows.path}: text {columns.text!r}" + (f", pair {columns.pair!r}" if columns.pair else ""))
        kept = [name for name in rows.columns if name not in rows.computed]
        names = scorer.label_type.columns(scorer.names, all_probabilities=request.all_probabilities)
        if taken := [name for name in names if name in rows.columns]:
            hint = "rename the column in the file: the output keeps all columns and adds one of this name"
            raise DataError(f"the file already has a column {taken[0]!r}", where=rows.path, hint=hint)
        emit = request.open_writer([*kept, *names])
        scorer = scorer.with_format(scorer.format.with_columns(columns))
        for chunk, inputs, outputs in scorer.score(read_labelled(rows, columns, scorer.label_type.parser(None))):
            for row, cells in zip(chunk, _to_cells(scorer, outputs, request.all_probabilities), strict=True):
                emit({name: cell for name, cell in row.cells.items() if name not in rows.computed} | cells)
            n_rows += len(chunk)
            n_cut += inputs.n_cut
            line.add(len(chunk))
        n_skipped = sum(rows.source.skipped.values())
    notes = describe_left_out(n_skipped, rows.path, "that cannot be read")
    notes += [*scorer.format.describe_cut(n_cut, n_rows, rows.path), *scorer.counts.describe(rows.path, rows.unit)]
    for note in notes:
        console.info(note)
    n_mostly_unknown = scorer.counts.unknown.n_mostly
    return {"n_rows": n_rows, "n_truncated": n_cut, "n_skipped": n_skipped, "n_mostly_unknown": n_mostly_unknown}


def _to_cells(scorer: RowScorer, outputs: NDArray[np.float64], all_probabilities: bool) -> Iterator[dict[str, Any]]:
    """Yield the added cells of each row."""
    label_type, names = scorer.label_type, scorer.names
    for predicted, output in zip(label_type.predict(outputs, scorer.thresholds), outputs, strict=True):
        cells = label_type.to_cells(predicted, output, names)
        if all_probabilities and label_type.has_names:
            values = (round(float(value), 6) for value in output)
            cells |= dict(zip(name_probabilities(names), values, strict=True))
        yield cells
