"""ModernBERT: sizes as in BERT, initial weights, the tokenizer's fields, and unsupported settings."""

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from tiny import make_bert
from transformers import BertForMaskedLM, ModernBertForMaskedLM, ModernBertForSequenceClassification, ModernBertModel

from llmkit.config.loading import load_recipe
from llmkit.config.model import Model
from llmkit.config.prepare import TokenizerSection
from llmkit.core.errors import ModelError, UsageError
from llmkit.models.classifier import count_positions, load_classifier_for_training
from llmkit.models.families import make_config
from llmkit.models.layers import freeze_layers, get_layer_ids
from llmkit.models.loading import max_context_length, read_kind
from llmkit.models.masked import (
    build_masked,
    load_masked,
    load_masked_for_training,
    rescale_embeddings,
    sentence_objective_of,
)
from llmkit.models.saved_head import HeadSpec
from llmkit.tasks.starting_model import set_dropout
from llmkit.tokens.training_tokenizers import train_tokenizer
from llmkit.training.speed import flops_per_token


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return train_tokenizer(iter(["a few words of text"]), TokenizerSection(kind="wordpiece", vocab_size=100))


def build(tokenizer: Any, seed: int = 0, **fields: Any) -> ModernBertForMaskedLM:
    model = build_masked(Model(family="modernbert", **fields), tokenizer, 64, seed, sentence_objective="none")
    assert isinstance(model, ModernBertForMaskedLM)
    return model


@pytest.mark.parametrize("size", ["tiny", "mini", "small", "medium", "base", "large"])
def test_size_has_about_the_weights_of_the_bert_of_its_name(tokenizer: Any, size: Any) -> None:
    configs = [make_config(Model(family=family, size=size), tokenizer, 512) for family in ("modernbert", "bert")]
    for config in configs:
        config.vocab_size = 30522
    with torch.device("meta"):
        models = [ModernBertForMaskedLM(configs[0]), BertForMaskedLM(configs[1])]
    modern, bert = (sum(weight.numel() for weight in model.parameters()) for model in models)
    assert modern == pytest.approx(bert, rel=0.03)


def test_own_fields_beat_the_size_and_ids_are_the_tokenizers(tokenizer: Any) -> None:
    section = Model(family="modernbert", n_embd=64, n_head=4, n_positions=99, dropout=0.1, attention_dropout=0.2)
    config = make_config(section, tokenizer, 32)
    assert (config.hidden_size, config.num_attention_heads, config.max_position_embeddings) == (64, 4, 99)
    assert config.intermediate_size % 32 == 0
    assert (config.embedding_dropout, config.mlp_dropout, config.attention_dropout) == (0.1, 0.1, 0.2)
    ids = (tokenizer.pad_token_id, tokenizer.cls_token_id, tokenizer.sep_token_id)
    assert (config.pad_token_id, config.cls_token_id, config.sep_token_id) == ids
    assert (config.bos_token_id, config.eos_token_id) == ids[1:]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"n_embd": 12, "n_head": 4}, "rotary positions need an even width"),
        ({"size": "xl"}, "no modernbert of size xl"),
        ({"tie_embeddings": False}, "tie_embeddings applies only to"),
    ],
)
def test_shape_that_cannot_be_is_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Model(family="modernbert", **fields)


def test_weights_follow_from_the_seed_alone_and_the_output_layer_is_the_embedding(tokenizer: Any) -> None:
    one, same, other = (build(tokenizer, seed) for seed in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), same.parameters(), strict=True))
    assert not torch.equal(one.head.dense.weight, other.head.dense.weight)
    assert one.decoder.weight is one.model.embeddings.tok_embeddings.weight
    assert one.decoder.weight.abs().max() <= 0.04, "cut at two deviations"


def test_without_a_head_for_pairs_nsp_is_false(tmp_path: Path) -> None:
    assert load_recipe(None, ["model.family=modernbert"], "mlm").mlm.sentence_objective == "none"
    assert load_recipe(None, ["model.family=modernbert", "mlm.mlm_probability=0.3"], "mlm").mlm.mlm_probability == 0.3
    assert load_recipe(None, ["mlm.mlm_probability=0.3"], "mlm").mlm.sentence_objective == "nsp"
    bert = load_recipe(None, [], "mlm")
    assert bert.with_updates(model=Model(family="modernbert")).mlm.sentence_objective == "none"
    for sentence_objective in ("nsp", "sop"):
        chosen = load_recipe(None, [f"mlm.sentence_objective={sentence_objective}"], "mlm")
        words = f"mlm.sentence_objective {sentence_objective} needs a head for pairs, which modernbert lacks"
        with pytest.raises(UsageError, match=words):
            chosen.with_updates(model=Model(family="modernbert"))
        (tmp_path / "recipe.yaml").write_text(
            f"task: mlm\nmodel:\n  family: modernbert\nmlm:\n  sentence_objective: {sentence_objective}\n"
        )
        with pytest.raises(UsageError, match=words) as caught:
            load_recipe(tmp_path / "recipe.yaml")
        assert len(str(caught.value).splitlines()) == 3


