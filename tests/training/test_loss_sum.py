"""The sum of losses does not show how a batch was cut."""

import torch

from llmkit.training.loss_sum import sum_wide


def test_sum_of_the_parts_is_the_sum_of_the_whole_to_the_last_digit_of_fp32() -> None:
    losses = torch.rand(10_000, generator=torch.Generator().manual_seed(0)) * 10
    whole = sum_wide(losses)
    assert whole.dtype == torch.float64
    for size in (1, 7, 1000):
        parts = torch.stack([sum_wide(part) for part in losses.split(size)]).sum()
        assert parts.float() == whole.float()


def test_gradient_goes_through_in_the_precision_of_the_losses() -> None:
    losses = torch.rand(5, requires_grad=True)
    sum_wide(losses).backward()
    assert losses.grad is not None
    assert losses.grad.dtype == torch.float32 and losses.grad.tolist() == [1.0] * 5
