"""How a model lies on the ranks; on one rank here, on several in tests/runs/test_ranks.py."""

from copy import deepcopy
from typing import Any

import pytest
import torch
from tiny import make_gpt2, make_recurrent

from llmkit.config.optim import Optim
from llmkit.tasks.clm.objective import CausalLM
from llmkit.training.engines import (
    RESHARDS,
    gather_full_params,
    gather_optimizer,
    gather_weights,
    is_sharded,
    load_optimizer,
    parallelize,
    refuse_engine,
)


@pytest.mark.parametrize("engine", ["ddp", *RESHARDS])
def test_engine_refuses_muon_where_matrices_lie_in_shards_and_names_one_that_does_not(engine: str) -> None:
    assert refuse_engine(engine, make_gpt2(), Optim()) is None
    refusal = refuse_engine(engine, make_gpt2(), Optim(name="muon"))
    assert (refusal is None) is (engine == "ddp")
    assert refusal is None or "--engine ddp" in refusal.problems[0].hint


@pytest.mark.parametrize("engine", RESHARDS)
def test_model_without_a_list_of_layers_is_refused_by_its_family(engine: str) -> None:
    refusal = refuse_engine(engine, make_recurrent("gru"), Optim())
    assert refusal is not None
    assert "gru has not" in refusal.problems[0].what
    assert refuse_engine("ddp", make_recurrent("gru"), Optim()) is None


def test_one_rank_gets_the_losses_of_the_objective_and_whole_weights() -> None:
    model, objective = make_gpt2(), CausalLM(pad_token_id=0)
    batch = objective.collate([(torch.arange(1, 9).numpy(), torch.arange(2, 10).numpy())])
    expected = objective.sum_losses(model, batch)
    for engine in ("ddp", *RESHARDS):
        work = parallelize(model, objective, engine, torch.device("cpu"), "none")
        found = work(batch)
        assert {name: value.item() for name, value in found.items()} == {
            name: value.item() for name, value in expected.items()
        }
        assert not is_sharded(work)
        with gather_full_params(work):
            pass
        assert gather_weights(model).keys() == model.state_dict().keys()


def test_gathered_optimizer_makes_a_new_one_step_as_the_old_one() -> None:
    def step(optimizer: Any, weight: torch.nn.Parameter) -> None:
        weight.grad = torch.full_like(weight, 0.5)
        optimizer.step()

    weights = [torch.nn.Parameter(torch.ones(2, 2)) for _ in range(2)]
    first, second = (torch.optim.AdamW([weight], 0.1) for weight in weights)
    step(first, weights[0])
    load_optimizer(second, deepcopy(gather_optimizer(first)))
    with torch.no_grad():
        weights[1].copy_(weights[0])
    for optimizer, weight in zip((first, second), weights, strict=True):
        step(optimizer, weight)
    assert torch.equal(weights[0], weights[1])
