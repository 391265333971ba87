"""Greedy decoding and sampling, one token a step, for the architectures that pretrain-clm builds.

transformers' `generate` spends most of a small model's step on itself: it builds masks anew, copies all keys and values
to append one, and goes through a dozen layers of Python. Here the prompt is read by the model's own forward; then keys
and values stand in memory that is taken once, and a step is nothing but the layers' products.

Greedy tokens are those of `generate` but for ties within rounding. Samples have its distribution, from other random
numbers: one a row where torch.multinomial draws one for each token of the vocabulary, which costs as much as the step.

Knows neither texts nor prompts; generate.py hands over windows of ids and takes the tokens.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import (
    Cache,
    GenerationConfig,
    GPT2LMHeadModel,
    LogitsProcessorList,
    MinPLogitsWarper,
    PreTrainedModel,
    RepetitionPenaltyLogitsProcessor,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from llmkit.models.output_layer import read_logits
from llmkit.models.recurrent import RecurrentForCausalLM
from llmkit.models.transformer import TransformerForCausalLM, embed

Step = Callable[[Tensor], Tensor]
"""The ids (rows,) that were chosen last, to the logits (rows, tokens) for the next ones."""


def can_decode(model: PreTrainedModel, decoding: GenerationConfig) -> bool:
    """Whether `decode` does it: no beams, and one of our architectures. A class derived from one is another."""
    if type(model) is GPT2LMHeadModel:
        known = not (model.config.add_cross_attention or model.config.reorder_and_upcast_attn)
    else:
        known = type(model) in (TransformerForCausalLM, RecurrentForCausalLM)
    return known and decoding.num_beams == 1


@torch.no_grad()
def decode(
    model: PreTrainedModel, ids: Tensor, mask: Tensor, decoding: GenerationConfig, take: Callable[[list[int]], bool]
) -> None:
    """Write up to `decoding.max_new_tokens` tokens behind each row of `ids` (rows, width); `take` gets the next one of
    every row, and says whether all rows have ended.

    `mask` is 0 where a row has padding, which stands on the left. Random numbers are those of torch's own generator.
    """
    rows, width = ids.shape
    n_new = decoding.max_new_tokens or 1
    choose = _chooser(decoding, mask)
    written = torch.cat([ids, ids.new_zeros(rows, n_new)], dim=1)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    read = model(
        input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=True, logits_to_keep=1, return_dict=True
    )
    step = _stepper(model, read.past_key_values, mask, n_new)
    logits = read.logits[:, -1]
    for n in range(width, width + n_new):
        chosen = choose(written[:, :n], logits.float())
        written[:, n] = chosen
        if take(chosen.tolist()) or n + 1 == width + n_new:  # the last token is never read
            return
        logits = step(chosen)


def _chooser(decoding: GenerationConfig, mask: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """The next ids (rows,), given all ids so far (rows, n) and logits (rows, tokens); in the order of `generate`."""
    first, limits = LogitsProcessorList(), LogitsProcessorList()
    if decoding.repetition_penalty != 1.0:
        padding = (mask == 0).sum(1)
        first.append(RepetitionPenaltyLogitsProcessor(decoding.repetition_penalty, prompt_ignore_length=padding))
    if decoding.top_k:
        limits.append(TopKLogitsWarper(decoding.top_k))
    if decoding.top_p is not None and decoding.top_p < 1:
        limits.append(TopPLogitsWarper(decoding.top_p))
    if decoding.min_p is not None:
        limits.append(MinPLogitsWarper(decoding.min_p))
    never = torch.tensor(decoding.suppress_tokens or [], dtype=torch.long, device=mask.device)

    def choose(ids: Tensor, logits: Tensor) -> Tensor:
        scores = first(ids, logits)
        if len(never):
            scores = scores.index_fill(1, never, -torch.inf)
        if not decoding.do_sample:
            return scores.argmax(-1)
        return draw(torch.softmax(limits(ids, scores / decoding.temperature), -1))

    return choose


def draw(shares: Tensor) -> Tensor:
    """One id a row (rows,) by its share (rows, tokens): the first one at which the sum of shares exceeds a uniform
    number. An id without a share is never drawn."""
    wide = torch.float32 if shares.device.type == "mps" else torch.float64  # MPS has no float64
    sums = shares.cumsum(-1, dtype=wide)
    at = torch.rand(len(shares), 1, dtype=wide, device=shares.device) * sums[:, -1:]
    return torch.searchsorted(sums, at, right=True)[:, 0].clamp(max=shares.shape[1] - 1)


def _stepper(model: Any, cache: Any, mask: Tensor, n_new: int) -> Step:
    """What reads one token of each row on from `cache`, up to `n_new` times."""
    if isinstance(model, RecurrentForCausalLM):
        return _recurrent_stepper(model, cache)
    memory = _Memory(cache, mask, n_new)
    return _gpt2_stepper(model, memory) if isinstance(model, GPT2LMHeadModel) else _transformer_stepper(model, memory)


class _Memory:
    """Keys and values of all layers, with room for the tokens to come."""

    def __init__(self, cache: Cache, mask: Tensor, n_new: int) -> None:
        rows, width = mask.shape
        self._layers = []
        for layer in cache.layers:
            both = torch.stack([layer.keys, layer.values], dim=1)  # (rows, 2, heads, width, head_dim)
            self._layers.append(F.pad(both, (0, 0, 0, n_new)))
        self._n_read = width
        self.positions = mask.sum(1)
        """Of each row's next token."""
        self._bias: Tensor | None = None
        if bool((mask == 0).any()):
            hidden = F.pad(mask == 0, (0, n_new))[:, None, None]
            self._bias = torch.zeros_like(hidden, dtype=self._layers[0].dtype).masked_fill(hidden, -torch.inf)

    def attend(self, number: int, projected: Tensor, scale: float) -> Tensor:
        """Attention of one new token a row: `projected` (rows, 3 * width) is its query, key and value, of which the
        latter two are kept. Gives (rows, width)."""
        layer, n = self._layers[number], self._n_read + 1
        projected = projected.view(len(layer), 3, layer.shape[2], layer.shape[4])
        layer[:, :, :, n - 1] = projected[:, 1:]
        keys, values = layer[:, :, :, :n].unbind(1)
        bias = None if self._bias is None else self._bias[..., :n]
        return F.scaled_dot_product_attention(projected[:, 0, :, None], keys, values, bias, scale=scale).flatten(1)

    def advance(self) -> None:
        """The token was read in all layers."""
        self._n_read += 1
        self.positions = self.positions + 1


def _gpt2_stepper(model: Any, memory: _Memory) -> Step:
    body = model.transformer

    def step(ids: Tensor) -> Tensor:
        hidden = body.wte(ids) + body.wpe(memory.positions)
        for number, block in enumerate(body.h):
            attended = memory.attend(number, block.attn.c_attn(block.ln_1(hidden)), block.attn.scaling)
            hidden = hidden + block.attn.c_proj(attended)
            hidden = hidden + block.mlp(block.ln_2(hidden))
        memory.advance()
        return model.lm_head(body.ln_f(hidden))

    return step


def _transformer_stepper(model: TransformerForCausalLM, memory: _Memory) -> Step:
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
        read = model(input_ids=ids[:, None], past_key_values=state, use_cache=True)
        state = read.past_key_values
        return read.logits[:, -1]

    return step
