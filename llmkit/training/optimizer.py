"""Optimizers (AdamW, Adam, SGD, or Muon for hidden matrices with AdamW for the rest) and learning rate schedules.

Weight decay applies to matrices, not to biases and norms; with Muon, not to embeddings either. Adam and SGD add the
decay to the gradient; AdamW and Muon decouple it (Loshchilov and Hutter, AdamW, 2019).
"""

import math
from collections.abc import Callable, Iterable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from transformers.pytorch_utils import Conv1D

from llmkit.config.optim import Optim
from llmkit.models.layers import get_layer_ids
from llmkit.training.muon import Muon

OUTPUT_HEADS = ("seq_relationship", "classifier", "score")
"""Endings of transformers' names for output layers other than the vocabulary head."""


def build_optimizer(model: nn.Module, section: Optim, precision: str) -> Optimizer:
    """Return the section's optimizer for all trainable weights; Muon's products are in `precision` (bf16, tf32 or
    fp32).
    """
    hidden, embeddings, vectors = group_weights(model)
    factors = layerwise_lr_factors(model, section.layer_decay)
    adam: dict[str, Any] = {
        "lr": section.learning_rate,
        "betas": (section.adam_beta1, section.adam_beta2),
        "eps": section.adam_epsilon,
        "fused": True,
    }
    if section.name != "muon":
        decayed = _by_rate(hidden + embeddings, factors, section.learning_rate, weight_decay=section.weight_decay)
        free = _by_rate(vectors, factors, section.learning_rate, weight_decay=0.0)
        groups = [*decayed, *free]
        if section.name == "sgd":
            return torch.optim.SGD(groups, lr=cast(float, section.learning_rate), momentum=section.momentum, fused=True)
        return (torch.optim.AdamW if section.name == "adamw" else torch.optim.Adam)(groups, **adam)
    # AdamW first, as logs show the first group's `learning_rate`.
    rest = torch.optim.AdamW(_by_rate(embeddings + vectors, factors, section.learning_rate, weight_decay=0.0), **adam)
    if not hidden:  # all hidden matrices are frozen
        return rest
    muon = Muon(
        [
            group
            for shape_factor, weights in _by_shape_factor(model, hidden).items()
            for group in _by_rate(weights, factors, section.muon_learning_rate * shape_factor)
        ],
        lr=section.muon_learning_rate,
        momentum=section.muon_momentum,
        weight_decay=section.weight_decay,
        dtype=torch.float32 if precision == "fp32" else torch.bfloat16,  # a GPU that has TF32 has bf16
    )
    return OptimizerPair(rest, muon)


def layerwise_lr_factors(model: nn.Module, layer_decay: float) -> dict[int, float]:
    """Return learning rate factors by the weight's id: 1 above the layers, `layer_decay` in the last layer, its square
    in the layer below, and so on down to the embeddings (Howard and Ruder, ULMFiT, 2018; Sun et al. 2019)."""
    layers, n_layers = get_layer_ids(model)
    return {id(weight): layer_decay ** (n_layers - layers[name]) for name, weight in model.named_parameters()}


def _by_rate(
    weights: list[Tensor], factors: dict[int, float], rate: float | None, **more: float
) -> list[dict[str, Any]]:
    """Return one parameter group per learning rate, the highest first."""
    groups: dict[float, list[Tensor]] = {}
    for weight in weights:
        groups.setdefault(factors[id(weight)], []).append(weight)
    assert rate is not None, "the recipe's null is resolved before training"
    return [{"params": groups[factor], "lr": rate * factor, **more} for factor in sorted(groups, reverse=True)]


