"""A saved classifier scores rows as they stand alone, however they come."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import make_messages, save_bert, save_gpt2
from transformers import BertForSequenceClassification, GPT2ForSequenceClassification

from llmkit.config.evaluate import Evaluate
from llmkit.tables.labelled import LabelledRow
from llmkit.tasks.cls import row_reading
from llmkit.tasks.cls.label_types import get_label_type
from llmkit.tasks.cls.row_scoring import RowScorer, describe_method, open_scorer
from llmkit.tokens.tokenizer import load_tokenizer


def save(folder: Path, kind: type, save_model: Any, n_labels: int = 3, **config: Any) -> str:
    """Somebody else's classifier, whose head was never trained."""
    path = save_model(folder)
    torch.manual_seed(1)
    model = kind.from_pretrained(path, num_labels=n_labels, **config)
    model.score.weight.data.mul_(30) if hasattr(model, "score") else model.classifier.weight.data.mul_(30)
    model.save_pretrained(path)
    return path


@pytest.fixture
def bert(tmp_path: Path) -> str:
    return save(tmp_path / "bert", BertForSequenceClassification, save_bert)


ROWS = [LabelledRow(text, None, None, n) for n, (text, _) in enumerate(make_messages(11))]


def score(scorer: RowScorer) -> np.ndarray:
    return np.concatenate([outputs for _, _, outputs in scorer.score(ROWS)])


def test_probabilities_are_those_of_transformers_row_by_row(bert: str) -> None:
    found = score(open_scorer(bert, Evaluate()))
    model, tokenizer = BertForSequenceClassification.from_pretrained(bert).eval(), load_tokenizer(bert)
    for row, outputs in zip(ROWS, found, strict=True):
        with torch.no_grad():
            expected = model(**tokenizer(row.text, return_tensors="pt")).logits.double().softmax(-1)[0]
        assert outputs == pytest.approx(expected.numpy(), abs=1e-5)


@pytest.mark.parametrize("batch_size", [1, 4])
def test_outputs_do_not_depend_on_how_many_rows_go_at_once(
    bert: str, monkeypatch: pytest.MonkeyPatch, batch_size: int
) -> None:
    whole = score(open_scorer(bert, Evaluate()))
    monkeypatch.setattr(row_reading, "ROWS_AT_ONCE", 3)
    assert score(open_scorer(bert, Evaluate(batch_size=batch_size))) == pytest.approx(whole, abs=1e-6)


def test_model_without_a_pad_token_is_scored_behind_any_token(tmp_path: Path) -> None:
    path = save(tmp_path / "gpt2", GPT2ForSequenceClassification, save_gpt2)
    scorer = open_scorer(path, Evaluate())
    assert scorer.network.config.pad_token_id is not None
    found = score(scorer)
    alone = [np.concatenate([out for _, _, out in scorer.score([row])]) for row in ROWS]
    assert found == pytest.approx(np.concatenate(alone), abs=1e-5)


def test_context_is_bounded_by_the_model_the_settings_and_the_tokenizer(bert: str) -> None:
    assert open_scorer(bert, Evaluate()).format.block_size == 64
    assert open_scorer(bert, Evaluate(block_size=16)).format.block_size == 16
    scorer = open_scorer(bert, Evaluate())
    assert scorer.thresholds.tolist() == [0.5] * 3
    assert scorer.names == ["LABEL_0", "LABEL_1", "LABEL_2"]
    assert scorer.predict(np.array([[0.1, 0.7, 0.2]])).tolist() == [1]


def test_figures_on_rows_that_the_weights_were_chosen_by_say_so() -> None:
    single, multiple = get_label_type("single_label"), get_label_type("multi_label")
    assert describe_method("a.csv", Evaluate(), single, False, {}) == {"data": "a.csv", "precision": "fp32"}
    assert "weights" in describe_method("a.csv", Evaluate(), single, True, {})
    assert "thresholds" not in describe_method("a.csv", Evaluate(), single, True, {})
    assert "thresholds" in describe_method("a.csv", Evaluate(), multiple, True, {"method": {"n_resamples": 5}})
