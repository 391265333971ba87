"""GRU and LSTM language models; the networks are in models/recurrent.py."""

from dataclasses import replace
from functools import partial
from typing import Any

from llmkit.architectures.base import OUTPUT_FIELDS, Architecture, NetworkShape, Sizes

# small, medium and large as in Zaremba et al. 2014, section 4.1.
SIZES: Sizes = {
    "tiny": {"n_layer": 1, "n_embd": 128},
    "small": {"n_layer": 2, "n_embd": 200},
    "medium": {"n_layer": 2, "n_embd": 650},
    "large": {"n_layer": 2, "n_embd": 1500},
}


def _config_fields(shape: NetworkShape, *, cell: str) -> dict[str, Any]:
    return {
        "cell": cell,
        "vocab_size": shape.vocab_size,
        "embedding_size": shape.embedding_size,
        "hidden_size": shape.n_embd,
        "num_hidden_layers": shape.n_layer,
        "dropout": shape.dropout,
        "tie_word_embeddings": shape.tie_embeddings,
        "adaptive_cutoffs": shape.adaptive_cutoffs,
        "bos_token_id": shape.bos_token_id,
        "eos_token_id": shape.eos_token_id,
        "pad_token_id": shape.pad_token_id,
    }


GRU = Architecture(
    family="gru",
    task="clm",
    model_type="llmkit_recurrent",
    config_fields=partial(_config_fields, cell="gru"),
    sizes=SIZES,
    reads=(*OUTPUT_FIELDS, "dropout", "embedding_size", "adaptive_cutoffs"),
    activation_bytes=(29, 30, 0, 0),
    carries_state=True,
)
LSTM = replace(GRU, family="lstm", config_fields=partial(_config_fields, cell="lstm"), activation_bytes=(68, 68, 0, 0))
