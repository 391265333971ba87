"""A head for answers starts random on a language model, and is kept on a model that has one."""

from pathlib import Path

import pytest
import torch
from tiny import save_bert, save_gpt2
from transformers import AutoModelForQuestionAnswering

from llmkit.core.errors import ModelError
from llmkit.models.reader import load_reader_for_training


@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_encoder_is_loaded_and_the_head_is_drawn_from_the_seed(family: str, tmp_path: Path) -> None:
    path = (save_bert if family == "bert" else save_gpt2)(tmp_path / "model")
    one, notes = load_reader_for_training(path, 0)
    assert notes == ["layers that start with random weights: qa_outputs"]
    same, other = load_reader_for_training(path, 0)[0], load_reader_for_training(path, 1)[0]
    scratch, notes = load_reader_for_training(path, 5, from_scratch=True)
    assert "all weights start random" in notes[0]
    states = [model.state_dict() for model in (one, same, other, scratch)]
    head = "qa_outputs.weight"
    body = next(name for name in states[0] if name.endswith(("word_embeddings.weight", "wte.weight")))
    assert torch.equal(states[0][head], states[1][head]) and not torch.equal(states[0][head], states[2][head])
    assert torch.equal(states[0][body], states[2][body]) and not torch.equal(states[0][body], states[3][body])


def test_saved_head_is_kept_and_missing_weights_are_an_error(tmp_path: Path) -> None:
    path = save_bert(tmp_path / "model")
    model, _ = load_reader_for_training(path, 0)
    model.save_pretrained(path)
    again, notes = load_reader_for_training(path, 1)
    assert notes == ["the model's head for answers is kept"]
    assert torch.equal(again.state_dict()["qa_outputs.weight"], model.state_dict()["qa_outputs.weight"])
    broken = AutoModelForQuestionAnswering.from_pretrained(path)
    state = {name: weight for name, weight in broken.state_dict().items() if "layer.1.attention" not in name}
    broken.save_pretrained(path, state_dict=state)
    with pytest.raises(ModelError, match="weights of the encoder are missing"):
        load_reader_for_training(path, 0)


def test_head_of_another_number_of_labels_is_replaced(tmp_path: Path) -> None:
    path = save_bert(tmp_path / "model")
    from transformers import AutoModelForSequenceClassification

    AutoModelForSequenceClassification.from_pretrained(path, num_labels=7).save_pretrained(path)
    model, notes = load_reader_for_training(path, 0)
    assert model.config.num_labels == 2 and "qa_outputs" in notes[0]
