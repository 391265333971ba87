"""A plan agrees with values calculated by hand, with the model that training builds, and with measured steps."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedModel

from llmkit.config.loading import load_recipe
from llmkit.core.errors import UsageError
from llmkit.core.files import read_json
from llmkit.core.hardware import Device
from llmkit.planning import measure
from llmkit.planning.estimate import (
    MIN_GPU_SECONDS,
    Forecast,
    Machine,
    Text,
    choose_fastest,
    estimate,
    forecast,
    forecast_engines,
    plan,
)
from llmkit.preparing.prepare import prepare
from llmkit.runs.model_cost import ModelCost, estimate_memory
from llmkit.tasks.synthetic import Vocabulary
from llmkit.tasks.table import TASKS
from llmkit.tokens.prepared import load_prepared
from llmkit.training.speed import flops_per_token

MILLION = 1_000_000
COST = ModelCost(
    n_parameters=100 * MILLION, n_trainable=100 * MILLION, n_multiplied=90 * MILLION, n_embedded=20 * MILLION,
    n_layers=8, moment_bytes=800 * MILLION, flops_per_token=6e8, activation_bytes=1000, logit_bytes=500,
    max_logit_bytes=None, evaluation_bytes=0, block_size=1000, global_batch_size=64,
)  # fmt: skip
DEVICE = Device("test", "test GPU", "gpu", {"bf16": 1e14}, 10**10, link=1e11, network=1e10)
MACHINE = Machine(DEVICE, 1, "bf16", flops=1e14, mfu=0.5, mfu_source="test")
FRAMEWORK = 500 * MILLION
ENGINES = ["ddp", "fsdp2", "zero2", "zero3"]
TOKENS_PER_STEP = 64_000
TEXT = Text(vocab_size=500, n_tokens=400 * MILLION, n_samples=8_000)
NO_TEXT = Text(vocab_size=500)
SMALL = ["model.n_layer=2", "model.n_embd=32", "prepare.tokenizer.vocab_size=500", "train.block_size=16"]


def on(n_gpus: int = 1, n_bytes: int = 10**10, **changes: Any) -> Machine:
    return replace(MACHINE, n_gpus=n_gpus, device=replace(DEVICE, n_bytes=n_bytes), **changes)


def estimate_it(
    *overrides: str, machine: Machine = MACHINE, tokens: float | None = None, text: Text = TEXT
) -> dict[str, Any]:
    return estimate(load_recipe(None, overrides), COST, machine, ENGINES, text, tokens)


# ---- memory and time per step ----


def test_step_takes_its_compute_and_the_bytes_of_a_ring() -> None:
    one, eight, more = (forecast(COST, on(n), "ddp", None) for n in (1, 8, 16))
    assert (one.seconds_per_step, one.exchange_seconds) == (pytest.approx(64_000 * 6e8 / 0.5e14), 0)
    assert eight.seconds_per_step == pytest.approx(one.seconds_per_step / 8 + 2 * 400e6 * 7 / 8 / 1e11)
    sent = 2 * 400e6 * 15 / 16
    assert more.exchange_seconds == pytest.approx(sent / 8e10), "eight network cards, each with an eighth"
    fast = replace(on(16), device=replace(DEVICE, network=5e10))
    assert forecast(COST, fast, "ddp", None).exchange_seconds == pytest.approx(sent / 1e11)


def test_sharded_weights_are_sent_with_every_micro_batch() -> None:
    ring = 400e6 * 7 / 8 / 1e11
    sent = {engine: forecast(COST, on(8), engine, 3).exchange_seconds / ring for engine in ENGINES}
    assert sent == pytest.approx({"ddp": 2, "zero2": 6, "fsdp2": 9, "zero3": 9})


def test_largest_micro_batch_fits_and_one_more_does_not() -> None:
    machine = on(4, 2_350 * MILLION)
    peaks = [
        estimate_memory(COST, "zero2", 4, size, bf16=True, framework=FRAMEWORK).peak for size in range(1, 17)
    ]  # fmt: skip
    assert forecast(COST, machine, "zero2", None).max_sequences == sum(peak <= 0.95 * 2350 * MILLION for peak in peaks)
    assert forecast(COST, on(1, 10**9), "ddp", None).max_sequences == 0
    unknown = replace(MACHINE, device=replace(DEVICE, n_bytes=None))
    assert forecast(COST, unknown, "ddp", None).max_sequences is None


def test_given_micro_batch_that_does_not_fit_is_refused() -> None:
    small = on(1, 2_420 * MILLION)
    chosen = forecast(COST, small, "ddp", None)
    assert chosen.fits
    assert chosen.max_sequences is not None
    assert 0 < chosen.max_sequences < 32
    assert not forecast(COST, small, "ddp", 32).fits
    assert forecast(COST, small, "ddp", chosen.max_sequences).micro_batch_size == chosen.max_sequences


def test_fastest_engine_of_those_that_fit_is_chosen() -> None:
    def best(n_bytes: int) -> str | None:
        found: Forecast | None = choose_fastest(forecast_engines(COST, on(8, n_bytes), ENGINES, 8, None))
        return found.engine if found else None

    assert best(80 * 10**9) == "ddp"
    assert best(1_600 * MILLION) == "zero2"
    assert best(1_200 * MILLION) == "fsdp2"
    assert best(600 * MILLION) is None


def test_engine_of_the_recipe_is_the_only_one_and_the_default_leaves_the_choice() -> None:
    def engines(machine: Machine, *overrides: str) -> list[str]:
        options = estimate_it(*overrides, machine=machine)["options"]
        return [option["engine"] for option in options if option["n_gpus"] == machine.n_gpus]

    assert engines(on(2), "train.engine=zero3") == ["zero3"]
    assert engines(on(2)) == ENGINES
    assert engines(on(1), "train.engine=zero3") == ["ddp"], "one device needs none"


def test_best_engine_is_shown_for_up_to_8_gpus_and_all_engines_for_the_number_asked_for() -> None:
    options = estimate_it(machine=on(32))["options"]
    assert [option["n_gpus"] for option in options] == [1, 2, 4, 8, 32, 32, 32, 32]
    cpu = replace(MACHINE, device=replace(DEVICE, kind="cpu"))
    assert len(estimate_it(machine=cpu)["options"]) == 1


# ---- length, time, cost and disk ----


@pytest.mark.parametrize(
    ("overrides", "tokens", "text", "n_steps", "why"),
    [
        (["train.max_steps=7"], None, TEXT, 7, "train.max_steps"),
        (["train.max_steps=7"], 10 * TOKENS_PER_STEP - 1, TEXT, 10, "--tokens"),
        (["train.epochs=2"], None, TEXT, 250, "train.epochs 2"),
        (["train.epochs=2"], None, NO_TEXT, 2000 * MILLION // TOKENS_PER_STEP, "needs --data"),
        ([], None, NO_TEXT, 2000 * MILLION // TOKENS_PER_STEP, "20 tokens per parameter"),
    ],
)
def test_length_follows_from_what_is_given_first(
    overrides: list[str], tokens: float | None, text: Text, n_steps: int, why: str
) -> None:
    found = estimate_it(*overrides, tokens=tokens, text=text)
    assert found["steps"] == n_steps
    assert why in found["length"]
    assert found["tokens"]["total"] == n_steps * TOKENS_PER_STEP


def test_minutes_are_as_many_steps_as_fit_into_them() -> None:
    found = estimate_it("train.max_minutes=3")
    seconds = found["seconds_per_step"]
    assert found["steps"] * seconds <= 180 < (found["steps"] + 1) * seconds


def test_small_text_is_repeated_at_most_ten_times() -> None:
    found = estimate_it(text=replace(TEXT, n_tokens=10 * MILLION))
    assert "epochs, as the recipe gives no length" in found["length"]
    assert found["tokens"]["epochs"] == pytest.approx(int(found["length"].split()[0]), rel=0.1)


def test_time_and_cost_are_the_steps_times_the_devices() -> None:
    found = estimate_it("train.max_steps=1000", machine=on(4, price=3.0))
    seconds = found["seconds_per_step"]
    assert seconds == pytest.approx(TOKENS_PER_STEP / 4 * 6e8 / 0.5e14 + found["exchange_seconds"])
    assert found["tokens_per_second"] == pytest.approx(TOKENS_PER_STEP / seconds)
    assert found["hours"] == pytest.approx(1000 * seconds / 3600)
    assert found["gpu_hours"] == pytest.approx(4 * found["hours"])
    assert found["cost"] == pytest.approx(12 * found["hours"])
    assert estimate_it("train.max_steps=1000")["cost"] is None


def test_disk_holds_ids_checkpoints_with_moments_and_the_model() -> None:
    disk = estimate_it("train.max_steps=10", text=NO_TEXT)["disk"]
    assert disk["data"] == 10 * TOKENS_PER_STEP * 2
    assert (disk["checkpoint"], disk["model"]) == (1200 * MILLION, 400 * MILLION)
    assert disk["total"] == disk["data"] + disk["n_checkpoints"] * 1200 * MILLION + 400 * MILLION
    more = replace(NO_TEXT, vocab_size=65_537)
    assert estimate_it("train.max_steps=10", text=more)["disk"]["data"] == 10 * TOKENS_PER_STEP * 4
    assert estimate_it(text=replace(TEXT, n_bytes=123))["disk"]["data"] == 123


# ---- what would fit ----


def test_note_names_a_micro_batch_that_fits() -> None:
    small = on(1, 2_420 * MILLION)
    found = estimate_it("train.micro_batch_size=64", machine=small)
    largest = found["max_sequences"]
    assert not found["fits"]
    assert 0 < largest < 64
    assert found["note"].startswith("the run does not fit: a micro-batch of 64 needs ")
    assert f"train.micro_batch_size {largest} (global_batch_size is unchanged)" in found["note"]
    assert estimate_it(f"train.micro_batch_size={largest}", machine=small)["fits"]


def test_note_names_an_engine_that_fits() -> None:
    found = estimate_it("train.engine=zero2", machine=on(8, 1_200 * MILLION))
    assert not found["fits"]
    assert "--gpus 8 with --engine fsdp2" in found["note"]


def test_micro_batch_too_short_for_a_gpu_is_noted() -> None:
    assert estimate_it()["note"] is None
    fast = replace(MACHINE, flops=64_000 * 6e8 * 2 / MIN_GPU_SECONDS * 2)
    assert "cannot keep the GPU busy" in estimate_it(machine=fast)["note"]
    assert estimate_it(machine=replace(fast, device=replace(DEVICE, kind="cpu")))["note"] is None


# ---- whole plans ----


def build(family: str) -> tuple[list[str], PreTrainedModel]:
    """Overrides, and the model that training would build from them."""
    overrides = [*SMALL, f"model.family={family}", *(["task=mlm"] if family == "bert" else [])]
    overrides += [] if family in ("gru", "lstm") else ["model.n_head=2"]
    recipe = load_recipe(None, overrides)
    return overrides, TASKS[recipe.task].make_synthetic(recipe, Vocabulary(500)).build_model()


@pytest.mark.parametrize("family", ["gpt2", "bert", "gru", "lstm", "transformer"])
def test_parameters_and_flops_are_those_of_the_model_that_training_builds(family: str) -> None:
    overrides, network = build(family)
    found = plan(load_recipe(None, overrides), gpu="h100")
    n_parameters = sum(weight.numel() for weight in network.parameters())
    share = 0.15 if family == "bert" else 1.0
    assert found["model"]["n_parameters"] == n_parameters
    assert found["model"]["flops_per_token"] == flops_per_token(network, 16, share)
    assert found["memory"]["weights"] == 4 * n_parameters
    assert found["disk"]["checkpoint"] == 12 * n_parameters


def test_gpt2_small_has_the_published_number_of_weights_and_a_token_the_papers_flops() -> None:
    found = plan(load_recipe(Path("recipes/gpt2-small.yaml")), gpu="h100", n_gpus=8, price=2.5)
    assert found["model"]["n_parameters"] == 124_439_808
    matrices = 12 * 12 * 768**2 + 50_257 * 768
    assert found["model"]["flops_per_token"] == 6 * matrices + 12 * 12 * 768 * 1024
    assert found["tokens"]["total"] == 4750 * 512 * 1024
    seconds = found["flops"] / (8 * 989e12 * 0.35) + 4750 * found["exchange_seconds"]
    assert found["hours"] == pytest.approx(seconds / 3600)
    assert found["cost"] == pytest.approx(seconds / 3600 * 8 * 2.5)
    assert found["engine"] == "ddp"
    assert [row["n_gpus"] for row in found["options"]] == [1, 2, 4, 8, 8, 8, 8]
    assert found["options"][3]["cost"] == found["cost"]


def test_engine_of_the_recipe_is_planned_and_else_the_fastest_that_fits() -> None:
    large = ["model.size=xl", "train.block_size=1024", "optim.name=adamw"]
    found = plan(load_recipe(None, [*large, "train.engine=zero3"]), gpu="h100", n_gpus=8)
    assert [row["engine"] for row in found["options"]] == ["ddp", "zero3", "zero3", "zero3"]
    found = plan(load_recipe(None, large), gpu="l4", n_gpus=8)
    assert found["engine"] == "zero2"


@pytest.mark.parametrize("override", ["optim.name=muon", "model.family=gru"])
def test_engines_that_training_refuses_are_not_planned(override: str) -> None:
    found = plan(load_recipe(None, [override]), gpu="l4", n_gpus=2)
    assert {option["engine"] for option in found["options"]} == {"ddp"}


def test_model_that_fits_nowhere_gets_suggestions() -> None:
    found = plan(load_recipe(None, ["model.size=xl", "train.block_size=1024"]), gpu="t4", n_gpus=1, tokens=1e9)
    assert not found["fits"]
    assert "does not fit" in found["note"]
    assert "--gpus 4 with --engine fsdp2" in found["note"]


@pytest.mark.parametrize(
    ("overrides", "options", "words"),
    [
        ([], {"gpu": "h100", "n_gpus": 7}, "not a multiple of 7"),
        ([], {"gpu": "zen4", "n_gpus": 8}, "is a CPU; plan supports only one CPU"),
        ([], {"gpu": "h100", "measure": True}, "measures this machine"),
        (["task=cls"], {"gpu": "h100"}, "plan does not forecast fine-tuning"),
        (["train.precision=bf16"], {"gpu": "t4"}, "has no bf16"),
    ],
)
def test_requests_that_cannot_be_planned_are_refused(
    overrides: list[str], options: dict[str, object], words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        plan(load_recipe(None, overrides), **options)  # type: ignore[arg-type]  # several types in one table


@pytest.fixture
def briefly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the minimum number of steps is measured."""
    monkeypatch.setattr(measure, "BUDGET_SECONDS", 0.0)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["gpt2", "bert", "gru"])
