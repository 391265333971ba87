"""A starting model is adapted to the recipe and the data, or refused."""

from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from tiny import make_bert, make_gpt2, make_recurrent, save_gpt2
from torch import nn
from transformers import PreTrainedModel

from llmkit.config.evaluate import Evaluate
from llmkit.config.loading import load_recipe
from llmkit.config.model import Model
from llmkit.core.errors import ModelError, UsageError
from llmkit.models.loading import embedding_rows, load_causal_lm
from llmkit.tasks.starting_model import (
    OWN_DROPOUT,
    check_no_windows,
    check_positions,
    check_training,
    describe_dropout,
    fit_to_data,
    resize_embeddings,
    restore_dropout,
    set_dropout,
)
from llmkit.tokens.loading import load_tokenizer
from llmkit.tokens.tokenizer import ensure_special_tokens, fingerprint_tokenizer


@pytest.mark.parametrize("override", ["train.early_stopping=2", "optim.schedule=plateau"])
def test_early_stopping_and_plateau_need_a_validation_split(override: str) -> None:
    check_training(load_recipe(None, [override]), has_validation=True, split_key="cls.validation")
    with pytest.raises(UsageError, match="needs a validation split") as caught:
        check_training(load_recipe(None, [override]), has_validation=False, split_key="cls.validation")
    assert caught.value.problems[0].where == override.partition("=")[0]
    assert "set cls.validation above 0" in caught.value.problems[0].hint


@pytest.mark.parametrize("settings", [Evaluate(stride=4), Evaluate(block_size=8)])
def test_windows_are_refused_for_recurrent_models(settings: Evaluate) -> None:
    check_no_windows(Evaluate())
    with pytest.raises(UsageError, match="uses all text"):
        check_no_windows(settings)


def test_positions_are_checked_and_n_positions_only_without_resume() -> None:
    recipe = load_recipe(None, ["train.block_size=32"])
    check_positions(recipe, 32, resume=False)
    check_positions(recipe, None, resume=False)
    with pytest.raises(UsageError, match="block_size 32 does not fit the model's 16 positions"):
        check_positions(recipe, 16, resume=True)
    other = load_recipe(None, ["train.block_size=32", "model.n_positions=64"])
    check_positions(other, 64, resume=False)
    check_positions(other, 32, resume=True)
    for positions, words in ((32, "differs from the model's: 32"), (None, "no limit")):
        with pytest.raises(UsageError, match=words):
            check_positions(other, positions, resume=False)


@pytest.mark.parametrize("model", [make_gpt2(dropout=0.5), make_bert(dropout=0.5)], ids=["gpt2", "bert"])
def test_dropout_of_the_recipe_replaces_that_of_the_model_until_it_is_saved(model: PreTrainedModel) -> None:
    set_dropout(model, Model(dropout=0.25, attention_dropout=0.125))
    rates = {path: module.p for path, module in model.named_modules() if isinstance(module, nn.Dropout)}
    of_attention = {path: rate for path, rate in rates.items() if path.endswith(("attn_dropout", "self.dropout"))}
    assert list(of_attention.values()) == [0.125] * 2
    assert {rate for path, rate in rates.items() if path not in of_attention} == {0.25}
    config = model.config.to_dict()
    assert {config[name] for name in ("resid_pdrop", "embd_pdrop", "hidden_dropout_prob") if name in config} == {0.25}
    assert {config[name] for name in ("attn_pdrop", "attention_probs_dropout_prob") if name in config} == {0.125}
    (note,) = describe_dropout(model.config)
    assert "model.dropout 0.25 replaces the model's 0.5; " in note
    assert "; model.attention_dropout 0.125 replaces the model's 0" in note
    set_dropout(model, Model(dropout=0.1))  # as for a resumed run
    restore_dropout(model.config)
    config = model.config.to_dict()
    assert {config[name] for name in ("resid_pdrop", "embd_pdrop", "hidden_dropout_prob") if name in config} == {0.5}
    assert OWN_DROPOUT not in config
    assert describe_dropout(model.config) == []


def test_grown_embedding_keeps_its_rows_and_adaptive_softmax_is_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = make_gpt2(vocab_size=50)
    before = model.get_input_embeddings().weight.detach().clone()
    resize_embeddings(model, 50, 0, [])
    assert capsys.readouterr().err == ""
    resize_embeddings(model, 53, 0, ["pad is new"])
    assert "grew from 50 to 53 rows; pad is new" in capsys.readouterr().err
    assert torch.equal(model.get_input_embeddings().weight[:50], before)
    with pytest.raises(ModelError, match="cannot grow from 50 to 51"):
        resize_embeddings(make_recurrent(adaptive_cutoffs=[10, 20]), 51, 0, [])


def test_new_embedding_rows_depend_on_the_seed_alone() -> None:
    model = make_gpt2(vocab_size=50)

    def grow(seed: int) -> torch.Tensor:
        torch.rand(7)  # what was drawn before must not matter
        grown = deepcopy(model)
        resize_embeddings(grown, 53, seed, [])
        return cast(torch.Tensor, grown.get_input_embeddings().weight).detach()

    assert torch.equal(grow(1), grow(1))
    assert not torch.equal(grow(1), grow(2))


def open_causal_lm(path: str) -> Any:
    return load_causal_lm(path), ["a note"]


def prepared_with(fingerprint: str) -> Any:
    return SimpleNamespace(fingerprint={"tokenizer": fingerprint}, path=Path("data"))


def test_data_of_another_tokenizer_is_refused(tmp_path: Path) -> None:
    name = save_gpt2(tmp_path / "model")
    tokenizer = load_tokenizer(name)
    ensure_special_tokens(tokenizer)
    model = fit_to_data(
        name, open_causal_lm, load_recipe(None), prepared_with(fingerprint_tokenizer(tokenizer)), tokenizer
    )
    assert embedding_rows(model) == len(tokenizer), "with a row for the new pad token"
    again = fit_to_data(
        name, open_causal_lm, load_recipe(None), prepared_with(fingerprint_tokenizer(tokenizer)), tokenizer
    )
    assert torch.equal(again.get_input_embeddings().weight, model.get_input_embeddings().weight)
    with pytest.raises(ModelError, match="tokenizer of the data") as caught:
        fit_to_data(name, open_causal_lm, load_recipe(None), prepared_with("f" * 64), tokenizer)
    assert f"prepare.tokenizer.path={name}" in caught.value.problems[0].hint


def test_extended_vocabulary_is_accepted_if_the_recipe_allows_it(tmp_path: Path) -> None:
    name = save_gpt2(tmp_path / "model")
    tokenizer = load_tokenizer(name)
    ensure_special_tokens(tokenizer)
    tokenizer.add_tokens(["extra-token"])
    prepared = prepared_with(fingerprint_tokenizer(tokenizer))
    with pytest.raises(ModelError, match="extends the model's: 1 of its tokens") as caught:
        fit_to_data(name, open_causal_lm, load_recipe(None), prepared, tokenizer)
    assert "model.resize_embeddings=true" in caught.value.problems[0].hint
    model = fit_to_data(name, open_causal_lm, load_recipe(None, ["model.resize_embeddings=true"]), prepared, tokenizer)
    assert embedding_rows(model) == len(tokenizer)
