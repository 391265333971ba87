"""Training cost is measured on the model; estimated memory equals values calculated by hand."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tiny import make_bert, make_gpt2

from llmkit.config.loading import load_recipe
from llmkit.runs.model_cost import SCORED_LOGIT_BYTES, ModelCost, estimate_memory, measure_model_cost

MILLION = 1_000_000
COST = ModelCost(
    n_parameters=100 * MILLION, n_trainable=100 * MILLION, n_multiplied=90 * MILLION, n_embedded=20 * MILLION,
    n_layers=8, moment_bytes=800 * MILLION, flops_per_token=6e8, activation_bytes=1000, logit_bytes=500,
    max_logit_bytes=None, evaluation_bytes=0, block_size=1000, global_batch_size=64,
)  # fmt: skip


def describe(network: Any, *overrides: str, scored: float = 0.0) -> ModelCost:
    task: Any = SimpleNamespace(output_fraction=1.0, count_scored_logits=lambda network: scored)
    recipe = load_recipe(None, ["train.block_size=16", "train.global_batch_size=4", *overrides])
    return measure_model_cost(network, recipe, task, bf16=False, on_cpu=True)


def test_parameters_are_counted_and_frozen_ones_are_not_trainable() -> None:
    model = make_gpt2()
    model.transformer.wte.weight.requires_grad = False
    work = describe(model)
    n_parameters = sum(weight.numel() for weight in model.parameters())
    assert (work.n_parameters, work.n_trainable) == (n_parameters, n_parameters - 50 * 32)
    assert (work.n_embedded, work.n_layers, work.tokens_per_step) == (50 * 32, 2, 64)


@pytest.mark.parametrize("make", [make_gpt2, make_bert])
def test_n_multiplied_counts_the_weights_that_a_forward_pass_multiplies(make: Any) -> None:
    model = make().eval()
    used: set[int] = set()
    linear, addmm = torch.nn.functional.linear, torch.addmm
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("torch.nn.functional.linear", lambda x, w, b=None: used.add(w.data_ptr()) or linear(x, w, b))
        patch.setattr("torch.addmm", lambda b, x, w: used.add(w.data_ptr()) or addmm(b, x, w))
        model(torch.arange(8)[None])
    products = sum(weight.numel() for weight in model.parameters() if weight.data_ptr() in used)
    assert describe(model).n_multiplied == products


def test_gradient_checkpointing_keeps_fewer_activations_and_computes_a_third_more() -> None:
    model = make_gpt2()
    plain, again = describe(model), describe(model, "train.gradient_checkpointing=true")
    assert again.activation_bytes < plain.activation_bytes
    assert (plain.passes, again.passes) == (1.0, pytest.approx(4 / 3))
    assert plain.flops_per_token == again.flops_per_token


def test_memory_depends_on_optimizer_dropout_and_scoring() -> None:
    n_parameters = sum(weight.numel() for weight in make_gpt2().parameters())
    assert describe(make_gpt2()).moment_bytes == 8 * n_parameters
    assert describe(make_gpt2(), "optim.name=sgd").moment_bytes == 0
    assert describe(make_gpt2(dropout=0.1)).activation_bytes > describe(make_gpt2()).activation_bytes
    assert describe(make_gpt2(), scored=100.0).evaluation_bytes == 100 * SCORED_LOGIT_BYTES


def test_adam_in_mixed_precision_takes_16_bytes_per_weight_and_2_per_bf16_copy() -> None:
    parts = estimate_memory(COST, "ddp", 1, 4, bf16=True)
    assert parts.weights + parts.gradients + parts.optimizer == 1600 * MILLION
    assert (parts.working_copies, parts.activations, parts.logits) == (180 * MILLION, 4 * MILLION, 2 * MILLION)
    assert parts.peak == 1786 * MILLION
    assert estimate_memory(COST, "ddp", 1, 4, bf16=False).working_copies == 0


@pytest.mark.parametrize(
    ("engine", "weights", "gradients", "optimizer"),
    [("ddp", 400, 400, 800), ("zero2", 400, 50, 100), ("zero3", 50, 50, 100), ("fsdp2", 50, 50, 100)],
)
def test_engines_shard_what_the_zero_paper_says(engine: str, weights: int, gradients: int, optimizer: int) -> None:
    parts = estimate_memory(COST, engine, 8, 4, bf16=True)
    assert (parts.weights, parts.gradients, parts.optimizer) == tuple(
        each * MILLION for each in (weights, gradients, optimizer)
    )


def test_sharded_weights_are_gathered_layer_by_layer() -> None:
    gathered = 20 + 2 * 80 // 8
    assert estimate_memory(COST, "zero3", 8, 4, bf16=False).working_copies == 4 * gathered * MILLION
    assert estimate_memory(COST, "zero3", 1, 4, bf16=False).working_copies == 0


def test_chunked_loss_never_has_more_logits_than_a_chunk() -> None:
    cost = replace(COST, max_logit_bytes=3 * MILLION)
    assert [estimate_memory(cost, "ddp", 1, size, bf16=True).logits for size in (4, 8)] == [2 * MILLION, 3 * MILLION]


def test_evaluation_memory_is_what_exceeds_the_memory_that_training_frees() -> None:
    passing = 400 + 180 + 4 + 2
    more, less = (replace(COST, evaluation_bytes=(passing + each) * MILLION) for each in (7, -7))
    assert estimate_memory(more, "ddp", 1, 4, bf16=True).evaluation == 7 * MILLION
    assert estimate_memory(less, "ddp", 1, 4, bf16=True).evaluation == 0
