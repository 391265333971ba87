"""Output layers for large vocabularies, with losses that never hold all logits in memory.

The layer is linear with a loss computed in chunks of tokens, or an adaptive softmax.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast

from llmkit.core.devices import widest_float
from llmkit.core.errors import UsageError

CACHE = "cache" if "cache" in BaseModelOutputWithPast.__dataclass_fields__ else "past_key_values"
"""Name of the cache as a keyword argument of models and as a field of their outputs; renamed in transformers 5.24."""
LOGITS_PER_CHUNK = 1 << 24
"""Number of logits in memory at a time: 32 MB in bf16. Smaller chunks are slower, because each chunk updates the
complete gradient of the weight.
"""
MAX_FP32_SOFTMAX_VOCABULARY = 1 << 14
"""Largest vocabulary with an fp32 softmax under autocast. For larger vocabularies, the fp32 copy of the logits would
take a tenth of a step; bf16 rounds the probabilities to three digits, like the logits."""
MAX_DIRECT_LOSS = 80.0
"""Nats. Larger losses are recomputed from logits; the smallest normal number of fp32 and bf16 is exp(-87)."""
IGNORE_INDEX = -100


def read_cache(output: Any) -> Any:
    """Return the cache in a model's output."""
    return getattr(output, CACHE)


class AdaptiveSoftmax(nn.Module):
    """Adaptive softmax over clusters of tokens by frequency (Grave et al. 2017), with exact probabilities.

    The head has the tokens of the first cluster and one logit per other cluster. The probability of a token in another
    cluster also needs the softmax of that cluster. Unlike in the paper, all clusters have the model's width, so the
    weights can be tied to the embeddings. Token ids must be in order of descending frequency, as in tokenizers that
    `prepare` trains.

    Raises:
        UsageError: the last cutoff is not below `vocab_size`.
    """

    def __init__(self, width: int, vocab_size: int, cutoffs: Sequence[int]) -> None:
        super().__init__()
        if cutoffs[-1] >= vocab_size:
            what = f"adaptive_cutoffs {list(cutoffs)} do not fit a vocabulary of {vocab_size:,}"
            raise UsageError(
                what, where="model.adaptive_cutoffs", hint=f"use cutoffs below {vocab_size}, or leave them out"
            )
        self.weight, self.bias = nn.Parameter(torch.empty(vocab_size, width)), nn.Parameter(torch.zeros(vocab_size))
        self.classes = nn.Linear(width, len(cutoffs))
        self.bounds = [0, *cutoffs, vocab_size]

    def parts(self) -> Iterator[tuple[int, int, Tensor, Tensor]]:
        """Yield (first id, last id + 1, weight, bias) per cluster; the first includes the logits of the other
        clusters.
        """
        sizes = [end - begin for begin, end in pairwise(self.bounds)]
        weights, biases = self.weight.split(sizes), self.bias.split(sizes)
        first = torch.cat([weights[0], self.classes.weight]), torch.cat([biases[0], self.classes.bias])
        for (begin, end), weight, bias in zip(
            pairwise(self.bounds), (first[0], *weights[1:]), (first[1], *biases[1:]), strict=True
        ):
            yield begin, end, weight, bias


def build_output_layer(width: int, vocab_size: int, cutoffs: Sequence[int] | None) -> nn.Module:
    """Return a linear layer with a bias, or an adaptive softmax with these cutoffs.

    Raises:
        UsageError: the last cutoff is not below `vocab_size`.
    """
    return AdaptiveSoftmax(width, vocab_size, cutoffs) if cutoffs else nn.Linear(width, vocab_size)


def describe_output_layer(layer: nn.Module) -> str:
    """Describe the layer for the log."""
    if isinstance(layer, AdaptiveSoftmax):
        return f"vocabulary of {layer.bounds[-1]:,}: adaptive softmax with cutoffs {layer.bounds[1:-1]}"
    n_tokens = cast(nn.Linear, layer).out_features
    size = _chunk_size(n_tokens)
    return f"vocabulary of {n_tokens:,}: the loss is computed in chunks of {size:,} tokens, which saves memory"


