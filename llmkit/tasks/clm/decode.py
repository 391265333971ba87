"""Greedy decoding and sampling, one token per step, for the architectures that pretrain-clm builds.

For a small model, most of the time of a step of transformers' `generate` is overhead: it rebuilds masks, copies all
keys and values to append one, and runs much Python code. In this module the model's own forward reads the prompt. After
that, keys and values are in preallocated memory, and a step consists of the layers' matrix products.

Greedy decoding returns the same tokens as `generate`, except for ties within rounding error. Samples follow the same
distribution but use other random numbers: one per row, while torch.multinomial draws one per token of the vocabulary
and takes as long as the step.

Works on ids only; generation.py passes windows of ids and receives the tokens.
"""

from collections.abc import Callable
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from transformers import (
    GenerationConfig,
    GPT2LMHeadModel,
    LogitsProcessorList,
    MinPLogitsWarper,
    PreTrainedModel,
    TopKLogitsWarper,
    TopPLogitsWarper,
)
from transformers.pytorch_utils import Conv1D

from llmkit.core.devices import widest_float
from llmkit.core.errors import ModelError
from llmkit.models.kernels.output_layer import read_cache, read_logits
from llmkit.models.recurrent import RecurrentForCausalLM
from llmkit.models.transformer import TransformerForCausalLM, embed
from llmkit.tasks.clm.logits import make_processors

Step = Callable[[Tensor], Tensor]
"""Maps the last token ids (rows,) to the next logits (rows, vocabulary)."""

MIN_STEPS_TO_PACK = 16
"""Minimum number of steps for which weights are packed; packing takes about as long as ten steps."""


def can_decode(model: PreTrainedModel, decoding: GenerationConfig) -> bool:
    """Whether `decode` supports the model: its class is exactly one of the supported ones, its weights are not sharded
    (only a layer's own forward gathers them), and there is no beam search."""
    if type(model) is GPT2LMHeadModel:
        known = not (model.config.add_cross_attention or model.config.reorder_and_upcast_attn)
    else:
        known = type(model) in (TransformerForCausalLM, RecurrentForCausalLM)
    in_shards = any(isinstance(weight, DTensor) for weight in model.parameters())
    return known and not in_shards and decoding.num_beams == 1


@torch.no_grad()
def decode(
    model: PreTrainedModel,
    ids: Tensor,
    mask: Tensor,
    decoding: GenerationConfig,
    take: Callable[[list[int]], bool],
    packed: "PackedLinears",
) -> None:
    """Generate up to `decoding.max_new_tokens` tokens per row of `ids` (rows, width).

    `take` is called with the next token of each row and returns whether all rows have ended. `mask` is 0 for padding,
    which is on the left. Random numbers come from torch's global generator. `packed` caches packed weights between
    calls.
    """
    rows, width = ids.shape
    n_new = decoding.max_new_tokens or 1
    choose = _token_selector(decoding, mask)
    written = torch.cat([ids, ids.new_zeros(rows, n_new)], dim=1)
    logits, step = read_prompts(model, ids, mask, n_new - 1, packed)
    for n in range(width, width + n_new):
        chosen = choose(written[:, :n], logits.float())
        written[:, n] = chosen
        if take(chosen.tolist()) or n + 1 == width + n_new:  # the last token is not fed back
            return
        logits = step(chosen)


def read_prompts(
    model: PreTrainedModel, ids: Tensor, mask: Tensor, n_steps: int, packed: "PackedLinears"
) -> tuple[Tensor, Step]:
    """Return the next logits (rows, tokens) after `ids`, and the step function for up to `n_steps` more tokens."""
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    read = model(
        input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=True, logits_to_keep=1, return_dict=True
    )
    logits = read.logits[:, -1]
    if isinstance(model, RecurrentForCausalLM):
        return logits, _recurrent_stepper(model, read_cache(read))
    memory = _KeyValueCache(read_cache(read), mask, n_steps)
    if isinstance(model, GPT2LMHeadModel):
        pays = n_steps >= MIN_STEPS_TO_PACK
        return logits, _gpt2_stepper(model, memory, lambda layer: packed.of(layer, len(ids)) if pays else layer)
    return logits, _transformer_stepper(cast(TransformerForCausalLM, model), memory)


