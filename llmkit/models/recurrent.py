"""GRU and LSTM language models and classifiers, as `PreTrainedModel`s that transformers' Auto classes open.

The word-level model of Mikolov et al. 2010 and Zaremba et al. 2014: embedding, recurrent layers, and an output layer
that is the embedding again where it is tied (Inan et al. 2016; Press and Wolf 2016). Dropout falls on the embedding and
on what each layer gives upwards, never on the way through time. A model has no longest context: what it has read is
one state of fixed size, which generation keeps, so that each new token costs the same.
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

from llmkit.models.caches import CACHE
from llmkit.models.configurations import RecurrentConfig
from llmkit.models.kernels.output_layer import AdaptiveSoftmax, build_output_layer, next_token_output
from llmkit.models.recurrence import run_gru

CELLS: dict[str, type[nn.GRU] | type[nn.LSTM]] = {"gru": nn.GRU, "lstm": nn.LSTM}


@dataclass
class RecurrentState:
    """What a model has read so far: (layers, 1 for gru or 2 for lstm, batch, hidden_size). Stands where other models
    have a cache of keys and values, and does not grow."""

    tensor: Tensor
    n_tokens: int = 0
    is_compileable = False

    def get_seq_length(self) -> int:
        """Tokens read; transformers asks when it goes on from a state."""
        return self.n_tokens

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Take over the states of the beams that live on."""
        self.tensor = self.tensor.index_select(2, beam_idx.to(self.tensor.device))


class RecurrentPreTrainedModel(PreTrainedModel):
    """What the three models share."""

    config_class = RecurrentConfig
    config: RecurrentConfig
    base_model_prefix = "model"
    _is_stateful = True

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """As in the word-level example that PyTorch ships: embeddings in +-0.1, cells in +-1/sqrt(hidden), biases 0."""
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
        return False  # the model makes its own state


class RecurrentModel(RecurrentPreTrainedModel):
    """Embedding and layers: token ids (batch, time) to what the uppermost layer gives, (batch, time, hidden)."""

    def __init__(self, config: RecurrentConfig) -> None:
        super().__init__(config)
        cell = CELLS[config.cell]
        self.embed_tokens = nn.Embedding(config.vocab_size, config.embedding_size)
        widths = [config.embedding_size, *[config.hidden_size] * (config.num_hidden_layers - 1)]
        self.layers = nn.ModuleList(cell(width, config.hidden_size, batch_first=True) for width in widths)
        self.dropout = nn.Dropout(config.dropout)
        self.post_init()  # type: ignore[no-untyped-call]  # nor has this

    @can_return_tuple  # type: ignore[untyped-decorator]  # transformers' own has no types
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        past_key_values: RecurrentState | None = None,
        inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        cache: RecurrentState | None = None,
        **_: Any,
    ) -> BaseModelOutputWithPast:
        """Read on from `cache` (before transformers 5.24 `past_key_values`), or from nothing. Where `attention_mask` is
        0 nothing is read."""
        cache = past_key_values if cache is None else cache
        hidden = self.dropout(self.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds)
        use_cache = self.config.use_cache if use_cache is None else use_cache
        padding = _find_padding(attention_mask, hidden.shape[1], use_cache)
        if padding is not None:
            hidden = _take(hidden, padding.order)
        states = []
        for number, layer in enumerate(self.layers):
            before = None if cache is None else cache.tensor[number]
            hidden, state = _run(cast(nn.GRU, layer), hidden, before, padding)
            hidden = self.dropout(hidden)
            states.append(state)
        if padding is not None:
            hidden = _take(hidden, padding.back)
        after = None
        if use_cache:
            n_before = 0 if cache is None else cache.n_tokens
            after = RecurrentState(torch.stack(states), n_before + hidden.shape[1])
        return BaseModelOutputWithPast(last_hidden_state=hidden, **cast(Any, {CACHE: after}))


