"""Score a BERT over fixed examples: the same masks and pairs whatever the model, given a seed, a split and a tokenizer.

Everything is summed and divided once at the end, and each accuracy stands beside the best that a constant guess would
reach on the same labels: the most frequent of the masked tokens, the more frequent kind of pair.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel

from llmkit.core.distributed import all_reduce_sum, shard
from llmkit.core.errors import DataError
from llmkit.datasets.pairs import NO_PAIR, Pairs
from llmkit.models.loading import embedding_rows
from llmkit.tasks.mlm.objective import MaskedLM, predict
from llmkit.training.losses import sum_fp64

KINDS = {"nsp": ("next", "not_next"), "sop": ("in_order", "swapped")}
"""What the two relations of pairs are called, by the name of their loss."""


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
    """Sums over the examples of one pass: nats, hits, counts of labels, and the confusion of pairs (true, guessed).

    One pass holds as many tokens as the split, most of them once. `max_examples` scores that many examples, spread
    evenly, for a look while training. The model must be in evaluation mode.

    Raises:
        DataError: nothing could be masked, as when all tokens are unknown.
    """
    device: torch.device = model.device
    n_examples = pairs.samples_per_epoch
    n_scored = min(n_examples, max_examples or n_examples)
    sums = {"mlm_nats": 0.0, "pair_nats": 0.0, "n_masked": 0, "n_correct": 0, "n_top5": 0, "n_tokens": 0}
    labels = torch.zeros(embedding_rows(model), dtype=torch.int64)
    confusion = torch.zeros(2, 2, dtype=torch.int64)
    for begin, counts in shard(range(0, n_scored, batch_size)):
        places = range(begin, min(begin + batch_size, n_scored))
        batch = objective.collate([pairs.read(place * n_examples // n_scored) for place in places])
        masked_ids, n_tokens = batch["masked_ids"], objective.count_tokens(batch)
        batch = {name: tensor.to(device) for name, tensor in batch.items()}
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            token_logits, pair_logits = predict(model, batch)
        if not counts:
            continue
        sums["n_tokens"] += n_tokens
        labels += torch.bincount(masked_ids, minlength=len(labels))
        _add_tokens(sums, token_logits.float(), batch["masked_ids"])
        if objective.relation is not None and pair_logits is not None:
            known = batch["relations"] != NO_PAIR
            logits, relations = pair_logits.float()[known], batch["relations"][known]
            sums["pair_nats"] += sum_fp64(F.cross_entropy(logits, relations, reduction="none")).item()
            cells = (2 * relations + logits.argmax(-1)).cpu()
            confusion += torch.bincount(cells, minlength=4).view(2, 2)
    sums, labels, confusion = all_reduce_sum(sums), *all_reduce_sum({"labels": labels, "confusion": confusion}).values()
    if not sums["n_masked"]:
        where, hint = str(pairs.sentences.split.folder), "is this the tokenizer for this text? prepare it with another"
        raise DataError("no token of the text could be masked: all are unknown or special", where=where, hint=hint)
    return sums | {"n_examples": n_scored, "n_most_frequent": int(labels.max()), "confusion": confusion.tolist()}


def _add_tokens(sums: dict[str, Any], logits: Tensor, labels: Tensor) -> None:
    best = logits.topk(min(5, logits.shape[-1])).indices
    hits = best == labels[:, None]
    sums["mlm_nats"] += sum_fp64(F.cross_entropy(logits, labels, reduction="none")).item()
    sums["n_masked"] += len(labels)
    sums["n_correct"] += int(hits[:, 0].sum())
    sums["n_top5"] += int(hits.sum())


def to_metrics(sums: dict[str, Any], relation: str | None) -> dict[str, Any]:
    """Sums as the figures that are reported; `loss` is what was trained: both losses together.

    `mlm_perplexity` is exp of the mean loss over masked tokens. It is no language model's perplexity: the rest of the
    text was there to be read.
    """
    n_masked = sums["n_masked"]
    mlm_loss = sums["mlm_nats"] / n_masked
    metrics: dict[str, Any] = {
        "loss": mlm_loss,
        "mlm_loss": mlm_loss,
        "mlm_perplexity": math.exp(mlm_loss) if mlm_loss < 700 else None,
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
