"""stub: being written."""

from collections.abc import Iterable

from transformers import PreTrainedTokenizerFast

from llmkit.config.prepare import TokenizerSection


def train_tokenizer(texts: Iterable[str], section: TokenizerSection) -> PreTrainedTokenizerFast:
    """Train `section.kind` on these texts (the train split only; the caller has sampled max_train_bytes).

    Same texts and settings, same tokenizer.json, byte for byte. UsageError when vocab_size cannot hold the alphabet.
    """
    raise NotImplementedError
