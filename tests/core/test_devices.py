"""The choice of a device, with a mocked list of devices, as no test machine has an Apple GPU.

The alignment of weights in memory.
"""

from collections.abc import Iterator

import pytest
import torch
from tiny import assert_same_weights, make_gpt2
from torch import nn

from llmkit.core.devices import (
    align_weights,
    describe_gpu,
    free_bytes,
    peak_bytes,
    pick_device,
    release_memory,
    synchronize,
)

CPU, MPS = torch.device("cpu"), torch.device("mps")


@pytest.fixture
def on_a_mac(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The calls of torch.mps."""
    called: list[str] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: 12 << 30)
    monkeypatch.setattr(torch.mps, "driver_allocated_memory", lambda: 2 << 30)
    for name in ("synchronize", "empty_cache"):
        monkeypatch.setattr(torch.mps, name, lambda name=name: called.append(name))
    yield called


def test_apple_gpu_is_used_and_reports_its_memory(on_a_mac: list[str]) -> None:
    assert pick_device() == MPS
    assert (free_bytes(MPS), peak_bytes(), describe_gpu()) == (10 << 30, 2 << 30, "Apple GPU (MPS)")
    synchronize(MPS)
    release_memory(MPS)
    assert on_a_mac == ["synchronize", "empty_cache"]


@pytest.mark.usefixtures("on_a_mac")
def test_several_ranks_use_the_cpu_of_a_mac(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert pick_device() == CPU


@pytest.mark.usefixtures("on_a_mac")
def test_nvidia_comes_before_apple(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert pick_device().type == "cuda"


def test_cpu_is_used_without_a_gpu() -> None:
    assert pick_device() == CPU
    assert (free_bytes(CPU), describe_gpu()) == (None, None)
    synchronize(CPU)
    release_memory(CPU)


def place_as_in_a_file(model: nn.Module) -> None:
    """Each weight four bytes after an aligned address."""
    for weight in model.parameters():
        room = torch.empty(weight.numel() + 1)
        room[1:] = weight.data.flatten()
        weight.data = room[1:].view_as(weight)


def test_unaligned_weights_are_copied_without_a_change() -> None:
    model = make_gpt2()
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    place_as_in_a_file(model)
    assert all(weight.data_ptr() % 64 for weight in model.parameters())
    align_weights(model)
    assert not any(weight.data_ptr() % 64 for weight in model.parameters())
    assert_same_weights(model.state_dict(), before)
    assert model.lm_head.weight is model.transformer.wte.weight
