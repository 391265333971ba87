"""The layer over the vocabulary and its loss, for vocabularies so large that all logits at once would not fit.

Either a full output layer, whose loss is made in chunks of tokens, or an adaptive softmax.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast

from llmkit.core.errors import UsageError
from llmkit.models.caches import CACHE, read_cache

LOGITS_AT_ONCE = 1 << 24
"""32 MB of them in bf16; fewer would be slower, as each product for the weight's gradient writes all of it."""
WIDE_UP_TO = 1 << 14
"""Up to so many tokens the softmax is in fp32 under autocast, too. With more, another copy of all logits would cost a
tenth of a step; bf16 then rounds a share to three digits, as it does with the logits that the share came from."""
LARGEST_LOSS = 80.0
"""Nats; the logarithm of fp32's and bf16's smallest numbers is 87."""
IGNORE = -100


class AdaptiveSoftmax(nn.Module):
    """Words in classes by frequency (Grave et al. 2017): the first class and one logit for each other class come first,
    and only a word outside the first class costs a look into its own. An exact probability, for a fraction of the work.

    The paper makes rare words narrower, too. Here all are as wide as the model, so that the layer can be tied to the
    embedding. Wants a vocabulary in the order of frequency, as prepare makes it.
    """

    def __init__(self, width: int, vocab_size: int, cutoffs: Sequence[int]) -> None:
        super().__init__()
        if cutoffs[-1] >= vocab_size:
            what = f"adaptive_cutoffs {list(cutoffs)} do not fit a vocabulary of {vocab_size:,}"
            raise UsageError(
                what, where="model.adaptive_cutoffs", hint=f"end them below {vocab_size}, or leave them out"
            )
        self.weight, self.bias = nn.Parameter(torch.empty(vocab_size, width)), nn.Parameter(torch.zeros(vocab_size))
        self.classes = nn.Linear(width, len(cutoffs))
        self.bounds = [0, *cutoffs, vocab_size]

    def parts(self) -> Iterator[tuple[int, int, Tensor, Tensor]]:
        """Of each class, the first one whole with the logits of the others: first id, last id + 1, weight, bias."""
        sizes = [end - begin for begin, end in pairwise(self.bounds)]
        weights, biases = self.weight.split(sizes), self.bias.split(sizes)
        first = torch.cat([weights[0], self.classes.weight]), torch.cat([biases[0], self.classes.bias])
        for (begin, end), weight, bias in zip(
            pairwise(self.bounds), (first[0], *weights[1:]), (first[1], *biases[1:]), strict=True
        ):
            yield begin, end, weight, bias


def build_output_layer(width: int, vocab_size: int, cutoffs: Sequence[int] | None) -> nn.Module:
    """A linear layer with a bias, or an adaptive softmax with these cutoffs.

    Raises:
        UsageError: the vocabulary ends before the cutoffs do.
    """
    return AdaptiveSoftmax(width, vocab_size, cutoffs) if cutoffs else nn.Linear(width, vocab_size)


def describe_output_layer(layer: nn.Module) -> str:
    """In words, for the log."""
    if isinstance(layer, AdaptiveSoftmax):
        return f"adaptive softmax over {layer.bounds[-1]:,} tokens, classes end at {layer.bounds[1:-1]}"
    n_tokens = cast(nn.Linear, layer).out_features
    return f"output layer over {n_tokens:,} tokens, its loss made {_chunk_size(n_tokens)} positions at a time"


