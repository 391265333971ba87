"""Decisions before the first step, such as the compile mode."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from llmkit.config.loading import load_recipe
from llmkit.core import distributed
from llmkit.core.errors import EnvironmentFault, UsageError
from llmkit.runs import plan as run_plan
from llmkit.runs.plan import choose_compile_mode
from llmkit.tasks.synthetic import Vocabulary
from llmkit.tasks.table import TASKS
from llmkit.training.batches import BatchPlan
from llmkit.training.contract import MeasuredSeconds, Plan
from llmkit.training.speed import flops_per_token
from llmkit.training.trial import StepSeconds, Trial

GPU = torch.device("cuda")
LONG = 1e6


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The modes that were tried; `layers` is the fastest."""
    ways: list[str] = []

    def measure(trial: Trial, batches: BatchPlan, budget: float, compiled: str) -> StepSeconds:
        ways.append(compiled)
        return StepSeconds(0.5 if compiled == "layers" else 1.0, 0.0)

    monkeypatch.setattr(Trial, "measure", measure)
    return ways


def choose(*settings: str, device: torch.device = GPU, minutes: float = LONG, batches: BatchPlan | None = None) -> str:
    recipe = load_recipe(None, ["model.n_layer=2", "model.n_head=2", "model.n_embd=32", *settings])
    task: Any = TASKS[recipe.task].make_synthetic(recipe, Vocabulary(100))
    trial = run_plan.make_trial(recipe, task, task.build_model(), "fp32", device)
    return choose_compile_mode(recipe.train, trial, batches or BatchPlan(4, 4, 1), lambda: minutes)


def test_long_run_on_a_gpu_takes_the_fastest_mode_of_a_trial(tried: list[str]) -> None:
    assert choose() == "layers"
    assert tried == ["none", "layers", "whole"]


@pytest.mark.parametrize(
    ("settings", "more"),
    [
        ((), {"device": torch.device("cpu")}),
        ((), {"minutes": 14.9}),
        (("model.family=gru", "model.n_head=null"), {}),
    ],
)
def test_short_runs_and_cpus_try_no_compile_mode(
    settings: tuple[str, ...], more: dict[str, Any], tried: list[str]
) -> None:
    assert choose(*settings, **more) == "none"
    assert not tried


@pytest.mark.parametrize(("minutes", "asked"), [("train.max_minutes=16", 16.0), ("train.max_steps=1000", 0.5)])
def test_length_in_minutes_is_the_recipes_or_estimated(
    minutes: str, asked: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thousand steps are half a minute at the rate that is made up here."""
    found: list[float] = []

    def note(*inputs: Any) -> str:
        found.append(inputs[-1]())
        return "none"

    monkeypatch.setattr(run_plan, "choose_compile_mode", note)
    monkeypatch.setattr(Trial, "measure", lambda *_: StepSeconds(1.0, 0.0))
    settings = ["model.n_layer=2", "model.n_head=2", "model.n_embd=32", "train.block_size=16"]
    recipe = load_recipe(None, [*settings, "train.global_batch_size=4", minutes])
    task: Any = TASKS[recipe.task].make_synthetic(recipe, Vocabulary(100))
    network = task.build_model()
    work = 1000 * 4 * 16 * flops_per_token(network, 16)
    monkeypatch.setattr(run_plan, "peak_flops", lambda *_: work / 30)
    task = SimpleNamespace(
        cuts_by_tokens=False, count_scored_logits=lambda network: 0.0,
        objective=task.objective, samples=task.samples, output_fraction=1.0,
        data=SimpleNamespace(sequence_length=16, n_held_out=0, n_final=0, fingerprint={}, n_train_tokens=10_000),
    )  # fmt: skip
    run_plan.plan_run(recipe, cast(Any, task), network, torch.device("cpu"))
    assert found == [pytest.approx(asked)]


def test_mode_of_the_recipe_is_not_tried(tried: list[str]) -> None:
    assert [choose(f"train.compile={way}") for way in ("none", "whole", "graphs")] == ["none", "whole", "graphs"]
    assert not tried


@pytest.mark.parametrize("batches", [BatchPlan(4, 2, 1), BatchPlan(4, 4, 1, tokens_at_once=100)])
def test_cuda_graphs_need_steps_of_equal_shape(batches: BatchPlan) -> None:
    with pytest.raises(UsageError, match="all of the same shape"):
        choose("train.compile=graphs", batches=batches)


def test_rank_0_decides_for_all_ranks_whether_to_try(tried: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a peak is measured, one could see a run of 15 minutes and another of 14, and wait for each other."""
    monkeypatch.setattr(distributed, "broadcast_from_main", lambda decide: 14.0)
    assert choose() == "none"
    monkeypatch.setattr(distributed, "broadcast_from_main", lambda decide: 16.0)
    assert choose(minutes=1) == "layers"


TIMED = Plan(
    100, 10, 10, BatchPlan(4, 4, 1), "fp32", max_eval_samples=100, step_seconds=[0.4, 0.4], calibration_step=50
)  # fmt: skip


@pytest.mark.parametrize(("step_seconds", "n_steps"), [(0.4, 91), (0.2, 125), (0.8, 72)])
def test_halfway_only_the_number_of_steps_is_corrected(step_seconds: float, n_steps: int) -> None:
    """20 s of 60 are left for steps, half a second for each evaluation, and one for the end; 3 % stay in reserve."""
    recipe = load_recipe(None, ["train.max_minutes=1"])
    task: Any = SimpleNamespace(data=SimpleNamespace(n_held_out=500, n_final=500))
    measured = MeasuredSeconds(elapsed=39.0, step=step_seconds, evaluation=0.5, sample=0.0, save=0.0)
    network: Any = SimpleNamespace(device=torch.device("cpu"))
    plan = run_plan.replan(recipe, task, network, TIMED, 50, measured, (0.0, 0.0))
    assert plan.n_steps == pytest.approx(n_steps, abs=1)
    assert (plan.eval_steps, plan.save_steps, plan.max_eval_samples) == (10, 10, 100)
    assert plan.calibration_step is None


def test_optimizer_that_does_not_fit_the_memory_is_refused_before_a_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = load_recipe(None, ["model.n_layer=2", "model.n_head=2", "model.n_embd=32", "train.micro_batch_size=1"])
    task: Any = TASKS[recipe.task].make_synthetic(recipe, Vocabulary(100))
    trial = run_plan.make_trial(recipe, task, task.build_model(), "fp32", torch.device("cpu"))
    n_bytes = 4 * sum(weight.numel() for weight in trial.model.parameters())
    monkeypatch.setattr(run_plan, "read_memory", lambda: 3 * n_bytes)  # AdamW needs four times the weights
    with pytest.raises(EnvironmentFault, match="for weights, gradients and optimizer; this machine has"):
        run_plan.plan_micro_batches(recipe, task, trial)
    monkeypatch.setattr(run_plan, "read_memory", lambda: 5 * n_bytes)
    assert run_plan.plan_micro_batches(recipe, task, trial).micro_batch_size == 1
