"""Steps and evaluations are planned to fit into `train.max_minutes`."""

from dataclasses import replace

import pytest

from llmkit.training.time_budget import (
    RESERVE,
    Costs,
    LengthRequest,
    PhaseSeconds,
    RunLength,
    calibration_step,
    fit_length,
    is_last_calibration,
    next_calibration,
)

REQUEST = LengthRequest(seconds=100.0, n_held_out=500, max_eval_samples=512, eval_steps=None, save_steps=None)
COSTS = Costs(step=0.1, eval_block=0.001, final_score=1.0, sample=0.05, save=0.05, finish=1.0)


def seconds_of(length: RunLength, request: LengthRequest, costs: Costs, n_done: int = 0) -> tuple[float, float]:
    """(training, everything else) of a run of this length, counted step by step."""
    steps = range(n_done + 1, length.n_steps + 1)
    n_evaluations = sum(step % length.eval_steps == 0 or step == length.n_steps for step in steps)
    saves = sum(step % length.save_steps == 0 or step == length.n_steps for step in steps)
    evaluation = min(request.n_held_out, length.max_eval_samples) * costs.eval_block + costs.sample
    others = n_evaluations * evaluation + saves * costs.save + length.final_share * costs.final_score + costs.finish
    return len(steps) * costs.step, others


@pytest.mark.parametrize("seconds", [30.0, 100.0, 3600.0])
@pytest.mark.parametrize("block", [0.0, 1e-4, 1e-2, 1.0])
@pytest.mark.parametrize("n_held_out", [0, 5, 500, 100_000])
@pytest.mark.parametrize(("elapsed", "n_done"), [(4.0, 0), (8.0, 40)])
def test_a_run_fills_its_time_and_trains_for_most_of_it(
    seconds: float, block: float, n_held_out: int, elapsed: float, n_done: int
) -> None:
    request = replace(REQUEST, seconds=seconds, n_held_out=n_held_out)
    costs = replace(COSTS, eval_block=block, final_score=2 * block * n_held_out)
    length = fit_length(request, costs, elapsed, n_done)
    training, others = seconds_of(length, request, costs, n_done)
    total = elapsed + training + others
    least = 8 * 3 * block  # the fewest blocks of an evaluation and of the final score
    assert total <= seconds + 0.2 + least
    assert total >= (1 - RESERVE) * (0.97 * seconds - 1 - 0.02 * seconds)
    assert training >= (1 - RESERVE) * 0.85 * (seconds - elapsed) - costs.finish - least


def test_values_that_the_recipe_sets_are_kept() -> None:
    request = replace(REQUEST, eval_steps=7, save_steps=3)
    length = fit_length(request, COSTS, 0.0)
    assert (length.eval_steps, length.save_steps) == (7, 3)
    training, others = seconds_of(length, request, COSTS)
    assert training + others == pytest.approx(100 * (1 - RESERVE), abs=2)


def test_expensive_evaluations_become_smaller_and_fewer() -> None:
    cheap = fit_length(REQUEST, COSTS, 0.0)
    dear = fit_length(REQUEST, replace(COSTS, eval_block=0.1, final_score=50.0), 0.0)
    assert cheap.final_share == 1
    assert cheap.max_eval_samples == 500
    assert cheap.n_steps // cheap.eval_steps >= 10
    assert dear.max_eval_samples < 30
    assert 0.05 < dear.final_share < 0.2
    assert dear.n_steps // dear.eval_steps < 10


def test_budget_that_is_spent_still_allows_one_step() -> None:
    assert fit_length(REQUEST, COSTS, elapsed=200.0, n_done=30).n_steps == 31


def test_second_plan_follows_after_a_twentieth_of_the_steps() -> None:
    assert [calibration_step(n) for n in (1, 19, 200)] == [1, 1, 10]


def test_seconds_are_described_by_phase() -> None:
    spent = PhaseSeconds(start=4.0, training=30.0, evaluation=4.0, saving=0.01, finish=2.0)
    assert spent.total == pytest.approx(40.01)
    assert spent.describe() == "40.0 s: training 30.0 (75%), start 4.0, evaluation 4.0, finish 2.0"


def test_run_that_takes_longer_than_its_limit_says_so_with_both_times() -> None:
    spent = PhaseSeconds(start=50.0, training=12.0)
    assert spent.describe_overrun(1.1) is None
    assert spent.describe_overrun(61.9 / 60) is None
    output = spent.describe_overrun(1)
    assert output is not None and output.startswith(
        "the run took 62.0 s, longer than train.max_minutes=1 allows (60 s)"
    )


@pytest.mark.parametrize(
    ("step", "seconds", "following"),
    [
        (50, [0.1, 0.1], 500),
        (50, [0.1, 0.106], 500),
        (50, [0.1, 0.2], 100),
        (50, [0.1, 0.05], 100),
        (100, [0.1, 0.2, 0.1], 150),
        (150, [0.1, 0.2, 0.1, 0.1], 500),
        (160, [0.1, 0.2], 500),
        (500, [0.1, 0.1, 0.1], None),
        (700, [0.1, 0.2, 0.1], None),
    ],
)
def test_plan_is_repeated_while_step_times_differ_and_halfway(
    step: int, seconds: list[float], following: int | None
) -> None:
    assert next_calibration(1000, step, seconds) == following


def test_last_calibration_follows_others_after_the_first_fifth() -> None:
    assert is_last_calibration(1000, 500, [0.1, 0.1])
    assert not is_last_calibration(1000, 150, [0.1, 0.2])
    assert not is_last_calibration(3, 1, [0.1]), "the only one of a run of three steps"
