"""Pretraining on a prepared folder: the model must fit the data."""

# ruff: noqa: F811 - fixtures of another file are used under their names

import shutil
from pathlib import Path

import pytest
import torch
from tasks.clm.test_training import data, recipe, run  # noqa: F401
from transformers import AutoModelForCausalLM, AutoTokenizer, BertConfig, BertForMaskedLM

from llmkit.core.errors import DataError, ModelError, UsageError
from llmkit.evaluating.evaluate import evaluate
from llmkit.preparing.prepare import prepare
from llmkit.runs.train import pretrain


def test_run_that_started_from_a_model_resumes_with_that_models_shape(run: Path, data: Path, tmp_path: Path) -> None:
    out, tiny = tmp_path / "run", recipe("model.n_layer=1", "train.save_steps=2", "train.sample_prompt=null")
    pretrain(tiny, data=data, out=out, model=str(run))
    shutil.rmtree(out / "model")
    shutil.rmtree(out / "checkpoints/step-6")
    pretrain(tiny, data=data, out=out, resume=True)
    assert AutoModelForCausalLM.from_pretrained(out / "model").config.n_layer == 2


def test_only_a_default_block_size_is_reduced_to_the_model(run: Path, data: Path, tmp_path: Path) -> None:
    unset = recipe().with_updates(train=recipe().train.with_updates(block_size=None))
    plan = pretrain(unset, data=data, out=tmp_path / "run", model=str(run), dry_run=True)
    assert "block_size: 16\n" in plan["recipe"]
    for setting in ("train.block_size=256", "model.n_positions=256"):
        with pytest.raises(UsageError, match=r"256 .*the model.* 16") as caught:
            pretrain(recipe(setting), data=data, out=tmp_path / "run", model=str(run))
        assert caught.value.problems[0].where == setting.split("=")[0]


def test_training_can_start_from_a_model(run: Path, data: Path, tmp_path: Path) -> None:
    pretrain(recipe("train.max_steps=1", "optim.learning_rate=1e-9"), data=data, out=tmp_path / "on", model=str(run))
    before, after = (AutoModelForCausalLM.from_pretrained(p / "model").state_dict() for p in (run, tmp_path / "on"))
    assert all(torch.allclose(before[name], after[name], atol=1e-6) for name in before)


def test_model_with_another_tokenizer_is_refused_with_both_fingerprints(run: Path, data: Path, tmp_path: Path) -> None:
    (tmp_path / "other.txt").write_text("quite another text, with other words in it\n" * 30)
    other = recipe("prepare.tokenizer.vocab_size=270")
    prepare([str(tmp_path / "other.txt")], tmp_path / "data", other.prepare)
    for call in (
        lambda: pretrain(other, data=tmp_path / "data", out=tmp_path / "run", model=str(run)),
        lambda: evaluate(other, model=str(run), data=[str(tmp_path / "data")]),
    ):
        with pytest.raises(ModelError, match=r"data \([0-9a-f]{12}\) differs from the model's \([0-9a-f]{12}\)"):
            call()


def test_block_longer_than_the_model_is_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="block_size 16 does not fit the model's 8 positions"):
        pretrain(recipe("model.n_positions=8"), data=data, out=tmp_path / "run")


def test_tokenizer_larger_than_the_model_is_refused_before_training(run: Path, data: Path, tmp_path: Path) -> None:
    small = AutoModelForCausalLM.from_pretrained(run / "model")
    small.resize_token_embeddings(100)
    small.save_pretrained(tmp_path / "small")
    AutoTokenizer.from_pretrained(run / "model").save_pretrained(tmp_path / "small")
    with pytest.raises(ModelError, match=r"the tokenizer has \d+ entries, but the model's embedding has only 100"):
        pretrain(recipe(), data=data, out=tmp_path / "run", model=str(tmp_path / "small"))
    assert not (tmp_path / "run").exists()
    pretrain(
        recipe("model.resize_embeddings=true", "train.max_steps=1"), data=data, out=tmp_path / "grown",
        model=str(tmp_path / "small"),
    )  # fmt: skip
    grown = AutoModelForCausalLM.from_pretrained(tmp_path / "grown/model")
    assert grown.get_input_embeddings().num_embeddings == len(AutoTokenizer.from_pretrained(run / "model"))


def test_model_whose_tokenizer_pads_with_eos_gets_a_pad_row_and_trains(run: Path, data: Path, tmp_path: Path) -> None:
    theirs, tokenizer = (kind.from_pretrained(run / "model") for kind in (AutoModelForCausalLM, AutoTokenizer))
    tokenizer.pad_token = tokenizer.eos_token
    tokenizer.save_pretrained(tmp_path / "theirs")
    theirs.save_pretrained(tmp_path / "theirs")
    (tmp_path / "text.txt").write_text("their own words, once more and again\n" * 60)
    own = recipe(f"prepare.tokenizer.path={tmp_path / 'theirs'}", "train.max_steps=1")
    prepare([str(tmp_path / "text.txt")], tmp_path / "data", own.prepare)
    pretrain(own, data=tmp_path / "data", out=tmp_path / "run", model=str(tmp_path / "theirs"))
    saved = AutoTokenizer.from_pretrained(tmp_path / "run/model")
    assert saved.pad_token_id not in (None, saved.eos_token_id)
    grown = AutoModelForCausalLM.from_pretrained(tmp_path / "run/model").get_input_embeddings().num_embeddings
    assert grown == len(saved) == theirs.get_input_embeddings().num_embeddings + 1
    assert evaluate(own, model=str(tmp_path / "theirs"), data=[str(tmp_path / "data")])["n_tokens"] > 0


def test_masked_model_is_refused_as_the_start_of_a_causal_one(data: Path, tmp_path: Path) -> None:
    config = BertConfig(vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    BertForMaskedLM(config).save_pretrained(tmp_path / "bert")
    with pytest.raises(UsageError, match="masked language model") as caught:
        pretrain(recipe(), data=data, out=tmp_path / "run", model=str(tmp_path / "bert"))
    assert "pretrain-mlm" in str(caught.value)


def test_data_that_is_not_a_prepared_folder_is_refused_with_a_hint(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not a prepared folder") as caught:
        pretrain(recipe(), data=tmp_path, out=tmp_path / "run")
    assert "llmkit prepare" in str(caught.value)
