"""Evaluation of BERT against plain loops over the same fixed examples."""

import math
from collections import Counter
from pathlib import Path

import pytest
import torch
from tiny import make_bert, make_documents, make_pairs, make_sentence_split
from transformers import BertForMaskedLM

from llmkit.core.errors import DataError
from llmkit.tasks.mlm.evaluation import evaluate_masked_lm, to_metrics
from llmkit.tasks.mlm.objective import MaskedLM
from llmkit.tokens.store import Split


@pytest.fixture
def split(tmp_path: Path) -> Split:
    return make_sentence_split(tmp_path / "held", make_documents(6, 1, 15))


@torch.no_grad()
def test_figures_agree_with_a_plain_loop_over_the_examples(split: Split) -> None:
    model, pairs = make_bert(initializer_range=1.0).eval(), make_pairs(split, block_size=48)
    metrics = to_metrics(evaluate_masked_lm(model, pairs, MaskedLM(0, "nsp"), batch_size=7), "nsp")
    mlm, nsp, right, top5, labels = [], [], 0, 0, Counter[int]()
    confusion = [[0, 0], [0, 0]]
    for number in range(pairs.samples_per_epoch):
        example = pairs.read(number)
        ids = torch.from_numpy(example.input_ids)[None]
        types = (torch.arange(ids.shape[1]) >= example.n_first).long()[None]
        output = model(input_ids=ids, token_type_ids=types)
        for place, target in zip(example.masked.tolist(), example.targets.tolist(), strict=True):
            scores = output.prediction_logits[0, place].double().log_softmax(0)
            mlm.append(-scores[target].item())
            order = scores.argsort(descending=True).tolist()
            right += order[0] == target
            top5 += target in order[:5]
            labels[target] += 1
        scores = output.seq_relationship_logits[0].double().log_softmax(0)
        nsp.append(-scores[example.relation].item())
        confusion[example.relation][int(scores.argmax())] += 1
    assert metrics["mlm_loss"] == pytest.approx(sum(mlm) / len(mlm), rel=1e-5)
    assert metrics["nsp_loss"] == pytest.approx(sum(nsp) / len(nsp), rel=1e-5)
    assert metrics["loss"] == pytest.approx(metrics["mlm_loss"] + metrics["nsp_loss"])
    assert metrics["mlm_perplexity"] == pytest.approx(math.exp(metrics["mlm_loss"]))
    assert metrics["mlm_accuracy"] == right / len(mlm)
    assert metrics["mlm_top5_accuracy"] == top5 / len(mlm)
    assert metrics["mlm_baseline_accuracy"] == labels.most_common(1)[0][1] / len(mlm)
    assert metrics["nsp_confusion"] == {
        "next": {"next": confusion[0][0], "not_next": confusion[0][1]},
        "not_next": {"next": confusion[1][0], "not_next": confusion[1][1]},
    }
    assert metrics["nsp_accuracy"] == (confusion[0][0] + confusion[1][1]) / len(nsp)
    assert metrics["nsp_baseline_accuracy"] == max(map(sum, confusion)) / len(nsp)
    assert (metrics["n_masked"], metrics["n_pairs"]) == (len(mlm), len(nsp))


def test_masks_and_pairs_are_the_same_each_time_and_whatever_the_batch(split: Split) -> None:
    model, pairs = make_bert().eval(), make_pairs(split, block_size=48)
    once, again = (evaluate_masked_lm(model, pairs, MaskedLM(0, "nsp"), batch_size=size) for size in (3, 11))
    assert once["mlm_nats"] == pytest.approx(again["mlm_nats"], rel=1e-6)
    assert {k: v for k, v in once.items() if "nats" not in k} == {k: v for k, v in again.items() if "nats" not in k}


def test_a_look_scores_examples_from_everywhere(split: Split) -> None:
    pairs = make_pairs(split, block_size=48)
    sums = evaluate_masked_lm(make_bert().eval(), pairs, MaskedLM(0, "nsp"), max_examples=5)
    assert sums["n_examples"] == 5
    assert sums["n_masked"] < 5 * 48


def test_a_model_without_the_head_for_pairs_has_no_figures_of_them(split: Split) -> None:
    pairs = make_pairs(split, "none", block_size=48)
    sums = evaluate_masked_lm(make_bert(BertForMaskedLM).eval(), pairs, MaskedLM(0, "none"))
    assert not [name for name in to_metrics(sums, None) if "nsp" in name or "pairs" in name]


def test_text_of_which_nothing_can_be_masked_is_no_perfect_score(tmp_path: Path) -> None:
    unknown = make_sentence_split(tmp_path / "held", [[[[1] * 9, [1] * 5]] for _ in range(4)])
    with pytest.raises(DataError, match="no token of the text could be masked"):
        evaluate_masked_lm(make_bert().eval(), make_pairs(unknown, block_size=48), MaskedLM(0, "nsp"))