def test_saved_model_is_opened_as_it_was(tokenizer: Any, tmp_path: Path) -> None:
    model = build(tokenizer)
    model.save_pretrained(tmp_path)
    assert read_kind(str(tmp_path)) == "masked"
    again = load_masked(str(tmp_path))
    assert (
        type(again) is ModernBertForMaskedLM
        and sentence_objective_of(again) == "none"
        and max_context_length(again) == 64
    )
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    started, notes = load_masked_for_training(str(tmp_path), "none", 0)
    assert type(started) is ModernBertForMaskedLM and notes == []
    with pytest.raises(UsageError, match="modernbert has no head for pairs"):
        load_masked_for_training(str(tmp_path), "nsp", 0)


def test_missing_heads_of_a_bare_encoder_are_reported(tokenizer: Any, tmp_path: Path) -> None:
    build(tokenizer).model.save_pretrained(tmp_path)
    assert isinstance(ModernBertModel.from_pretrained(tmp_path), ModernBertModel)
    with pytest.raises(ModelError, match="lacks the head for masked tokens"):
        load_masked(str(tmp_path))
    assert load_masked_for_training(str(tmp_path), "none", 0)[1] == [
        "new, not in the model: the head for masked tokens"
    ]


def test_embeddings_stay_as_long_as_training_made_them(tokenizer: Any) -> None:
    model = build(tokenizer)
    with torch.no_grad():
        model.decoder.weight.mul_(10)
    before = model.decoder.weight.clone()
    rescale_embeddings(model)
    assert torch.equal(model.decoder.weight, before)


HEAD = HeadSpec("single_label_classification", {"ham": 0, "spam": 1})


def test_classifier_keeps_the_dense_layer_of_the_masked_token_head(tokenizer: Any, tmp_path: Path) -> None:
    masked = build(tokenizer, seed=5)
    masked.save_pretrained(tmp_path / "masked")
    model, notes = load_classifier_for_training(str(tmp_path / "masked"), HEAD, 0)
    assert isinstance(model, ModernBertForSequenceClassification)
    assert notes == ["layers that start with random weights: classifier"]
    assert torch.equal(model.head.dense.weight, masked.head.dense.weight)
    model.save_pretrained(tmp_path / "classifier")
    spec = HeadSpec("single_label_classification", {"yes": 0, "no": 1})
    other, notes = load_classifier_for_training(str(tmp_path / "classifier"), spec, 0)
    assert notes[1:] == ["layers that start with random weights: classifier, head.dense, head.norm"], (
        "it was trained for other labels"
    )
    assert not torch.equal(other.head.dense.weight, masked.head.dense.weight)
    assert count_positions(model.config) == 64


def test_head_of_a_classifier_trains_where_the_encoder_is_frozen(tokenizer: Any, tmp_path: Path) -> None:
    build(tokenizer).save_pretrained(tmp_path)
    model, _ = load_classifier_for_training(str(tmp_path), HEAD, 0)
    assert get_layer_ids(model)[1] == 2
    freeze_layers(model, "encoder")
    trained = {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert trained == {"head.dense.weight", "head.norm.weight", "classifier.weight", "classifier.bias"}


def test_dropout_of_the_recipe_holds_now_and_after_a_resume(tokenizer: Any, tmp_path: Path) -> None:
    build(tokenizer).save_pretrained(tmp_path)
    model, _ = load_classifier_for_training(str(tmp_path), HEAD, 0)
    set_dropout(model, Model(dropout=0.1, attention_dropout=0.25))
    config = model.config
    assert (config.embedding_dropout, config.mlp_dropout, config.classifier_dropout) == (0.1, 0.1, 0.1)
    again = type(model)(config)
    for each in (model, again):
        attention = [layer.attn for layer in each.model.layers]
        assert [part.attention_dropout for part in attention] == [0.25, 0.25]
        assert [part.out_drop.p for part in attention] == [0.25, 0.25]
        assert [layer.mlp.drop.p for layer in each.model.layers] == [0.1, 0.1]
        assert (each.model.embeddings.drop.p, each.drop.p) == (0.1, 0.1)


def test_low_rank_additions_belong_to_attention(tokenizer: Any, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    from llmkit.models.layers import add_lora, merge_lora

    build(tokenizer).save_pretrained(tmp_path)
    model, _ = load_classifier_for_training(str(tmp_path), HEAD, 0)
    names = list(model.state_dict())
    add_lora(model, 4, 8, 0)
    trained = {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert {name.partition(".lora_")[0] for name in trained if "lora_" in name} == {
        f"model.layers.{n}.attn.Wqkv" for n in (0, 1)
    }
    assert {name for name in trained if "lora_" not in name} >= {"head.dense.weight", "classifier.weight"}
    merge_lora(model)
    assert list(model.state_dict()) == names


def test_flops_count_near_tokens_and_the_head_by_its_share(tokenizer: Any) -> None:
    model = build(tokenizer)
    config = model.config
    d, inner, block = config.hidden_size, config.intermediate_size, 1000
    layers = 2 * (4 * d * d + 3 * d * inner)
    attention = 12 * d * (block + 2 * 64 + 1)  # one layer attends to all, one to 64 before and behind
    assert flops_per_token(model, block, 0.0) == 6 * layers + attention
    head = d * d + d * config.vocab_size
    assert flops_per_token(model, block, 0.5) == 6 * (layers + head / 2) + attention
    bert = make_bert(BertForMaskedLM)
    assert flops_per_token(bert, 8, 0.0) == 6 * 2 * (4 * 32 * 32 + 2 * 32 * 64) + 12 * 2 * 32 * 8
