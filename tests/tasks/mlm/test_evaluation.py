"""Evaluation of BERT against plain loops over the same fixed examples."""

import math
from collections import Counter
from pathlib import Path

import pytest
import torch
from tiny import make_bert, make_documents, make_pairs, make_sentence_split, save_bert
from transformers import BertForMaskedLM

from llmkit.config.evaluate import Evaluate
from llmkit.config.mlm import Mlm
from llmkit.config.prepare import Prepare
from llmkit.core.errors import DataError
from llmkit.datasets.sentences import Sentences
from llmkit.models.loading import load_masked_lm
from llmkit.tasks.evaluation import encode_files
from llmkit.tasks.mlm.evaluation import (
    describe_not_next,
    describe_pair_failure,
    evaluate_masked_lm,
    evaluation_seed,
    score_documents,
    score_split,
    to_metrics,
)
from llmkit.tasks.mlm.objective import MaskedLM
from llmkit.tokens.loading import load_tokenizer
from llmkit.tokens.store import Split
from llmkit.tokens.tokenizer import ensure_special_tokens


@pytest.fixture
def split(tmp_path: Path) -> Split:
    return make_sentence_split(tmp_path / "held", make_documents(6, 1, 15))


@torch.no_grad()
def test_metrics_equal_a_plain_loop_over_the_examples(split: Split) -> None:
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


def test_masks_and_pairs_are_independent_of_the_batch_size(split: Split) -> None:
    model, pairs = make_bert().eval(), make_pairs(split, block_size=48)
    once, again = (evaluate_masked_lm(model, pairs, MaskedLM(0, "nsp"), batch_size=size) for size in (3, 11))
    assert once["mlm_nats"] == pytest.approx(again["mlm_nats"], rel=1e-6)
    assert {k: v for k, v in once.items() if "nats" not in k} == {k: v for k, v in again.items() if "nats" not in k}


def test_limited_evaluation_scores_evenly_spaced_examples(split: Split) -> None:
    pairs = make_pairs(split, block_size=48)
    sums = evaluate_masked_lm(make_bert().eval(), pairs, MaskedLM(0, "nsp"), max_examples=5)
    assert sums["n_examples"] == 5
    assert sums["n_masked"] < 5 * 48


def test_model_without_a_pair_head_has_no_pair_metrics(split: Split) -> None:
    pairs = make_pairs(split, "none", block_size=48)
    sums = evaluate_masked_lm(make_bert(BertForMaskedLM).eval(), pairs, MaskedLM(0, "none"))
    assert not [name for name in to_metrics(sums, None) if "nsp" in name or "pairs" in name]


@pytest.mark.parametrize(
    ("confusion", "expected"),
    [
        ([[30, 0], [20, 0]], "nsp: all 50 pairs are predicted as next, 60.0% of them correctly"),
        ([[0, 20], [0, 30]], "nsp: all 50 pairs are predicted as not_next, 60.0% of them correctly"),
        ([[15, 10], [15, 10]], "nsp accuracy 50.0% is no better than one answer for all pairs, 50.0%"),
        ([[20, 5], [5, 20]], None),
        ([[10, 0], [0, 0]], None),
        ([[0, 0], [0, 0]], None),
    ],
)
def test_pair_head_that_learned_nothing_is_reported(confusion: list[list[int]], expected: str | None) -> None:
    sums = {"mlm_nats": 1.0, "pair_nats": 1.0, "n_masked": 1, "n_correct": 1, "n_top5": 1, "n_tokens": 9}
    metrics = to_metrics(sums | {"n_examples": 1, "n_most_frequent": 1, "confusion": confusion}, "nsp")
    assert describe_pair_failure(metrics, "nsp") == expected
    assert describe_pair_failure(metrics, None) is None


def test_text_without_maskable_tokens_is_refused(tmp_path: Path) -> None:
    unknown = make_sentence_split(tmp_path / "held", [[[[1] * 9, [1] * 5]] for _ in range(4)])
    with pytest.raises(DataError, match="no token of the text could be masked"):
        evaluate_masked_lm(make_bert().eval(), make_pairs(unknown, block_size=48), MaskedLM(0, "nsp"))


@pytest.fixture
def split_of_documents(tmp_path: Path) -> Split:
    return make_sentence_split(tmp_path / "held", make_documents(6, 1, 15))


