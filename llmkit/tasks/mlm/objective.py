"""The objective of `pretrain-mlm`: predict masked tokens and, for pairs, the relation of the two segments.

Two losses in nats: `mlm_loss`, summed over masked tokens, and `nsp_loss` or `sop_loss`, summed over pairs. The trainer
divides each by its label count over the whole optimizer step and all ranks, and adds them (Devlin et al. 2018), so
results do not depend on the micro-batch size.

Only masked positions, 15 % by default, pass through the output layer.
"""

from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from llmkit.datasets.pairs import NO_PAIR, Example, SentenceObjective
from llmkit.models.kernels.padding_free import encoder_inputs, find_token_indices
from llmkit.models.masked import compute_head_logits
from llmkit.training.losses import sum_fp64

Batch = dict[str, Tensor]


class MaskedLM:
    """The objective of `pretrain-mlm`, over the examples of datasets/pairs.py."""

    def __init__(self, pad_token_id: int, sentence_objective: SentenceObjective) -> None:
        self.pad_token_id = pad_token_id
        self.relation = None if sentence_objective == "none" else sentence_objective
        self.state: dict[str, Tensor] = {}

    def collate(self, examples: Sequence[Example]) -> Batch:
        """Return the batch.

        It has input_ids, token_type_ids and attention_mask, (batch, longest); masked_indices, positions in the
        flattened batch, and masked_ids, the true ids, (masked tokens,); relations (batch,). attention_mask and
        token_indices (models/kernels/padding_free.py) are omitted if there is no padding.
        """
        lengths = [len(example.input_ids) for example in examples]
        longest = max(lengths)
        input_ids = np.full((len(examples), longest), self.pad_token_id, np.int64)
        token_types = np.zeros_like(input_ids)
        for row, example in enumerate(examples):
            input_ids[row, : lengths[row]] = example.input_ids
            token_types[row, example.n_first : lengths[row]] = 1
        indices = [row * longest + example.masked for row, example in enumerate(examples)]
        batch = {
            "input_ids": torch.from_numpy(input_ids),
            "token_type_ids": torch.from_numpy(token_types),
            "masked_indices": torch.from_numpy(np.concatenate(indices)),
            "masked_ids": torch.from_numpy(np.concatenate([example.targets for example in examples])),
            "relations": torch.tensor([example.relation for example in examples]),
        }
        if min(lengths) < longest:
            batch["attention_mask"] = (torch.arange(longest) < torch.tensor(lengths)[:, None]).long()
            batch["token_indices"] = find_token_indices(batch["attention_mask"])
        return batch

    def count(self, batch: Batch) -> dict[str, int]:
        """Return, by loss, the number of labels that the loss is summed over."""
        counts = {"mlm_loss": len(batch["masked_ids"])}
        if self.relation is not None:
            counts[f"{self.relation}_loss"] = int((batch["relations"] != NO_PAIR).sum())
        return counts

    def count_tokens(self, batch: Batch) -> int:
        """Return the number of tokens of the batch without padding."""
        return int(batch["attention_mask"].sum()) if "attention_mask" in batch else batch["input_ids"].numel()

    def length(self, example: Example) -> int:
        """Return the number of tokens of one sample."""
        return len(example.input_ids)

    def sum_losses(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Return the summed cross-entropies in nats by loss, scalars with gradient."""
        token_logits, pair_logits = predict(model, batch)
        sums = {"mlm_loss": sum_fp64(F.cross_entropy(token_logits.float(), batch["masked_ids"], reduction="none"))}
        if self.relation is not None and pair_logits is not None:
            losses = F.cross_entropy(pair_logits.float(), batch["relations"], ignore_index=NO_PAIR, reduction="none")
            sums[f"{self.relation}_loss"] = sum_fp64(losses)
        return sums


def predict(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor | None]:
    """Return logits of masked tokens (masked tokens, vocabulary) and logits of pairs (batch, 2), which are None if the
    model has no head for pairs.
    """
    network = cast(PreTrainedModel, model)
    encoded = network.base_model(**encoder_inputs(network, batch))
    return compute_head_logits(network, encoded, batch["masked_indices"])
