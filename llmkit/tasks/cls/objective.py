"""The objective of `finetune-cls`: collate rows, sum the loss of a batch, count its labels.

The logits of the windows of a long text are averaged before the loss, in training and in prediction.

Losses are sums: the trainer divides by the label count of the whole optimizer step over all ranks, so results do not
depend on the micro-batch size. In transformers they do (huggingface/transformers issue 47688).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from llmkit.datasets.examples import Example
from llmkit.models.inputs import Batch, collate_inputs
from llmkit.models.kernels.padding_free import encoder_inputs
from llmkit.models.padding import reads_padding, restore_order, split_by_length
from llmkit.tasks.cls.label_type import LabelType
from llmkit.training.losses import sum_fp64


@dataclass(frozen=True)
class Classification:
    """One loss named `loss`.

    Its unit is nats per text, nats per text and label if multi-label, or the squared error of standardized labels.
    """

    label_type: LabelType
    n_labels: int
    pad_token_id: int
    token_types: bool
    """Whether the model reads token_type_ids."""
    class_weights: Tensor | None = None
    """Label weights, (labels,), with mean 1 over the train split; weights of positive labels if multi-label."""
    focal_gamma: float = 0.0
    label_smoothing: float = 0.0
    state: dict[str, Tensor] = field(default_factory=dict)

    def collate(self, examples: Sequence[Example]) -> Batch:
        """Return the batch of `collate_inputs` with labels: (rows,) ids, (rows, labels) zeros and ones, or (rows,)
        numbers.
        """
        batch = collate_inputs([example.inputs for example in examples], self.pad_token_id, self.token_types)
        labels = np.array([example.label for example in examples])
        return batch | {"labels": torch.as_tensor(labels, dtype=self.label_type.target_dtype)}

    def count(self, batch: Batch) -> dict[str, int]:
        """Return, by loss, the number of labels that the loss is summed over."""
        return {"loss": batch["labels"].numel()}

    def count_tokens(self, batch: Batch) -> int:
        """Return the number of tokens of the batch without padding."""
        return int(batch["attention_mask"].sum()) if "attention_mask" in batch else batch["input_ids"].numel()

    def length(self, example: Example) -> int:
        """Return the number of tokens of one sample."""
        return sum(len(each.ids) for each in example.inputs)

    def sum_losses(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Return the summed loss, a scalar with gradient."""
        return {"loss": sum_fp64(self.losses(score_batch(model, batch), batch["labels"]))}

    def losses(self, scores: Tensor, labels: Tensor) -> Tensor:
        """Return unreduced losses, (rows,) or (rows, labels), from fp32 logits `scores` (rows, labels)."""
        weights = None if self.class_weights is None else self.class_weights.to(scores.device)
        losses = self.label_type.losses(scores, labels, weights, self.label_smoothing)
        if not self.focal_gamma:
            return losses
        # Focal loss, Lin et al. 2017, equation 4.
        return losses * (1 - self.label_type.true_probability(scores, labels)) ** self.focal_gamma


def _score_inputs(model: nn.Module, batch: Batch) -> Tensor:
    """Return logits (inputs, labels) in fp32. If padding would change them, group inputs by length instead."""
    if "attention_mask" not in batch or reads_padding(cast(PreTrainedModel, model).config):
        return cast(Tensor, model(**encoder_inputs(model, batch)).logits).float()
    groups = list(split_by_length(batch))
    return restore_order([(rows, model(**encoder_inputs(model, each)).logits.float()) for rows, each in groups])


def score_batch(model: nn.Module, batch: Batch) -> Tensor:
    """Return logits (rows, labels) in fp32, averaged over the windows of each row."""
    scores = _score_inputs(model, batch)
    if "row_of_input" not in batch:
        return scores
    rows = batch["row_of_input"]
    n_rows = int(rows[-1]) + 1
    sums = torch.zeros(n_rows, scores.shape[-1], device=scores.device).index_add(0, rows, scores)
    return sums / torch.bincount(rows, minlength=n_rows)[:, None]
