"""A plan agrees with the model that training builds, and with steps that are really made."""

from pathlib import Path

import pytest
from transformers import PreTrainedModel

from llmkit.config.loading import load_recipe
from llmkit.core.errors import UsageError
from llmkit.core.files import read_json
from llmkit.planning import measure
from llmkit.planning.plan import plan
from llmkit.preparing.prepare import prepare
from llmkit.tasks.synthetic import Vocabulary
from llmkit.tasks.table import TASKS
from llmkit.tokens.prepared import load_prepared
from llmkit.training.speed import flops_per_token

SMALL = ["model.n_layer=2", "model.n_embd=32", "prepare.tokenizer.vocab_size=500", "train.block_size=16"]


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
    assert found["flops"]["a_token"] == flops_per_token(network, 16, share)
    assert found["memory"]["weights"] == 4 * n_parameters
    assert found["disk"]["a_checkpoint"] == 12 * n_parameters


def test_gpt2_small_has_the_published_number_of_weights_and_a_token_the_papers_flops() -> None:
    found = plan(load_recipe(Path("recipes/gpt2-small.yaml")), gpu="h100", n_gpus=8, price=2.5)
    assert found["model"]["n_parameters"] == 124_439_808
    matrices = 12 * 12 * 768**2 + 50_257 * 768
    assert found["flops"]["a_token"] == 6 * matrices + 12 * 12 * 768 * 1024
    assert found["tokens"]["total"] == 4750 * 512 * 1024
    seconds = found["flops"]["total"] / (8 * 989e12 * found["mfu"]["share"]) + 4750 * found["time"]["exchange_seconds"]
    assert found["time"]["hours"] == pytest.approx(seconds / 3600)
    assert found["time"]["cost"] == pytest.approx(seconds / 3600 * 8 * 2.5)
    assert found["engine"] == "ddp"
    assert [row["n_gpus"] for row in found["table"]] == [2**n for n in range(11)]
    assert found["table"][3]["cost"] == pytest.approx(found["time"]["cost"])


def test_engine_that_the_recipe_asks_for_is_planned_and_another_is_named() -> None:
    large = ["model.size=xl", "train.block_size=1024", "optim.name=adamw"]
    found = plan(load_recipe(None, [*large, "train.engine=zero3"]), gpu="h100", n_gpus=8)
    assert [one["engine"] for one in found["engines"]] == ["zero3"]
    assert found["table"][0]["engine"] == "ddp"  # one device needs none
    assert {row["engine"] for row in found["table"][1:4]} == {"zero3"}
    found = plan(load_recipe(None, large), gpu="l4", n_gpus=8)
    assert found["engine"] == "zero2"
    assert "use --engine zero2" in found["notes"][-1]


@pytest.mark.parametrize("override", ["optim.name=muon", "model.family=gru"])
def test_engines_that_training_refuses_are_not_planned(override: str) -> None:
    found = plan(load_recipe(None, [override]), gpu="l4", n_gpus=2)
    assert [one["engine"] for one in found["engines"]] == ["ddp"]


def test_model_that_fits_nowhere_says_what_would_help() -> None:
    found = plan(load_recipe(None, ["model.size=xl", "train.block_size=1024"]), gpu="t4", n_gpus=1, tokens=1e9)
    assert found["engine"] is None
    assert found["time"] is None
    assert "does not fit" in found["notes"][0]
    assert "4 GPUs with fsdp2" in found["notes"][0]


def test_micro_batch_that_does_not_fit_is_answered_with_one_that_does() -> None:
    settings = ["model.size=small", "train.block_size=1024", "train.global_batch_size=64", "train.micro_batch_size=64"]
    found = plan(load_recipe(None, [*settings, "prepare.tokenizer.vocab_size=50257"]), gpu="rtx4090")
    assert found["engine"] is None
    most = found["engines"][0]["max_sequences"]
    assert f"train.micro_batch_size {most} " in found["notes"][0]
    assert "with 64 sequences per micro-batch" in found["notes"][0]
    assert found["micro_batch_size"] == 64
    assert found["memory"]["peak"] > 24e9


@pytest.mark.parametrize(
    ("overrides", "options", "expected"),
    [
        (["train.max_steps=7"], {}, 7),
        (["train.max_steps=7"], {"tokens": 10 * 32 * 256}, 10),
        (["train.epochs=2"], {}, None),
        ([], {}, None),
    ],
)
def test_length_is_the_users_then_the_recipes_then_chinchillas(
    overrides: list[str], options: dict[str, float], expected: int | None
) -> None:
    found = plan(load_recipe(None, overrides), gpu="l4", **options)
    if expected is None:
        expected = 20 * found["model"]["n_parameters"] // (32 * 256)
    assert found["steps"] == expected


@pytest.mark.parametrize(
    ("overrides", "options", "words"),
    [
        ([], {"gpu": "h100", "n_gpus": 0}, "0 GPUs train nothing"),
        ([], {"gpu": "h100", "n_gpus": 7}, "not a multiple of 7"),
        ([], {"gpu": "zen4", "n_gpus": 8}, "is a CPU, and only one is planned"),
        ([], {"gpu": "h100", "measure": True}, "the machine it runs on"),
        (["task=cls"], {"gpu": "h100"}, "fine-tuning is not planned"),
        (["train.precision=bf16"], {"gpu": "t4"}, "has no bf16"),
    ],
)
def test_what_cannot_be_planned_is_refused(overrides: list[str], options: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        plan(load_recipe(None, overrides), **options)  # type: ignore[arg-type]  # several types in one table


@pytest.fixture
def briefly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measures for no longer than the fewest steps take."""
    monkeypatch.setattr(measure, "BUDGET_SECONDS", 0.0)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["gpt2", "bert", "gru"])
def test_measured_steps_correct_the_forecast(briefly: None, family: str) -> None:
    overrides, _ = build(family)
    found = plan(load_recipe(None, [*overrides, "train.max_steps=50", "train.global_batch_size=4"]), measure=True)
    seen = found["measured"]
    assert found["time"]["seconds_per_step"] == pytest.approx(seen["seconds_per_step"])
    assert found["memory"]["peak"] - found["memory"]["evaluation"] == pytest.approx(seen["peak_bytes"], rel=1e-6)
    assert seen["off"]["peak_bytes"] == pytest.approx(seen["forecast"]["peak_bytes"] / seen["warm_peak_bytes"] - 1)
    assert seen["framework_bytes"] < seen["peak_bytes"]


def test_measured_steps_that_compute_again_are_corrected_to_what_was_measured(briefly: None) -> None:
    overrides, _ = build("gpt2")
    more = ["train.gradient_checkpointing=true", "train.global_batch_size=4"]
    found = plan(load_recipe(None, [*overrides, *more]), measure=True)
    seen = found["measured"]["seconds_per_step"]
    assert found["time"]["seconds_per_step"] == pytest.approx(seen)
    flops = found["flops"]["a_token"] * found["tokens"]["a_step"]
    assert found["mfu"]["share"] == pytest.approx(flops / seen / found["device"]["flops"])


def test_mfu_that_is_given_is_that_of_the_model_whatever_is_computed_again() -> None:
    plain, again = (
        plan(load_recipe(None, [f"train.gradient_checkpointing={word}"]), gpu="h100", mfu=0.4)
        for word in ("false", "true")
    )
    assert plain["time"]["seconds_per_step"] == again["time"]["seconds_per_step"]
    assert again["mfu"]["share"] == pytest.approx(0.4)


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
