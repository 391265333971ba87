"""GRU and LSTM language models and classifiers, as `PreTrainedModel`s that transformers' Auto classes load.

The word-level model of Mikolov et al. 2010 and Zaremba et al. 2014: embedding, recurrent layers and an output layer,
which can share the embedding's weights (Inan et al. 2016; Press and Wolf 2016). Dropout applies to the embeddings and
to each layer's outputs, not to the recurrent state. The context length is unlimited: the cache is a state of fixed
size, so each generated token costs the same.
"""

import math
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    GenerationMixin,
    PreTrainedModel,
)
from transformers.modeling_layers import GenericForSequenceClassification
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast
from transformers.utils.generic import can_return_tuple

from llmkit.models.configurations import RecurrentConfig
from llmkit.models.kernels.output_layer import CACHE, AdaptiveSoftmax, build_output_layer, next_token_output

CELL_TYPES: dict[str, type[nn.GRU] | type[nn.LSTM]] = {"gru": nn.GRU, "lstm": nn.LSTM}


@dataclass
class RecurrentCache:
    """Recurrent state (layers, 1 for GRU or 2 for LSTM, batch, hidden_size) as a transformers cache."""

    tensor: Tensor
    n_tokens: int = 0
    is_compileable = False

    def get_seq_length(self) -> int:
        """Return the number of tokens read; transformers calls this."""
        return self.n_tokens

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Select the states of the beams that beam search keeps."""
        self.tensor = self.tensor.index_select(2, beam_idx.to(self.tensor.device))


class RecurrentPreTrainedModel(PreTrainedModel):
    """Base class of the three models."""

    config_class = RecurrentConfig
    config: RecurrentConfig
    base_model_prefix = "model"
    _is_stateful = True

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Initialize as in PyTorch's word_language_model: weights and biases of cells in +-1/sqrt(hidden_size), other
        matrices in +-0.1, other biases 0.
        """
        if isinstance(module, nn.GRU | nn.LSTM):
            for weight in module.parameters():
                nn.init.uniform_(weight, -1 / math.sqrt(module.hidden_size), 1 / math.sqrt(module.hidden_size))
        elif isinstance(module, nn.Embedding | nn.Linear | AdaptiveSoftmax):
            nn.init.uniform_(module.weight, -0.1, 0.1)
            if isinstance(bias := getattr(module, "bias", None), Tensor):
                nn.init.zeros_(bias)

    @classmethod
    def _supports_default_dynamic_cache(cls) -> bool:
        return False  # the model makes its own cache


class RecurrentModel(RecurrentPreTrainedModel):
    """Embedding and recurrent layers: token ids (batch, time) to hidden states (batch, time, hidden_size)."""

    def __init__(self, config: RecurrentConfig) -> None:
        super().__init__(config)
        cell = CELL_TYPES[config.cell]
        self.embed_tokens = nn.Embedding(config.vocab_size, config.embedding_size)
        widths = [config.embedding_size, *[config.hidden_size] * (config.num_hidden_layers - 1)]
        self.layers = nn.ModuleList(cell(width, config.hidden_size, batch_first=True) for width in widths)
        self.dropout = nn.Dropout(config.dropout)
        self.post_init()  # type: ignore[no-untyped-call]  # untyped in transformers

    @can_return_tuple  # type: ignore[untyped-decorator]  # untyped in transformers
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        past_key_values: RecurrentCache | None = None,
        inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        cache: RecurrentCache | None = None,
        **_: Any,
    ) -> BaseModelOutputWithPast:
        """Continue from `cache` (`past_key_values` before transformers 5.24) or from zeros; skips masked tokens."""
        cache = past_key_values if cache is None else cache
        hidden = self.dropout(self.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds)
        use_cache = self.config.use_cache if use_cache is None else use_cache
        padding = _find_padding(attention_mask, hidden.shape[1], use_cache)
        if padding is not None:
            hidden = _gather_tokens(hidden, padding.order)
        states = []
        for layer_idx, layer in enumerate(self.layers):
            initial = None if cache is None else cache.tensor[layer_idx]
            hidden, state = _run_layer(cast(nn.GRU, layer), hidden, initial, padding)
            hidden = self.dropout(hidden)
            states.append(state)
        if padding is not None:
            hidden = _gather_tokens(hidden, padding.inverse)
        final = None
        if use_cache:
            n_before = 0 if cache is None else cache.n_tokens
            final = RecurrentCache(torch.stack(states), n_before + hidden.shape[1])
        return BaseModelOutputWithPast(last_hidden_state=hidden, **cast(Any, {CACHE: final}))


