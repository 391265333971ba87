"""Evaluation against a computation that shares nothing with it: one token at a time, in plain torch."""

import math
from pathlib import Path

import pytest
import torch
from tiny import make_gpt2, make_split

from llmkit.tasks.clm import evaluation as causal_lm
from llmkit.tasks.clm.evaluation import evaluate_causal_lm, to_metrics
from llmkit.tokens.store import Split


def score_one_by_one(split: Split, block_size: int, stride: int) -> tuple[float, int]:
    """Nats and hits: each token from its own context, found by counting and not by windows."""
    model = make_gpt2().double().eval()
    n = len(split.stream)
    tokens = split.stream.read(-1, n + 1).tolist()
    nats, correct = 0.0, 0
    for target in range(1, n + 1):
        window = 0 if target <= block_size else -(-(target - block_size) // stride)
        context = torch.tensor([tokens[window * stride : target]])
        with torch.no_grad():
            logits = model(input_ids=context).logits[0, -1]
        nats -= torch.log_softmax(logits, -1)[tokens[target]].item()
        correct += int(logits.argmax() == tokens[target])
    return nats, correct


@pytest.mark.parametrize(("block_size", "stride"), [(16, 16), (16, 5), (16, 1), (7, 7), (13, 4)])
@pytest.mark.parametrize("batch_size", [1, 4])
def test_sums_equal_a_token_by_token_computation(tmp_path: Path, block_size: int, stride: int, batch_size: int) -> None:
    split = make_split(tmp_path / "held", n_documents=3, length=23)
    sums = evaluate_causal_lm(
        make_gpt2().eval(), split.stream, block_size=block_size, stride=stride, batch_size=batch_size
    )
    nats, correct = score_one_by_one(split, block_size, stride)
    assert sums["n_tokens"] == 69
    assert sums["nats"] == pytest.approx(nats, rel=1e-6)
    assert sums["n_correct"] == correct


@pytest.mark.parametrize("plain", [True, False])
def test_sums_do_not_depend_on_how_many_logits_there_are_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plain: bool
) -> None:
    split, model = make_split(tmp_path / "held", n_documents=3, length=23), make_gpt2().eval()
    whole = evaluate_causal_lm(model, split.stream, block_size=16, stride=5)
    sizes = []
    model.lm_head.register_forward_hook(lambda module, inputs, logits: sizes.append(logits.numel()))
    monkeypatch.setattr(causal_lm, "PART", 3 * 50)
    monkeypatch.setattr(causal_lm, "has_plain_lm_head", lambda config: plain)
    parts = evaluate_causal_lm(model, split.stream, block_size=16, stride=5)
    assert parts == whole | {"nats": pytest.approx(whole["nats"], rel=1e-6)}
    assert (max(sizes) <= 3 * 50) is plain


def test_text_shorter_than_a_block_counts_whole(tmp_path: Path) -> None:
    split = make_split(tmp_path / "held", n_documents=1, length=5)
    assert evaluate_causal_lm(make_gpt2().eval(), split.stream, block_size=16)["n_tokens"] == 5


def test_a_capped_look_takes_windows_from_the_whole_text(tmp_path: Path) -> None:
    split = make_split(tmp_path / "held", n_documents=10, length=64)
    sums = evaluate_causal_lm(make_gpt2().eval(), split.stream, block_size=16, max_windows=7)
    assert sums["n_tokens"] == 7 * 16
    first = evaluate_causal_lm(make_gpt2().eval(), split.stream, block_size=16, max_windows=1)
    assert sums["nats"] != pytest.approx(first["nats"] * 7)


def test_figures_follow_their_formulas() -> None:
    metrics = to_metrics({"nats": 70.0, "n_correct": 3, "n_tokens": 20}, n_bytes=50, n_characters=40)
    assert metrics["loss"] == 3.5
    assert metrics["perplexity"] == pytest.approx(math.exp(3.5))
    assert metrics["bits_per_byte"] == pytest.approx(70 / math.log(2) / 50)
    assert metrics["bits_per_character"] == pytest.approx(70 / math.log(2) / 40)
    assert metrics["accuracy"] == 0.15


def test_perplexity_a_word_is_that_a_token_where_each_word_is_one_token() -> None:
    sums = {"nats": 70.0, "n_correct": 3, "n_tokens": 20}
    same = to_metrics(sums, n_bytes=50, n_characters=40, n_words=20)
    assert same["word_perplexity"] == same["perplexity"]
    assert to_metrics(sums, n_bytes=50, n_characters=40, n_words=10)["word_perplexity"] == pytest.approx(math.exp(7))
    assert to_metrics(sums, n_bytes=50, n_characters=40, n_words=0.05)["word_perplexity"] is None  # beyond a double


def test_without_words_there_is_no_figure_of_them() -> None:
    metrics = to_metrics({"nats": 70.0, "n_correct": 3, "n_tokens": 20}, n_bytes=50, n_characters=40, n_words=None)
    assert not [name for name in metrics if "word" in name]


def test_perplexity_that_no_float_holds_is_null_and_not_infinity() -> None:
    metrics = to_metrics({"nats": 2000.0, "n_correct": 0, "n_tokens": 1}, n_bytes=1, n_characters=1)
    assert metrics["perplexity"] is None
