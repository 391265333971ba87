"""Where weights lie in memory."""

import torch
from tiny import assert_same_weights, make_gpt2
from torch import nn

from llmkit.training.memory import align_weights


def place_as_in_a_file(model: nn.Module) -> None:
    """Each weight four bytes behind where torch would put it."""
    for weight in model.parameters():
        room = torch.empty(weight.numel() + 1)
        room[1:] = weight.data.flatten()
        weight.data = room[1:].view_as(weight)


def test_weights_of_a_file_get_memory_as_torch_allocates_it_and_stay_what_they_are() -> None:
    model = make_gpt2()
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    place_as_in_a_file(model)
    assert all(weight.data_ptr() % 64 for weight in model.parameters())
    align_weights(model)
    assert not any(weight.data_ptr() % 64 for weight in model.parameters())
    assert_same_weights(model.state_dict(), before)
    assert model.lm_head.weight is model.transformer.wte.weight