def _chunk_size(vocab_size: int) -> int:
    return max(1, LOGITS_PER_CHUNK // vocab_size)


def count_loss_bytes(vocab_size: int, *, bf16: bool) -> tuple[int, int]:
    """Return the bytes of logits per token and per chunk.

    Under autocast a small vocabulary also needs the softmax in fp32 and its gradient in bf16.
    """
    bytes_per_logit = 4 if not bf16 else 8 if vocab_size <= MAX_FP32_SOFTMAX_VOCABULARY else 2
    return bytes_per_logit * vocab_size, bytes_per_logit * LOGITS_PER_CHUNK


def read_logits(layer: nn.Module, hidden: Tensor) -> Tensor:
    """Return logits (..., vocab_size) of hidden states (..., width); log probabilities for an adaptive softmax."""
    if not isinstance(layer, AdaptiveSoftmax):
        return cast(Tensor, layer(hidden))
    logs = [F.linear(hidden, weight, bias).float().log_softmax(-1) for _, _, weight, bias in layer.parts()]
    first, classes = logs[0].split([layer.bounds[1], len(logs) - 1], dim=-1)
    return torch.cat([first, *(log + classes[..., i, None] for i, log in enumerate(logs[1:]))], dim=-1)


def next_token_output(
    layer: nn.Module,
    outputs: BaseModelOutputWithPast,
    labels: Tensor | None,
    *,
    shift_labels: Tensor | None = None,
    num_items_in_batch: int | Tensor | None = None,
    logits_to_keep: int | Tensor = 0,
    **_: Any,
) -> CausalLMOutputWithPast:
    """Return logits if there are no labels, else only the loss, computed in chunks.

    The loss is the mean over labels, or their sum divided by `num_items_in_batch`. `labels` are the input ids, which
    this function shifts; `shift_labels` are already shifted.
    """
    hidden = cast(Tensor, outputs.last_hidden_state)
    if labels is not None and shift_labels is None:
        shift_labels = F.pad(labels, (0, 1), value=IGNORE_INDEX)[:, 1:]
    if shift_labels is None:
        kept = hidden[:, -logits_to_keep:] if isinstance(logits_to_keep, int) else hidden[:, logits_to_keep]
        return CausalLMOutputWithPast(logits=read_logits(layer, kept), **{CACHE: read_cache(outputs)})
    total = sum_cross_entropy(layer, hidden.flatten(0, 1), shift_labels.flatten())
    count = (shift_labels != IGNORE_INDEX).sum() if num_items_in_batch is None else num_items_in_batch
    return CausalLMOutputWithPast(loss=total / count, **{CACHE: read_cache(outputs)})


def sum_cross_entropy(layer: nn.Module, hidden: Tensor, labels: Tensor) -> Tensor:
    """Return the summed cross-entropy in nats of `labels` (tokens,) given `hidden` (tokens, width); ignores -100."""
    if bool((labels == IGNORE_INDEX).any()):
        hidden, labels = hidden[labels != IGNORE_INDEX], labels[labels != IGNORE_INDEX]
    chunked, differentiate = cast(Any, _ChunkedCrossEntropy).apply, torch.is_grad_enabled()
    if isinstance(layer, nn.Linear):
        return cast(Tensor, chunked(hidden, layer.weight, layer.bias, labels, differentiate))
    adaptive = cast(AdaptiveSoftmax, layer)
    class_starts = torch.tensor(adaptive.bounds[1:-1], device=labels.device)
    class_ids = torch.bucketize(labels, class_starts, right=True)  # the class of each label
    total: Tensor | float = 0.0
    for number, (begin, end, weight, bias) in enumerate(adaptive.parts()):
        if number == 0:
            total += chunked(
                hidden, weight, bias, torch.where(class_ids > 0, end + class_ids - 1, labels), differentiate
            )
        elif bool((in_class := class_ids == number).any()):
            total += chunked(hidden[in_class], weight, bias, labels[in_class] - begin, differentiate)
    return cast(Tensor, total)


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Linear layer, softmax and cross-entropy per chunk of tokens; the forward pass also computes the gradients.

    The gradient of the logits (softmax minus one-hot) overwrites the probabilities. The bias is an additional column of
    the weight. Under autocast, products are in bf16; for large vocabularies the probabilities are in bf16 too.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor, differentiate: bool
    ) -> Tensor:
        device = hidden.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
        columns = [weight] if bias is None else [weight, bias[:, None]]
        rows = [hidden] if bias is None else [hidden, hidden.new_ones(len(hidden), 1)]
        with torch.autocast(device, enabled=False):
            augmented_weight, inputs = (
                torch.cat([each.to(dtype) for each in parts], dim=1) for parts in (columns, rows)
            )
            total, ctx.gradients = _sum_and_differentiate(inputs, augmented_weight, labels, differentiate)
        ctx.dtypes, ctx.width = (hidden.dtype, weight.dtype), hidden.shape[1]
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        d_inputs, d_augmented = ctx.gradients
        d_hidden = d_inputs[:, : ctx.width].to(ctx.dtypes[0]) * gradient.to(ctx.dtypes[0])
        d_weight = d_hidden.new_empty(len(d_augmented), ctx.width, dtype=ctx.dtypes[1])
        d_weight.copy_(d_augmented[:, : ctx.width]).mul_(gradient)  # in place to save memory
        d_bias = None
        if ctx.needs_input_grad[2]:
            d_bias = d_augmented[:, ctx.width].to(ctx.dtypes[1]) * gradient.to(ctx.dtypes[1])
        return d_hidden, d_weight, d_bias, None, None


