"""The layer over the vocabulary and its loss, for vocabularies so large that all logits at once would not fit.

Either a full output layer, whose loss is made in chunks of tokens, or an adaptive softmax (Grave et al. 2017), which
reads rare words from smaller matrices and wants a vocabulary in the order of frequency, as prepare makes it.
"""

from collections.abc import Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast

LOGITS_AT_ONCE = 1 << 25
"""64 MB of them in bf16; fewer would be slower, as each product for the weight's gradient writes all of it."""
LARGEST_LOSS = 80.0
"""Nats; the logarithm of fp32's and bf16's smallest numbers is 87."""
IGNORE = -100


def build_output_layer(width: int, vocab_size: int, cutoffs: Sequence[int] | None) -> nn.Module:
    """A linear layer with a bias, or an adaptive softmax with these cutoffs."""
    if not cutoffs:
        return nn.Linear(width, vocab_size)
    return nn.AdaptiveLogSoftmaxWithLoss(width, vocab_size, list(cutoffs))


def describe_output_layer(layer: nn.Module) -> str:
    """In words, for the log."""
    if isinstance(layer, nn.AdaptiveLogSoftmaxWithLoss):
        return f"adaptive softmax over {layer.n_classes:,} tokens, classes end at {layer.cutoffs}"
    n_tokens = cast(nn.Linear, layer).out_features
    return f"output layer over {n_tokens:,} tokens, its loss made {_chunk_size(n_tokens)} positions at a time"


def _chunk_size(vocab_size: int) -> int:
    return max(1, LOGITS_AT_ONCE // vocab_size)


def read_logits(layer: nn.Module, hidden: Tensor) -> Tensor:
    """(..., width) to (..., vocab_size); an adaptive softmax gives log probabilities, which are logits too."""
    if isinstance(layer, nn.AdaptiveLogSoftmaxWithLoss):
        logits: Tensor = layer.log_prob(hidden.flatten(0, -2).float()).unflatten(0, hidden.shape[:-1])
        return logits
    return cast(Tensor, layer(hidden))


def next_token_output(
    layer: nn.Module,
    read: BaseModelOutputWithPast,
    labels: Tensor | None,
    *,
    shift_labels: Tensor | None = None,
    num_items_in_batch: int | Tensor | None = None,
    logits_to_keep: int | Tensor = 0,
    **_: Any,
) -> CausalLMOutputWithPast:
    """Logits, or, where there are labels, the loss alone: it is made of parts of the logits, as all of them at once
    would fill the memory. The loss is a mean over labels, or their sum over `num_items_in_batch`."""
    hidden = cast(Tensor, read.last_hidden_state)
    if labels is not None and shift_labels is None:
        shift_labels = F.pad(labels, (0, 1), value=IGNORE)[:, 1:]
    if shift_labels is None:
        kept = hidden[:, -logits_to_keep:] if isinstance(logits_to_keep, int) else hidden[:, logits_to_keep]
        return CausalLMOutputWithPast(logits=read_logits(layer, kept), past_key_values=read.past_key_values)
    total = sum_cross_entropy(layer, hidden.flatten(0, 1), shift_labels.flatten())
    count = (shift_labels != IGNORE).sum() if num_items_in_batch is None else num_items_in_batch
    return CausalLMOutputWithPast(loss=total / count, past_key_values=read.past_key_values)


def sum_cross_entropy(layer: nn.Module, hidden: Tensor, labels: Tensor) -> Tensor:
    """The summed cross-entropy in nats of `labels` (tokens,) given `hidden` (tokens, width); -100 is left out."""
    if isinstance(layer, nn.AdaptiveLogSoftmaxWithLoss):
        real = labels != IGNORE
        output = layer(hidden[real].float(), labels[real])
        return cast(Tensor, -output.output.sum(dtype=torch.float64))
    assert isinstance(layer, nn.Linear)
    if bool((labels == IGNORE).any()):
        hidden, labels = hidden[labels != IGNORE], labels[labels != IGNORE]
    total: Tensor = cast(Any, _ChunkedCrossEntropy).apply(hidden, layer.weight, layer.bias, labels)
    return total


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Linear layer, softmax and loss over a few positions at a time, and the gradients right behind: softmax minus one
    at the label is the slope of the logits, and takes their place. The bias is one more column of the weight.

    Under autocast all of it is in bf16, but for what torch sums inside a product or a softmax.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor) -> Tensor:
        device = hidden.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
        columns = [weight] if bias is None else [weight, bias[:, None]]
        rows = [hidden] if bias is None else [hidden, hidden.new_ones(len(hidden), 1)]
        with torch.autocast(device, enabled=False):
            whole, inputs = (torch.cat([each.to(dtype) for each in parts], dim=1) for parts in (columns, rows))
            total, ctx.gradients = _sum_and_differentiate(inputs, whole, labels, any(ctx.needs_input_grad))
        ctx.dtypes, ctx.width = (hidden.dtype, weight.dtype), hidden.shape[1]
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        d_inputs, d_whole = ctx.gradients
        d_hidden = d_inputs[:, : ctx.width].to(ctx.dtypes[0]) * gradient.to(ctx.dtypes[0])
        d_weight = d_hidden.new_empty(len(d_whole), ctx.width, dtype=ctx.dtypes[1])
        d_weight.copy_(d_whole[:, : ctx.width]).mul_(gradient)  # in place, as it is large
        d_bias = (
            d_whole[:, ctx.width].to(ctx.dtypes[1]) * gradient.to(ctx.dtypes[1]) if ctx.needs_input_grad[2] else None
        )
        return d_hidden, d_weight, d_bias, None


def _sum_and_differentiate(
    inputs: Tensor, weight: Tensor, labels: Tensor, wants_gradient: bool
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """The summed loss in fp64, and its gradients with regard to inputs and weight."""
    n_rows = _chunk_size(len(weight))
    total = torch.zeros((), dtype=torch.float64, device=inputs.device)
    d_inputs, d_weight = torch.empty_like(inputs), torch.zeros_like(weight[:0])
    buffer = inputs.new_empty(min(len(inputs), n_rows), len(weight))
    for some, target, d_some in zip(*(each.split(n_rows) for each in (inputs, labels[:, None], d_inputs)), strict=True):
        logits = torch.mm(some, weight.t(), out=buffer[: len(some)])
        shares = torch.softmax(logits, -1, out=logits)
        losses = -shares.gather(1, target).double().log()
        if bool((lost := losses[:, 0] > LARGEST_LOSS).any()):  # the share is too small for its own exponent
            rare = F.cross_entropy((some[lost] @ weight.t()).float(), target[lost, 0], reduction="none")
            losses[lost, 0] = rare.double()
        total += losses.sum()
        if wants_gradient:
            shares[torch.arange(len(some), device=some.device), target[:, 0]] -= 1  # now the slopes of the logits
            torch.mm(shares, weight, out=d_some)
            product = shares.t() @ some
            d_weight = d_weight.float() + product if len(d_weight) else product
    return total, (d_inputs, d_weight)
