"""ModernBERT as transformers has it (Warner et al. 2024), by size: rotary positions, gated feed-forward layers without
biases, and attention to near tokens alone in two of three layers.

A size has about the weights of the BERT of that name: the inner width is chosen so that a layer has BERT's 12 d^2.
There are no token types, and there is no head for pairs. Weights start normal with standard deviation 0.02, cut at two
deviations, and smaller where they lead into the residual stream, as transformers has it.

Its embeddings are not shortened after training, as BERT's are: they go through a norm whose epsilon of 1e-5 is not
small beside the variance of short ones, so the model would compute something else.
"""

from typing import cast

from torch import Tensor
from transformers import ModernBertConfig, ModernBertForMaskedLM, PreTrainedModel, PreTrainedTokenizerBase

from llmkit.config.model import Model
from llmkit.models.encoders import ENCODER, TOKEN_HEAD, EncoderFamily

INNER_MULTIPLE = 32
"""Inner widths are multiples of it, which products of matrices like."""


def modernbert_config(section: Model, tokenizer: PreTrainedTokenizerBase, block_size: int) -> ModernBertConfig:
    """The size's shape, the section's own fields on top, ids from the tokenizer."""
    shape = section.shape
    inner = 8 * shape["n_embd"] / 3  # attention takes 4 d^2, the gated layer three matrices of d times the inner width
    return ModernBertConfig(
        vocab_size=len(tokenizer),
        hidden_size=shape["n_embd"],
        intermediate_size=max(1, round(inner / INNER_MULTIPLE)) * INNER_MULTIPLE,
        num_hidden_layers=shape["n_layer"],
        num_attention_heads=shape["n_head"],
        max_position_embeddings=section.n_positions or block_size,
        embedding_dropout=section.dropout,
        mlp_dropout=section.dropout,
        attention_dropout=section.attention_dropout,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.cls_token_id,
        eos_token_id=tokenizer.sep_token_id,
        cls_token_id=tokenizer.cls_token_id,
        sep_token_id=tokenizer.sep_token_id,
    )


def _token_logits(model: PreTrainedModel, hidden: Tensor) -> Tensor:
    network = cast(ModernBertForMaskedLM, model)
    return cast(Tensor, network.decoder(network.head(hidden)))


MODERNBERT = EncoderFamily(
    masked=ModernBertForMaskedLM,
    make_config=modernbert_config,
    token_logits=_token_logits,
    parts={"head.": TOKEN_HEAD, "decoder.": TOKEN_HEAD, "model.": ENCODER},
    token_head="head.",
)
