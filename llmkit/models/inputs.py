"""Batches of encoded rows for models with a head: collate inputs, group rows by length, score the tokens of a batch."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from llmkit.core.console import first_line
from llmkit.core.errors import ModelError
from llmkit.datasets.labelled import Input
from llmkit.models.kernels.padding_free import encoder_inputs, find_token_indices, has_token_types
from llmkit.models.padding import PADDING_INVARIANT, reads_padding, split_by_length

Batch = dict[str, Tensor]


def reads_token_types(config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether to pass token types: the model has embeddings of several types and its tokenizer returns them.

    GPT-2 has none; it would look token types up in its word embeddings.
    """
    has_several = getattr(config, "type_vocab_size", 2) > 1
    return "token_type_ids" in tokenizer.model_input_names and has_token_types(config) and has_several


def collate_inputs(rows: Sequence[Sequence[Input]], pad_token_id: int, token_types: bool) -> Batch:
    """Collate inputs to a batch.

    The batch has input_ids (inputs, longest), padded on the right; attention_mask and token_indices
    (kernels/padding_free.py) if there is padding; token_type_ids if `token_types`; row_of_input (inputs,) if a row has
    several inputs.
    """
    inputs = [each for row in rows for each in row]
    lengths = [len(each.ids) for each in inputs]
    longest = max(lengths)
    input_ids = np.full((len(inputs), longest), pad_token_id, np.int64)
    for place, each in enumerate(inputs):
        input_ids[place, : lengths[place]] = each.ids
    batch = {"input_ids": torch.from_numpy(input_ids)}
    columns, ends = torch.arange(longest), torch.tensor(lengths)[:, None]
    if min(lengths) < longest:
        batch["attention_mask"] = (columns < ends).long()
        batch["token_indices"] = find_token_indices(batch["attention_mask"])
    if token_types:
        firsts = torch.tensor([each.n_first for each in inputs])[:, None]
        types = ((columns >= firsts) & (columns < ends)).long()
        first, last = inputs[0].outer_types  # the same for all inputs
        if first is not None:
            types[:, 0] = first
        if last is not None:
            types.scatter_(1, ends - 1, last)
        batch["token_type_ids"] = types
    if len(inputs) > len(rows):
        batch["row_of_input"] = torch.repeat_interleave(torch.arange(len(rows)), torch.tensor([len(r) for r in rows]))
    return batch


def score_tokens(model: nn.Module, batch: Batch, read_logits: Callable[[Any], Tensor]) -> Tensor:
    """Return the logits of each token, (inputs, tokens, outputs), in fp32; those of padding have no meaning.

    `read_logits` takes the model's output. If padding would change the logits, inputs are grouped by length instead.
    """
    if "attention_mask" not in batch or reads_padding(cast(PreTrainedModel, model).config):
        return read_logits(model(**encoder_inputs(model, batch))).float()
    parts = [(rows, read_logits(model(**encoder_inputs(model, part))).float()) for rows, part in split_by_length(batch)]
    n_tokens = batch["input_ids"].shape[1]
    padded = [nn.functional.pad(logits, (0, 0, 0, n_tokens - logits.shape[1])) for _, logits in parts]
    return torch.cat(padded)[torch.cat([rows for rows, _ in parts]).argsort()]


@contextmanager
def translate_failure(model: PreTrainedModel) -> Iterator[None]:
    """Convert errors of architectures that llmkit does not test to ModelError, for example if a text is too short."""
    try:
        yield
    except (ValueError, TypeError, IndexError, AttributeError, RuntimeError, NotImplementedError) as error:
        kind = model.config.model_type
        if kind in PADDING_INVARIANT or "memory" in str(error):
            raise
        what = f"a {kind} of transformers {transformers.__version__} cannot read these texts: {first_line(error)}"
        hint = "remove texts without words, or use a model of another type"
        raise ModelError(what, where=model.name_or_path or "model", hint=hint) from error


def group_by_length(lengths: NDArray[np.int64], tokens_at_once: int) -> Iterator[NDArray[np.int64]]:
    """Yield indices of rows of similar length, in batches of at most `tokens_at_once` tokens including padding."""
    order = np.argsort(lengths, kind="stable")
    begin = 0
    for end in range(1, len(order) + 1):
        if end == len(order) or (end + 1 - begin) * lengths[order[end]] > tokens_at_once:
            yield order[begin:end]
            begin = end