class RecurrentForCausalLM(RecurrentPreTrainedModel, GenerationMixin):
    """Causal language model.

    `labels` are equal to `input_ids` and the model shifts them, as in transformers; `shift_labels` are already
    shifted. Labels of -100 are ignored.
    """

    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}  # noqa: RUF012 - transformers sets it on instances

    def __init__(self, config: RecurrentConfig) -> None:
        super().__init__(config)
        self.model = RecurrentModel(config)
        self.lm_head = build_output_layer(config.hidden_size, config.vocab_size, config.adaptive_cutoffs)
        self.post_init()  # type: ignore[no-untyped-call]  # untyped in transformers

    @can_return_tuple  # type: ignore[untyped-decorator]  # untyped in transformers
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        past_key_values: RecurrentCache | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        cache: RecurrentCache | None = None,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """With labels the output has no logits; see `next_token_output`."""
        outputs = self.model(input_ids, attention_mask, past_key_values, inputs_embeds, use_cache, cache)
        return next_token_output(self.lm_head, outputs, labels, **kwargs)


class RecurrentForSequenceClassification(GenericForSequenceClassification, RecurrentPreTrainedModel):
    """Classifier on the hidden state of the last token."""

    _keys_to_ignore_on_load_unexpected = [r"^lm_head\."]  # noqa: RUF012 - the language model's head

    def forward(self, *args: Any, use_cache: bool = False, **kwargs: Any) -> Any:
        """Classify the last token. Without a cache, which is the default, right padding takes no extra time."""
        return super().forward(*args, use_cache=use_cache, **kwargs)


@dataclass(frozen=True)
class _Padding:
    """Indices that move each row's tokens to its start, and their inverse."""

    lengths: Tensor
    order: Tensor
    inverse: Tensor


def _find_padding(mask: Tensor | None, n_new: int, use_cache: bool) -> _Padding | None:
    """Return the padding to skip; None if there is none, or only right padding and no caller needs the final state."""
    if mask is None:
        return None
    mask = mask[:, -n_new:].bool()
    is_right_padded = bool(mask[:, 0].all() and (mask[:, 1:] <= mask[:, :-1]).all())
    if bool(mask.all()) or (is_right_padded and not use_cache):
        return None
    order = torch.argsort(~mask, dim=1, stable=True)
    return _Padding(mask.sum(1).cpu(), order, torch.argsort(order, dim=1))


def _gather_tokens(hidden: Tensor, order: Tensor) -> Tensor:
    return hidden.gather(1, order[:, :, None].expand_as(hidden))


def _run_layer(
    layer: nn.GRU | nn.LSTM, hidden: Tensor, initial: Tensor | None, padding: _Padding | None
) -> tuple[Tensor, Tensor]:
    """Run one layer over (batch, time, width) from a state (1 or 2, batch, hidden); returns outputs and final state."""
    if not hidden.shape[1]:  # all streams have ended
        n_parts = 2 if isinstance(layer, nn.LSTM) else 1
        is_empty = hidden.new_zeros(n_parts, len(hidden), layer.hidden_size)
        return hidden.new_zeros(len(hidden), 0, layer.hidden_size), is_empty if initial is None else initial
    if padding is None and hidden.device.type == "cpu" and isinstance(layer, nn.GRU):
        return run_gru(layer, hidden, initial)
    initial_state = None if initial is None else tuple(part[None] for part in initial) if len(initial) > 1 else initial
    # Run in the precision of the weights: autocast would run cuDNN's cells in fp16.
    with torch.autocast(hidden.device.type, enabled=False):
        hidden = hidden.to(next(layer.parameters()).dtype)
        if padding is None:
            outputs, final = layer(hidden, initial_state)
            return outputs, torch.cat(final) if isinstance(final, tuple) else final
        packed = pack_padded_sequence(hidden, padding.lengths.clamp(min=1), batch_first=True, enforce_sorted=False)
        outputs, final = layer(packed, initial_state)
    outputs, _ = pad_packed_sequence(outputs, batch_first=True, total_length=hidden.shape[1])
    final = torch.cat(final) if isinstance(final, tuple) else final
    is_empty = (padding.lengths == 0).to(final.device)[:, None]  # rows without tokens have length 1 above
    return outputs, torch.where(is_empty, torch.zeros_like(final) if initial is None else initial, final)


AutoModel.register(RecurrentConfig, RecurrentModel)
AutoModelForCausalLM.register(RecurrentConfig, RecurrentForCausalLM)
AutoModelForSequenceClassification.register(RecurrentConfig, RecurrentForSequenceClassification)


