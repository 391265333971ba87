"""A classifier's scores for many rows: rows alike in length together, and given back in their own order."""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from llmkit.core.distributed import all_reduce_sum, shard
from llmkit.datasets.labelled import Inputs
from llmkit.tasks.cls.objective import collate_inputs, score_batch


@torch.inference_mode()
def score_rows(
    model: PreTrainedModel, inputs: Inputs, *, token_types: bool, tokens_at_once: int, precision: str = "fp32"
) -> NDArray[np.float32]:
    """(rows, labels) of logits, or of the model's numbers for regression. The model must be in evaluation mode."""
    device: torch.device = model.device
    scores = np.zeros((len(inputs), model.config.num_labels or 1), np.float32)
    for rows, counts in shard(_group(inputs.lengths, tokens_at_once)):
        batch = collate_inputs([inputs.read(int(row)) for row in rows], model.config.pad_token_id or 0, token_types)
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            found = score_batch(model, {name: tensor.to(device) for name, tensor in batch.items()})
        if counts:
            scores[rows] = found.float().cpu().numpy()
    return all_reduce_sum({"scores": scores})["scores"]  # a row is zero where another rank scored it


def _group(lengths: NDArray[np.int64], tokens_at_once: int) -> Iterator[NDArray[np.int64]]:
    """Rows of similar length, at most so many tokens with their padding."""
    order = np.argsort(lengths, kind="stable")
    begin = 0
    for end in range(1, len(order) + 1):
        if end == len(order) or (end + 1 - begin) * lengths[order[end]] > tokens_at_once:
            yield order[begin:end]
            begin = end