def _chunk_size(vocab_size: int) -> int:
    return max(1, LOGITS_AT_ONCE // vocab_size)


def count_loss_bytes(vocab_size: int, *, bf16: bool) -> tuple[int, int]:
    """Memory of the logits of one token, and of all that there ever are at once: themselves, and under autocast with a
    small vocabulary their softmax in fp32 and its slopes in bf16."""
    a_logit = 4 if not bf16 else 8 if vocab_size <= WIDE_UP_TO else 2
    return a_logit * vocab_size, a_logit * LOGITS_AT_ONCE


def read_logits(layer: nn.Module, hidden: Tensor) -> Tensor:
    """(..., width) to (..., vocab_size); an adaptive softmax gives log probabilities, which are logits too."""
    if not isinstance(layer, AdaptiveSoftmax):
        return cast(Tensor, layer(hidden))
    logs = [F.linear(hidden, weight, bias).float().log_softmax(-1) for _, _, weight, bias in layer.parts()]
    first, classes = logs[0].split([layer.bounds[1], len(logs) - 1], dim=-1)
    return torch.cat([first, *(log + classes[..., i, None] for i, log in enumerate(logs[1:]))], dim=-1)


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
        return CausalLMOutputWithPast(logits=read_logits(layer, kept), **{CACHE: read_cache(read)})
    total = sum_cross_entropy(layer, hidden.flatten(0, 1), shift_labels.flatten())
    count = (shift_labels != IGNORE).sum() if num_items_in_batch is None else num_items_in_batch
    return CausalLMOutputWithPast(loss=total / count, **{CACHE: read_cache(read)})


def sum_cross_entropy(layer: nn.Module, hidden: Tensor, labels: Tensor) -> Tensor:
    """The summed cross-entropy in nats of `labels` (tokens,) given `hidden` (tokens, width); -100 is left out."""
    if bool((labels == IGNORE).any()):
        hidden, labels = hidden[labels != IGNORE], labels[labels != IGNORE]
    chunked, differentiate = cast(Any, _ChunkedCrossEntropy).apply, torch.is_grad_enabled()
    if isinstance(layer, nn.Linear):
        return cast(Tensor, chunked(hidden, layer.weight, layer.bias, labels, differentiate))
    adaptive = cast(AdaptiveSoftmax, layer)
    later = torch.tensor(adaptive.bounds[1:-1], device=labels.device)
    which = torch.bucketize(labels, later, right=True)  # the class of each label
    total: Tensor | float = 0.0
    for number, (begin, end, weight, bias) in enumerate(adaptive.parts()):
        if number == 0:
            total += chunked(hidden, weight, bias, torch.where(which > 0, end + which - 1, labels), differentiate)
        elif bool((mine := which == number).any()):
            total += chunked(hidden[mine], weight, bias, labels[mine] - begin, differentiate)
    return cast(Tensor, total)


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Linear layer, softmax and loss over a few positions at a time, and the gradients right behind: softmax minus one
    at the label is the slope of the logits, and takes their place. The bias is one more column of the weight.

    Under autocast the products are in bf16, and for large vocabularies the softmax's result is, too.
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
            whole, inputs = (torch.cat([each.to(dtype) for each in parts], dim=1) for parts in (columns, rows))
            total, ctx.gradients = _sum_and_differentiate(inputs, whole, labels, differentiate)
        ctx.dtypes, ctx.width = (hidden.dtype, weight.dtype), hidden.shape[1]
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        d_inputs, d_whole = ctx.gradients
        d_hidden = d_inputs[:, : ctx.width].to(ctx.dtypes[0]) * gradient.to(ctx.dtypes[0])
        d_weight = d_hidden.new_empty(len(d_whole), ctx.width, dtype=ctx.dtypes[1])
        d_weight.copy_(d_whole[:, : ctx.width]).mul_(gradient)  # in place, as it is large
        d_bias = (
            d_whole[:, ctx.width].to(ctx.dtypes[1]) * gradient.to(ctx.dtypes[1]) if ctx.needs_input_grad[2] else None
        )
        return d_hidden, d_weight, d_bias, None, None


def _sum_and_differentiate(
    inputs: Tensor, weight: Tensor, labels: Tensor, wants_gradient: bool
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """The summed loss in fp64, and its gradients with regard to inputs and weight."""
    n_rows = _chunk_size(len(weight))
    wide = torch.float32 if inputs.device.type == "mps" else torch.float64  # MPS has no float64
    total = torch.zeros((), dtype=wide, device=inputs.device)
    d_inputs, d_weight = torch.empty_like(inputs), torch.zeros_like(weight[:0])
    buffer = inputs.new_empty(min(len(inputs), n_rows), len(weight))
    for some, target, d_some in zip(*(each.split(n_rows) for each in (inputs, labels[:, None], d_inputs)), strict=True):
        logits = torch.mm(some, weight.t(), out=buffer[: len(some)])
        if len(weight) <= WIDE_UP_TO:
            logits = logits.float()
        shares = torch.softmax(logits, -1, out=logits)
        losses = -shares.gather(1, target).to(wide).log()
        if bool((lost := losses[:, 0] > LARGEST_LOSS).any()):  # the share is too small for its own exponent
            rare = F.cross_entropy((some[lost] @ weight.t()).float(), target[lost, 0], reduction="none")
            losses[lost, 0] = rare.to(wide)
        total += losses.sum()
        if wants_gradient:
            shares[torch.arange(len(some), device=some.device), target[:, 0]] -= 1  # now the slopes of the logits
            slopes = shares.to(weight.dtype)
            torch.mm(slopes, weight, out=d_some)
            product = slopes.t() @ some
            d_weight = (
                d_weight.to(torch.promote_types(product.dtype, torch.float32)) + product if len(d_weight) else product
            )
    return total, (d_inputs, d_weight)