def test_measured_steps_correct_the_speed_and_show_the_error_of_the_forecast(briefly: None, family: str) -> None:
    overrides, _ = build(family)
    found = plan(load_recipe(None, [*overrides, "train.max_steps=50", "train.global_batch_size=4"]), measure=True)
    seen = found["measured"]
    assert found["seconds_per_step"] == pytest.approx(seen["seconds_per_step"])
    for name in ("peak_bytes", "seconds_per_step"):
        assert seen["error"][name] == pytest.approx(seen["forecast"][name] / seen[name] - 1)


def test_measured_mfu_counts_no_recomputation(briefly: None) -> None:
    overrides, _ = build("gpt2")
    more = ["train.gradient_checkpointing=true", "train.global_batch_size=4"]
    found = plan(load_recipe(None, [*overrides, *more]), measure=True)
    seconds = found["measured"]["seconds_per_step"]
    assert found["seconds_per_step"] == pytest.approx(seconds)
    flops = found["model"]["flops_per_token"] * found["tokens"]["per_step"]
    assert found["machine"]["mfu"] == pytest.approx(flops / seconds / found["machine"]["flops"])


def test_checkpointing_takes_a_third_more_time() -> None:
    plain, again = (
        plan(load_recipe(None, [f"train.gradient_checkpointing={word}"]), gpu="h100") for word in ("false", "true")
    )
    assert again["seconds_per_step"] == pytest.approx(plain["seconds_per_step"] * 4 / 3)