def group_weights(model: nn.Module) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Return the trainable weights in three groups: hidden matrices, embeddings with output layers, vectors."""
    embeddings = {
        id(weight) for module in model.modules() if isinstance(module, nn.Embedding) for weight in module.parameters()
    }
    output = getattr(model, "get_output_embeddings", lambda: None)()
    if output is not None:
        embeddings |= {id(weight) for weight in output.parameters()}
    for path, module in model.named_modules():
        if path.endswith(OUTPUT_HEADS):
            embeddings |= {id(weight) for weight in module.parameters()}
    groups: tuple[list[Tensor], list[Tensor], list[Tensor]] = ([], [], [])
    for weight in model.parameters():
        if weight.requires_grad:
            groups[2 if weight.ndim < 2 else 1 if id(weight) in embeddings else 0].append(weight)
    return groups


def _by_shape_factor(model: nn.Module, hidden: list[Tensor]) -> dict[float, list[Tensor]]:
    """Group hidden matrices by a learning rate factor that makes Muon treat GPT-2 like any other model.

    Muon's learning rate is multiplied by sqrt(max(1, outputs / inputs)) (Jordan et al., 2024). muon.py takes rows as
    outputs and columns as inputs, as in `nn.Linear`, but GPT-2's Conv1D stores the transpose.
    """
    transposed = {id(module.weight) for module in model.modules() if isinstance(module, Conv1D)}
    groups: dict[float, list[Tensor]] = {}
    for weight in hidden:
        rows, columns = weight.shape
        wrong, right = max(1.0, rows / columns), max(1.0, columns / rows)
        groups.setdefault(math.sqrt(right / wrong) if id(weight) in transposed else 1.0, []).append(weight)
    return groups


def checkpoint_bytes(model: nn.Module, section: Optim) -> int:
    """Estimate the bytes of a checkpoint: weights and two moments per weight; one moment for Muon's hidden matrices and
    for SGD with momentum; none for SGD without momentum."""
    hidden, embeddings, vectors = group_weights(model)
    rest = count_parameters(embeddings) + count_parameters(vectors)
    moments = {
        "sgd": int(section.momentum > 0) * (count_parameters(hidden) + rest),
        "muon": count_parameters(hidden) + 2 * rest,
    }
    return 4 * (count_parameters(model.parameters()) + moments.get(section.name, 2 * (count_parameters(hidden) + rest)))


class OptimizerPair(Optimizer):
    """Two optimizers for different weights that behave as one."""

    def __init__(self, first: Optimizer, second: Optimizer) -> None:
        self.pair = (first, second)
        groups = [*first.param_groups, *second.param_groups]
        super().__init__([dict(group) for group in groups], {})
        self.param_groups = groups  # the same objects, so that a new learning rate reaches both

    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]  # torch's gives the closure's loss
        """Step both optimizers. A closure is not supported."""
        for optimizer in self.pair:
            optimizer.step()

    def state_dict(self) -> dict[str, Any]:
        """Return the states of both optimizers."""
        return {"pair": [optimizer.state_dict() for optimizer in self.pair]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore both optimizers; updates `param_groups`, as loading replaces the groups."""
        for optimizer, state in zip(self.pair, state_dict["pair"], strict=True):
            optimizer.load_state_dict(state)
        self.param_groups = [group for optimizer in self.pair for group in optimizer.param_groups]


def learning_rate_factor(section: Optim, step: int, n_steps: int) -> float:
    """Return the factor on the peak learning rate at optimizer step `step` (from 0) of `n_steps`.

    Linear warmup, then: cosine (Loshchilov and Hutter, 2017), linear, constant, or wsd: stable, then linear over the
    last `decay_steps` (Hu et al., MiniCPM, 2024). The loop also multiplies by the factor of the plateau schedule.
    """
    warmup = as_steps(section.warmup_steps, n_steps)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    floor = section.min_learning_rate_ratio
    if section.schedule in ("constant", "plateau"):
        return 1.0
    start = warmup if section.schedule != "wsd" else max(warmup, n_steps - as_steps(section.decay_steps, n_steps))
    progress = max(0.0, (step - start) / max(1, n_steps - start))
    left = (1 + math.cos(math.pi * progress)) / 2 if section.schedule == "cosine" else 1 - progress
    return floor + (1 - floor) * max(0.0, left)


def as_steps(value: float, n_steps: int) -> int:
    """Convert a recipe's number of steps; a value below 1 is a fraction of all steps."""
    return round(value * n_steps) if value < 1 else round(value)


def count_parameters(weights: Iterable[Tensor]) -> int:
    """Return the total number of elements of the tensors."""
    return sum(weight.numel() for weight in weights)
