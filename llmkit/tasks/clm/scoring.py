"""Score a causal language model on a prepared split or on raw text, exactly and over all of it."""

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from llmkit.config.evaluate import Evaluate
from llmkit.config.prepare import Read
from llmkit.core import console
from llmkit.core.errors import DataError, UsageError
from llmkit.models.families import is_recurrent
from llmkit.tasks.clm.evaluation import evaluate_causal_lm, to_metrics
from llmkit.tasks.clm.recurrent_evaluation import evaluate_recurrent_lm
from llmkit.tasks.scoring import choose_block_size, read_as_is
from llmkit.tasks.starting_model import check_no_windows
from llmkit.text.words import count_words, valid_word_count
from llmkit.tokens.prepared import Prepared
from llmkit.tokens.store import Ids, TokenStream
from llmkit.tokens.tokenizer import count_unknown, encode_texts, end_of_text_id

DEFAULT_BLOCK_SIZE = 1024
"""For models without a longest context, such as recurrent ones."""


def score_prepared(
    network: PreTrainedModel, prepared: Prepared, split: str, settings: Evaluate, block_size: int | None = None,
    share: float = 1.0,
) -> dict[str, Any]:  # fmt: skip
    """Metrics over a whole split of a prepared folder, or over a share of its windows, spread evenly.

    Bytes and characters of a part are its share of the split's, by tokens.
    """
    totals = prepared.manifest["splits"][split] if prepared.has_split(split) else {}
    stream = prepared.split(split).stream
    sizes = {"n_bytes": totals["bytes"], "n_characters": totals["characters"], "n_words": totals.get("words")}
    metrics = _score(network, stream, settings, block_size, sizes, None, share)
    metrics["method"] |= {"data": prepared.path.name, "split": split}
    return _with_unknown(metrics, totals["unknown_tokens"])


def score_text(
    network: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, files: Sequence[str], read: Read, settings: Evaluate
) -> dict[str, Any]:
    """Metrics over text files as they are, uncleaned; each document is followed by an end-of-text token.

    Raises:
        DataError: no text.
    """
    end = end_of_text_id(tokenizer)
    chunks: list[Ids] = []
    n_bytes, n_unknown = 0, 0
    counted = Counter(characters=0, words=0, unspaced=0)
    for document in read_as_is(files, read):
        ids, _ = encode_texts(tokenizer, [document.text])
        n_unknown += count_unknown(ids, tokenizer)
        n_bytes += len(document.text.encode())
        counted.update(count_words(document.text, ends_document=document.last), characters=len(document.text))
        chunks += [ids, np.array([end], ids.dtype)] if document.last else [ids]
    if not n_bytes:
        raise DataError("there is no text to score", where=", ".join(files), hint="give files with text in them")
    first = end if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    stream = TokenStream([chunk for chunk in chunks if len(chunk)])
    sizes = {"n_bytes": n_bytes, "n_characters": counted["characters"], "n_words": valid_word_count(counted)}
    metrics = _score(network, stream, settings, None, sizes, first)
    metrics["method"] |= {"data": ", ".join(Path(file).name for file in files)}
    return _with_unknown(metrics, n_unknown)


def _score(
    network: PreTrainedModel, stream: TokenStream, settings: Evaluate, block_size: int | None,
    sizes: dict[str, Any], first_token: int | None, share: float = 1.0,
) -> dict[str, Any]:  # fmt: skip
    if is_recurrent(network.config):
        check_no_windows(settings)
        max_tokens = None if share >= 1 else math.ceil(share * len(stream))
        sums = evaluate_recurrent_lm(
            network, stream, precision=settings.precision, first_token=first_token, max_tokens=max_tokens
        )
        return _to_metrics(sums, len(stream), sizes) | {
            "method": {"windows": "carried state", "precision": settings.precision}
        }
    block = choose_block_size(network, settings, block_size, DEFAULT_BLOCK_SIZE)
    stride = settings.stride or block
    if stride > block:
        what = f"stride {stride} is longer than the block of {block}: tokens in between would not be scored"
        raise UsageError(what, where="evaluate.stride", hint=f"set it to {block} or less")
    max_windows = None if share >= 1 else math.ceil(share * len(stream) / stride)
    sums = evaluate_causal_lm(
        network, stream, block_size=block, stride=stride, batch_size=settings.batch_size,
        precision=settings.precision, first_token=first_token, max_windows=max_windows,
    )  # fmt: skip
    method = {
        "windows": "block-wise" if stride == block else "sliding",
        "block_size": block,
        "stride": stride,
        "precision": settings.precision,
    }
    return _to_metrics(sums, len(stream), sizes) | {"method": method}


def _to_metrics(sums: dict[str, Any], n_tokens: int, sizes: dict[str, Any]) -> dict[str, Any]:
    """The metrics; of a part of the stream, with its share of the stream's bytes, characters and words."""
    share = sums["n_tokens"] / n_tokens
    if share == 1:
        return to_metrics(sums, **sizes)
    part: dict[str, Any] = {name: None if size is None else size * share for name, size in sizes.items()}
    return to_metrics(sums, **part) | {"n_held_out_tokens": n_tokens}


def _with_unknown(metrics: dict[str, Any], n_unknown: int) -> dict[str, Any]:
    """Unknown tokens cost few bits and lose the text, so the figure must not pass for a lossless one."""
    if n_unknown:
        console.info(
            f"{n_unknown:,} tokens are unknown to the tokenizer: bits per byte leave out what those words were"
        )
    return metrics | {"n_unknown_tokens": n_unknown}