def run_gru(layer: nn.GRU, inputs: Tensor, initial: Tensor | None) -> tuple[Tensor, Tensor]:
    """Run one layer over `inputs` (batch, time, width) from the state `initial` (1, batch, hidden), default zeros.

    The results equal torch.nn.GRU's. On a CPU, torch's GRU runs about ten small operations per time step and about
    twice as many in autograd's backward pass, whereas its LSTM is one fused operation. This function computes
    everything that does not depend on the previous step for all time steps at once: the input projections, the local
    gradients of the gates and the gradients of the weights. Each time step needs one product and five elementwise
    operations in the forward pass, and one product and two elementwise operations in the backward pass. Under autocast,
    products over all time steps are in bf16; products of single steps are in fp32, because they are too small to gain.

    Returns outputs (batch, time, hidden) and the last state, both in fp32.
    """
    weight_inputs, weight_state, bias_inputs, bias_state = layer.parameters()
    gates = F.linear(inputs.transpose(0, 1), weight_inputs, bias_inputs).to(weight_state.dtype)
    if initial is None:
        initial = gates.new_zeros(1, gates.shape[1], layer.hidden_size)
    with torch.autocast("cpu", enabled=False):
        outputs, final = cast(Any, _GruFunction).apply(gates, initial, weight_state, bias_state)
    return outputs.transpose(0, 1), final


class _GruFunction(torch.autograd.Function):
    """Notation of torch.nn.GRU, on tensors (time, batch, width):

    r, z = sigmoid(..), n = tanh(gates_n + r * (W_hn h + b_hn)), h = (1 - z) * n + z * h."""

    @staticmethod
    def forward(ctx: Any, gates: Tensor, initial: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        n_steps, batch, width = gates.shape[0], gates.shape[1], gates.shape[2] // 3
        states = gates.new_empty(n_steps + 1, batch, width)
        states[0] = initial[0]
        rz, n = gates.new_empty(n_steps, batch, 2 * width), gates.new_empty(n_steps, batch, width)
        recurrent = gates.new_empty(n_steps, batch, 3 * width)
        weight_t = weight.t()
        steps = zip(
            gates[..., : 2 * width].unbind(), gates[..., 2 * width :].unbind(), recurrent.unbind(),
            recurrent[..., : 2 * width].unbind(), recurrent[..., 2 * width :].unbind(),
            rz.unbind(), rz[..., :width].unbind(), rz[..., width:].unbind(), n.unbind(),
            states[:-1].unbind(), states[1:].unbind(), strict=True,
        )  # fmt: skip
        for gates_rz, gates_n, all_h, rz_h, n_h, rz_t, r_t, z_t, n_t, h, h_next in steps:
            torch.addmm(bias, h, weight_t, out=all_h)
            torch.add(gates_rz, rz_h, out=rz_t).sigmoid_()
            torch.addcmul(gates_n, r_t, n_h, out=n_t).tanh_()
            torch.lerp(n_t, h, z_t, out=h_next)
        ctx.save_for_backward(states, rz, n, recurrent, weight)
        return states[1:], states[-1:].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_outputs: Tensor, d_final: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        states, rz, n, recurrent, weight = ctx.saved_tensors
        width = n.shape[2]
        r, z, n_h = rz[..., :width], rz[..., width:], recurrent[..., 2 * width :]
        # The gradient of the gates is the state's gradient times these local gradients.
        local_grad_n = (1 - z) * (1 - n * n)
        local_grads = torch.stack(
            [local_grad_n * n_h * r * (1 - r), (states[:-1] - n) * z * (1 - z), local_grad_n * r], dim=2
        )
        d_gates, d_states = torch.empty_like(local_grads), torch.empty_like(states)
        torch.add(d_final[0], d_outputs[-1], out=d_states[-1])
        d_previous = torch.cat([torch.zeros_like(d_outputs[:1]), d_outputs[:-1]])
        steps = zip(
            d_states[1:].unsqueeze(2).unbind(), d_states[1:].unbind(), d_states[:-1].unbind(), d_previous.unbind(),
            z.unbind(), local_grads.unbind(), d_gates.unbind(), d_gates.flatten(2).unbind(), strict=True,
        )  # fmt: skip
        for d_h_expanded, d_h, d_h_previous, d_output, z_t, local_grad, d_gate, d_gate_flat in reversed(list(steps)):
            torch.mul(d_h_expanded, local_grad, out=d_gate)
            torch.addcmul(d_output, d_h, z_t, out=d_h_previous).addmm_(d_gate_flat, weight)
        flat = d_gates.flatten(0, 1).flatten(1)
        d_weight, d_bias = flat.t() @ states[:-1].flatten(0, 1), flat.sum(0)
        torch.mul(d_states[1:], local_grad_n, out=d_gates[:, :, 2])  # r does not scale the input part of n
        return d_gates.flatten(2), d_states[:1], d_weight, d_bias