@torch.no_grad()
def test_pseudo_perplexity_masks_each_token_once(split_of_documents: Split) -> None:
    model, pairs = make_bert().eval(), make_pairs(split_of_documents, block_size=20)
    records = score_documents(model, pairs, max_tokens=30, batch_size=4)
    assert [record["index"] for record in records] == list(range(6))
    for record in records:
        start, _ = pairs.sentences.range_of(record["index"])
        nats = 0.0
        for begin, length in ((start, 18), (start + 18, 12)):
            ids = torch.tensor([2, *pairs.sentences.split.stream.read(begin, length).tolist(), 3])
            for place in range(1, length + 1):
                masked = ids.clone()
                masked[place] = 4
                logits = model(input_ids=masked[None]).prediction_logits[0, place]
                nats -= logits.double().log_softmax(0)[ids[place]].item()
        assert record["n_tokens"] == 30
        assert record["pseudo_perplexity"] == pytest.approx(math.exp(nats / 30), rel=1e-5)


def test_end_of_text_is_not_scored(split_of_documents: Split) -> None:
    pairs = make_pairs(split_of_documents, block_size=48)
    records = score_documents(make_bert().eval(), pairs, max_tokens=10**6, batch_size=32)
    assert sum(record["n_tokens"] for record in records) == len(split_of_documents.stream) - 6


TEXT = "win the prize now. free cash is at home! you call me soon? we meet later. good day to you.\n\n" * 12


def score(tmp_path: Path, text: str = TEXT, **settings: object) -> dict[str, object]:
    path = str(tmp_path / "bert") if (tmp_path / "bert").exists() else save_bert(tmp_path / "bert")
    (tmp_path / "a.txt").write_text(text)
    evaluate = Evaluate(block_size=32, **settings)  # type: ignore[arg-type]
    network, tokenizer = load_masked_lm(path), load_tokenizer(path)
    ensure_special_tokens(tokenizer)
    prepare = Prepare(chinese_words="characters")
    with encode_files([str(tmp_path / "a.txt")], prepare, tokenizer, sentences=True) as data:
        return score_split(network, tokenizer, data, evaluate, Mlm())


def test_held_out_masks_depend_on_the_seed_and_not_on_the_batch_size(tmp_path: Path) -> None:
    first, again, other = (score(tmp_path, seed=seed, batch_size=size) for seed, size in ((0, 16), (0, 3), (1, 16)))
    assert first["n_masked"] == again["n_masked"]
    assert first["mlm_loss"] == pytest.approx(again["mlm_loss"], rel=1e-5)
    assert first["mlm_loss"] != pytest.approx(other["mlm_loss"], rel=1e-5)


def test_held_out_masks_differ_from_training_masks_of_the_same_seed() -> None:
    seeds = {evaluation_seed(Evaluate(seed=seed)) for seed in range(100)}
    assert len(seeds) == 100
    assert seeds.isdisjoint(range(100))


def test_model_without_a_pair_head_is_scored_on_full_sentences(tmp_path: Path) -> None:
    found = score(tmp_path)
    method = found["method"]
    assert isinstance(method, dict)
    assert (method["examples"], method["block_size"], method["chinese_words"]) == ("full sentences", 32, "characters")
    assert not [name for name in found if name.startswith(("nsp", "sop"))]
    assert "documents" not in found and "pseudo_perplexity" not in found


def test_pseudo_perplexity_is_added_if_the_settings_ask_for_it(tmp_path: Path) -> None:
    found = score(tmp_path, pseudo_perplexity=6)
    records = found["documents"]
    assert isinstance(records, list)
    assert [record["n_tokens"] for record in records] == [6]
    assert found["pseudo_perplexity"] == pytest.approx(records[0]["pseudo_perplexity"])


def test_unknown_tokens_of_a_masked_model_are_counted_with_a_note(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = score(tmp_path, TEXT + "却说曹操。")
    assert found["n_unknown_tokens"] == 5
    assert "5 tokens" in capsys.readouterr().err


def test_method_names_the_source_of_not_next_segments(tmp_path: Path) -> None:
    split = make_sentence_split(tmp_path / "held", make_documents(3, 1, 5))
    assert describe_not_next(Sentences(split)) == "from another document"
    alone = make_sentence_split(tmp_path / "one", make_documents(1, 1, 5))
    assert describe_not_next(Sentences(alone)) == "from a distant passage"
