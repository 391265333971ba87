"""Next-token prediction: blocks to a batch, a batch to summed losses and their counts.

Sums, never means: the trainer divides by the count of the whole optimizer step over all ranks, so the
way a batch was cut cannot change a result.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel

from llmkit.datasets.blocks import Block
from llmkit.models.families import trains_with_chunked_loss
from llmkit.models.kernels.output_layer import sum_cross_entropy
from llmkit.models.loading import embedding_rows
from llmkit.training.loss_sum import sum_wide

IGNORE = -100
"""The label of padding, as everywhere in transformers."""

Batch = dict[str, Tensor]


class CausalLM:
    """The objective of `pretrain-clm`. Its one loss is called `loss`, in nats."""

    def __init__(self, pad_token_id: int, *, loss_by_model: bool = False) -> None:
        self.pad_token_id = pad_token_id
        self.loss_by_model = loss_by_model
        """Ours sum the loss themselves, in parts (models/kernels/output_layer.py); transformers' give logits, or
        what `lm_head` makes them of."""
        self.state: dict[str, Tensor] = {}

    def collate(self, blocks: Sequence[Block]) -> Batch:
        """input_ids and labels, both (batch, longest block); short blocks are padded on the right.

        Labels stand beside the token that predicts them: no model needs to shift. Right padding needs no
        attention mask, since under a causal mask nothing real ever looks at it.
        """
        longest = max(len(inputs) for inputs, _ in blocks)
        input_ids = torch.full((len(blocks), longest), self.pad_token_id)
        labels = torch.full((len(blocks), longest), IGNORE)
        for row, (inputs, targets) in enumerate(blocks):
            input_ids[row, : len(inputs)] = torch.from_numpy(inputs)
            labels[row, : len(targets)] = torch.from_numpy(targets)
        return {"input_ids": input_ids, "labels": labels}

    def count(self, batch: Batch) -> dict[str, int]:
        """How many labels each loss is summed over."""
        return {"loss": int((batch["labels"] != IGNORE).sum())}

    def count_tokens(self, batch: Batch) -> int:
        """Tokens that are learned from, each once."""
        return self.count(batch)["loss"]

    def length(self, block: Block) -> int:
        """Tokens of one sample."""
        return len(block[0])

    def sum_losses(self, model: PreTrainedModel, batch: Batch) -> dict[str, Tensor]:
        """The summed cross-entropy in nats of all labels, with its gradient."""
        if self.loss_by_model:
            read = model(
                input_ids=batch["input_ids"], shift_labels=batch["labels"], num_items_in_batch=1, use_cache=False
            )
            return {"loss": read.loss}
        if trains_with_chunked_loss(model.config, embedding_rows(model), on_cpu=batch["labels"].device.type == "cpu"):
            read = model.base_model(input_ids=batch["input_ids"], use_cache=False)
            hidden, labels = read.last_hidden_state.flatten(0, 1), batch["labels"].flatten()
            return {"loss": sum_cross_entropy(model.get_submodule("lm_head"), hidden, labels)}
        logits = model(input_ids=batch["input_ids"], use_cache=False).logits
        losses = F.cross_entropy(
            logits.flatten(0, 1).float(), batch["labels"].flatten(), ignore_index=IGNORE, reduction="none"
        )
        return {"loss": sum_wide(losses)}
