"""stub: the public functions, being written."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase


def load_tokenizer(path_or_name: str) -> PreTrainedTokenizerBase:
    """A saved tokenizer folder or a hub name, with no remote code run. A local folder never touches the network.

    Raises ModelError (missing, broken, without a fast backend), EnvironmentFault (the hub cannot be reached).
    """
    raise NotImplementedError


def ensure_special_tokens(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Give the tokenizer a pad token of its own (never eos) and an eos token; one sentence for each change."""
    raise NotImplementedError


def end_of_text_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """The id every document ends with. ModelError if the tokenizer has none."""
    raise NotImplementedError


def fingerprint_tokenizer(tokenizer: PreTrainedTokenizerBase) -> str:
    """SHA-256, in hex, over everything that decides ids."""
    raise NotImplementedError


def encode_texts(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]
) -> tuple[NDArray[np.unsignedinteger[Any]], NDArray[np.int64]]:
    """Token ids of all texts one after another, and how many each text has; no special tokens are added.

    A text that spells a special token, such as `<|endoftext|>`, is encoded as the text it is.
    """
    raise NotImplementedError


def id_dtype(tokenizer: PreTrainedTokenizerBase) -> np.dtype[np.unsignedinteger[Any]]:
    """The smallest unsigned type that holds every id."""
    raise NotImplementedError


def count_unknown(ids: NDArray[np.unsignedinteger[Any]], tokenizer: PreTrainedTokenizerBase) -> int:
    """How many of the ids are the unknown token; 0 for a tokenizer that has none, such as byte-bpe."""
    raise NotImplementedError
