"""A saved classifier at work on the rows of a file, chunk by chunk: what `eval` and `predict` share."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from llmkit.config.evaluate import Evaluate
from llmkit.datasets.labelled import Inputs
from llmkit.models.classifier import labels_of, load_classifier
from llmkit.models.loading import check_vocabulary, max_context_length
from llmkit.tables.labelled import LabelledRow
from llmkit.tasks.cls.label_scores import score_rows
from llmkit.tasks.cls.label_types import LabelType
from llmkit.tasks.cls.row_reading import RowFormat, encode_chunk, read_chunks, read_format, reads_token_types
from llmkit.tasks.scoring import prepare_for_inference
from llmkit.tokens.tokenizer import load_tokenizer

DEFAULT_BLOCK_SIZE = 512


@dataclass(frozen=True)
class RowScorer:
    """A classifier with all that was saved with it."""

    network: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    format: RowFormat
    thresholds: NDArray[np.float64]
    extra: dict[str, Any]
    settings: Evaluate

    @property
    def labels(self) -> LabelType:
        return self.format.labels

    @property
    def names(self) -> list[str]:
        """The labels in the order of their ids."""
        return labels_of(self.network.config)

    def with_format(self, row_format: RowFormat) -> "RowScorer":
        """The same for a file whose columns have other names."""
        return replace(self, format=row_format)

    def score(self, rows: Iterable[LabelledRow]) -> Iterator[tuple[list[LabelledRow], Inputs, NDArray[np.float64]]]:
        """Runs of rows in their order, their inputs, and probabilities (rows, labels) or numbers (rows,)."""
        for chunk in read_chunks(rows):
            inputs = encode_chunk(chunk, self.format, self.tokenizer)
            yield chunk, inputs, self.score_inputs(inputs)

    def score_inputs(self, inputs: Inputs) -> NDArray[np.float64]:
        """Probabilities (rows, labels) or numbers (rows,)."""
        scores = score_rows(
            self.network, inputs, token_types=reads_token_types(self.network.config, self.tokenizer),
            tokens_at_once=self.settings.batch_size * self.format.block_size, precision=self.settings.precision,
        )  # fmt: skip
        return self.labels.to_outputs(scores, self.extra)

    def predict(self, outputs: NDArray[np.float64]) -> NDArray[Any]:
        """Ids, marks or numbers."""
        return self.labels.predict(outputs, self.thresholds)


def open_scorer(path: str, settings: Evaluate) -> RowScorer:
    """A classifier of ours, or anybody's, which reads one text of the length that it has positions for.

    Raises:
        ModelError: it cannot be loaded, or its tokenizer does not fit.
    """
    network = prepare_for_inference(load_classifier(path), settings.precision)
    tokenizer = load_tokenizer(path)
    check_vocabulary(network, tokenizer, path)
    if network.config.pad_token_id is None:  # any token will do behind the text, but for the text's own last one
        own = (tokenizer.pad_token_id, tokenizer.eos_token_id, 0)
        network.config.pad_token_id = next(token for token in own if token is not None)
    longest = max_context_length(network) or DEFAULT_BLOCK_SIZE
    block_size = min(longest, tokenizer.model_max_length, settings.block_size or DEFAULT_BLOCK_SIZE)
    row_format, extra = read_format(network.config, block_size)
    n_labels = network.config.num_labels or 1
    thresholds = np.array(extra.get("thresholds", [0.5] * n_labels), np.float64)
    return RowScorer(network, tokenizer, row_format, thresholds, extra, settings)


def describe_method(
    data: str, settings: Evaluate, labels: LabelType, chosen_on: bool, metrics: dict[str, Any]
) -> dict[str, Any]:
    """How figures came about. Rows that the weights and thresholds were chosen by flatter them."""
    method: dict[str, Any] = {"data": data, "precision": settings.precision}
    if chosen_on:
        method["weights"] = "the best of the run on these rows"
        method |= {"thresholds": "tuned on these rows"} if labels.tunes_thresholds else {}
    return {**method, **metrics.get("method", {})}