def test_given_mfu_ignores_recomputation() -> None:
    plain, again = (
        plan(load_recipe(None, [f"train.gradient_checkpointing={word}"]), gpu="h100", mfu=0.4)
        for word in ("false", "true")
    )
    assert plain["seconds_per_step"] == again["seconds_per_step"]
    assert again["machine"]["mfu"] == 0.4


def test_prepared_folder_gives_vocabulary_tokens_and_epochs(tmp_path: Path) -> None:
    text = tmp_path / "book.txt"
    text.write_text("".join(f"Line {n} of the book.\n" for n in range(2000)))
    recipe = load_recipe(None, [*SMALL, "model.n_head=2", "prepare.tokenizer.vocab_size=400", "train.epochs=3"])
    prepare([str(text)], tmp_path / "data", recipe.prepare)
    manifest = read_json(tmp_path / "data/manifest.json")
    found = plan(recipe, gpu="l4", data=tmp_path / "data")
    assert found["model"]["vocab_size"] == manifest["tokenizer"]["vocab_size"]
    assert found["tokens"]["epochs"] == pytest.approx(3, abs=0.2)
    task = TASKS[recipe.task].open_prepared(recipe, load_prepared(tmp_path / "data"), None)
    assert found["steps"] == -(-3 * task.samples.samples_per_epoch // recipe.train.global_batch_size)
    assert found["disk"]["data"] == sum(
        path.stat().st_size for path in (tmp_path / "data").rglob("*") if path.is_file()
    )
