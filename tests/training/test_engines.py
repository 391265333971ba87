"""Compiled steps compute the same, and `auto` picks the fastest mode of a trial.

Models on one rank; tests/runs/test_ranks.py has several.
"""

import math
import weakref
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import make_bert, make_documents, make_gpt2, make_pairs, make_recurrent, make_sentence_split, make_split
from torch import Tensor

from llmkit.config.optim import Optim
from llmkit.core import distributed
from llmkit.datasets.blocks import Blocks
from llmkit.models.kernels.optimized import optimized
from llmkit.tasks.clm.objective import CausalLM
from llmkit.tasks.mlm.objective import MaskedLM
from llmkit.training import trial
from llmkit.training.batches import BatchPlan
from llmkit.training.engines import (
    AUTO_CANDIDATES,
    RESHARDS,
    LossModule,
    choose_fastest_mode,
    gather_full_params,
    is_sharded,
    load_optimizer,
    parallelize,
    refuse_engine,
    unshard,
)
from llmkit.training.trial import Trial

CPU = torch.device("cpu")


def find(**seconds: float | Exception) -> tuple[str, str]:
    def measure(way: str) -> float:
        found = seconds[way]
        if isinstance(found, Exception):
            raise found
        return found

    return choose_fastest_mode(measure)


def test_fastest_mode_is_chosen_if_it_gains_enough() -> None:
    best, why = find(none=1.0, layers=0.8, whole=0.5)
    assert best == "whole"
    assert "compiled one by one 1.25 times" in why and "all compiled 2.00 times" in why
    assert find(none=1.0, layers=0.8, whole=0.9)[0] == "layers"
    assert find(none=1.0, layers=0.98, whole=0.96)[0] == "none"  # within the noise
    assert find(none=1.0, layers=1.5, whole=1.1)[0] == "none"


def test_mode_that_fails_is_skipped_and_reported() -> None:
    best, why = find(none=1.0, layers=0.8, whole=AssertionError("no compiler"))
    assert best == "layers"
    assert "all compiled failed" in why and "one by one 1.25 times" in why


def test_error_of_the_uncompiled_step_is_raised() -> None:
    with pytest.raises(RuntimeError, match="out of memory"):
        find(none=RuntimeError("out of memory"), layers=1.0, whole=1.0)


def test_compile_mode_is_the_fastest_on_the_slowest_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    others = iter([1.0, 2.0, math.inf])
    monkeypatch.setattr(distributed, "gather", lambda value: [value, next(others)])
    best, why = find(none=1.0, layers=0.5, whole=0.4)
    assert best == "none" and "0.50 times" in why and "all compiled failed" in why
    monkeypatch.setattr(distributed, "gather", lambda value: [value, math.inf])
    with pytest.raises(RuntimeError, match="on another rank"):
        find(none=1.0, layers=0.5, whole=0.4)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # each of the compiler's own would be an error
