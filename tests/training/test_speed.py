"""FLOPs of a token, and the choice of precision."""

import pytest
import torch
from tiny import make_gpt2

from llmkit.errors import UsageError
from llmkit.models.kernels import choose_kernels
from llmkit.training import speed
from llmkit.training.speed import choose_precision, flops_a_token
from llmkit.training.trial import plan_minutes


def test_flops_count_the_tied_output_layer_and_attention_but_no_look_ups() -> None:
    d, layers, vocab, block = 32, 2, 50, 16
    matrices = layers * 12 * d * d + vocab * d
    assert flops_a_token(make_gpt2(), block) == 6 * matrices + 12 * layers * d * block


@pytest.mark.parametrize(("gain", "expected"), [(1.1, "fp32"), (2.5, "bf16")])
def test_bf16_is_taken_on_a_cpu_only_where_it_gains(
    monkeypatch: pytest.MonkeyPatch, gain: float, expected: str
) -> None:
    rates = {torch.bfloat16: gain, torch.float32: 1.0}
    monkeypatch.setattr(speed, "measure_matmul", lambda dtype, device: rates[dtype])
    precision, why = choose_precision("auto", torch.device("cpu"))
    assert precision == expected
    assert f"{gain:.1f} times" in why


@pytest.mark.parametrize(
    ("kind", "capability", "has_it"), [("cuda", (9, 0), True), ("cuda", (7, 5), False), ("cpu", None, False)]
)
def test_tf32_is_for_gpus_that_have_it(
    monkeypatch: pytest.MonkeyPatch, kind: str, capability: tuple[int, int] | None, has_it: bool
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    if has_it:
        assert choose_precision("tf32", torch.device(kind))[0] == "tf32"
    else:
        with pytest.raises(UsageError, match="no tf32"):
            choose_precision("tf32", torch.device(kind))


def test_tf32_ends_with_the_model_that_wants_it() -> None:
    for precision, products in (("tf32", "high"), ("fp32", "highest")):
        choose_kernels(make_gpt2(), precision, torch.device("cpu"))
        assert torch.get_float32_matmul_precision() == products


def test_minutes_hold_the_steps_and_their_evaluations() -> None:
    assert plan_minutes(1.0, step_seconds=0.1, evaluation_seconds=0.5) == (550, 55)
    assert plan_minutes(1.0, step_seconds=0.1, evaluation_seconds=1.0, eval_steps=10) == (295, 10)
    assert plan_minutes(1.0, step_seconds=0.1, evaluation_seconds=0.0) == (600, 60)


def test_evaluations_that_take_long_become_fewer_and_leave_the_time_to_the_steps() -> None:
    assert plan_minutes(0.3, step_seconds=0.4, evaluation_seconds=4.0) == (35, 35)
    assert plan_minutes(0.001, step_seconds=10.0, evaluation_seconds=1.0) == (1, 1)
