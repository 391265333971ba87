"""Trials before the first step end in time on machines of any speed."""

import time
from typing import Any

import pytest
import torch
from tiny import make_gpt2

from llmkit.config.optim import Optim
from llmkit.datasets.blocks import Blocks
from llmkit.tasks.clm.objective import CausalLM
from llmkit.tokens.store import Split
from llmkit.training.batches import BatchPlan
from llmkit.training.trial import Trial

CPU = torch.device("cpu")


class Slow:
    """An objective with additional seconds per micro-batch, which may run out of memory."""

    def __init__(self, seconds: float, *, fits: bool = True) -> None:
        self.inner, self.seconds, self.fits, self.n_called = CausalLM(pad_token_id=0), seconds, fits, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def sum_losses(self, model: Any, batch: Any) -> dict[str, torch.Tensor]:
        self.n_called += 1
        time.sleep(self.seconds)
        if not self.fits:
            raise MemoryError
        return self.inner.sum_losses(model, batch)


@pytest.mark.parametrize(("budget", "at_most"), [(0.0, 2), (0.5, 4)])
def test_slow_steps_are_timed_within_the_budget_and_one_step(tiny_split: Split, budget: float, at_most: int) -> None:
    slow = Slow(0.2)
    trial = Trial(make_gpt2(), slow, Blocks(tiny_split, 16, 0), Optim(), "fp32", CPU)
    measured = trial.measure(BatchPlan(4, 4, 1), budget)
    assert 2 <= slow.n_called <= at_most
    assert measured.compute >= 0.2
    assert 0 < measured.optimizer < measured.compute


def test_search_for_a_micro_batch_that_fits_ends_in_time(tiny_split: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of what was tried last is taken, untried, and the batch of the step stays."""
    monkeypatch.setattr("llmkit.training.trial.MAX_FIT_SECONDS", 0.5)
    slow = Slow(0.3, fits=False)
    trial = Trial(make_gpt2(), slow, Blocks(tiny_split, 16, 0), Optim(), "fp32", CPU)
    fitting = trial.fit(BatchPlan(64, 64, 1), may_cut=True)
    assert slow.n_called == 2
    assert fitting == BatchPlan(64, 16, 1)
