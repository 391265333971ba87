"""Encoders for masked tokens are loaded by the table of families."""

from pathlib import Path

import pytest
import torch
from tiny import make_bert, make_gpt2, make_modernbert
from transformers import BertForMaskedLM, BertForPreTraining, PreTrainedModel

from llmkit.core.errors import UsageError
from llmkit.models.kernels.padding_free import encoder_inputs
from llmkit.models.masked import compute_head_logits, load_masked, load_masked_for_training, sentence_objective_of

MODELS = [make_bert(BertForPreTraining), make_bert(BertForMaskedLM), make_modernbert()]


@pytest.mark.parametrize("model", MODELS, ids=["paired", "bert", "modernbert"])
def test_heads_give_the_whole_models_logits_at_the_indices(model: PreTrainedModel) -> None:
    model.eval()
    ids, places = torch.arange(5, 17).reshape(2, 6), torch.tensor([1, 4, 9])
    with torch.no_grad():
        whole = model(input_ids=ids)
        encoded = model.base_model(**encoder_inputs(model, {"input_ids": ids}))
        tokens, pairs = compute_head_logits(model, encoded, places)
    logits = whole.prediction_logits if hasattr(whole, "prediction_logits") else whole.logits
    torch.testing.assert_close(tokens, logits.flatten(0, 1)[places])
    assert (pairs is None) == (sentence_objective_of(model) == "none")
    if pairs is not None:
        torch.testing.assert_close(pairs, whole.seq_relationship_logits)


def test_model_that_no_family_of_the_table_has_is_refused_with_those_there_are(tmp_path: Path) -> None:
    make_gpt2().save_pretrained(tmp_path)
    with pytest.raises(UsageError, match="of type gpt2") as caught:
        load_masked(str(tmp_path))
    assert "bert or modernbert" in str(caught.value)


def test_pairs_of_a_family_without_a_head_for_them_are_refused(tmp_path: Path) -> None:
    make_modernbert().save_pretrained(tmp_path)
    with pytest.raises(UsageError, match="modernbert has no head for pairs"):
        load_masked_for_training(str(tmp_path), "nsp", 0)
