"""The Transformer of Vaswani et al. 2017 as a causal language model: encoder blocks with a causal mask.

As in section 3 of the paper: post-norm (layer norm after each residual sum, none before the sublayers), sinusoidal
positions, embeddings scaled by sqrt(width), ReLU, and dropout after each sublayer and on the embeddings.
"""

import math
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    Cache,
    DynamicCache,
    GenerationMixin,
    PreTrainedModel,
)
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import create_causal_mask
from transformers.modeling_layers import GenericForSequenceClassification
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.utils.generic import can_return_tuple

from llmkit.models.configurations import TransformerConfig
from llmkit.models.kernels.output_layer import CACHE, AdaptiveSoftmax, build_output_layer, next_token_output


class TransformerPreTrainedModel(PreTrainedModel):
    """Base class of the three models."""

    config_class = TransformerConfig
    config: TransformerConfig
    base_model_prefix = "model"
    _supports_sdpa = True

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Initialize matrices as in Glorot and Bengio 2010 and the paper's code, and embeddings from N(0, 1/width).

        The scaled embeddings then have the magnitude of the position encodings.
        """
        if isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=module.embedding_dim**-0.5)
        elif isinstance(module, nn.Linear | AdaptiveSoftmax):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.LayerNorm):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)


class Attention(nn.Module):
    """Multi-head self-attention, section 3.2."""

    def __init__(self, config: TransformerConfig, layer_idx: int) -> None:
        super().__init__()
        width = config.hidden_size
        self.config, self.layer_idx = config, layer_idx
        self.head_dim = width // config.num_attention_heads
        self.is_causal = True
        self.q_proj, self.k_proj = nn.Linear(width, width), nn.Linear(width, width)
        self.v_proj, self.o_proj = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, hidden: Tensor, mask: Tensor | None, cache: Cache | None) -> Tensor:
        query, key, value = (
            project(hidden).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        if cache is not None:
            key, value = cache.update(key, value, self.layer_idx)
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, sdpa_attention_forward)
        attended, _ = attend(
            self, query, key, value, mask, scaling=self.head_dim**-0.5,
            dropout=self.config.attention_dropout if self.training else 0.0,
        )  # fmt: skip
        return cast(Tensor, self.o_proj(attended.flatten(2)))


class Block(nn.Module):
    """Attention and feed-forward, each followed by dropout, residual sum and layer norm."""

    def __init__(self, config: TransformerConfig, layer_idx: int) -> None:
        super().__init__()
        width = config.hidden_size
        inner = config.intermediate_size or 4 * width
        self.self_attn = Attention(config, layer_idx)
        self.self_attn_norm = nn.LayerNorm(width)
        self.feed_forward = nn.Sequential(nn.Linear(width, inner), nn.ReLU(), nn.Linear(inner, width))
        self.feed_forward_norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, hidden: Tensor, mask: Tensor | None, cache: Cache | None) -> Tensor:
        hidden = self.self_attn_norm(hidden + self.dropout(self.self_attn(hidden, mask, cache)))
        return cast(Tensor, self.feed_forward_norm(hidden + self.dropout(self.feed_forward(hidden))))


class TransformerModel(TransformerPreTrainedModel):
    """Token ids (batch, time) to hidden states (batch, time, width)."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__(config)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Block(config, layer_idx) for layer_idx in range(config.num_hidden_layers))
        self.dropout = nn.Dropout(config.dropout)
        self.post_init()  # type: ignore[no-untyped-call]  # untyped in transformers

    @can_return_tuple  # type: ignore[untyped-decorator]  # untyped in transformers
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        position_ids: Tensor | None = None,
        use_cache: bool | None = None,
        cache: Cache | None = None,
        **_: Any,
    ) -> BaseModelOutputWithPast:
        """Continue from `cache` (`past_key_values` before transformers 5.24) or from an empty cache."""
        cache = past_key_values if cache is None else cache
        embeds = self.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds
        use_cache = self.config.use_cache if use_cache is None else use_cache
        if use_cache and cache is None:
            cache = DynamicCache(config=self.config)
        if position_ids is None:
            n_before = 0 if cache is None else cache.get_seq_length()
            position_ids = torch.arange(n_before, n_before + embeds.shape[1], device=embeds.device)[None]
        mask = create_causal_mask(
            config=self.config, inputs_embeds=embeds, attention_mask=attention_mask, position_ids=position_ids,
            **cast(Any, {CACHE: cache}),
        )  # fmt: skip
        hidden = self.dropout(embed(embeds, position_ids))
        for block in self.layers:
            hidden = block(hidden, mask, cache)
        return BaseModelOutputWithPast(last_hidden_state=hidden, **cast(Any, {CACHE: cache if use_cache else None}))


def embed(words: Tensor, positions: Tensor) -> Tensor:
    """Return scaled word embeddings (..., width) plus the encoding of their positions (...), sections 3.4 and 3.5."""
    width = words.shape[-1]
    return words * math.sqrt(width) + sinusoids(positions, width).to(words.dtype)


def sinusoids(positions: Tensor, width: int) -> Tensor:
    """Return the encoding (..., width) of positions (...): sines in even, cosines in odd columns, section 3.5."""
    pairs = torch.arange(0, width, 2, device=positions.device, dtype=torch.float32)
    angles = positions[..., None].float() * torch.exp(pairs * (-math.log(10_000.0) / width))
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(-2)


class TransformerForCausalLM(TransformerPreTrainedModel, GenerationMixin):
    """Causal language model.

    `labels` are the input ids, as in transformers; `shift_labels` are already shifted. -100 is ignored.
    """

    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}  # noqa: RUF012 - transformers sets it on instances

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__(config)
        self.model = TransformerModel(config)
        self.lm_head = build_output_layer(config.hidden_size, config.vocab_size, config.adaptive_cutoffs)
        self.post_init()  # type: ignore[no-untyped-call]  # untyped in transformers

    @can_return_tuple  # type: ignore[untyped-decorator]  # untyped in transformers
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        position_ids: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        cache: Cache | None = None,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """With labels the output has no logits; see `next_token_output`."""
        outputs = self.model(input_ids, attention_mask, past_key_values, inputs_embeds, position_ids, use_cache, cache)
        return next_token_output(self.lm_head, outputs, labels, **kwargs)


class TransformerForSequenceClassification(GenericForSequenceClassification, TransformerPreTrainedModel):
    """Classifier on the hidden state of the last token."""

    _keys_to_ignore_on_load_unexpected = [r"^lm_head\."]  # noqa: RUF012 - the language model's head


AutoModel.register(TransformerConfig, TransformerModel)
AutoModelForCausalLM.register(TransformerConfig, TransformerForCausalLM)
AutoModelForSequenceClassification.register(TransformerConfig, TransformerForSequenceClassification)
