"""Next-token prediction by a model that carries its state from block to block: truncated back-propagation through time
(Williams and Peng 1990). The gradient ends at a block's beginning, what the model remembers does not."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from llmkit.datasets.streams import StreamBlock
from llmkit.models.kernels.output_layer import read_cache
from llmkit.models.recurrent import RecurrentCache
from llmkit.tasks.clm.objective import Batch, CausalLM

CARRIED = "carried"


class RecurrentLM(CausalLM):
    """As `CausalLM`, over the blocks of datasets/streams.py. `state` holds what each row of the global batch has read:
    (layers, 1 or 2, rows, width); it is part of every checkpoint."""

    def __init__(self, pad_token_id: int, n_streams: int) -> None:
        super().__init__(pad_token_id, loss_by_model=True)
        self.n_streams = n_streams

    def collate(self, blocks: Sequence[StreamBlock]) -> Batch:  # type: ignore[override]  # blocks of its own kind
        """As `CausalLM`, with `rows` and `fresh`, both (batch,): which stream each one is, and whether it begins."""
        batch = super().collate([(block.inputs, block.labels) for block in blocks])
        batch["rows"] = torch.tensor([block.row for block in blocks])
        batch["fresh"] = torch.tensor([block.fresh for block in blocks])
        return batch

    def sum_losses(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """The summed cross-entropy in nats of all labels, with its gradient; the state moves on."""
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
