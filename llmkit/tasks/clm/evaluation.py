"""Evaluate a causal language model on a prepared split or on raw text; each token is scored exactly once.

By default windows do not overlap, so a token near the beginning of a window has little context. With a stride below the
block size, windows overlap and only the last `stride` tokens of each window are scored. Every token then has at least
`block_size - stride` tokens of context; this is slower and gives a lower loss. A recurrent model carries its state
through the whole stream, so its loss does not depend on a block size.

Losses are summed and divided once at the end. A mean of batch means would overweight the short last batch.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import islice, pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from llmkit.config.evaluate import Evaluate
from llmkit.core import distributed
from llmkit.core.distributed import all_reduce_sum, shard
from llmkit.core.errors import UsageError
from llmkit.models.families import has_plain_lm_head, is_recurrent
from llmkit.models.kernels.output_layer import LOGITS_PER_CHUNK as STREAM_LOGITS_PER_CHUNK
from llmkit.models.kernels.output_layer import read_cache, read_logits
from llmkit.models.loading import embedding_rows
from llmkit.tasks.clm.objective import IGNORE
from llmkit.tasks.evaluation import EvaluationData, choose_block_size, to_perplexity
from llmkit.tasks.starting_model import check_no_windows
from llmkit.tokens.store import TokenStream
from llmkit.training.losses import sum_fp64

MAX_WINDOW_LOGITS = 128_000_000
"""Maximum number of logits per batch for models that compute all logits at once: half a gigabyte in fp32."""
LOGITS_PER_CHUNK = 1 << 22
"""Maximum number of logits to score at once: 16 MB in fp32, which fits into a CPU cache."""


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
    """Return sums over `stream`: {"nats", "n_correct", "n_tokens"}.

    The first token is predicted from `first_token`, by default the last token of the stream, an end-of-text token.
    `max_windows` limits scoring to that number of evenly spaced windows.
    """
    device: torch.device = model.device
    vocab_size = embedding_rows(model)
    rows = count_windows(model.config, vocab_size, block_size, batch_size)
    nats, correct = torch.zeros((), device=device), torch.zeros((), dtype=torch.int64, device=device)
    n_tokens = 0
    cut = _cut(len(stream), block_size, stride or block_size, max_windows)
    groups = iter(lambda: list(islice(cut, rows)), [])
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


def to_metrics(sums: Mapping[str, Any], totals: Mapping[str, Any]) -> dict[str, Any]:
    """Compute metrics from the sums; `totals` has the numbers of tokens, bytes, characters and words of the text (for
    words see text/language/words.py).

    If only a part of the text was scored, its bytes, characters and words are estimated from its fraction of tokens.
    """
    nats, n_tokens = sums["nats"], sums["n_tokens"]
    share = n_tokens / totals["tokens"]
    n_bytes, n_characters, n_words = (totals.get(name, 0) * share for name in ("bytes", "characters", "words"))
    return {
        "loss": nats / n_tokens,
        "perplexity": to_perplexity(nats / n_tokens),
        "bits_per_byte": nats / math.log(2) / n_bytes,
        "bits_per_character": nats / math.log(2) / n_characters,
        "accuracy": sums["n_correct"] / n_tokens,
        "n_tokens": n_tokens,
        "n_bytes": round(n_bytes),
        "n_characters": round(n_characters),
        **({"word_perplexity": to_perplexity(nats / n_words), "n_words": round(n_words)} if n_words else {}),
    }


def count_windows(config: PreTrainedConfig, vocab_size: int, block_size: int, batch_size: int) -> int:
    """Return the number of windows per batch."""
    if has_plain_lm_head(config):
        return batch_size
    return max(1, min(batch_size, MAX_WINDOW_LOGITS // (vocab_size * block_size)))


def _run(model: PreTrainedModel, inputs: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """Return (hidden states or logits of each token, function that maps them to logits).

    With a large vocabulary, logits are computed in parts to save memory.
    """
    if has_plain_lm_head(model.config):
        hidden = model.base_model(input_ids=inputs, use_cache=False).last_hidden_state
        return hidden, partial(read_logits, model.get_submodule("lm_head"))
    return model(input_ids=inputs, use_cache=False).logits, lambda logits: logits


Window = tuple[int, int, int]
"""(begin, first scored token, end), as positions in the stream."""


def _cut(n_tokens: int, block_size: int, stride: int, max_windows: int | None) -> Iterator[Window]:
    n_windows = 1 + max(0, -(-(n_tokens - block_size) // stride))
    step = max(1.0, n_windows / max_windows) if max_windows else 1.0
    for number in range(min(n_windows, max_windows or n_windows)):
        begin = int(number * step) * stride
        yield begin, begin + (block_size - stride if begin else 0), min(begin + block_size, n_tokens)


def _read_windows(
    stream: TokenStream, windows: list[Window], first_token: int | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return inputs and labels of windows, padded on the right."""
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
    """Return sums over `stream` as in `evaluate_causal_lm`.

    `stream` is cut into `n_streams` parts, which are read in parallel, each with its own state. With `max_tokens`, only
    the beginning of each part is scored, about `max_tokens` tokens in total. Parts are distributed over the ranks; a
    rank without a part scores the first one, and its sums are not counted.
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
    """Return the next inputs and labels of all parts of the stream; labels are -1 after the end of a part."""
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
"""Default block size for models without a maximum context length."""


def score_split(
    network: PreTrainedModel, data: EvaluationData, settings: Evaluate, share: float = 1.0
) -> dict[str, Any]:
    """Return metrics of a split, or of a fraction `share` of its windows, evenly spaced.

    Raises:
        UsageError: the windows do not fit the model.
    """
    stream, precision = data.split.stream, settings.precision
    if is_recurrent(network.config):
        check_no_windows(settings)
        method: dict[str, Any] = {"windows": "carried state", "precision": precision}
        max_tokens = None if share >= 1 else math.ceil(share * len(stream))
        sums = evaluate_recurrent_lm(
            network, stream, precision=precision, first_token=data.first_token, max_tokens=max_tokens
        )
    else:
        block = choose_block_size(network, settings, data.block_size, DEFAULT_BLOCK_SIZE)
        stride = settings.stride or block
        if stride > block:
            what = f"stride {stride} is longer than the block of {block}: tokens between windows would not be scored"
            raise UsageError(what, where="evaluate.stride", hint=f"set it to {block} or less")
        windows = "block-wise" if stride == block else "sliding"
        method = {"windows": windows, "block_size": block, "stride": stride, "precision": precision}
        sums = evaluate_causal_lm(
            network, stream, block_size=block, stride=stride, batch_size=settings.batch_size, precision=precision,
            first_token=data.first_token, max_windows=None if share >= 1 else math.ceil(share * len(stream) / stride),
        )  # fmt: skip
    metrics = to_metrics(sums, data.totals)
    if sums["n_tokens"] < len(stream):
        metrics["n_held_out_tokens"] = len(stream)
    return data.describe(metrics, method, "bits per byte do not include the content of unknown tokens")
