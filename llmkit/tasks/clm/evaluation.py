"""Evaluate a causal language model on a prepared split or on raw text; each token is scored exactly once.

Block-wise windows do not overlap, so a token near the beginning of a window has little context. With a stride below the
block size, windows overlap and only the last `stride` tokens of each are scored: every token has at least
`block_size - stride` tokens of context, which is slower and gives a lower loss. A recurrent model carries its state
through the whole stream, so its loss depends on no block size.

Losses are summed and divided once at the end. A mean of batch means would overweight the short last batch.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from llmkit.config.evaluate import Evaluate
from llmkit.config.prepare import Read
from llmkit.core import console, distributed
from llmkit.core.distributed import all_reduce_sum, shard
from llmkit.core.errors import DataError, UsageError
from llmkit.models.families import has_plain_lm_head, is_recurrent
from llmkit.models.kernels.output_layer import LOGITS_PER_CHUNK as STREAM_LOGITS_PER_CHUNK
from llmkit.models.kernels.output_layer import read_cache, read_logits
from llmkit.models.loading import embedding_rows
from llmkit.tasks.clm.objective import IGNORE
from llmkit.tasks.evaluation import choose_block_size, read_raw_documents
from llmkit.tasks.starting_model import check_no_windows
from llmkit.text.words import count_words, valid_word_count
from llmkit.tokens.prepared import Prepared
from llmkit.tokens.store import Ids, TokenStream
from llmkit.tokens.tokenizer import count_unknown, encode_texts, end_of_text_id
from llmkit.tokens.unknown import UnknownCount, count_unknown_rows
from llmkit.training.losses import sum_fp64

MAX_WINDOW_LOGITS = 128_000_000
"""Half a gigabyte in fp32, for models that compute all logits at once."""
LOGITS_PER_CHUNK = 1 << 22
"""Logits that are scored at once: 16 MB in fp32, which fits the cache of a CPU."""


@torch.inference_mode()
def evaluate_causal_lm(
    model: PreTrainedModel,
    stream: TokenStream,
    *,
    block_size: int,
    stride: int | None = None,
    batch_size: int = 16,
    precision: str = "fp32",
    first_token: int | None = None,
    max_windows: int | None = None,
) -> dict[str, Any]:
    """Sums over `stream`: {"nats", "n_correct", "n_tokens"}.

    The first token is predicted from `first_token`, by default the last token of the stream, an end-of-text token.
    `max_windows` scores that many evenly spaced windows.
    """
    device: torch.device = model.device
    vocab_size = embedding_rows(model)
    rows = count_windows(model.config, vocab_size, block_size, batch_size)
    nats, correct = torch.zeros((), device=device), torch.zeros((), dtype=torch.int64, device=device)
    n_tokens = 0
    groups = _group(_cut(len(stream), block_size, stride or block_size, max_windows), rows)
    for windows, counts in shard(groups):
        inputs, labels = _read_windows(stream, windows, first_token)
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            read, to_logits = _run(model, inputs.to(device))
            if not counts:
                continue
            labels = labels.flatten().to(device)
            scored = labels != IGNORE
            read, labels = read.flatten(0, 1)[scored], labels[scored]
            n_at_once = max(1, LOGITS_PER_CHUNK // vocab_size)
            for some, targets in zip(read.split(n_at_once), labels.split(n_at_once), strict=True):
                logits = to_logits(some).float()
                losses = F.cross_entropy(logits, targets, reduction="none")
                nats = nats + sum_fp64(losses)
                correct += (logits.argmax(-1) == targets).sum()
        n_tokens += len(labels)
    return all_reduce_sum({"nats": float(nats), "n_correct": int(correct), "n_tokens": n_tokens})


def to_metrics(
    sums: dict[str, Any], *, n_bytes: float, n_characters: float, n_words: float | None = None
) -> dict[str, Any]:
    """The metrics of the sums; bytes, characters and words (text/words.py) are those of the scored text."""
    nats, n_tokens = sums["nats"], sums["n_tokens"]
    loss = nats / n_tokens
    by_word = {"word_perplexity": _exp(nats / n_words), "n_words": round(n_words)} if n_words else {}
    return {
        "loss": loss,
        "perplexity": _exp(loss),
        "bits_per_byte": nats / math.log(2) / n_bytes,
        "bits_per_character": nats / math.log(2) / n_characters,
        "accuracy": sums["n_correct"] / n_tokens,
        "n_tokens": n_tokens,
        "n_bytes": round(n_bytes),
        "n_characters": round(n_characters),
        **by_word,
    }


def _exp(nats: float) -> float | None:
    """None on overflow."""
    return math.exp(nats) if nats < 700 else None


def count_windows(config: PreTrainedConfig, vocab_size: int, block_size: int, batch_size: int) -> int:
    """Number of windows that are scored at once."""
    if has_plain_lm_head(config):
        return batch_size
    return max(1, min(batch_size, MAX_WINDOW_LOGITS // (vocab_size * block_size)))


def _run(model: PreTrainedModel, inputs: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """Hidden states or logits of each token, and the function from these to logits: with a large vocabulary, not all
    logits are in memory at once."""
    if has_plain_lm_head(model.config):
        hidden = model.base_model(input_ids=inputs, use_cache=False).last_hidden_state
        return hidden, partial(read_logits, model.get_submodule("lm_head"))
    return model(input_ids=inputs, use_cache=False).logits, lambda logits: logits


Window = tuple[int, int, int]
"""begin, first scored token, end: positions in the stream."""


def _cut(n_tokens: int, block_size: int, stride: int, max_windows: int | None) -> Iterator[Window]:
    n_windows = 1 + max(0, -(-(n_tokens - block_size) // stride))
    step = max(1.0, n_windows / max_windows) if max_windows else 1.0
    for number in range(min(n_windows, max_windows or n_windows)):
        begin = int(number * step) * stride
        yield begin, begin + (block_size - stride if begin else 0), min(begin + block_size, n_tokens)


def _group(windows: Iterator[Window], size: int) -> Iterator[list[Window]]:
    group: list[Window] = []
    for window in windows:
        group.append(window)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group


def _read_windows(
    stream: TokenStream, windows: list[Window], first_token: int | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs and labels of windows, padded on the right."""
    longest = max(end - begin for begin, _, end in windows)
    inputs = torch.zeros(len(windows), longest, dtype=torch.long)
    labels = torch.full((len(windows), longest), IGNORE)
    for row, (begin, first, end) in enumerate(windows):
        tokens = torch.from_numpy(stream.read(begin - 1, end - begin + 1))
        if begin == 0 and first_token is not None:
            tokens[0] = first_token
        inputs[row, : end - begin] = tokens[:-1]
        labels[row, first - begin : end - begin] = tokens[1 + first - begin :]
    return inputs, labels


