"""What a model asks of a machine is counted off the model itself."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tiny import make_bert, make_gpt2

from llmkit.config.loading import load_recipe
from llmkit.runs.model_cost import SCORED_LOGIT_BYTES, measure_model_cost
from llmkit.training.forecast import ModelCost


def describe(network: Any, *overrides: str, scored: float = 0.0) -> ModelCost:
    task: Any = SimpleNamespace(output_share=1.0, count_scored_logits=lambda network: scored)
    recipe = load_recipe(None, ["train.block_size=16", "train.global_batch_size=4", *overrides])
    return measure_model_cost(network, recipe, task, bf16=False, on_cpu=True)


def test_weights_are_those_of_the_model_and_frozen_ones_are_not_trained() -> None:
    model = make_gpt2()
    model.transformer.wte.weight.requires_grad = False
    work = describe(model)
    n_weights = sum(weight.numel() for weight in model.parameters())
    assert (work.n_weights, work.n_trained) == (n_weights, n_weights - 50 * 32)
    assert (work.n_embedded, work.n_layers, work.tokens_per_step) == (50 * 32, 2, 64)


@pytest.mark.parametrize("make", [make_gpt2, make_bert])
def test_matrices_of_products_are_those_that_a_forward_pass_multiplies(make: Any) -> None:
    model = make().eval()
    used: set[int] = set()
    linear, addmm = torch.nn.functional.linear, torch.addmm
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("torch.nn.functional.linear", lambda x, w, b=None: used.add(w.data_ptr()) or linear(x, w, b))
        patch.setattr("torch.addmm", lambda b, x, w: used.add(w.data_ptr()) or addmm(b, x, w))
        model(torch.arange(8)[None])
    products = sum(weight.numel() for weight in model.parameters() if weight.data_ptr() in used)
    assert describe(model).n_multiplied == products


def test_checkpointed_layers_keep_less_and_compute_a_third_more() -> None:
    model = make_gpt2()
    plain, again = describe(model), describe(model, "train.gradient_checkpointing=true")
    assert again.activation_bytes < plain.activation_bytes
    assert (plain.passes, again.passes) == (1.0, pytest.approx(4 / 3))
    assert plain.flops_per_token == again.flops_per_token


def test_moments_follow_the_optimizer_and_dropout_and_scoring_take_memory() -> None:
    n_weights = sum(weight.numel() for weight in make_gpt2().parameters())
    assert describe(make_gpt2()).moment_bytes == 8 * n_weights
    assert describe(make_gpt2(), "optim.name=sgd").moment_bytes == 0
    assert describe(make_gpt2(dropout=0.1)).activation_bytes > describe(make_gpt2()).activation_bytes
    assert describe(make_gpt2(), scored=100.0).evaluation_bytes == 100 * SCORED_LOGIT_BYTES
