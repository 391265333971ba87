"""The objective of `finetune-qa`: collate windows, sum the loss of their start and end positions, count windows.

The loss of a window is the mean of two cross-entropies over all of its tokens (Devlin et al. 2019, section 4.2). Losses
are sums: the trainer divides by the number of windows of the whole optimizer step over all ranks.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llmkit.datasets.examples import Example
from llmkit.models.inputs import collate_inputs, score_tokens
from llmkit.training.losses import sum_fp64

Batch = dict[str, Tensor]


@dataclass(frozen=True)
class SpanPositions:
    """One loss named `loss`, in nats per position."""

    pad_token_id: int
    token_types: bool
    """Whether the model reads token_type_ids."""
    state: dict[str, Tensor] = field(default_factory=dict)

    def collate(self, examples: Sequence[Example]) -> Batch:
        """Return the batch of `collate_inputs` with labels (windows, 2): positions of the first and last token."""
        batch = collate_inputs([example.inputs for example in examples], self.pad_token_id, self.token_types)
        return batch | {"labels": torch.from_numpy(np.stack([example.label for example in examples]))}

    def count(self, batch: Batch) -> dict[str, int]:
        """Return, by loss, the number of windows that the loss is summed over."""
        return {"loss": len(batch["labels"])}

    def count_tokens(self, batch: Batch) -> int:
        """Return the number of tokens of the batch without padding."""
        return int(batch["attention_mask"].sum()) if "attention_mask" in batch else batch["input_ids"].numel()

    def length(self, example: Example) -> int:
        """Return the number of tokens of one sample."""
        return len(example.inputs[0].ids)

    def sum_losses(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Return the summed loss, a scalar with gradient."""
        return {"loss": sum_fp64(position_losses(score_positions(model, batch), batch["labels"]))}


def score_positions(model: nn.Module, batch: Batch) -> Tensor:
    """Return logits (windows, tokens, 2) of start and end in fp32; padding has the lowest value."""
    scores = score_tokens(model, batch, lambda outputs: torch.stack([outputs.start_logits, outputs.end_logits], dim=-1))
    if "attention_mask" not in batch:
        return scores
    return scores.masked_fill(~batch["attention_mask"].bool()[..., None], torch.finfo(torch.float32).min)


def position_losses(scores: Tensor, labels: Tensor) -> Tensor:
    """Return losses (windows,): the mean of the cross-entropies of start and end."""
    return F.cross_entropy(scores, labels, reduction="none").mean(1)
