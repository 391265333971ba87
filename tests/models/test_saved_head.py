"""A saved head is reused for other labels: each label keeps its row, in any order, and changes are reported."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import make_bert, make_gpt2
from transformers import (
    BertForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    GPT2ForSequenceClassification,
    PreTrainedModel,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from llmkit.models.classifier import load_classifier, load_classifier_for_training
from llmkit.models.saved_head import HeadSpec, has_head, label_weights, labels_of, match_head, rename_labels

OLD = ["neg", "中性", "pos"]
SINGLE = "single_label_classification"
PER_LABEL = {
    "bert": {"classifier.weight", "classifier.bias"},
    "gpt2": {"score.weight"},
    "roberta": {"classifier.out_proj.weight", "classifier.out_proj.bias"},
    "distilbert": {"classifier.weight", "classifier.bias"},
}


def build(family: str) -> PreTrainedModel:
    torch.manual_seed(3)
    names: dict[str, Any] = {"id2label": dict(enumerate(OLD)), "label2id": {n: i for i, n in enumerate(OLD)}}
    size: dict[str, Any] = {"vocab_size": 50, "pad_token_id": 1, **names}
    if family == "bert":
        return make_bert(BertForSequenceClassification, **names)
    if family == "gpt2":
        config = make_gpt2().config
        config.id2label, config.label2id, config.pad_token_id = names["id2label"], names["label2id"], 1
        return GPT2ForSequenceClassification(config)
    if family == "roberta":
        shape = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
        return RobertaForSequenceClassification(RobertaConfig(**shape, **size))
    return DistilBertForSequenceClassification(DistilBertConfig(dim=32, hidden_dim=32, n_layers=1, n_heads=2, **size))


@pytest.fixture(params=sorted(PER_LABEL))
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def saved(family: str, tmp_path: Path) -> str:
    model = build(family)
    with torch.no_grad():
        for name in PER_LABEL[family]:  # a trained head has a bias
            model.state_dict()[name].add_(torch.randn(model.state_dict()[name].shape))
    model.save_pretrained(tmp_path / "saved")
    return str(tmp_path / "saved")


def start(saved: str, names: list[str], **spec: Any) -> tuple[PreTrainedModel, list[str]]:
    labels = {name: number for number, name in enumerate(names)}
    frequencies = [1 / len(names)] * len(names)
    return load_classifier_for_training(saved, HeadSpec(SINGLE, labels, frequencies, **spec), seed=0)


def logits_of(model: PreTrainedModel) -> torch.Tensor:
    ids = torch.randint(2, 49, (4, 8), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return model(input_ids=ids).logits


@pytest.mark.parametrize(
    "names",
    [
        ["pos", "neg", "中性"],
        ["新", "pos", "a", "neg"],
        ["pos", "x"],
        ["中性", "a", "b"],
        ["neg", "中性", "pos", "later"],
    ],
)
def test_each_label_keeps_its_row_and_its_logit_in_any_order(family: str, saved: str, names: list[str]) -> None:
    old, (new, notes) = load_classifier(saved), start(saved, names)
    assert labels_of(new.config) == names and not new.training
    before, after = old.state_dict(), new.state_dict()
    assert label_weights(new.config) == PER_LABEL[family]
    for weight in after:
        if weight not in PER_LABEL[family]:
            assert torch.equal(after[weight], before[weight]), weight
            continue
        for number, name in enumerate(names):
            if name in OLD:
                assert torch.equal(after[weight][number], before[weight][OLD.index(name)]), (weight, name)
            else:
                assert not any(torch.equal(after[weight][number], row) for row in before[weight]), (weight, name)
    kept = [name for name in names if name in OLD]
    found = logits_of(new)[:, [names.index(name) for name in kept]].softmax(-1)
    torch.testing.assert_close(found, logits_of(old)[:, [OLD.index(name) for name in kept]].softmax(-1))
    assert len(notes) == 1 and "random" not in notes[0]


def test_kept_new_and_dropped_labels_are_counted(saved: str) -> None:
    assert start(saved, ["neg", "新", "pos", "other"])[1] == [
        "reusing the model's classification head; labels: 2 kept (neg, pos), 2 new (新, other), "
        "1 dropped, because no row has them (中性)"
    ]
    assert start(saved, ["pos", "中性", "neg"])[1] == [
        "the model's classification head is kept: it has the same labels"
    ]


def test_label_that_differs_in_case_is_new_and_the_map_that_merges_it_is_reported(saved: str) -> None:
    _, [note] = start(saved, ["neg", "Pos"])
    assert "1 new (Pos)" in note and note.endswith("if these labels are the same, set --label-map 'pos=Pos'")
    renamed, [note] = start(saved, ["neg", "Pos"], label_map={"pos": "Pos"})
    assert "2 kept (neg, Pos)" in note
    weight = next(name for name in label_weights(renamed.config) if name.endswith("weight"))
    assert torch.equal(renamed.state_dict()[weight][1], load_classifier(saved).state_dict()[weight][2])


def test_two_labels_with_one_new_name_have_no_row_to_keep(saved: str) -> None:
    _, [note] = start(saved, ["other", "pos"], label_map={"neg": "other", "中性": "other"})
    assert "1 kept (pos), 1 new (other)" in note
    assert "several labels of the model are called other, so its row is new" in note


def test_unnamed_labels_are_reported_with_the_map_that_names_them() -> None:
    config = make_bert(BertForSequenceClassification, num_labels=2).config
    config.architectures = ["BertForSequenceClassification"]
    spec = HeadSpec(SINGLE, {"差评": 0, "好评": 1})
    match = match_head(config, spec)
    assert not match.rows
    assert match.note == (
        "the model's head (LABEL_0, LABEL_1) has no label of the data: using a new head; "
        "if LABEL_0 and 差评 are the same label, set --label-map 'LABEL_0=差评'"
    )
    named = match_head(config, HeadSpec(SINGLE, {"差评": 0, "好评": 1}, label_map={"0": "好评", "1": "差评"}))
    assert dict(named.rows) == {1: 0, 0: 1} and not named.is_same
    assert rename_labels(["LABEL_0", "b"], {"0": "a", "b": "c"}) == ["a", "c"]


def test_model_without_a_head_has_nothing_to_keep() -> None:
    config = make_gpt2().config
    config.architectures = ["GPT2LMHeadModel"]
    assert not has_head(config)
    match = match_head(config, HeadSpec(SINGLE, {"LABEL_0": 0, "LABEL_1": 1}))
    assert (dict(match.rows), match.note) == ({}, "")
