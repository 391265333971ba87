"""The files of a checkpoint bring back weights, moments, random numbers and an objective's state, bit by bit."""

import random
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny import assert_same_weights, make_gpt2

from llmkit.core import distributed
from llmkit.core.errors import ModelError
from llmkit.training.loss_window import LossWindow
from llmkit.training.saving import (
    gather_states,
    load_objective_state,
    load_random,
    load_states,
    load_weights,
)


def train(model: torch.nn.Module, optimizer: torch.optim.Optimizer, n_steps: int) -> None:
    for _ in range(n_steps):
        optimizer.zero_grad()
        model(torch.arange(8)[None], labels=torch.arange(8)[None]).loss.backward()
        optimizer.step()


def make(seed: int, rate: float = 1e-2) -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    model = make_gpt2(seed)
    return model, torch.optim.AdamW(model.parameters(), rate)


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Path, torch.nn.Module, torch.optim.Optimizer]:
    model, optimizer = make(0)
    train(model, optimizer, 2)
    window = LossWindow()
    window.add_sums({"lm": torch.tensor(1.5)})
    objective = SimpleNamespace(state={"hidden": torch.arange(12.0).view(1, 2, 6)})
    states = gather_states(model, optimizer, window, objective, 6)
    assert states.window_sums == {"lm": 1.5}
    states.write(tmp_path, model)
    return tmp_path, model, optimizer


def test_training_goes_on_from_the_files_as_if_it_had_not_stopped(
    saved: tuple[Path, torch.nn.Module, torch.optim.Optimizer],
) -> None:
    folder, model, optimizer = saved
    again, its = make(7)
    load_weights(again, folder)
    load_states(folder, its)
    for each, mover in ((model, optimizer), (again, its)):
        train(each, mover, 2)
    assert_same_weights(model.state_dict(), again.state_dict())


def test_rate_is_that_of_the_recipe_and_not_of_the_checkpoint(
    saved: tuple[Path, torch.nn.Module, torch.optim.Optimizer],
) -> None:
    _, optimizer = make(0, rate=0.5)
    load_states(saved[0], optimizer)
    assert [group["lr"] for group in optimizer.param_groups] == [0.5]
    assert all(state["step"] == 2 for state in optimizer.state.values())


def test_random_numbers_go_on_and_begin_anew_on_another_number_of_ranks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def draw() -> tuple[float, float, float]:
        return random.random(), float(np.random.rand()), float(torch.rand(()))

    model, optimizer = make(0)
    states = gather_states(model, optimizer, LossWindow(), SimpleNamespace(state={}), 1)
    states.write(tmp_path, model)
    expected = draw()
    draw()
    load_random(tmp_path, seed=3)
    assert draw() == expected
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    load_random(tmp_path, seed=3)
    torch_draw = torch.rand(())
    assert torch_draw == torch.rand((), generator=torch.Generator().manual_seed(3))


def test_state_of_an_objective_is_brought_back_and_one_without_leaves_no_file(
    saved: tuple[Path, torch.nn.Module, torch.optim.Optimizer], tmp_path_factory: pytest.TempPathFactory
) -> None:
    objective = SimpleNamespace(state={})
    load_objective_state(saved[0], objective)
    assert torch.equal(objective.state["hidden"], torch.arange(12.0).view(1, 2, 6))
    load_objective_state(tmp_path_factory.mktemp("other"), objective)
    assert len(objective.state) == 1


def test_weights_of_another_shape_of_model_are_refused_by_name(
    saved: tuple[Path, torch.nn.Module, torch.optim.Optimizer],
) -> None:
    config = saved[1].config.__class__(**{**saved[1].config.to_dict(), "n_layer": 3})
    larger = type(saved[1])(config)
    with pytest.raises(ModelError, match=r"transformer\.h\.2\.") as caught:
        load_weights(larger, saved[0])
    assert caught.value.problems[0].where == str(saved[0])