def _sum_and_differentiate(
    inputs: Tensor, weight: Tensor, labels: Tensor, differentiate: bool
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Return the sum of the losses in fp64 (fp32 on MPS), and its gradients with respect to inputs and weight."""
    n_rows = _chunk_size(len(weight))
    accumulate_dtype = widest_float(inputs.device)
    total = torch.zeros((), dtype=accumulate_dtype, device=inputs.device)
    d_inputs, d_weight = torch.empty_like(inputs), torch.zeros_like(weight[:0])
    buffer = inputs.new_empty(min(len(inputs), n_rows), len(weight))
    for chunk, target, d_chunk in zip(
        *(each.split(n_rows) for each in (inputs, labels[:, None], d_inputs)), strict=True
    ):
        logits = torch.mm(chunk, weight.t(), out=buffer[: len(chunk)])
        if len(weight) <= MAX_FP32_SOFTMAX_VOCABULARY:
            logits = logits.float()
        probabilities = torch.softmax(logits, -1, out=logits)
        losses = -probabilities.gather(1, target).to(accumulate_dtype).log()
        if bool((underflows := losses[:, 0] > MAX_DIRECT_LOSS).any()):  # the probability may have underflowed
            rare = F.cross_entropy((chunk[underflows] @ weight.t()).float(), target[underflows, 0], reduction="none")
            losses[underflows, 0] = rare.to(accumulate_dtype)
        total += losses.sum()
        if differentiate:
            probabilities[torch.arange(len(chunk), device=chunk.device), target[:, 0]] -= 1  # softmax minus one-hot
            d_logits = probabilities.to(weight.dtype)
            torch.mm(d_logits, weight, out=d_chunk)
            product = d_logits.t() @ chunk
            if len(d_weight):
                product = d_weight.to(torch.promote_types(product.dtype, torch.float32)) + product
            d_weight = product
    return total, (d_inputs, d_weight)
