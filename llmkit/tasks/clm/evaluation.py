"""Score a causal language model over a whole token stream, each token counted exactly once.

Block-wise, windows lie side by side and a token near a window's start has little context. With a stride
below the block size, windows overlap and only the last `stride` tokens of each are scored, so every
token has at least `block_size - stride` tokens of context; slower, and always a better figure.

Everything is summed and divided once at the end. A mean of batch means would favour the short last batch.
"""

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from llmkit.core.distributed import all_reduce_sum, shard
from llmkit.models.families import has_plain_lm_head
from llmkit.models.kernels.output_layer import read_logits
from llmkit.models.loading import embedding_rows
from llmkit.tasks.clm.objective import IGNORE
from llmkit.tokens.store import TokenStream
from llmkit.training.loss_sum import sum_wide

LOGITS_PER_CHUNK = 128_000_000
"""Half a gigabyte of them in fp32, where a model gives them only all together."""
PART = 1 << 22
"""Logits that are scored at once: 16 MB in fp32, which a processor's cache holds."""


@torch.inference_mode()
def evaluate_causal_lm(
    model: PreTrainedModel,
    stream: TokenStream,
    *,
    block_size: int,
    stride: int | None = None,
    batch_size: int = 16,
    precision: str = "fp32",
    first_token: int | None = None,
    max_windows: int | None = None,
) -> dict[str, Any]:
    """Summed nats and hits over `stream`: {"nats", "n_correct", "n_tokens"}.

    The first token is predicted from `first_token`; by default from the stream's last, an end-of-text.
    `max_windows` scores that many windows spread evenly over the stream, for a look while training.
    """
    device: torch.device = model.device
    vocab_size = embedding_rows(model)
    rows = count_windows(model.config, vocab_size, block_size, batch_size)
    nats, correct = torch.zeros((), device=device), torch.zeros((), dtype=torch.int64, device=device)
    n_tokens = 0
    groups = _group(_cut(len(stream), block_size, stride or block_size, max_windows), rows)
    for windows, counts in shard(groups):
        inputs, labels = _read(stream, windows, first_token)
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            read, to_logits = _run(model, inputs.to(device))
            if not counts:
                continue
            labels = labels.flatten().to(device)
            scored = labels != IGNORE
            read, labels = read.flatten(0, 1)[scored], labels[scored]
            n_at_once = max(1, PART // vocab_size)
            for some, targets in zip(read.split(n_at_once), labels.split(n_at_once), strict=True):
                logits = to_logits(some).float()
                losses = F.cross_entropy(logits, targets, reduction="none")
                nats = nats + sum_wide(losses)
                correct += (logits.argmax(-1) == targets).sum()
        n_tokens += len(labels)
    return all_reduce_sum({"nats": float(nats), "n_correct": int(correct), "n_tokens": n_tokens})


def to_metrics(
    sums: dict[str, Any], *, n_bytes: float, n_characters: float, n_words: float | None = None
) -> dict[str, Any]:
    """Sums as the figures that are reported; bytes, characters and words (see text/words.py) are the scored text's."""
    nats, n_tokens = sums["nats"], sums["n_tokens"]
    loss = nats / n_tokens
    by_word = {"word_perplexity": _exp(nats / n_words), "n_words": round(n_words)} if n_words else {}
    return {
        "loss": loss,
        "perplexity": _exp(loss),
        "bits_per_byte": nats / math.log(2) / n_bytes,
        "bits_per_character": nats / math.log(2) / n_characters,
        "accuracy": sums["n_correct"] / n_tokens,
        "n_tokens": n_tokens,
        "n_bytes": round(n_bytes),
        "n_characters": round(n_characters),
        **by_word,
    }


def _exp(nats: float) -> float | None:
    """None where it is beyond a double."""
    return math.exp(nats) if nats < 700 else None


def count_windows(config: PreTrainedConfig, vocab_size: int, block_size: int, batch_size: int) -> int:
    """How many windows are scored at once."""
    if has_plain_lm_head(config):
        return batch_size
    return max(1, min(batch_size, LOGITS_PER_CHUNK // (vocab_size * block_size)))


def _run(model: PreTrainedModel, inputs: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """What the model makes of each token, and what makes logits of that: of a large vocabulary there need not be all
    logits at once."""
    if has_plain_lm_head(model.config):
        hidden = model.base_model(input_ids=inputs, use_cache=False).last_hidden_state
        return hidden, partial(read_logits, model.get_submodule("lm_head"))
    return model(input_ids=inputs, use_cache=False).logits, lambda logits: logits


Window = tuple[int, int, int]
"""begin, first scored token, end: positions in the stream."""


def _cut(n_tokens: int, block_size: int, stride: int, max_windows: int | None) -> Iterator[Window]:
    n_windows = 1 + max(0, -(-(n_tokens - block_size) // stride))
    step = max(1.0, n_windows / max_windows) if max_windows else 1.0
    for number in range(min(n_windows, max_windows or n_windows)):
        begin = int(number * step) * stride
        yield begin, begin + (block_size - stride if begin else 0), min(begin + block_size, n_tokens)


def _group(windows: Iterator[Window], size: int) -> Iterator[list[Window]]:
    group: list[Window] = []
    for window in windows:
        group.append(window)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group


def _read(stream: TokenStream, windows: list[Window], first_token: int | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs and labels of some windows, short ones padded on the right."""
    longest = max(end - begin for begin, _, end in windows)
    inputs = torch.zeros(len(windows), longest, dtype=torch.long)
    labels = torch.full((len(windows), longest), IGNORE)
    for row, (begin, first, end) in enumerate(windows):
        tokens = torch.from_numpy(stream.read(begin - 1, end - begin + 1))
        if begin == 0 and first_token is not None:
            tokens[0] = first_token
        inputs[row, : end - begin] = tokens[:-1]
        labels[row, first - begin : end - begin] = tokens[1 + first - begin :]
    return inputs, labels
