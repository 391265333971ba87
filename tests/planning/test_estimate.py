"""From a workload and a machine to the figures of a plan: arithmetic, checked by hand."""

from dataclasses import replace
from typing import Any

import pytest

from llmkit.config.loading import load_recipe
from llmkit.planning.estimate import TABLE, Asked, Text, estimate
from llmkit.training.forecast import Machine, ModelCost

WORK = ModelCost(
    n_weights=1_000_000, n_trained=1_000_000, n_multiplied=900_000, n_embedded=100_000, n_layers=4,
    moment_bytes=8_000_000, flops_per_token=6e6, activation_bytes=10_000, logit_bytes=1_000, max_logit_bytes=None,
    evaluation_bytes=0, block_size=128, global_batch_size=64,
)  # fmt: skip
GPU = Machine(
    flops=1e12, hfu=0.5, is_cpu=False, n_bytes=10**10, link=1e11, network=None, framework=10**8, bf16=True
)  # fmt: skip
ENGINES = ["ddp", "fsdp2", "zero2", "zero3"]
TEXT = Text(vocab_size=500, n_tokens=1_000_000, n_samples=8_000, n_bytes=None)
NO_TEXT = Text(vocab_size=500, n_tokens=None, n_samples=None, n_bytes=None)
A_STEP = 64 * 128


def plan(
    *overrides: str, machine: Machine = GPU, n_gpus: int = 1, price: float | None = None, tokens: float | None = None,
    text: Text = TEXT, work: ModelCost = WORK,
) -> dict[str, Any]:  # fmt: skip
    return estimate(load_recipe(None, overrides), work, machine, Asked(n_gpus, ENGINES, price, tokens), text)


@pytest.mark.parametrize(
    ("overrides", "tokens", "text", "n_steps", "why"),
    [
        (["train.max_steps=7"], None, TEXT, 7, "train.max_steps"),
        (["train.max_steps=7"], 10 * A_STEP - 1, TEXT, 10, "--tokens"),
        (["train.epochs=2"], None, TEXT, 250, "train.epochs 2"),
        (["train.epochs=2"], None, NO_TEXT, 20_000_000 // A_STEP, "needs --data"),
        ([], None, NO_TEXT, 20_000_000 // A_STEP, "20 tokens per weight"),
    ],
)
def test_length_follows_from_what_is_given_first(
    overrides: list[str], tokens: float | None, text: Text, n_steps: int, why: str
) -> None:
    found = plan(*overrides, tokens=tokens, text=text)
    assert found["steps"] == n_steps
    assert why in found["length"]
    assert found["tokens"]["total"] == n_steps * A_STEP


def test_minutes_are_as_many_steps_as_fit_into_them() -> None:
    found = plan("train.max_minutes=3")
    seconds = found["time"]["seconds_per_step"]
    assert found["steps"] * seconds <= 180 < (found["steps"] + 1) * seconds


def test_small_text_is_not_read_without_end() -> None:
    found = plan(text=replace(TEXT, n_tokens=100_000))
    assert "epochs, as the recipe gives no length" in found["length"]
    assert found["tokens"]["epochs"] == pytest.approx(int(found["length"].split()[0]), rel=0.1)


def test_time_and_cost_are_the_steps_times_the_devices() -> None:
    found = plan("train.max_steps=1000", n_gpus=4, price=3.0)
    time = found["time"]
    compute = A_STEP / 4 * 6e6 / (1e12 * 0.5)
    assert time["seconds_per_step"] == pytest.approx(compute + time["exchange_seconds"])
    assert time["tokens_per_second"] == pytest.approx(A_STEP / time["seconds_per_step"])
    assert time["hours"] == pytest.approx(1000 * time["seconds_per_step"] / 3600)
    assert (time["gpu_hours"], time["cost"]) == (pytest.approx(4 * time["hours"]), pytest.approx(12 * time["hours"]))
    assert plan("train.max_steps=1000")["time"]["cost"] is None


def test_disk_holds_ids_checkpoints_with_moments_and_the_model() -> None:
    disk = plan("train.max_steps=10", text=NO_TEXT)["disk"]
    assert disk["data"] == 10 * A_STEP * 2
    assert disk["a_checkpoint"] == 4_000_000 + 8_000_000
    assert disk["total"] == disk["data"] + disk["n_checkpoints"] * disk["a_checkpoint"] + 4_000_000
    assert plan("train.max_steps=10", text=replace(NO_TEXT, vocab_size=65_537))["disk"]["data"] == 10 * A_STEP * 4
    assert plan(text=replace(TEXT, n_bytes=123))["disk"]["data"] == 123


def test_table_goes_up_to_as_many_devices_as_share_the_batch() -> None:
    table = plan(price=1.0)["table"]
    assert [row["n_gpus"] for row in table] == list(TABLE)
    assert [row["engine"] is not None for row in table] == [number <= 64 for number in TABLE]
    assert table[0]["engine"] == "ddp", "one device needs none"
    assert table[0]["efficiency"] == 1.0
    shown = [row for row in table if row["engine"]]
    efficiencies = [row["efficiency"] for row in shown]
    assert efficiencies == sorted(efficiencies, reverse=True)
    assert plan(machine=replace(GPU, is_cpu=True))["table"] == []


def test_engine_of_the_recipe_is_the_only_one_and_the_default_leaves_the_choice() -> None:
    assert [one["engine"] for one in plan("train.engine=zero3", n_gpus=2)["engines"]] == ["zero3"]
    assert [one["engine"] for one in plan(n_gpus=2)["engines"]] == ENGINES
    assert [one["engine"] for one in plan("train.engine=zero3")["engines"]] == ["ddp"]


def test_model_that_does_not_fit_is_told_each_way_that_would() -> None:
    small = replace(GPU, n_bytes=10**8 + 40_000_000)
    found = plan("train.micro_batch_size=32", machine=small)
    assert (found["engine"], found["time"]) == (None, None)
    [note] = found["notes"]
    most = found["engines"][0]["max_sequences"]
    assert 0 < most < 32
    assert f"train.micro_batch_size {most} (the global batch stays)" in note
    assert plan(f"train.micro_batch_size={most}", machine=small)["engine"] == "ddp", "and so it does"


def test_short_micro_batch_and_an_engine_that_must_be_named_are_noted() -> None:
    fast = replace(GPU, flops=1e15)
    assert "shorter than the time to launch its kernels" in plan(machine=fast)["notes"][0]
    assert plan(machine=replace(fast, is_cpu=True))["notes"] == []
    tight = replace(GPU, n_bytes=10**8 + 19_000_000, flops=1e9)
    found = plan(machine=tight, n_gpus=8)
    assert found["engine"] not in (None, "ddp")
    assert f"use --engine {found['engine']}" in found["notes"][-1]
