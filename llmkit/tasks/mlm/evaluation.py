"""Evaluate a masked language model on fixed masks and pairs of a prepared split or of raw text.

Masks and pairs depend only on the seed, the split and the tokenizer. Losses are summed and divided once at the end.
The baseline of an accuracy is the accuracy of the best constant prediction on the same labels.

Pseudo-perplexity (Salazar et al. 2020, equations 1 and 4) masks one token at a time and predicts it from all other
tokens of its window: exp of the mean negative log-probability. It ranks texts under one model. It is not the perplexity
of a distribution over texts, and it is too low for words of several tokens, as the other tokens stay visible.
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from llmkit.config.evaluate import Evaluate
from llmkit.config.mlm import Mlm
from llmkit.core import console
from llmkit.core.distributed import all_reduce_sum, shard
from llmkit.core.errors import DataError
from llmkit.datasets.masking import TokenIds
from llmkit.datasets.pairs import NO_PAIR, Pairs, make_pairs
from llmkit.datasets.randomness import hash_integers
from llmkit.datasets.sentences import Sentences
from llmkit.models.loading import embedding_rows
from llmkit.models.masked import sentence_objective_of
from llmkit.tasks.evaluation import EvaluationData, choose_block_size, to_perplexity
from llmkit.tasks.mlm.objective import MaskedLM, predict
from llmkit.training.losses import sum_fp64

KINDS = {"nsp": ("next", "not_next"), "sop": ("in_order", "swapped")}
"""Names of the relations 0 and 1 per objective."""


@torch.inference_mode()
def evaluate_masked_lm(
    model: PreTrainedModel,
    pairs: Pairs,
    objective: MaskedLM,
    *,
    batch_size: int = 16,
    precision: str = "fp32",
    max_examples: int | None = None,
) -> dict[str, Any]:
    """Return sums over the examples of one epoch: nats, correct predictions, labels, confusion of pairs (true,
    predicted).

    `max_examples` limits scoring to that number of evenly spaced examples. The model must be in evaluation mode.

    Raises:
        DataError: no token could be masked, for example because all are unknown.
    """
    device: torch.device = model.device
    n_examples = pairs.samples_per_epoch
    n_scored = min(n_examples, max_examples or n_examples)
    sums = {"mlm_nats": 0.0, "pair_nats": 0.0, "n_masked": 0, "n_correct": 0, "n_top5": 0, "n_tokens": 0}
    labels = torch.zeros(embedding_rows(model), dtype=torch.int64)
    confusion = torch.zeros(2, 2, dtype=torch.int64)
    for begin, counts in shard(range(0, n_scored, batch_size)):
        numbers = range(begin, min(begin + batch_size, n_scored))
        batch = objective.collate([pairs.read(number * n_examples // n_scored) for number in numbers])
        masked_ids, n_tokens = batch["masked_ids"], objective.count_tokens(batch)
        batch = {name: tensor.to(device) for name, tensor in batch.items()}
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            token_logits, pair_logits = predict(model, batch)
        if not counts:
            continue
        sums["n_tokens"] += n_tokens
        labels += torch.bincount(masked_ids, minlength=len(labels))
        logits, targets = token_logits.float(), batch["masked_ids"]
        hits = logits.topk(min(5, logits.shape[-1])).indices == targets[:, None]
        sums["mlm_nats"] += sum_fp64(F.cross_entropy(logits, targets, reduction="none")).item()
        sums["n_masked"] += len(targets)
        sums["n_correct"] += int(hits[:, 0].sum())
        sums["n_top5"] += int(hits.sum())
        if objective.relation is not None and pair_logits is not None:
            known = batch["relations"] != NO_PAIR
            logits, relations = pair_logits.float()[known], batch["relations"][known]
            sums["pair_nats"] += sum_fp64(F.cross_entropy(logits, relations, reduction="none")).item()
            cells = (2 * relations + logits.argmax(-1)).cpu()
            confusion += torch.bincount(cells, minlength=4).view(2, 2)
    sums, labels, confusion = all_reduce_sum(sums), *all_reduce_sum({"labels": labels, "confusion": confusion}).values()
    if not sums["n_masked"]:
        hint = "prepare the text with a tokenizer that knows its characters"
        what, where = "no token of the text could be masked: all are unknown or special", pairs.sentences.split.folder
        raise DataError(what, where=str(where), hint=hint)
    return sums | {"n_examples": n_scored, "n_most_frequent": int(labels.max()), "confusion": confusion.tolist()}


def to_metrics(sums: dict[str, Any], relation: str | None) -> dict[str, Any]:
    """Compute metrics from the sums; `loss` is the training loss, the sum of both losses.

    `mlm_perplexity` is exp of the mean loss over masked tokens. It is not comparable with a causal language model's.
    """
    n_masked = sums["n_masked"]
    mlm_loss = sums["mlm_nats"] / n_masked
    metrics: dict[str, Any] = {
        "loss": mlm_loss,
        "mlm_loss": mlm_loss,
        "mlm_perplexity": to_perplexity(mlm_loss),
        "mlm_accuracy": sums["n_correct"] / n_masked,
        "mlm_top5_accuracy": sums["n_top5"] / n_masked,
        "mlm_baseline_accuracy": sums["n_most_frequent"] / n_masked,
    }
    confusion = sums["confusion"]
    n_pairs = sum(map(sum, confusion))
    if relation is not None and n_pairs:
        pair_loss = sums["pair_nats"] / n_pairs
        metrics |= {
            "loss": mlm_loss + pair_loss,
            f"{relation}_loss": pair_loss,
            f"{relation}_accuracy": (confusion[0][0] + confusion[1][1]) / n_pairs,
            f"{relation}_baseline_accuracy": max(map(sum, confusion)) / n_pairs,
            f"{relation}_confusion": {
                true: dict(zip(KINDS[relation], row, strict=True))
                for true, row in zip(KINDS[relation], confusion, strict=True)
            },
            "n_pairs": n_pairs,
        }
    return metrics | {"n_masked": sums["n_masked"], "n_tokens": sums["n_tokens"], "n_examples": sums["n_examples"]}


def describe_pair_failure(metrics: dict[str, Any], relation: str | None) -> str | None:
    """Return a warning if the head for sentence pairs is no better than one constant answer, else None.

    `metrics` is the result of `to_metrics`. If all pairs have the same relation, the result is None.
    """
    confusion = metrics.get(f"{relation}_confusion", {})
    if sum(any(row.values()) for row in confusion.values()) < 2:
        return None
    predicted = {name for row in confusion.values() for name, n in row.items() if n}
    accuracy, baseline = metrics[f"{relation}_accuracy"], metrics[f"{relation}_baseline_accuracy"]
    if len(predicted) == 1:
        n_pairs, answer = metrics["n_pairs"], predicted.pop()
        return f"{relation}: all {n_pairs:,} pairs are predicted as {answer}, {accuracy:.1%} of them correctly"
    if accuracy > baseline:
        return None
    return f"{relation} accuracy {accuracy:.1%} is no better than one answer for all pairs, {baseline:.1%}"


@torch.inference_mode()
def score_documents(
    model: PreTrainedModel, pairs: Pairs, *, max_tokens: int, batch_size: int = 16, precision: str = "fp32"
) -> list[dict[str, Any]]:
    """Score the first `max_tokens` tokens of each document.

    Returns records with source, index, n_tokens, nats and pseudo_perplexity. The model must be in evaluation mode.
    Windows of `pairs.block_size` tokens, with [CLS] and [SEP], do not overlap. Special tokens are not scored.
    """
    table = pairs.sentences.split.table
    sources, indexes = table.column("source"), table.column("index")
    records = []
    for document in range(int(pairs.sentences.documents[-1]) + 1):
        row = int(np.searchsorted(pairs.sentences.documents, document))
        start, end = pairs.sentences.range_of(document)
        nats, n_tokens = 0.0, 0
        for window in _windows(pairs, start, min(end, start + max_tokens)):
            n_scored, window_nats = _score_window(model, pairs, window, batch_size, precision)
            nats, n_tokens = nats + window_nats, n_tokens + n_scored
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
            tokens = tokens[:-1]  # without the end-of-text token
        yield np.concatenate([[pairs.cls_id], tokens, [pairs.sep_id]])


def _score_window(
    model: PreTrainedModel, pairs: Pairs, window: TokenIds, batch_size: int, precision: str
) -> tuple[int, float]:
    """Return (number of scored tokens of the window, their summed nats)."""
    places = np.flatnonzero(~pairs.vocabulary.is_special[window])
    nats = 0.0
    for begin in range(0, len(places), batch_size):
        masked = torch.from_numpy(places[begin : begin + batch_size])
        input_ids = torch.from_numpy(window).repeat(len(masked), 1)
        rows = torch.arange(len(masked))
        targets = input_ids[rows, masked].to(model.device)
        input_ids[rows, masked] = pairs.vocabulary.mask_id
        batch = {"input_ids": input_ids, "masked_indices": rows * len(window) + masked}
        with torch.autocast(model.device.type, torch.bfloat16, enabled=precision == "bf16"):
            logits, _ = predict(model, {name: tensor.to(model.device) for name, tensor in batch.items()})
        nats += torch.nn.functional.cross_entropy(logits.cpu().double(), targets.cpu(), reduction="sum").item()
    return len(places), nats


DEFAULT_BLOCK_SIZE = 512
"""Default block size for models without a maximum context length."""
EVALUATION_KEY = 0x6576616C
"""Epoch number of held-out masks, so that they differ from training masks with the same seed."""


def evaluation_seed(settings: Evaluate) -> int:
    """Return the seed of the fixed masks and pairs."""
    return hash_integers(EVALUATION_KEY, settings.seed)


def describe_not_next(sentences: Sentences) -> str:
    """Describe the source of the second segment of negative NSP pairs."""
    return "from another document" if sentences.n_documents > 1 else "from a distant passage"


def score_split(
    network: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, data: EvaluationData, settings: Evaluate, mlm: Mlm,
    share: float = 1.0,
) -> dict[str, Any]:  # fmt: skip
    """Return metrics of a split, or of an evenly spaced fraction `share` of its examples.

    The sentence objective is that of the model's head, not that of the recipe.

    Raises:
        UsageError, DataError: as `make_pairs`; text files without pairs are scored on masked tokens only.
    """
    block = choose_block_size(network, settings, data.block_size, DEFAULT_BLOCK_SIZE)
    mlm, seed = mlm.with_updates(sentence_objective=sentence_objective_of(network)), evaluation_seed(settings)
    try:
        pairs = make_pairs(data.split, tokenizer, mlm, block, seed)
    except DataError as error:
        if data.is_prepared or mlm.sentence_objective == "none":
            raise
        console.info(f"only masked tokens are scored, no pairs: {error.problems[0].what}")
        mlm = mlm.with_updates(sentence_objective="none")
        pairs = make_pairs(data.split, tokenizer, mlm, block, seed)
    objective = MaskedLM(tokenizer.pad_token_id, mlm.sentence_objective)
    options: dict[str, Any] = {"batch_size": settings.batch_size, "precision": settings.precision}
    n_examples = math.ceil(share * pairs.samples_per_epoch)
    sums = evaluate_masked_lm(network, pairs, objective, max_examples=n_examples, **options)
    metrics = to_metrics(sums, objective.relation)
    if n_examples < pairs.samples_per_epoch:
        metrics["n_held_out_examples"] = pairs.samples_per_epoch
    if settings.pseudo_perplexity:
        records = score_documents(network, pairs, max_tokens=settings.pseudo_perplexity, **options)
        nats, n_tokens = (sum(record[key] for record in records) for key in ("nats", "n_tokens"))
        if n_tokens:
            metrics["pseudo_perplexity"] = math.exp(min(700.0, nats / n_tokens))
        metrics["documents"] = records
    method: dict[str, Any] = {
        "examples": {"nsp": "pairs", "sop": "ordered pairs", "none": "full sentences"}[mlm.sentence_objective],
        "block_size": block,
        "mlm_probability": mlm.mlm_probability,
        "whole_words": mlm.whole_words,
        "chinese_words": data.segmenter,
        "seed": settings.seed,
        "precision": settings.precision,
    }
    if mlm.sentence_objective == "nsp":
        method["not_next"] = describe_not_next(pairs.sentences)
    return data.describe(metrics, method, "they are not predicted, so no metric includes them")
