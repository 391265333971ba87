"""ModernBERT (Warner et al. 2024) from transformers: rotary positions, gated feed-forward layers without biases, and
sliding-window attention in two of three layers.

Each size has about as many weights as BERT's: the feed-forward width is chosen so that a layer has 12 n_embd^2
weights, as in BERT. There are no token types and no head for pairs. transformers initializes the weights from a normal
distribution with standard deviation 0.02, truncated at two standard deviations, and smaller for projections into the
residual stream.

Unlike BERT's, the embeddings are not rescaled after training. Their layer norm has an epsilon of 1e-5, which is not
negligible compared with the variance of small embeddings, so rescaling would change the outputs.
"""

from typing import TYPE_CHECKING, Any, cast

from llmkit.architectures import bert
from llmkit.architectures.base import (
    ATTENTION_FIELDS,
    ENCODER,
    TOKEN_HEAD,
    Architecture,
    EncoderHeads,
    NetworkShape,
    round_inner_width,
)

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import ModernBertForMaskedLM, PreTrainedModel


def _config_fields(shape: NetworkShape) -> dict[str, Any]:
    inner = 8 * shape.n_embd / 3  # attention takes 4 d^2, the gated layer three matrices of d times the inner width
    return {
        "vocab_size": shape.vocab_size,
        "hidden_size": shape.n_embd,
        "intermediate_size": round_inner_width(inner),
        "num_hidden_layers": shape.n_layer,
        "num_attention_heads": shape.n_head,
        "max_position_embeddings": shape.n_positions,
        "embedding_dropout": shape.dropout,
        "mlp_dropout": shape.dropout,
        "attention_dropout": shape.attention_dropout,
        "pad_token_id": shape.pad_token_id,
        "bos_token_id": shape.cls_token_id,
        "eos_token_id": shape.sep_token_id,
        "cls_token_id": shape.cls_token_id,
        "sep_token_id": shape.sep_token_id,
    }


def _token_logits(model: "PreTrainedModel", hidden: "Tensor") -> "Tensor":
    network = cast("ModernBertForMaskedLM", model)
    return cast("Tensor", network.decoder(network.head(hidden)))


MODERNBERT = Architecture(
    family="modernbert",
    task="mlm",
    model_type="modernbert",
    config_fields=_config_fields,
    sizes=bert.SIZES,
    reads=(*ATTENTION_FIELDS, "dropout"),
    activation_bytes=(85, 42, 10, 8),
    kernels=bert.KERNELS,
    heads=EncoderHeads(
        prefixes={"head.": TOKEN_HEAD, "decoder.": TOKEN_HEAD, "model.": ENCODER},
        token_head="head.",
        token_logits=_token_logits,
    ),
    even_heads=True,
)
