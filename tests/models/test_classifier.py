"""Classifier heads on any model: kept if the labels are the same, else new; the encoder is unchanged."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import make_bert, make_gpt2
from transformers import (
    AutoConfig,
    BertForMaskedLM,
    BertForPreTraining,
    BertForSequenceClassification,
    GPT2ForSequenceClassification,
    LlamaConfig,
    LlamaForSequenceClassification,
    PreTrainedModel,
    ViTConfig,
)

from llmkit.core.errors import ModelError, UsageError
from llmkit.models.classifier import (
    build_classifier,
    check_can_classify,
    fold_target_scale,
    load_classifier,
    load_classifier_for_training,
    read_config,
)
from llmkit.models.saved_head import HeadSpec, labels_of, problem_type_of

LABELS = {"ham": 0, "spam": 1, "eggs": 2}
SINGLE = HeadSpec("single_label_classification", LABELS)
HEADS = {"bert": "classifier.weight", "gpt2": "score.weight"}


def start(
    path: Path, labels: dict[str, int] = LABELS, kind: str = "single_label_classification", seed: int = 0
) -> PreTrainedModel:
    return load_classifier_for_training(str(path), HeadSpec(kind, labels), seed)[0]


@pytest.fixture(params=["bert", "gpt2"])
def family(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def language_model(tmp_path: Path, family: str) -> Path:
    model = make_bert(BertForMaskedLM, seed=5) if family == "bert" else make_gpt2(seed=5)
    model.save_pretrained(tmp_path / "lm")
    return tmp_path / "lm"


@pytest.fixture
def classifier(tmp_path: Path, language_model: Path) -> Path:
    """Saved after its head was made from seed 3."""
    start(language_model, seed=3).save_pretrained(tmp_path / "classifier")
    return tmp_path / "classifier"


def is_same(left: PreTrainedModel, right: PreTrainedModel, name: str) -> bool:
    return torch.equal(left.state_dict()[name], right.state_dict()[name])


def assert_same_encoder(model: PreTrainedModel, path: Path) -> None:
    saved = load_file(path / "model.safetensors")
    shared = [name for name in saved if name in model.state_dict() and name.startswith(model.base_model_prefix)]
    assert len(shared) > 20
    for name in shared:
        assert torch.equal(model.state_dict()[name], saved[name]), name


def test_encoder_has_the_weights_of_the_model(family: str, language_model: Path) -> None:
    model, notes = load_classifier_for_training(str(language_model), SINGLE, 0)
    assert_same_encoder(model, language_model)
    assert notes == [
        f"layers that start with random weights: {'bert.pooler.dense, classifier' if family == 'bert' else 'score'}"
    ]
    assert model.dtype == torch.float32
    assert (model.config.label2id, model.config.id2label) == (LABELS, {0: "ham", 1: "spam", 2: "eggs"})
    assert model.config.problem_type == "single_label_classification"


def test_saved_pooler_is_kept(tmp_path: Path) -> None:
    make_bert(BertForPreTraining, seed=5).save_pretrained(tmp_path)
    model, notes = load_classifier_for_training(str(tmp_path), SINGLE, 0)
    assert notes == ["layers that start with random weights: classifier"]
    saved = load_file(tmp_path / "model.safetensors")
    assert torch.equal(model.bert.pooler.dense.weight, saved["bert.pooler.dense.weight"])


def test_new_weights_depend_only_on_the_seed(family: str, language_model: Path) -> None:
    torch.manual_seed(99)
    first = start(language_model, seed=1)
    torch.manual_seed(7)
    assert is_same(first, start(language_model, seed=1), HEADS[family])
    other = start(language_model, seed=2)
    new = [HEADS[family], *(["bert.pooler.dense.weight"] if family == "bert" else [])]
    assert not any(is_same(first, other, name) for name in new)
    for name in first.state_dict():
        assert name in new or is_same(first, other, name)


def test_head_of_the_same_label_map_is_kept(family: str, classifier: Path) -> None:
    saved = load_classifier(str(classifier))
    model, notes = load_classifier_for_training(str(classifier), SINGLE, 0)
    assert notes == ["the model's classification head is kept: it has the same labels"]
    for name in saved.state_dict():
        assert is_same(model, saved, name)


@pytest.mark.parametrize(
    ("labels", "kind", "why"),
    [
        ({"yes": 0, "no": 1, "maybe": 2}, "single_label_classification", "(ham, spam, eggs) has no label of the data"),
        (LABELS, "multi_label_classification", "a head for one label per row, but the data has several labels per row"),
        ({"score": 0}, "regression", "a head for one label per row, but the data has a number per row"),
    ],
)
def test_head_of_other_labels_is_new_even_if_it_has_the_same_size(
    family: str, classifier: Path, labels: dict[str, int], kind: str, why: str
) -> None:
    model, notes = load_classifier_for_training(str(classifier), HeadSpec(kind, labels), 0)
    assert why in notes[0]
    assert notes[1:] == [f"layers that start with random weights: {HEADS[family].split('.')[0]}"]
    head, old = model.state_dict()[HEADS[family]], load_file(classifier / "model.safetensors")[HEADS[family]]
    assert len(head) == len(labels)
    assert not set(head.flatten().tolist()) & set(old.flatten().tolist())
    assert_same_encoder(model, classifier)
    assert (problem_type_of(model.config), labels_of(model.config)) == (kind, list(labels))


def test_from_scratch_keeps_only_the_architecture(family: str, classifier: Path) -> None:
    model, notes = load_classifier_for_training(str(classifier), SINGLE, 0, from_scratch=True)
    assert "all weights start random" in notes[0]
    saved = load_classifier(str(classifier))
    assert [weight.shape for weight in model.parameters()] == [weight.shape for weight in saved.parameters()]
    assert not any(is_same(model, saved, name) for name, weight in model.named_parameters() if weight.ndim > 1)


def test_missing_weights_of_the_encoder_are_an_error(family: str, language_model: Path) -> None:
    weights = load_file(language_model / "model.safetensors")
    lost = next(name for name in weights if ".1." in name and name.endswith("weight"))
    del weights[lost]
    save_file(weights, language_model / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match=f"weights of the encoder are missing.*{lost}"):
        start(language_model)


def test_language_model_is_refused_as_a_classifier(language_model: Path) -> None:
    with pytest.raises(ModelError, match="finetune-cls"):
        load_classifier(str(language_model))


def test_saved_classifier_opens_as_it_was(family: str, classifier: Path) -> None:
    model = load_classifier(str(classifier))
    assert not model.training
    assert (problem_type_of(model.config), labels_of(model.config)) == ("single_label_classification", list(LABELS))
    assert is_same(model, start(classifier.parent / "lm", seed=3), HEADS[family])


def test_built_classifier_takes_a_checkpoints_weights(classifier: Path) -> None:
    model = build_classifier(AutoConfig.from_pretrained(classifier))
    model.load_state_dict(load_file(classifier / "model.safetensors"))
    assert_same_encoder(model, classifier)


@pytest.mark.parametrize("kind", ["single_label_classification", "multi_label_classification", "regression"])
def test_label_type_and_labels_survive_saving(tmp_path: Path, kind: str) -> None:
    make_bert(BertForMaskedLM).save_pretrained(tmp_path / "lm")
    labels = {"length": 0} if kind == "regression" else {str(number): number for number in range(12)}
    start(tmp_path / "lm", labels, kind).save_pretrained(tmp_path / "model")
    config = read_config(str(tmp_path / "model"))
    assert (problem_type_of(config), labels_of(config)) == (kind, list(labels))  # 10 behind 9, not behind 1


def test_classifier_without_a_problem_type_is_single_label() -> None:
    model = make_bert(BertForSequenceClassification, num_labels=2)
    assert model.config.problem_type is None
    assert (problem_type_of(model.config), labels_of(model.config)) == (
        "single_label_classification",
        ["LABEL_0", "LABEL_1"],
    )


def test_architecture_without_a_head_for_labels_is_refused() -> None:
    check_can_classify(make_gpt2().config, "here")
    with pytest.raises(UsageError, match="no classifier of type vit"):
        check_can_classify(ViTConfig(), "here")


@pytest.mark.parametrize("kind", ["bert", "gpt2"])
def test_folded_target_scale_gives_outputs_in_the_unit_of_the_labels(kind: str) -> None:
    config = {"num_labels": 1}
    if kind == "bert":
        model: Any = make_bert(BertForSequenceClassification, **config).eval()
    else:
        gpt2 = make_gpt2().config
        gpt2.num_labels = 1
        model = GPT2ForSequenceClassification(gpt2).eval()
    ids = torch.randint(1, 40, (3, 8))
    with torch.no_grad():
        before = model(input_ids=ids).logits
        assert fold_target_scale(model, 1140.0, 80.0)
        torch.testing.assert_close(model(input_ids=ids).logits, before * 80 + 1140, rtol=1e-5, atol=1e-3)


def test_target_scale_is_not_folded_into_a_model_without_a_bias_for_it() -> None:
    llama = LlamaConfig(
        vocab_size=40, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, num_labels=1
    )
    model = LlamaForSequenceClassification(llama)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    assert not fold_target_scale(model, 3.0, 2.0)
    assert all(bool((weight == before[name]).all()) for name, weight in model.state_dict().items())
