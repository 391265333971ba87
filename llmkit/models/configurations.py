"""Configurations of llmkit's own architectures, without torch modules: AutoConfig needs them before the models."""

from typing import ClassVar

from transformers import AutoConfig, PreTrainedConfig


class RecurrentConfig(PreTrainedConfig):
    """Configuration of a recurrent model. `cell`: gru or lstm; `adaptive_cutoffs`: cutoffs of an adaptive softmax."""

    model_type = "llmkit_recurrent"
    keys_to_ignore_at_inference: ClassVar = ["past_key_values", "cache"]

    cell: str = "gru"
    vocab_size: int = 10_000
    embedding_size: int = 200
    hidden_size: int = 200
    num_hidden_layers: int = 2
    dropout: float | int = 0.0
    tie_word_embeddings: bool = True
    adaptive_cutoffs: list[int] | None = None
    use_cache: bool = True
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None
    pad_token_id: int | None = None


class TransformerConfig(PreTrainedConfig):
    """Configuration of a Transformer; `intermediate_size` defaults to four times `hidden_size`."""

    model_type = "llmkit_transformer"
    keys_to_ignore_at_inference: ClassVar = ["past_key_values", "cache"]

    vocab_size: int = 10_000
    hidden_size: int = 512
    intermediate_size: int | None = None
    num_hidden_layers: int = 6
    num_attention_heads: int = 8
    max_position_embeddings: int = 512
    dropout: float | int = 0.1
    attention_dropout: float | int = 0.0
    tie_word_embeddings: bool = True
    adaptive_cutoffs: list[int] | None = None
    use_cache: bool = True
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None
    pad_token_id: int | None = None


AutoConfig.register(RecurrentConfig.model_type, RecurrentConfig)
AutoConfig.register(TransformerConfig.model_type, TransformerConfig)
