"""What is compiled computes the same, and what a trial finds fastest is taken."""

import math
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tiny import make_bert, make_documents, make_gpt2, make_pairs, make_sentence_split, make_split
from torch import Tensor

from llmkit.config.optim import Optim
from llmkit.core import distributed
from llmkit.datasets.blocks import Blocks
from llmkit.models.kernels.optimized import optimized
from llmkit.tasks.clm.objective import CausalLM
from llmkit.tasks.mlm.objective import MaskedLM
from llmkit.training import trial
from llmkit.training.batches import BatchPlan
from llmkit.training.compiling import AUTO_CANDIDATES, Work, find_fastest
from llmkit.training.trial import measure_step_seconds

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")


def find(**seconds: float | Exception) -> tuple[str, str]:
    def measure(way: str) -> float:
        found = seconds[way]
        if isinstance(found, Exception):
            raise found
        return found

    return find_fastest(measure)


def test_fastest_way_is_taken_if_it_gains_enough() -> None:
    best, why = find(none=1.0, layers=0.8, whole=0.5)
    assert best == "whole"
    assert "compiled one by one 1.25 times" in why and "all compiled 2.00 times" in why
    assert find(none=1.0, layers=0.8, whole=0.9)[0] == "layers"
    assert find(none=1.0, layers=0.98, whole=0.96)[0] == "none"  # within the noise
    assert find(none=1.0, layers=1.5, whole=1.1)[0] == "none"


def test_way_that_fails_is_left_out_and_said() -> None:
    best, why = find(none=1.0, layers=0.8, whole=AssertionError("no compiler"))
    assert best == "layers"
    assert "all compiled failed" in why and "one by one 1.25 times" in why


def test_step_that_fails_uncompiled_is_no_matter_of_ways() -> None:
    with pytest.raises(RuntimeError, match="out of memory"):
        find(none=RuntimeError("out of memory"), layers=1.0, whole=1.0)


def test_slowest_rank_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    others = iter([1.0, 2.0, math.inf])
    monkeypatch.setattr(distributed, "gather", lambda value: [value, next(others)])
    best, why = find(none=1.0, layers=0.5, whole=0.4)
    assert best == "none" and "0.50 times" in why and "all compiled failed" in why
    monkeypatch.setattr(distributed, "gather", lambda value: [value, math.inf])
    with pytest.raises(RuntimeError, match="on another rank"):
        find(none=1.0, layers=0.5, whole=0.4)


@pytest.mark.filterwarnings("ignore")  # each of the compiler's own would be an error
@pytest.mark.parametrize(("kind", "way"), [("gpt2", "layers"), ("gpt2", "whole"), ("bert", "whole")])
def test_compiled_losses_and_gradients_are_those_of_plain_torch(tmp_path: Path, kind: str, way: str) -> None:
    make: Callable[[], torch.nn.Module] = make_gpt2 if kind == "gpt2" else make_bert
    if kind == "gpt2":
        objective, samples = CausalLM(0), Blocks(make_split(tmp_path / "train", n_documents=9, length=40), 16, 0)
    else:
        objective = MaskedLM(0, "nsp")
        samples = make_pairs(make_sentence_split(tmp_path / "train", make_documents(8, 1, 20)), True, block_size=48)
    batch = objective.collate([samples[number] for number in range(4)])
    found = {}
    for each in ("none", way):
        model = make().train()
        if way == "whole":  # each layer is compiled anew, and the second takes as long as the first
            layers = model.get_submodule("transformer.h" if kind == "gpt2" else "bert.encoder.layer")
            del layers[1:]
        optimized(model, "fp32", CPU)
        work = Work(model, objective, each)
        sums: dict[str, Tensor] = work(batch)
        torch.stack(list(sums.values())).sum().backward()
        found[each] = sums, {name: weight.grad for name, weight in model.named_parameters()}
    torch.compiler.reset()
    torch.testing.assert_close(found[way][0], found["none"][0])
    torch.testing.assert_close(found[way][1], found["none"][1], rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore")
def test_trial_compiles_a_copy(tmp_path: Path) -> None:
    model, objective = make_gpt2(), CausalLM(0)
    samples = Blocks(make_split(tmp_path / "train", n_documents=9, length=40), 16, 0)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    calls: list[str] = []

    def measure(way: str) -> float:
        calls.append(way)
        return measure_step_seconds(model, objective, samples, Optim(), BatchPlan(4, 4, 1), "fp32", CPU, 0.0, way).total

    best, why = find_fastest(measure)
    assert calls == list(AUTO_CANDIDATES) and best in AUTO_CANDIDATES
    assert why.count("times as fast") == len(AUTO_CANDIDATES) - 1, why
    torch.testing.assert_close(dict(model.state_dict()), before, rtol=0, atol=0)
    assert all(module._compiled_call_impl is None for module in model.modules())


@pytest.mark.filterwarnings("ignore")
def test_nothing_of_a_trial_stays_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copies: list[weakref.ref[torch.nn.Module]] = []

    def watch(model: torch.nn.Module, *more: object) -> Work:
        copies.append(weakref.ref(model))
        return Work(model, *more)  # type: ignore[arg-type]  # just as it was called

    monkeypatch.setattr(trial, "Work", watch)
    model, samples = make_gpt2(), Blocks(make_split(tmp_path / "train", n_documents=9, length=40), 16, 0)
    measure_step_seconds(model, CausalLM(0), samples, Optim(), BatchPlan(4, 4, 1), "fp32", CPU, 0.0, "whole")
    assert len(copies) == 1 and copies[0]() is None


def test_losses_outlive_the_next_step() -> None:
    """As CUDA graphs write each step's losses where they wrote the last one's."""
    place = torch.zeros(())

    class Graph(CausalLM):
        def sum_losses(self, model: torch.nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
            return {"loss": place.add_(1)}

    work = Work(make_gpt2(), Graph(0))
    first, second = work({})["loss"], work({})["loss"]
    assert (first.item(), second.item()) == (1.0, 2.0)
