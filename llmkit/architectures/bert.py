"""BERT (Devlin et al. 2018) from transformers, in Google's sizes.

With a head for pairs the model class is `BertForPreTraining`, otherwise `BertForMaskedLM`, which has no pooler. Weights
are initialized from a normal distribution with standard deviation 0.02; the original code truncates it at two standard
deviations.
"""

from typing import TYPE_CHECKING, Any, cast

from llmkit.architectures.base import (
    ATTENTION,
    ATTENTION_FIELDS,
    DROPOUT,
    ENCODER,
    GELU,
    PADDING,
    PAIR_HEAD,
    TOKEN_HEAD,
    Architecture,
    EncoderHeads,
    NetworkShape,
    Sizes,
)

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import BertForMaskedLM, BertForPreTraining, PreTrainedModel

# tiny to medium: Turc et al. 2019, table 1; base and large: Devlin et al. 2018, section 3.
SIZES: Sizes = {
    "tiny": {"n_layer": 2, "n_head": 2, "n_embd": 128},
    "mini": {"n_layer": 4, "n_head": 4, "n_embd": 256},
    "small": {"n_layer": 4, "n_head": 8, "n_embd": 512},
    "medium": {"n_layer": 8, "n_head": 8, "n_embd": 512},
    "base": {"n_layer": 12, "n_head": 12, "n_embd": 768},
    "large": {"n_layer": 24, "n_head": 16, "n_embd": 1024},
}
KERNELS = (PADDING, ATTENTION, DROPOUT, GELU)


def _config_fields(shape: NetworkShape) -> dict[str, Any]:
    return {
        "num_hidden_layers": shape.n_layer,
        "num_attention_heads": shape.n_head,
        "hidden_size": shape.n_embd,
        "intermediate_size": 4 * shape.n_embd,
        "max_position_embeddings": shape.n_positions,
        "vocab_size": shape.vocab_size,
        "pad_token_id": shape.pad_token_id,
        "hidden_dropout_prob": shape.dropout,
        "attention_probs_dropout_prob": shape.attention_dropout,
    }


def _token_logits(model: "PreTrainedModel", hidden: "Tensor") -> "Tensor":
    return cast("Tensor", cast("BertForMaskedLM", model).cls.predictions(hidden))


def _pair_logits(model: "PreTrainedModel", encoded: Any) -> "Tensor":
    return cast("Tensor", cast("BertForPreTraining", model).cls.seq_relationship(encoded.pooler_output))


def rescale_embeddings(model: "PreTrainedModel") -> None:
    """Scale the embeddings down to the standard deviation of new embeddings; the model's outputs stay the same.

    A layer norm follows the sum of the embeddings, so their scale matters only for training: it determines how much one
    step of Adam changes their direction. Pretraining makes embeddings about ten times as large, and fine-tuning would
    hardly change embeddings of this size (docs/log.md). The output layer is tied to the embeddings, so the layer norm
    before the output layer is scaled up. Embeddings that are already small stay unchanged.
    """
    bert = cast("BertForMaskedLM", model)
    embeddings = bert.bert.embeddings
    words = embeddings.word_embeddings.weight.data
    factor = bert.config.initializer_range / words.std().item()
    if factor >= 1 or bert.cls.predictions.decoder.weight is not embeddings.word_embeddings.weight:
        return
    for table in (embeddings.word_embeddings, embeddings.position_embeddings, embeddings.token_type_embeddings):
        table.weight.data.mul_(factor)
    norm = bert.cls.predictions.transform.LayerNorm
    norm.weight.data.div_(factor)
    norm.bias.data.div_(factor)


BERT = Architecture(
    family="bert",
    task="mlm",
    model_type="bert",
    config_fields=_config_fields,
    sizes=SIZES,
    reads=(*ATTENTION_FIELDS, "dropout"),
    activation_bytes=(64, 40, 10, 8),
    kernels=KERNELS,
    heads=EncoderHeads(
        prefixes={
            "bert.pooler": "the pooler over [CLS]",
            "cls.seq_relationship": PAIR_HEAD,
            "cls.predictions": TOKEN_HEAD,
            "bert.": ENCODER,
        },
        token_head="cls.predictions.",
        token_logits=_token_logits,
        pair_logits=_pair_logits,
        once_per_sequence=("bert.pooler", "cls.seq_relationship"),
        rescale_embeddings=rescale_embeddings,
    ),
)
