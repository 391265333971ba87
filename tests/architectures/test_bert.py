"""BERT: published sizes, transformers' classes, and notes on new and unused heads."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import make_bert, make_gpt2
from transformers import AutoModelForSequenceClassification, BertForMaskedLM, BertForPreTraining, BertModel

from llmkit.config.loading import load_recipe
from llmkit.config.model import Model
from llmkit.config.prepare import TokenizerSection
from llmkit.core.errors import ModelError, UsageError
from llmkit.datasets.pairs import SentenceObjective
from llmkit.models.families import make_config
from llmkit.models.loading import load_masked_lm, read_kind
from llmkit.models.masked import (
    build_masked,
    load_masked,
    load_masked_for_training,
    rescale_embeddings,
    sentence_objective_of,
)
from llmkit.tokens.training_tokenizers import train_tokenizer

# Millions of parameters of Google's checkpoints (Turc et al. 2019, table 1; Devlin et al. 2018), encoder and pooler.
PUBLISHED = {"tiny": 4.4, "mini": 11.3, "small": 29.1, "medium": 41.7, "base": 110.1, "large": 335.1}


@pytest.fixture(scope="module")
def tokenizer() -> object:
    return train_tokenizer(iter(["a few words of text"]), TokenizerSection(kind="wordpiece", vocab_size=100))


@pytest.mark.parametrize(("size", "millions"), PUBLISHED.items())
def test_size_has_the_published_number_of_parameters(tokenizer: object, size: str, millions: float) -> None:
    config = make_config(Model(family="bert", size=size), tokenizer, 512)
    config.vocab_size = 30522
    with torch.device("meta"):
        n_parameters = sum(weight.numel() for weight in BertModel(config).parameters())
    assert n_parameters / 1e6 == pytest.approx(millions, rel=0.02)


def test_weights_follow_from_the_seed_alone(tokenizer: object) -> None:
    first, again, other = (
        build_masked(Model(family="bert"), tokenizer, 64, seed, sentence_objective="nsp") for seed in (1, 1, 2)
    )
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert not torch.equal(first.bert.pooler.dense.weight, other.bert.pooler.dense.weight)
    assert first.bert.embeddings.word_embeddings.weight[5:].std().item() == pytest.approx(0.02, rel=0.05)


def test_without_pairs_there_is_no_pooler(tokenizer: object) -> None:
    model = build_masked(Model(family="bert"), tokenizer, 64, 0, sentence_objective="none")
    assert isinstance(model, BertForMaskedLM)
    assert model.bert.pooler is None


PAIRS, POOLER, TOKENS = "the head for pairs", "the pooler over [CLS]", "the head for masked tokens"


@pytest.mark.parametrize(
    ("saved", "objective", "new", "left_out"),
    [
        (BertForPreTraining, "nsp", [], []),
        (BertForPreTraining, "none", [], [PAIRS, POOLER]),
        (BertForMaskedLM, "nsp", [PAIRS, POOLER], []),
        (BertForMaskedLM, "none", [], []),
        (BertModel, "nsp", [TOKENS, PAIRS], []),
    ],
)
def test_new_and_unused_heads_are_reported(
    tmp_path: Path, saved: type, objective: SentenceObjective, new: list[str], left_out: list[str]
) -> None:
    make_bert(saved).save_pretrained(tmp_path)
    model, output = load_masked_for_training(str(tmp_path), objective, 0)
    notes = [f"new, not in the model: {head}" for head in new]
    assert output == notes + [f"not used from the model: {head}" for head in left_out]
    assert isinstance(model, BertForMaskedLM if objective == "none" else BertForPreTraining)
    original = make_bert(saved).state_dict()
    key = "embeddings.word_embeddings.weight"
    assert torch.equal(model.bert.state_dict()[key], original.get(f"bert.{key}", original.get(key)))


@pytest.mark.parametrize("kind", [BertForPreTraining, BertForMaskedLM])
def test_shortened_embeddings_change_no_output_and_end_as_long_as_new_ones(kind: type) -> None:
    model = make_bert(kind)
    embeddings = model.bert.embeddings
    with torch.no_grad():
        for table in (embeddings.word_embeddings, embeddings.position_embeddings, embeddings.token_type_embeddings):
            table.weight.normal_(0.1, 0.3)
        model.cls.predictions.transform.LayerNorm.bias.normal_(0, 0.1)
        model.cls.predictions.decoder.bias.normal_()
    ids = torch.randint(5, model.config.vocab_size, (3, 11))
    before = model(input_ids=ids, token_type_ids=(ids > 20).long())
    rescale_embeddings(model)
    after = model(input_ids=ids, token_type_ids=(ids > 20).long())
    for a, b in zip(before.to_tuple(), after.to_tuple(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)
    assert embeddings.word_embeddings.weight.std().item() == pytest.approx(0.02, rel=1e-3)
    assert model.get_output_embeddings().weight is embeddings.word_embeddings.weight
    again = embeddings.word_embeddings.weight.clone()
    rescale_embeddings(model)
    torch.testing.assert_close(embeddings.word_embeddings.weight, again)


def test_new_heads_follow_from_the_seed(tmp_path: Path) -> None:
    make_bert(BertForMaskedLM).save_pretrained(tmp_path)
    heads = [load_masked_for_training(str(tmp_path), "nsp", seed)[0].cls.seq_relationship.weight for seed in (3, 3, 4)]
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])


@pytest.mark.parametrize("kind", [BertForPreTraining, BertForMaskedLM])
def test_load_masked_opens_the_class_that_was_saved(tmp_path: Path, kind: type) -> None:
    make_bert(kind).save_pretrained(tmp_path)
    assert type(load_masked(str(tmp_path))) is kind


def test_saved_model_opens_with_a_classification_head(tmp_path: Path) -> None:
    make_bert().save_pretrained(tmp_path)
    model, info = AutoModelForSequenceClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert {name.split(".")[0] for name in info["missing_keys"]} == {"classifier"}
    assert torch.equal(model.bert.pooler.dense.weight, make_bert().bert.pooler.dense.weight)


def test_other_architecture_is_refused(tmp_path: Path) -> None:
    make_gpt2().save_pretrained(tmp_path)
    with pytest.raises(UsageError, match="of type gpt2"):
        load_masked(str(tmp_path))


def test_task_and_family_must_fit() -> None:
    assert load_recipe(None, ["task=mlm"]).model.family == "bert"
    assert load_recipe(None, [], "mlm").model.family == "bert"
    assert load_recipe(None, ["task=clm"], "mlm").task == "clm"
    with pytest.raises(UsageError, match="task mlm trains bert or modernbert, not model"):
        load_recipe(None, ["task=mlm", "model.family=gpt2"])
    with pytest.raises(UsageError, match="no bert of size xl"):
        load_recipe(None, ["task=mlm", "model.size=xl"])


def test_objective_of_the_head_for_pairs_is_saved_with_it(tokenizer: object, tmp_path: Path) -> None:
    for sentence_objective in ("nsp", "sop", "none"):
        build_masked(Model(family="bert"), tokenizer, 64, 0, sentence_objective=sentence_objective).save_pretrained(
            tmp_path / str(sentence_objective)
        )
        assert sentence_objective_of(load_masked(str(tmp_path / str(sentence_objective)))) == sentence_objective
    make_bert().save_pretrained(tmp_path / "google")
    assert sentence_objective_of(load_masked(str(tmp_path / "google"))) == "nsp"
    model, notes = load_masked_for_training(str(tmp_path / "sop"), "nsp", 0)
    assert notes == ["the head for pairs was trained for sop, and is now trained for nsp"]
    assert sentence_objective_of(model) == "nsp"


def drop_weights(folder: Path, part: str) -> None:
    weights = load_file(folder / "model.safetensors")
    save_file({name: value for name, value in weights.items() if part not in name}, folder / "model.safetensors")


def test_missing_weights_of_the_encoder_are_an_error_and_not_initialized(tmp_path: Path) -> None:
    make_bert().save_pretrained(tmp_path)
    drop_weights(tmp_path, "layer.1.attention")
    with pytest.raises(ModelError, match="encoder"):
        load_masked_for_training(str(tmp_path), "nsp", 0)
    with pytest.raises(ModelError, match="lacks weights of the encoder"):
        load_masked(str(tmp_path))


def test_missing_head_is_an_error_where_nothing_is_trained(tmp_path: Path) -> None:
    make_bert(BertForMaskedLM).save_pretrained(tmp_path)
    drop_weights(tmp_path, "cls.predictions.transform")
    with pytest.raises(ModelError, match="lacks the head for masked tokens"):
        load_masked(str(tmp_path))
    with pytest.raises(ModelError, match="lacks 4 tensors of its weights"):
        load_masked_lm(str(tmp_path))


def test_bert_that_names_no_architecture_is_a_masked_model(tmp_path: Path) -> None:
    make_bert().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({key: config[key] for key in config if key != "architectures"}))
    assert read_kind(str(tmp_path)) == "masked"
    assert isinstance(load_masked(str(tmp_path)), BertForPreTraining)


def test_an_empty_section_is_its_defaults(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("task: mlm\nmodel:\nmlm:\n")
    assert load_recipe(tmp_path / "recipe.yaml") == load_recipe(None, ["task=mlm"])


def test_a_task_that_is_not_a_string_is_a_recipe_error(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("task: [mlm]\n")
    with pytest.raises(UsageError, match="task"):
        load_recipe(tmp_path / "recipe.yaml")
    with pytest.raises(UsageError, match="stride"):
        load_recipe(None, ["task=mlm", "evaluate.stride=4"])