class RecurrentForCausalLM(RecurrentPreTrainedModel, GenerationMixin):
    """The language model. `shift_labels` stand beside the token that predicts them, -100 is left out;
    `labels` are the tokens themselves, as transformers has it."""

    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}  # noqa: RUF012 - transformers has it on instances too

    def __init__(self, config: RecurrentConfig) -> None:
        super().__init__(config)
        self.model = RecurrentModel(config)
        self.lm_head = build_output_layer(config.hidden_size, config.vocab_size, config.adaptive_cutoffs)
        self.post_init()  # type: ignore[no-untyped-call]  # nor has this

    @can_return_tuple  # type: ignore[untyped-decorator]  # transformers' own has no types
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        past_key_values: RecurrentState | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        cache: RecurrentState | None = None,
        **more: Any,
    ) -> CausalLMOutputWithPast:
        """With labels there are no logits; see `next_token_output`."""
        read = self.model(input_ids, attention_mask, past_key_values, inputs_embeds, use_cache, cache)
        return next_token_output(self.lm_head, read, labels, **more)


class RecurrentForSequenceClassification(GenericForSequenceClassification, RecurrentPreTrainedModel):
    """Labels from the state behind a text's last token."""

    _keys_to_ignore_on_load_unexpected = [r"^lm_head\."]  # noqa: RUF012 - a language model's, of no use here

    def forward(self, *args: Any, use_cache: bool = False, **more: Any) -> Any:
        """Nobody reads on from a label, and without the state padding behind a text costs nothing."""
        return super().forward(*args, use_cache=use_cache, **more)


@dataclass(frozen=True)
class _Padding:
    """How to move each row's tokens to its beginning, and back."""

    lengths: Tensor
    order: Tensor
    back: Tensor


def _find_padding(mask: Tensor | None, n_new: int, wants_state: bool) -> _Padding | None:
    """None where nothing stands in the way: no padding, or only behind the tokens and nobody reads on from there."""
    if mask is None:
        return None
    mask = mask[:, -n_new:].bool()
    only_behind = bool(mask[:, 0].all() and (mask[:, 1:] <= mask[:, :-1]).all())
    if bool(mask.all()) or (only_behind and not wants_state):
        return None
    order = torch.argsort(~mask, dim=1, stable=True)
    return _Padding(mask.sum(1).cpu(), order, torch.argsort(order, dim=1))


def _take(hidden: Tensor, order: Tensor) -> Tensor:
    return hidden.gather(1, order[:, :, None].expand_as(hidden))


def _run(
    layer: nn.GRU | nn.LSTM, hidden: Tensor, before: Tensor | None, padding: _Padding | None
) -> tuple[Tensor, Tensor]:
    """One layer over (batch, time, width) from a state (1 or 2, batch, hidden); its outputs and its last state."""
    if not hidden.shape[1]:  # streams that have all ended
        n_parts = 2 if isinstance(layer, nn.LSTM) else 1
        nothing = hidden.new_zeros(n_parts, len(hidden), layer.hidden_size)
        return hidden.new_zeros(len(hidden), 0, layer.hidden_size), nothing if before is None else before
    if padding is None and hidden.device.type == "cpu" and isinstance(layer, nn.GRU):
        return run_gru(layer, hidden, before)
    start = None if before is None else tuple(part[None] for part in before) if len(before) > 1 else before
    # torch's cells in the precision of their weights: under autocast cuDNN's would be fp16.
    with torch.autocast(hidden.device.type, enabled=False):
        hidden = hidden.to(next(layer.parameters()).dtype)
        if padding is None:
            outputs, after = layer(hidden, start)
            return outputs, torch.cat(after) if isinstance(after, tuple) else after
        packed = pack_padded_sequence(hidden, padding.lengths.clamp(min=1), batch_first=True, enforce_sorted=False)
        outputs, after = layer(packed, start)
    outputs, _ = pad_packed_sequence(outputs, batch_first=True, total_length=hidden.shape[1])
    after = torch.cat(after) if isinstance(after, tuple) else after
    nothing = (padding.lengths == 0).to(after.device)[:, None]  # rows that had to be given a token all the same
    return outputs, torch.where(nothing, torch.zeros_like(after) if before is None else before, after)


AutoModel.register(RecurrentConfig, RecurrentModel)
AutoModelForCausalLM.register(RecurrentConfig, RecurrentForCausalLM)
AutoModelForSequenceClassification.register(RecurrentConfig, RecurrentForSequenceClassification)
