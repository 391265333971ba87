"""Pseudo-perplexity of documents under a masked language model (Salazar et al. 2020, equations 1 and 4).

Each token is masked by itself and guessed from all the others of its window: exp of the mean negative log-probability.
It ranks texts under one model; it is not the perplexity of any distribution over texts, and a word of several tokens is
flattered, as the others of its pieces can be read.
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from llmkit.datasets.masking import TokenIds
from llmkit.datasets.pairs import Pairs
from llmkit.tasks.mlm.objective import predict


@torch.inference_mode()
def score_documents(
    model: PreTrainedModel, pairs: Pairs, *, max_tokens: int, batch_size: int = 16, precision: str = "fp32"
) -> list[dict[str, Any]]:
    """One record a document, over its first `max_tokens` tokens: source, index, n_tokens, nats, pseudo_perplexity.

    The model must be in evaluation mode. Windows are `pairs.block_size` long with their [CLS] and [SEP] and lie side by
    side. Special tokens are not scored.
    """
    table = pairs.sentences.split.table
    sources, indexes = table.column("source"), table.column("index")
    records = []
    for document in range(int(pairs.sentences.documents[-1]) + 1):
        row = int(np.searchsorted(pairs.sentences.documents, document))
        start, end = pairs.sentences.range_of(document)
        nats, n_tokens = 0.0, 0
        for window in _windows(pairs, start, min(end, start + max_tokens)):
            scored, found = _score_window(model, pairs, window, batch_size, precision)
            nats, n_tokens = nats + found, n_tokens + scored
        if n_tokens:
            value = math.exp(min(700.0, nats / n_tokens))
            place = {"source": sources[row].as_py(), "index": indexes[row].as_py()}
            records.append(place | {"n_tokens": n_tokens, "nats": nats, "pseudo_perplexity": value})
    return records


def _windows(pairs: Pairs, start: int, end: int) -> Iterator[TokenIds]:
    room = pairs.block_size - 2
    for begin in range(start, end, room):
        tokens = pairs.sentences.split.stream.read(begin, min(room, end - begin))
        if begin + len(tokens) == end and tokens[-1] == pairs.sep_id:
            tokens = tokens[:-1]  # the document's own end of text
        yield np.concatenate([[pairs.cls_id], tokens, [pairs.sep_id]])


def _score_window(
    model: PreTrainedModel, pairs: Pairs, window: TokenIds, batch_size: int, precision: str
) -> tuple[int, float]:
    """How many tokens of the window were scored, and their nats."""
    places = np.flatnonzero(~pairs.vocabulary.is_special[window])
    nats = 0.0
    for begin in range(0, len(places), batch_size):
        masked = torch.from_numpy(places[begin : begin + batch_size])
        input_ids = torch.from_numpy(window).repeat(len(masked), 1)
        rows = torch.arange(len(masked))
        targets = input_ids[rows, masked].to(model.device)
        input_ids[rows, masked] = pairs.vocabulary.mask_id
        batch = {"input_ids": input_ids, "masked_places": rows * len(window) + masked}
        with torch.autocast(model.device.type, torch.bfloat16, enabled=precision == "bf16"):
            logits, _ = predict(model, {name: tensor.to(model.device) for name, tensor in batch.items()})
        nats += torch.nn.functional.cross_entropy(logits.cpu().double(), targets.cpu(), reduction="sum").item()
    return len(places), nats
