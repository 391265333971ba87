"""Defaults of fine-tuning: length and learning rate by width and data, and the start of the pooler."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tiny import make_bert, make_gpt2
from torch import nn
from transformers import BertConfig, BertForSequenceClassification, GPT2ForSequenceClassification, PreTrainedModel

from llmkit.config.loading import load_recipe
from llmkit.config.recipe import ClsRecipe
from llmkit.core.errors import UsageError
from llmkit.models.classifier import load_classifier_for_training
from llmkit.models.saved_head import HeadSpec
from llmkit.tasks.cls.defaults import describe_chosen, resolve, start_pooler

HEAD = HeadSpec("single_label_classification", {"a": 0, "b": 1})


def load(*overrides: str) -> ClsRecipe:
    recipe: Any = load_recipe(None, ["train.global_batch_size=10", *overrides], task="cls")
    return recipe  # type: ignore[no-any-return]


def config_of(width: int) -> Any:
    return SimpleNamespace(hidden_size=width)


def resolved(*overrides: str, n_rows: int = 1000, n_labels: int = 2, width: int = 768) -> ClsRecipe:
    return resolve(load(*overrides), config_of(width), n_rows, n_labels)


@pytest.mark.parametrize(
    ("n_rows", "n_labels", "epochs"),
    [(1000, 2, 3), (500, 2, 6), (100, 2, 20), (10, 2, 20), (1000, 50, 10), (10**6, 2, 3)],
)
@pytest.mark.parametrize("width", [257, 384, 768])
def test_small_data_gets_more_epochs_but_at_most_twenty(n_rows: int, n_labels: int, epochs: float, width: int) -> None:
    """At least 300 steps of 10 rows, and 20 a label."""
    train = resolved(n_rows=n_rows, n_labels=n_labels, width=width).train
    assert train.epochs == epochs
    assert train.eval_steps == max(1, -(-n_rows // 10)), "once an epoch"


@pytest.mark.parametrize(
    ("n_rows", "n_labels", "epochs"),
    [(2000, 10, 10), (2000, 77, 10), (2000, 2, 3), (2000, 5, 5), (500, 10, 20), (10**6, 10, 3), (2000, 200, 20)],
)
@pytest.mark.parametrize("width", [32, 256])
def test_narrow_models_get_two_hundred_steps_per_label_up_to_two_thousand(
    width: int, n_rows: int, n_labels: int, epochs: float
) -> None:
    assert resolved(n_rows=n_rows, n_labels=n_labels, width=width).train.epochs == epochs


@pytest.mark.parametrize("override", ["train.max_steps=7", "train.epochs=2", "train.max_minutes=1"])
@pytest.mark.parametrize("width", [128, 768])
def test_given_training_length_is_not_changed(override: str, width: int) -> None:
    train = resolved(override, width=width).train
    name, value = override.removeprefix("train.").split("=")
    given = {name: getattr(train, name) for name in ("max_steps", "epochs", "max_minutes")}
    assert given == {"max_steps": None, "epochs": None, "max_minutes": None} | {name: float(value)}
    if name == "max_steps":
        assert train.eval_steps == 7, "at least once"
    if name == "max_minutes":
        assert train.eval_steps is None


def test_default_learning_rate_depends_on_width_and_lora() -> None:
    assert resolved().optim.learning_rate == 5e-5
    assert resolved(width=384).optim.learning_rate == pytest.approx(1.4e-4)
    assert resolved("cls.lora_rank=4").optim.learning_rate == pytest.approx(5e-4)
    assert resolved("optim.learning_rate=0.5").optim.learning_rate == 0.5


def test_chosen_length_and_rate_are_reported_with_their_reason() -> None:
    given, config = load(), config_of(128)
    (note,) = describe_chosen(given, resolve(given, config, 2000, 10), config, 10)
    assert "train.epochs 10 (" in note
    assert "2,000 steps" in note
    assert "for width 128" in note


def test_given_length_and_rate_are_not_reported() -> None:
    given, config = load("train.epochs=2", "optim.learning_rate=0.1"), config_of(128)
    assert describe_chosen(given, resolve(given, config, 2000, 10), config, 10) == []


def make_classifier(width: int) -> BertForSequenceClassification:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=100, hidden_size=width, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8,
    )  # fmt: skip
    return BertForSequenceClassification(config)


def has_identity_pooler(model: PreTrainedModel) -> bool:
    dense: nn.Linear = model.base_model.pooler.dense
    return torch.equal(dense.weight, torch.eye(len(dense.weight))) and not dense.bias.any()


@pytest.mark.parametrize(
    ("width", "is_new", "setting", "resets"),
    [
        (256, True, "auto", True),
        (258, True, "auto", False),
        (256, False, "auto", False),
        (256, True, "keep", False),
        (258, True, "identity", True),
    ],
)
def test_pooler_below_a_new_head_of_a_narrow_model_starts_as_the_identity(
    width: int, is_new: bool, setting: str, resets: bool
) -> None:
    model = make_classifier(width)
    before = model.bert.pooler.dense.weight.clone()
    notes = start_pooler(model, load(f"cls.pooler={setting}"), is_new=is_new)
    assert has_identity_pooler(model) is resets
    assert torch.equal(model.bert.pooler.dense.weight, before) is not resets
    assert ["identity" in note for note in notes] == [True] * resets


def test_regression_keeps_the_pooler() -> None:
    model = make_classifier(32)
    model.config.num_labels = 1
    assert start_pooler(model, load(), is_new=True) == []
    assert not has_identity_pooler(model)


@pytest.mark.parametrize("setting", ["auto", "keep"])
def test_models_without_a_pooler_start_as_they_are(setting: str, tmp_path: Path) -> None:
    make_gpt2().save_pretrained(tmp_path)
    model, _ = load_classifier_for_training(str(tmp_path), HEAD, 0)
    assert isinstance(model, GPT2ForSequenceClassification)
    assert start_pooler(model, load(f"cls.pooler={setting}"), is_new=True) == []


def test_pooler_identity_is_refused_if_there_is_no_pooler(tmp_path: Path) -> None:
    make_gpt2().save_pretrained(tmp_path)
    model, _ = load_classifier_for_training(str(tmp_path), HEAD, 0)
    with pytest.raises(UsageError, match="no pooler"):
        start_pooler(model, load("cls.pooler=identity"), is_new=True)
    with pytest.raises(UsageError, match="head is reused with its pooler"):
        start_pooler(make_classifier(32), load("cls.pooler=identity"), is_new=False)


def test_pooler_of_a_language_model_without_one_starts_as_the_identity(tmp_path: Path) -> None:
    from transformers import BertForMaskedLM

    make_bert(BertForMaskedLM).save_pretrained(tmp_path)
    model, _ = load_classifier_for_training(str(tmp_path), HEAD, 0)
    assert start_pooler(model, load(), is_new=True)
    assert has_identity_pooler(model)
