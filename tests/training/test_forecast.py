"""Memory and time by arithmetic, against figures worked out by hand."""

from dataclasses import replace

import pytest

from llmkit.training.forecast import (
    ENGINES,
    Machine,
    ModelCost,
    choose_engine,
    count_bytes_sent,
    fit_sequences,
    forecast,
    measure_parts,
)

MILLION = 1_000_000
WORK = ModelCost(
    n_weights=100 * MILLION, n_trained=100 * MILLION, n_multiplied=90 * MILLION, n_embedded=20 * MILLION, n_layers=8,
    moment_bytes=800 * MILLION, flops_per_token=6e8, activation_bytes=1000, logit_bytes=500, max_logit_bytes=None,
    evaluation_bytes=0, block_size=1000, global_batch_size=64,
)  # fmt: skip
GPU = Machine(
    flops=1e14, hfu=0.5, is_cpu=False, n_bytes=10**10, link=1e11, network=1e10, framework=500 * MILLION, bf16=True
)


def test_adam_in_mixed_precision_is_sixteen_bytes_a_weight_and_two_for_the_copies() -> None:
    parts = measure_parts(WORK, "ddp", 1, 4, bf16=True)
    assert parts.weights + parts.gradients + parts.optimizer == 1600 * MILLION
    assert (parts.copies, parts.activations, parts.logits) == (180 * MILLION, 4 * MILLION, 2 * MILLION)
    assert parts.peak == 1786 * MILLION
    assert measure_parts(WORK, "ddp", 1, 4, bf16=False).copies == 0


@pytest.mark.parametrize(
    ("engine", "weights", "gradients", "optimizer"),
    [("ddp", 400, 400, 800), ("zero2", 400, 50, 100), ("zero3", 50, 50, 100), ("fsdp2", 50, 50, 100)],
)
def test_engines_divide_what_the_paper_says(engine: str, weights: int, gradients: int, optimizer: int) -> None:
    parts = measure_parts(WORK, engine, 8, 4, bf16=True)
    assert (parts.weights, parts.gradients, parts.optimizer) == tuple(
        each * MILLION for each in (weights, gradients, optimizer)
    )


def test_divided_weights_are_gathered_a_layer_at_a_time() -> None:
    gathered = 20 + 2 * 80 // 8
    assert measure_parts(WORK, "zero3", 8, 4, bf16=False).copies == 4 * gathered * MILLION
    assert measure_parts(WORK, "zero3", 1, 4, bf16=False).copies == 0


def test_loss_in_parts_never_has_more_logits_than_its_part() -> None:
    work = replace(WORK, max_logit_bytes=3 * MILLION)
    assert [measure_parts(work, "ddp", 1, size, bf16=True).logits for size in (4, 8)] == [2 * MILLION, 3 * MILLION]


def test_scoring_counts_where_it_takes_more_than_training_gives_free() -> None:
    passing = 400 + 180 + 4 + 2
    more, less = (replace(WORK, evaluation_bytes=(passing + each) * MILLION) for each in (7, -7))
    assert measure_parts(more, "ddp", 1, 4, bf16=True).evaluation == 7 * MILLION
    assert measure_parts(less, "ddp", 1, 4, bf16=True).evaluation == 0


def test_bytes_sent_are_those_of_a_ring() -> None:
    a_ring = 400 * MILLION * 7 / 8
    sent = {engine: count_bytes_sent(WORK, engine, 8, 3) / a_ring for engine in ENGINES}
    assert sent == {"ddp": 2, "zero2": 6, "fsdp2": 9, "zero3": 9}
    assert count_bytes_sent(WORK, "ddp", 1, 3) == 0


def test_step_takes_its_products_and_its_exchange() -> None:
    one, eight, more = (forecast(WORK, "ddp", n, GPU) for n in (1, 8, 16))
    assert one.seconds == pytest.approx(64_000 * 6e8 / 0.5e14)
    assert eight.seconds == pytest.approx(one.seconds / 8 + 2 * 400e6 * 7 / 8 / 1e11)
    sent = 2 * 400e6 * 15 / 16
    assert more.exchange_seconds == pytest.approx(sent / 8e10)  # eight network cards, each with an eighth
    assert forecast(WORK, "ddp", 16, replace(GPU, network=5e10)).exchange_seconds == pytest.approx(sent / 1e11)


def test_what_was_seen_of_activations_scales_with_the_micro_batch_and_the_state_does_not() -> None:
    parts = measure_parts(WORK, "ddp", 1, 4, bf16=True, activation_ratio=1.5)
    assert (parts.activations, parts.logits) == (6 * MILLION, 3 * MILLION)
    assert parts.state == measure_parts(WORK, "ddp", 1, 4, bf16=True).state


def test_most_sequences_fit_and_one_more_does_not() -> None:
    machine = replace(GPU, n_bytes=2_350 * MILLION)
    room = 0.95 * 2350 * MILLION
    peaks = [
        measure_parts(WORK, "zero2", 4, size, bf16=True, framework=machine.framework).peak
        for size in range(1, 17)
    ]  # fmt: skip
    assert fit_sequences(WORK, "zero2", 4, machine) == sum(peak <= room for peak in peaks)
    assert fit_sequences(WORK, "ddp", 1, replace(GPU, n_bytes=10**9)) == 0
    assert fit_sequences(WORK, "ddp", 1, replace(GPU, n_bytes=None)) is None


def test_micro_batch_that_is_given_is_refused_and_not_cut() -> None:
    small = replace(GPU, n_bytes=2_420 * MILLION)
    most = fit_sequences(WORK, "ddp", 1, small)
    assert most is not None
    assert 0 < most < 32
    assert forecast(WORK, "ddp", 1, small).fits
    assert not forecast(WORK, "ddp", 1, small, micro_batch_size=32).fits
    assert forecast(WORK, "ddp", 1, small, micro_batch_size=most).micro_batch_size == most


def test_engine_that_sends_least_is_taken_of_those_that_fit() -> None:
    def best(n_bytes: int) -> str | None:
        machine = replace(GPU, n_bytes=n_bytes)
        found = choose_engine([forecast(WORK, engine, 8, machine) for engine in ENGINES])
        return found.engine if found else None

    assert best(80 * 10**9) == "ddp"
    assert best(1_600 * MILLION) == "zero2"
    assert best(1_200 * MILLION) == "fsdp2"
    assert best(600 * MILLION) is None


def test_checkpointing_takes_less_memory_and_a_third_more_time() -> None:
    again = replace(WORK, passes=4 / 3)
    machine = Machine(1e12, 0.5, False, 10**12, None, None, 0, True)
    plain, checkpointed = (forecast(work, "ddp", 1, machine, 1) for work in (WORK, again))
    assert checkpointed.compute_seconds == pytest.approx(plain.compute_seconds * 4 / 3)
