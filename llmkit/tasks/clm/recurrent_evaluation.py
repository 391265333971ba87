"""Score a recurrent language model over a whole token stream, its state carried from the first token to the last.

Read as one stream every token has all the text before it as context, so the figure depends on no block size. To look
while training the text is read as several streams side by side, which is as many times faster and costs each stream's
beginning its context.
"""

from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel

from llmkit.core import distributed
from llmkit.models.kernels.output_layer import LOGITS_PER_CHUNK, read_cache, read_logits
from llmkit.models.loading import embedding_rows
from llmkit.tokens.store import TokenStream
from llmkit.training.loss_sum import sum_wide


@torch.inference_mode()
def evaluate_recurrent_lm(
    model: PreTrainedModel,
    stream: TokenStream,
    *,
    n_streams: int = 1,
    precision: str = "fp32",
    first_token: int | None = None,
    max_tokens: int | None = None,
) -> dict[str, Any]:
    """Summed nats and hits over `stream`: {"nats", "n_correct", "n_tokens"}, as `evaluate_causal_lm`.

    `max_tokens` scores only so many, the beginnings of all streams. Several ranks share the streams, and one without
    any scores the first in vain.
    """
    device: torch.device = model.device
    n_streams = min(n_streams, len(stream))
    bounds = [row * len(stream) // n_streams for row in range(n_streams + 1)]
    lengths = [end - begin for begin, end in pairwise(bounds)]
    if max_tokens is not None:
        lengths = [min(length, max(1, max_tokens // n_streams)) for length in lengths]
    own = range(distributed.rank(), n_streams, distributed.world_size())
    begins, lengths = [bounds[row] for row in own or [0]], [lengths[row] for row in own or [0]]
    n_streams = len(begins)
    step = max(1, LOGITS_PER_CHUNK // (embedding_rows(model) * n_streams))
    state, nats, correct = None, 0.0, 0
    for place in range(0, max(lengths), step):
        inputs, labels = _read(stream, begins, lengths, place, step, first_token)
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            read = model.base_model(input_ids=inputs.to(device), cache=state, use_cache=True)
            state = read_cache(read)
            real = labels >= 0
            logits = read_logits(model.get_submodule("lm_head"), read.last_hidden_state[real.to(device)]).float()
        targets = labels[real].to(device)
        nats += sum_wide(F.cross_entropy(logits, targets, reduction="none")).item()
        correct += int((logits.argmax(-1) == targets).sum())
    sums = {"nats": nats, "n_correct": correct, "n_tokens": sum(lengths)}
    return distributed.all_reduce_sum(sums if own else dict.fromkeys(sums, 0))


def _read(
    stream: TokenStream, begins: list[int], lengths: list[int], place: int, step: int, first_token: int | None
) -> tuple[Tensor, Tensor]:
    """The next inputs and labels of all streams; one that has ended has labels of -1."""
    width = min(step, max(lengths) - place)
    inputs = torch.zeros(len(lengths), width, dtype=torch.long)
    labels = torch.full((len(lengths), width), -1)
    for row, (begin, length) in enumerate(zip(begins, lengths, strict=False)):
        n_tokens = max(0, min(width, length - place))
        tokens = torch.from_numpy(stream.read(begin + place - 1, n_tokens + 1))
        if begin + place == 0 and first_token is not None:
            tokens[0] = first_token
        inputs[row, :n_tokens], labels[row, :n_tokens] = tokens[:-1], tokens[1:]
    return inputs, labels