@torch.inference_mode()
def evaluate_recurrent_lm(
    model: PreTrainedModel,
    stream: TokenStream,
    *,
    n_streams: int = 1,
    precision: str = "fp32",
    first_token: int | None = None,
    max_tokens: int | None = None,
) -> dict[str, Any]:
    """Sums over `stream` as in `evaluate_causal_lm`.

    `max_tokens` scores that many tokens, the beginnings of all streams. Streams are divided over the ranks; a rank
    without one scores the first, and its sums are not counted.
    """
    device: torch.device = model.device
    n_streams = min(n_streams, len(stream))
    bounds = [row * len(stream) // n_streams for row in range(n_streams + 1)]
    lengths = [end - begin for begin, end in pairwise(bounds)]
    if max_tokens is not None:
        lengths = [min(length, max(1, max_tokens // n_streams)) for length in lengths]
    own = range(distributed.rank(), n_streams, distributed.world_size())
    begins, lengths = [bounds[row] for row in own or [0]], [lengths[row] for row in own or [0]]
    n_streams = len(begins)
    step = max(1, STREAM_LOGITS_PER_CHUNK // (embedding_rows(model) * n_streams))
    state, nats, correct = None, 0.0, 0
    for place in range(0, max(lengths), step):
        inputs, labels = _read_streams(stream, begins, lengths, place, step, first_token)
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            read = model.base_model(input_ids=inputs.to(device), cache=state, use_cache=True)
            state = read_cache(read)
            real = labels >= 0
            logits = read_logits(model.get_submodule("lm_head"), read.last_hidden_state[real.to(device)]).float()
        targets = labels[real].to(device)
        nats += sum_fp64(F.cross_entropy(logits, targets, reduction="none")).item()
        correct += int((logits.argmax(-1) == targets).sum())
    sums = {"nats": nats, "n_correct": correct, "n_tokens": sum(lengths)}
    return distributed.all_reduce_sum(sums if own else dict.fromkeys(sums, 0))


def _read_streams(
    stream: TokenStream, begins: list[int], lengths: list[int], place: int, step: int, first_token: int | None
) -> tuple[Tensor, Tensor]:
    """The next inputs and labels of all streams; labels are -1 after the end of a stream."""
    width = min(step, max(lengths) - place)
    inputs = torch.zeros(len(lengths), width, dtype=torch.long)
    labels = torch.full((len(lengths), width), -1)
    for row, (begin, length) in enumerate(zip(begins, lengths, strict=False)):
        n_tokens = max(0, min(width, length - place))
        tokens = torch.from_numpy(stream.read(begin + place - 1, n_tokens + 1))
        if begin + place == 0 and first_token is not None:
            tokens[0] = first_token
        inputs[row, :n_tokens], labels[row, :n_tokens] = tokens[:-1], tokens[1:]
    return inputs, labels


DEFAULT_BLOCK_SIZE = 1024
"""For models without a maximum context length."""


def score_prepared(
    network: PreTrainedModel, prepared: Prepared, split: str, settings: Evaluate, block_size: int | None = None,
    share: float = 1.0,
) -> dict[str, Any]:  # fmt: skip
    """Metrics of a split of a prepared folder, or of a share of its windows, evenly spaced.

    Bytes, characters and words of a part are estimated by its share of the tokens.
    """
    totals = prepared.manifest["splits"][split] if prepared.has_split(split) else {}
    stream = prepared.split(split).stream
    sizes = {"n_bytes": totals["bytes"], "n_characters": totals["characters"], "n_words": totals.get("words")}
    metrics = _score(network, stream, settings, block_size, sizes, None, share)
    metrics["method"] |= {"data": prepared.path.name, "split": split}
    return _add_unknown_tokens(metrics, totals["unknown_tokens"])


def score_text(
    network: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, files: Sequence[str], read: Read, settings: Evaluate
) -> dict[str, Any]:
    """Metrics of text files, normalized as the model's training text; an end-of-text token follows each document.

    Raises:
        DataError: no text.
    """
    end = end_of_text_id(tokenizer)
    chunks: list[Ids] = []
    n_bytes, n_unknown = 0, 0
    counted, unknown = Counter(characters=0, words=0, unspaced=0), UnknownCount()
    for number, document in enumerate(read_raw_documents(files, read, tokenizer), 1):
        ids, _ = encode_texts(tokenizer, [document.text])
        n_new = count_unknown(ids, tokenizer)
        n_unknown += n_new
        count_unknown_rows(tokenizer, [document.text], np.array([n_new > 0]), [number], unknown)
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
    return _add_unknown_tokens(metrics, n_unknown, unknown)


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
    """The metrics; for a part of the stream, bytes, characters and words are its share by tokens."""
    share = sums["n_tokens"] / n_tokens
    if share == 1:
        return to_metrics(sums, **sizes)
    part: dict[str, Any] = {name: None if size is None else size * share for name, size in sizes.items()}
    return to_metrics(sums, **part) | {"n_held_out_tokens": n_tokens}


def _add_unknown_tokens(metrics: dict[str, Any], n_unknown: int, unknown: UnknownCount | None = None) -> dict[str, Any]:
    """Add the number of unknown tokens; shows a note, as bits per byte are too low if there are any."""
    characters = f" ({unknown.describe(verb='')})" if unknown is not None and unknown.n_unknown else ""
    if n_unknown:
        what = f"{n_unknown:,} tokens are unknown to the tokenizer{characters}"
        console.info(f"{what}: bits per byte leave out what those words were")
    elif characters:
        console.info(f"the tokenizer leaves out what it does not know{characters}: no metric counts it")
    return metrics | {"n_unknown_tokens": n_unknown}
