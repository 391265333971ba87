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
from torch import Tensor, nn
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
from llmkit.models.kernels.gru import run_gru
from llmkit.models.kernels.output_layer import CACHE, AdaptiveSoftmax, build_output_layer, next_token_output

CELL_TYPES: dict[str, type[nn.GRU] | type[nn.LSTM]] = {"gru": nn.GRU, "lstm": nn.LSTM}


@dataclass
class RecurrentCache:
    """Recurrent state (layers, 1 for GRU or 2 for LSTM, batch, hidden_size), used as a transformers cache."""

    tensor: Tensor
    n_tokens: int = 0
    is_compileable = False

    def get_seq_length(self) -> int:
        """Number of tokens outputs; transformers calls this."""
        return self.n_tokens

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Select the states of the beams that beam search keeps."""
        self.tensor = self.tensor.index_select(2, beam_idx.to(self.tensor.device))


class RecurrentPreTrainedModel(PreTrainedModel):
    """Base of the three models."""

    config_class = RecurrentConfig
    config: RecurrentConfig
    base_model_prefix = "model"
    _is_stateful = True

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """As PyTorch's word_language_model example: embeddings in +-0.1, cells in +-1/sqrt(hidden_size), biases 0."""
        if isinstance(module, nn.GRU | nn.LSTM):
            for weight in module.parameters():
                nn.init.uniform_(weight, -1 / math.sqrt(module.hidden_size), 1 / math.sqrt(module.hidden_size))
        elif isinstance(module, nn.Embedding | nn.Linear):
            nn.init.uniform_(module.weight, -0.1, 0.1)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, AdaptiveSoftmax):
            nn.init.uniform_(module.weight, -0.1, 0.1)
            nn.init.zeros_(module.bias)

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
    """Causal language model. `labels` are the input ids, as in transformers; `shift_labels` are already shifted. -100
    is ignored."""

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
        """Without a cache by default, so that right padding costs nothing."""
        return super().forward(*args, use_cache=use_cache, **kwargs)


@dataclass(frozen=True)
class _Padding:
    """Indices that move each row's tokens to its start, and their inverse."""

    lengths: Tensor
    order: Tensor
    inverse: Tensor


def _find_padding(mask: Tensor | None, n_new: int, use_cache: bool) -> _Padding | None:
    """None if there is no padding, or only right padding and the final state is not used."""
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
    """Run one layer over (batch, time, width) from a state (1 or 2, batch, hidden): outputs and final state."""
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
    is_empty = (padding.lengths == 0).to(final.device)[:, None]  # rows without tokens, which were given length 1
    return outputs, torch.where(is_empty, torch.zeros_like(final) if initial is None else initial, final)


AutoModel.register(RecurrentConfig, RecurrentModel)
AutoModelForCausalLM.register(RecurrentConfig, RecurrentForCausalLM)
AutoModelForSequenceClassification.register(RecurrentConfig, RecurrentForSequenceClassification)
