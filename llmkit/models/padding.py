"""Determine whether padding changes a classifier's scores, and if so, score texts in groups of equal length.

Padding changes the scores of convolutions over neighbouring tokens (ConvBERT, MobileBERT), of Fourier transforms
(FNet), of attention whose blocks depend on the length (BigBird, Nystromformer, Funnel), and of models that expect
padding on the left (XLNet). A classifier without a pad token cannot find the last token of a padded text.
docs/models.md has all measurements.
"""

from collections.abc import Iterator

import torch
from torch import Tensor
from transformers import PreTrainedConfig

PADDING_INVARIANT = frozenset(
    (
        "albert", "bart", "bert", "biogpt", "bloom", "camembert", "ctrl", "data2vec-text", "deberta", "deberta-v2",
        "distilbert", "electra", "ernie", "eurobert", "falcon", "flaubert", "gemma", "gemma2", "gpt2", "gpt_bigcode",
        "gpt_neo", "gpt_neox", "gptj", "layoutlm", "llama", "longformer", "luke", "mbart", "megatron-bert", "mistral",
        "mixtral", "modernbert", "mpnet", "mpt", "mt5", "nemotron", "nomic_bert", "olmo2", "openai-gpt", "opt", "phi",
        "phi3", "plbart", "qwen2", "qwen2_moe", "qwen3", "rembert", "roberta", "roberta-prelayernorm", "roc_bert",
        "roformer", "smollm3", "squeezebert", "stablelm", "starcoder2", "t5", "xlm", "xlm-roberta", "xlm-roberta-xl",
        "xmod",
    )
)  # fmt: skip
"""The classifiers, by `model_type`, for which a test compares padded batches with single texts."""
NO_PAD_TOKEN = -1
"""The `pad_token_id` for classifiers without one: no token has this id, so transformers reads the last token."""


def reads_padding(config: PreTrainedConfig) -> bool:
    """Whether padding on the right leaves the scores of a classifier with this configuration unchanged."""
    return config.model_type in PADDING_INVARIANT and config.pad_token_id not in (None, NO_PAD_TOKEN)


def describe_padding(config: PreTrainedConfig) -> list[str]:
    """Return a note on a model that scores texts without padding; empty for other models."""
    if reads_padding(config):
        return []
    if config.model_type in PADDING_INVARIANT:
        why = "the model has no pad token"
    else:
        why = f"padding changes the scores of {config.model_type}, or is not tested with it"
    return [f"{why}: texts are read in groups of equal length, which is slower"]


def split_by_length(batch: dict[str, Tensor]) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
    """Yield (indices in the batch, group) for the inputs of a padded batch, grouped by length, without padding."""
    lengths = batch["attention_mask"].sum(1)
    for length in lengths.unique().tolist():
        rows = (lengths == length).nonzero()[:, 0]
        yield rows, {name: batch[name][rows, :length] for name in ("input_ids", "token_type_ids") if name in batch}


def restore_order(parts: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Return the scores of all groups, given as (indices in the batch, scores), in the order of the batch."""
    return torch.cat([scores for _, scores in parts])[torch.cat([rows for rows, _ in parts]).argsort()]