def _token_selector(decoding: GenerationConfig, mask: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """Return a function that maps ids (rows, n) and logits (rows, tokens) to the next ids (rows,), as in `generate`."""
    first, limits = make_processors(decoding, mask), LogitsProcessorList()
    if decoding.top_k:
        limits.append(TopKLogitsWarper(decoding.top_k))
    if decoding.top_p is not None and decoding.top_p < 1:
        limits.append(TopPLogitsWarper(decoding.top_p))
    if decoding.min_p is not None:
        limits.append(MinPLogitsWarper(decoding.min_p))
    never = torch.tensor(decoding.suppress_tokens or [], dtype=torch.long, device=mask.device)

    def choose(ids: Any, logits: Any) -> Tensor:
        scores = first(ids, logits)
        if len(never):
            scores = scores.index_fill(1, never, -torch.inf)
        if not decoding.do_sample:
            return scores.argmax(-1)
        return sample_token(torch.softmax(limits(ids, scores / decoding.temperature), -1))

    return choose


def sample_token(probabilities: Tensor) -> Tensor:
    """Sample one id per row, (rows,), from `probabilities` (rows, tokens).

    The sample is the first id whose cumulative probability exceeds a uniform number. An id of probability 0 is never
    sampled.

    Raises:
        ModelError: the probabilities are not finite.
    """
    dtype = widest_float(probabilities.device)
    sums = probabilities.cumsum(-1, dtype=dtype)
    if not bool(sums[:, -1].isfinite().all()):
        hint = "did the training loss become non-finite? Evaluate the model, or use an earlier checkpoint"
        raise ModelError("the model's probabilities are not finite", where="the model's logits", hint=hint)
    threshold = torch.rand(len(probabilities), 1, dtype=dtype, device=probabilities.device) * sums[:, -1:]
    return torch.searchsorted(sums, threshold, right=True)[:, 0].clamp(max=probabilities.shape[1] - 1)


class _KeyValueCache:
    """Preallocated keys and values of all layers."""

    def __init__(self, cache: Any, mask: Tensor, n_new: int) -> None:
        rows, width = mask.shape
        self._layers = []
        for layer in cache.layers:
            both = torch.stack([layer.keys, layer.values], dim=1)  # (rows, 2, heads, width, head_dim)
            self._layers.append(F.pad(both, (0, 0, 0, n_new)))
        _, _, n_heads, _, head_dim = self._layers[0].shape
        self._shape = (rows, 3, n_heads, head_dim)
        self._n_read = width
        self.positions = mask.sum(1)
        """Position of each row's next token."""
        self._bias: Tensor | None = None
        if bool((mask == 0).any()):
            hidden = F.pad(mask == 0, (0, n_new))[:, None, None]
            self._bias = torch.zeros_like(hidden, dtype=self._layers[0].dtype).masked_fill(hidden, -torch.inf)

    def attend(self, number: int, projected: Tensor, scale: float) -> Tensor:
        """Store key and value of one new token per row and return the attention output of the token, (rows, width).

        `projected` (rows, 3 * width) has query, key and value of the token.
        """
        layer, n = self._layers[number], self._n_read + 1
        projected = projected.view(self._shape)
        layer.select(3, n - 1).copy_(projected.narrow(1, 1, 2))
        keys, values = layer.narrow(3, 0, n).unbind(1)
        bias = None if self._bias is None else self._bias.narrow(3, 0, n)
        query = projected.select(1, 0).unsqueeze(2)
        return F.scaled_dot_product_attention(query, keys, values, bias, scale=scale).flatten(1)

    def advance(self) -> None:
        """Move on to the next token; called once per step, after the last layer."""
        self._n_read += 1
        self.positions = self.positions + 1


def _gpt2_stepper(model: Any, memory: _KeyValueCache, product: Callable[[Any], Callable[[Tensor], Tensor]]) -> Step:
    body = model.transformer
    blocks = [
        (
            *(block.ln_1, product(block.attn.c_attn), block.attn.scaling, product(block.attn.c_proj)),
            *(block.ln_2, product(block.mlp.c_fc), block.mlp.act, product(block.mlp.c_proj)),
        )
        for block in body.h
    ]
    head = product(model.lm_head)

    def step(ids: Tensor) -> Tensor:
        hidden = body.wte(ids) + body.wpe(memory.positions)
        for number, (ln_1, c_attn, scale, c_proj, ln_2, c_fc, act, mlp_c_proj) in enumerate(blocks):
            hidden = hidden + c_proj(memory.attend(number, c_attn(ln_1(hidden)), scale))
            hidden = hidden + mlp_c_proj(act(c_fc(ln_2(hidden))))
        memory.advance()
        return head(body.ln_f(hidden))

    return step


def _transformer_stepper(model: TransformerForCausalLM, memory: _KeyValueCache) -> Step:
    def step(ids: Tensor) -> Tensor:
        hidden = embed(model.model.embed_tokens(ids), memory.positions)
        for number, block in enumerate(model.model.layers):
            attn: Any = block.self_attn
            projected = torch.cat([attn.q_proj(hidden), attn.k_proj(hidden), attn.v_proj(hidden)], dim=1)
            attended = memory.attend(number, projected, attn.head_dim**-0.5)
            hidden = block.self_attn_norm(hidden + attn.o_proj(attended))
            hidden = block.feed_forward_norm(hidden + block.feed_forward(hidden))
        memory.advance()
        return read_logits(model.lm_head, hidden)

    return step


def _recurrent_stepper(model: RecurrentForCausalLM, state: Any) -> Step:
    def step(ids: Tensor) -> Tensor:
        nonlocal state
        read = model(input_ids=ids[:, None], cache=state, use_cache=True)
        state = read_cache(read)
        return cast(Tensor, read.logits[:, -1])

    return step


class PackedLinears:
    """Linear layers whose weights are packed once for a given number of rows, in fp32 on a CPU.

    Packing copies the weights to the memory layout of the matrix product; BLAS would do so in each call. Each
    generation creates its own object, so that the copies are freed afterwards.
    """

    def __init__(self) -> None:
        self._packed: dict[nn.Module, tuple[int, Callable[[Tensor], Tensor]]] = {}

    def of(self, layer: Any, rows: int) -> Callable[[Tensor], Tensor]:
        """Return the packed layer, or the layer itself if it has hooks or is not a plain linear layer."""
        hooked = layer._forward_hooks or layer._forward_pre_hooks
        plain = type(layer) in (Conv1D, nn.Linear) and layer.weight.dtype == torch.float32
        if hooked or not plain or layer.weight.device.type != "cpu" or torch.is_autocast_enabled("cpu"):
            return cast(Callable[[Tensor], Tensor], layer)
        if self._packed.get(layer, (0,))[0] != rows:
            self._packed[layer] = (rows, _pack_weight(layer, rows))
        return self._packed[layer][1]


def _pack_weight(layer: Any, rows: int) -> Callable[[Tensor], Tensor]:
    across: Tensor = layer.weight if type(layer) is Conv1D else layer.weight.t()  # (inputs, outputs)
    bias: Any = layer.bias
    if rows == 1 or not torch.backends.mkldnn.is_available():
        across = across.contiguous()
        return lambda hidden: hidden @ across if bias is None else torch.addmm(bias, hidden, across)
    # inductor calls the same functions for a linear layer with constant weights: oneDNN chooses the layout.
    packed = torch.ops.mkldnn._reorder_linear_weight(across.t().contiguous(), rows)
    multiply = torch.ops.mkldnn._linear_pointwise.default
    return lambda hidden: cast(Tensor, multiply(hidden, packed, bias, "none", [], ""))
