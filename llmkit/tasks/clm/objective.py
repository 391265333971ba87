"""Next-token prediction: collate blocks into a batch, sum its losses and count its labels.

Losses are sums, never means: the trainer divides by the label count of the whole optimizer step over all ranks, so
results do not depend on the micro-batch size. `RecurrentLM` carries the state from block to block: truncated
back-propagation through time (Williams and Peng 1990). The gradient stops at the beginning of a block; the state does
not.
"""

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel

from llmkit.datasets.blocks import Block, StreamBlock
from llmkit.models.families import trains_with_chunked_loss
from llmkit.models.kernels.output_layer import read_cache, sum_cross_entropy
from llmkit.models.loading import embedding_rows
from llmkit.models.recurrent import RecurrentCache
from llmkit.training.losses import sum_fp64

IGNORE = -100
"""The label of padding, as in transformers."""

Batch = dict[str, Tensor]


class CausalLM:
    """The objective of `pretrain-clm`. Its only loss is `loss`, in nats."""

    def __init__(self, pad_token_id: int, *, loss_by_model: bool = False) -> None:
        self.pad_token_id = pad_token_id
        self.loss_by_model = loss_by_model
        """Whether the model computes the summed loss itself, in chunks (models/kernels/output_layer.py)."""
        self.state: dict[str, Tensor] = {}

    def collate(self, blocks: Sequence[Block]) -> Batch:
        """Return input_ids and labels, both (batch, longest block); short blocks are padded on the right.

        Labels are already shifted. Right padding needs no attention mask, as no token attends to later ones.
        """
        inputs, labels = ([torch.from_numpy(each) for each in column] for column in zip(*blocks, strict=True))
        return {
            "input_ids": pad_sequence(inputs, batch_first=True, padding_value=self.pad_token_id),
            "labels": pad_sequence(labels, batch_first=True, padding_value=IGNORE),
        }

    def count(self, batch: Batch) -> dict[str, int]:
        """Return, by loss, the number of labels that the loss is summed over."""
        return {"loss": int((batch["labels"] != IGNORE).sum())}

    def count_tokens(self, batch: Batch) -> int:
        """Return the number of tokens that are labels."""
        return self.count(batch)["loss"]

    def length(self, block: Block) -> int:
        """Return the number of tokens of one sample."""
        return len(block[0])

    def sum_losses(self, model: PreTrainedModel, batch: Batch) -> dict[str, Tensor]:
        """Return the summed cross-entropy in nats, a scalar with gradient."""
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
        return {"loss": sum_fp64(losses)}


CARRIED = "carried"


class RecurrentLM(CausalLM):
    """`CausalLM` over the streams of datasets/blocks.py.

    `state` is the recurrent state of each row of the global batch, (layers, 1 for GRU or 2 for LSTM, rows, width);
    checkpoints include it.
    """

    def __init__(self, pad_token_id: int, n_streams: int) -> None:
        super().__init__(pad_token_id, loss_by_model=True)
        self.n_streams = n_streams

    def collate(self, blocks: Sequence[StreamBlock]) -> Batch:  # type: ignore[override]  # another block type
        """Return the batch of `CausalLM` with two more tensors (batch,): `rows`, the stream of each row, and `fresh`,
        whether the stream starts with this block.
        """
        batch = super().collate([(block.inputs, block.labels) for block in blocks])
        batch["rows"] = torch.tensor([block.row for block in blocks])
        batch["fresh"] = torch.tensor([block.fresh for block in blocks])
        return batch

    def sum_losses(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Return the summed cross-entropy in nats, with gradient; updates the state."""
        read = model(
            input_ids=batch["input_ids"],
            shift_labels=batch["labels"],
            num_items_in_batch=1,
            cache=self._load_state(batch),
            use_cache=True,
        )
        self._save_state(batch["rows"], cast(RecurrentCache, read_cache(read)).tensor.detach())
        return {"loss": read.loss}

    def _load_state(self, batch: Batch) -> RecurrentCache | None:
        if CARRIED not in self.state:
            return None
        carried = self.state[CARRIED].to(batch["rows"].device).index_select(2, batch["rows"])
        return RecurrentCache(torch.where(batch["fresh"][:, None], torch.zeros_like(carried), carried))

    def _save_state(self, rows: Tensor, after: Tensor) -> None:
        if CARRIED not in self.state:
            shape = (*after.shape[:2], self.n_streams, after.shape[3])
            self.state[CARRIED] = torch.zeros(shape, dtype=after.dtype, device=after.device)
        self.state[CARRIED] = self.state[CARRIED].to(after.device).index_copy(2, rows, after)