@pytest.mark.parametrize(("kind", "way"), [("gpt2", "layers"), ("gpt2", "whole"), ("bert", "whole")])
def test_compiled_losses_and_gradients_are_those_of_plain_torch(tmp_path: Path, kind: str, way: str) -> None:
    make: Callable[[], torch.nn.Module] = make_gpt2 if kind == "gpt2" else make_bert
    if kind == "gpt2":
        objective, samples = CausalLM(0), Blocks(make_split(tmp_path / "train", n_documents=9, length=40), 16, 0)
    else:
        objective = MaskedLM(0, "nsp")
        samples = make_pairs(make_sentence_split(tmp_path / "train", make_documents(8, 1, 20)), block_size=48)
    batch = objective.collate([samples[number] for number in range(4)])
    found = {}
    for each in ("none", way):
        model = make().train()
        if way == "whole":  # each layer is compiled anew, and the second takes as long as the first
            layers = model.get_submodule("transformer.h" if kind == "gpt2" else "bert.encoder.layer")
            del layers[1:]
        optimized(model, "fp32", CPU)
        work = LossModule(model, objective, each)
        sums: dict[str, Tensor] = work(batch)
        torch.stack(list(sums.values())).sum().backward()
        found[each] = sums, {name: weight.grad for name, weight in model.named_parameters()}
    torch.compiler.reset()
    torch.testing.assert_close(found[way][0], found["none"][0])
    torch.testing.assert_close(found[way][1], found["none"][1], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_trial_compiles_a_copy(tmp_path: Path) -> None:
    model, objective = make_gpt2(), CausalLM(0)
    samples = Blocks(make_split(tmp_path / "train", n_documents=9, length=40), 16, 0)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    calls: list[str] = []

    def measure(way: str) -> float:
        calls.append(way)
        return Trial(model, objective, samples, Optim(), "fp32", CPU).measure(BatchPlan(4, 4, 1), 0.0, way).total

    best, why = choose_fastest_mode(measure)
    assert calls == list(AUTO_CANDIDATES) and best in AUTO_CANDIDATES
    assert why.count("times as fast") == len(AUTO_CANDIDATES) - 1, why
    torch.testing.assert_close(dict(model.state_dict()), before, rtol=0, atol=0)
    assert all(module._compiled_call_impl is None for module in model.modules())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_trial_frees_its_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copies: list[weakref.ref[torch.nn.Module]] = []

    def watch(model: torch.nn.Module, *more: object) -> LossModule:
        copies.append(weakref.ref(model))
        return LossModule(model, *more)  # type: ignore[arg-type]  # just as it was called

    monkeypatch.setattr(trial, "LossModule", watch)
    model, samples = make_gpt2(), Blocks(make_split(tmp_path / "train", n_documents=9, length=40), 16, 0)
    Trial(model, CausalLM(0), samples, Optim(), "fp32", CPU).measure(BatchPlan(4, 4, 1), 0.0, "whole")
    assert len(copies) == 1 and copies[0]() is None


@pytest.mark.slow
def test_losses_stay_valid_after_the_next_step() -> None:
    """As CUDA graphs write each step's losses where they wrote the last one's."""
    place = torch.zeros(())

    class Graph(CausalLM):
        def sum_losses(self, model: torch.nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
            return {"loss": place.add_(1)}

    work = LossModule(make_gpt2(), Graph(0))
    first, second = work({})["loss"], work({})["loss"]
    assert (first.item(), second.item()) == (1.0, 2.0)


@pytest.mark.parametrize("engine", ["ddp", *RESHARDS])
def test_sharding_engine_refuses_muon_and_names_one_that_does_not_shard(engine: str) -> None:
    assert refuse_engine(engine, make_gpt2(), Optim()) is None
    refusal = refuse_engine(engine, make_gpt2(), Optim(name="muon"))
    assert (refusal is None) is (engine == "ddp")
    assert refusal is None or "--engine ddp" in refusal.problems[0].hint


@pytest.mark.parametrize("engine", RESHARDS)
def test_model_without_a_list_of_layers_is_refused_by_its_family(engine: str) -> None:
    refusal = refuse_engine(engine, make_recurrent("gru"), Optim())
    assert refusal is not None
    assert "gru has no list of layers" in refusal.problems[0].what
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
        assert unshard(model.state_dict()).keys() == model.state_dict().keys()


def test_optimizer_with_loaded_state_steps_like_the_old_one() -> None:
    def step(optimizer: Any, weight: torch.nn.Parameter) -> None:
        weight.grad = torch.full_like(weight, 0.5)
        optimizer.step()

    weights = [torch.nn.Parameter(torch.ones(2, 2)) for _ in range(2)]
    first, second = (torch.optim.AdamW([weight], 0.1) for weight in weights)
    step(first, weights[0])
    load_optimizer(second, deepcopy(unshard(first.state_dict())))
    with torch.no_grad():
        weights[1].copy_(weights[0])
    for optimizer, weight in zip((first, second), weights, strict=True):
        step(optimizer, weight)
    assert torch.equal(weights[0], weights[1])
