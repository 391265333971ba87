"""The objective of taggers: collate rows, sum the cross-entropy of the words of a batch, count the words.

Losses are sums: the trainer divides by the number of words of the whole optimizer step over all ranks, so results do
not depend on the micro-batch size.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llmkit.datasets.examples import Example
from llmkit.models.inputs import Batch, collate_inputs, score_tokens
from llmkit.training.losses import sum_fp64

IGNORED = -100
"""Label of tokens that are not scored."""


@dataclass(frozen=True)
class Tagging:
    """One loss named `loss`, in nats per word."""

    pad_token_id: int
    token_types: bool
    """Whether the model reads token_type_ids."""
    class_weights: Tensor | None = None
    """Weights of the tags, (tags,), with mean 1 over the words of the train split."""
    state: dict[str, Tensor] = field(default_factory=dict)

    def collate(self, examples: Sequence[Example]) -> Batch:
        """Return the batch of `collate_inputs` with labels (inputs, longest), IGNORED where no word begins.

        Each example is one window of a text.
        """
        batch = collate_inputs([example.inputs for example in examples], self.pad_token_id, self.token_types)
        labels = np.full(batch["input_ids"].shape, IGNORED, np.int64)
        for row, example in enumerate(examples):
            labels[row, : len(example.label)] = example.label
        return batch | {"labels": torch.from_numpy(labels)}

    def count(self, batch: Batch) -> dict[str, int]:
        """Return the number of words that the loss is summed over."""
        return {"loss": int((batch["labels"] != IGNORED).sum())}

    def count_tokens(self, batch: Batch) -> int:
        """Return the number of tokens of the batch without padding."""
        return int(batch["attention_mask"].sum()) if "attention_mask" in batch else batch["input_ids"].numel()

    def length(self, example: Example) -> int:
        """Return the number of tokens of one window."""
        return sum(len(each.ids) for each in example.inputs)

    def sum_losses(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Return the summed loss, a scalar with gradient."""
        logits = score_tokens(model, batch, read_logits)
        is_word = batch["labels"] != IGNORED
        return {"loss": sum_fp64(self.losses(logits[is_word], batch["labels"][is_word]))}

    def losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return unreduced losses (words,) from fp32 logits (words, tags)."""
        losses = F.cross_entropy(logits, labels, reduction="none")
        return losses if self.class_weights is None else losses * self.class_weights.to(logits.device)[labels]


def read_logits(output: Any) -> Tensor:
    """Return the logits (inputs, tokens, tags) of a model's output."""
    return cast(Tensor, output.logits)
