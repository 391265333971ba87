"""FLOPs of a token, and the choice of precision."""

import math

import pytest
import torch
from tiny import make_gpt2

from llmkit.core.errors import UsageError
from llmkit.core.machine import ThreadCount
from llmkit.models.kernels.optimized import optimized
from llmkit.training import speed
from llmkit.training.speed import choose_precision, choose_threads, flops_per_token


def test_flops_count_the_tied_output_layer_and_attention_but_no_look_ups() -> None:
    d, layers, vocab, block = 32, 2, 50, 16
    matrices = layers * 12 * d * d + vocab * d
    assert flops_per_token(make_gpt2(), block) == 6 * matrices + 12 * layers * d * block


CPU = torch.device("cpu")


@pytest.mark.parametrize(("gain", "expected", "reason"), [(0.5, "fp32", "50% of"), (2.5, "bf16", "2.5 times as fast")])
def test_bf16_is_taken_on_a_cpu_that_has_it_only_where_it_gains(
    monkeypatch: pytest.MonkeyPatch, gain: float, expected: str, reason: str
) -> None:
    rates = {torch.bfloat16: gain, torch.float32: 1.0}
    monkeypatch.setattr(speed, "has_bf16_instructions", lambda: True)
    monkeypatch.setattr(speed, "measure_matmul", lambda dtype, device: rates[dtype])
    precision, why = choose_precision("auto", CPU)
    assert precision == expected
    assert reason in why


def test_a_cpu_without_bf16_instructions_is_not_timed_and_trains_in_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> float:
        raise AssertionError("nothing may be timed")

    monkeypatch.setattr(speed, "measure_matmul", refuse)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, "avx512_bf16": False})
    assert choose_precision("auto", CPU) == ("fp32", "this CPU has no bf16 instructions")
    precision, why = choose_precision("bf16", CPU)
    assert precision == "bf16"
    assert "no bf16 instructions" in why


@pytest.mark.parametrize("level", ["AVX2", "DEFAULT"])
def test_a_process_that_is_held_to_older_instructions_has_no_bf16(monkeypatch: pytest.MonkeyPatch, level: str) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: level)
    assert not speed.has_bf16_instructions()
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    assert speed.has_bf16_instructions()


class SlowProducts:
    """A clock that matrix products advance, at a fixed number of FLOP per second."""

    def __init__(self, rate: float) -> None:
        self.rate, self.now = rate, 0.0

    def time_product(self, shape: tuple[int, int, int], dtype: torch.dtype, device: torch.device) -> float:
        seconds = 2.0 * math.prod(shape) / self.rate
        self.now += seconds
        return seconds

    def perf_counter(self) -> float:
        return self.now


@pytest.mark.parametrize("rate", [1e8, 1e9, 1e11, 1e13])
def test_measuring_products_ends_in_time_on_machines_of_any_speed(monkeypatch: pytest.MonkeyPatch, rate: float) -> None:
    """At 1 GFLOP/s, which is bf16 on a CPU without instructions for it, the largest product would take 2 s."""
    slow = SlowProducts(rate)
    monkeypatch.setattr(speed, "_time_product", slow.time_product)
    monkeypatch.setattr(speed, "time", slow)
    measured = speed._measure_matmul(torch.bfloat16, CPU)
    assert measured == pytest.approx(rate)
    first = 2.0 * math.prod(speed.TRIAL_SHAPES[0]) / rate
    assert slow.now <= speed.TRIAL_SECONDS + 2 * first  # one before the clock starts, one that may pass the limit


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
        optimized(make_gpt2(), precision, torch.device("cpu"))
        assert torch.get_float32_matmul_precision() == products


@pytest.fixture
def two_threads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A machine of two threads, and to what their number was set."""
    numbers: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", numbers.append)
    monkeypatch.setattr(torch, "get_num_threads", lambda: numbers[-1] if numbers else 2)
    monkeypatch.setattr(speed, "thread_count", lambda: ThreadCount(None, "cores"))
    monkeypatch.setattr(speed, "THREADS_TRIAL_PAUSE", 0.0)
    return numbers


@pytest.mark.parametrize(
    ("both", "chosen"),
    [
        ([700.0], 2),
        ([400.0], 2),
        ([250.0, 250.0, 250.0], 1),
        ([250.0, 250.0, 700.0], 2),  # what was busy has ended
    ],
)
def test_fewer_threads_are_taken_only_where_they_are_faster_each_time(
    monkeypatch: pytest.MonkeyPatch, two_threads: list[int], both: list[float], chosen: int
) -> None:
    left = iter(both)
    monkeypatch.setattr(speed, "_measure_regions", lambda n: next(left) if n == 2 else 450.0)
    why = choose_threads(CPU, 2)
    assert torch.get_num_threads() == chosen
    assert (why is not None) == (chosen == 1)
    assert next(left, None) is None


def test_the_users_number_of_threads_is_kept_without_a_trial(
    monkeypatch: pytest.MonkeyPatch, two_threads: list[int]
) -> None:
    monkeypatch.setattr(speed, "thread_count", lambda: ThreadCount(2, "OMP_NUM_THREADS"))
    assert choose_threads(CPU, 2) is None
    assert not two_threads


def test_the_numbers_of_threads_that_are_tried_are_few(monkeypatch: pytest.MonkeyPatch, two_threads: list[int]) -> None:
    tried: list[int] = []
    monkeypatch.setattr(speed, "_measure_regions", lambda n: [tried.append(n), 100.0][1])
    assert choose_threads(CPU, 8) is None
    assert tried == [8, 7, 4, 1]
    assert not two_threads


def test_trials_leave_the_number_of_threads_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch.set_num_threads slows small models down even where it sets the number that is there."""
    monkeypatch.setattr(torch, "set_num_threads", lambda n: pytest.fail("it was called"))
    monkeypatch.setattr(speed, "thread_count", lambda: ThreadCount(None, "cores"))
    seen: list[int] = []
    measure = speed._measure_matmul
    monkeypatch.setattr(
        speed, "_measure_matmul", lambda *given: [seen.append(torch.get_num_threads()), measure(*given)][1]
    )
    before = torch.get_num_threads()
    speed._measure_rate.__wrapped__(torch.float32, CPU)
    monkeypatch.setattr(speed, "_measure_regions", lambda n: 100.0)
    assert choose_threads(CPU, before) is None
    assert (seen, torch.get_num_threads()) == ([1], before)


def test_peak_follows_the_number_of_threads_that_training_uses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "_measure_rate", lambda dtype, device: 10.0)
    for n_threads in (4, 3):  # before and after fewer threads were chosen
        monkeypatch.setattr(torch, "get_num_threads", lambda n=n_threads: n)
        assert speed.peak_flops("fp32", CPU) == 10.0 * n_threads
