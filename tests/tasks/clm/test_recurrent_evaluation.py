"""Scores of a recurrent model against a loop in plain torch that reads one token after the other."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import PlainRecurrent, make_recurrent, make_split

from llmkit.models.recurrent import RecurrentForCausalLM
from llmkit.tasks.clm import recurrent_evaluation as recurrent_lm
from llmkit.tasks.clm.recurrent_evaluation import evaluate_recurrent_lm
from llmkit.tokens.store import Split, TokenStream

CELLS = pytest.mark.parametrize("cell", ["gru", "lstm"])


@pytest.fixture
def split(tmp_path: Path) -> Split:
    """203 tokens."""
    return make_split(tmp_path / "held", n_documents=7, length=29)


@torch.no_grad()
def score_slowly(
    model: RecurrentForCausalLM, stream: TokenStream, begin: int, end: int, first: int | None = None
) -> tuple[float, int]:
    """Nats and hits of the tokens from `begin` to `end`, read one by one from an empty state."""
    plain, state, nats, hits = PlainRecurrent(model).double(), None, 0.0, 0
    for place in range(begin, end):
        before, token = stream.read(place - 1, 2)
        if place == 0 and first is not None:
            before = first
        logits, state = plain(torch.tensor([[before]]), state)
        nats -= logits[0, 0].log_softmax(-1)[token].item()
        hits += int(logits[0, 0].argmax() == token)
    return nats, hits


def assert_equals(found: dict[str, Any], expected: list[tuple[float, int]], n_tokens: int) -> None:
    assert found["nats"] == pytest.approx(sum(nats for nats, _ in expected), rel=1e-6)
    assert (found["n_correct"], found["n_tokens"]) == (sum(hits for _, hits in expected), n_tokens)


@CELLS
def test_whole_stream_equals_reading_token_by_token(cell: str, split: Split) -> None:
    model = make_recurrent(cell, scale=3.0).eval()
    found = evaluate_recurrent_lm(model, split.stream)
    assert_equals(found, [score_slowly(model, split.stream, 0, 203)], 203)
    assert found["n_correct"] > 0


@CELLS
@pytest.mark.parametrize("n_streams", [2, 7, 16, 203, 500])
def test_streams_side_by_side_score_every_token_once(cell: str, split: Split, n_streams: int) -> None:
    model, n_rows = make_recurrent(cell, scale=3.0).eval(), min(n_streams, 203)
    edges = [203 * row // n_rows for row in range(n_rows + 1)]
    expected = [score_slowly(model, split.stream, *pair) for pair in pairwise(edges)]
    assert_equals(evaluate_recurrent_lm(model, split.stream, n_streams=n_streams), expected, 203)


@CELLS
@pytest.mark.parametrize("logits_at_once", [1, 50, 50 * 7, 50 * 3 * 13])
@pytest.mark.parametrize("n_streams", [1, 3])
def test_result_does_not_depend_on_how_much_is_read_at_once(
    monkeypatch: pytest.MonkeyPatch, cell: str, split: Split, logits_at_once: int, n_streams: int
) -> None:
    model = make_recurrent(cell, scale=3.0).eval()
    whole = evaluate_recurrent_lm(model, split.stream, n_streams=n_streams)
    monkeypatch.setattr(recurrent_lm, "LOGITS_PER_CHUNK", logits_at_once)
    parts = evaluate_recurrent_lm(model, split.stream, n_streams=n_streams)
    assert parts.pop("nats") == pytest.approx(whole.pop("nats"), rel=1e-6)
    assert parts == whole


@pytest.mark.parametrize(("max_tokens", "n_streams", "each"), [(40, 1, 40), (40, 4, 10), (43, 4, 10), (2, 4, 1)])
def test_limit_scores_the_beginnings_of_all_streams(split: Split, max_tokens: int, n_streams: int, each: int) -> None:
    model = make_recurrent(scale=3.0).eval()
    begins = [203 * row // n_streams for row in range(n_streams)]
    expected = [score_slowly(model, split.stream, begin, begin + each) for begin in begins]
    found = evaluate_recurrent_lm(model, split.stream, n_streams=n_streams, max_tokens=max_tokens)
    assert_equals(found, expected, each * n_streams)


@pytest.mark.parametrize("n_streams", [1, 4])
def test_limit_beyond_the_text_is_no_limit(split: Split, n_streams: int) -> None:
    model = make_recurrent(scale=3.0).eval()
    limited = evaluate_recurrent_lm(model, split.stream, n_streams=n_streams, max_tokens=10_000)
    assert limited == evaluate_recurrent_lm(model, split.stream, n_streams=n_streams)


def test_first_token_is_what_the_text_begins_behind(monkeypatch: pytest.MonkeyPatch, split: Split) -> None:
    monkeypatch.setattr(recurrent_lm, "LOGITS_PER_CHUNK", 50 * 20)  # read in parts, of which only one is the first
    model = make_recurrent(scale=3.0).eval()
    found = evaluate_recurrent_lm(model, split.stream, first_token=33)
    assert_equals(found, [score_slowly(model, split.stream, 0, 203, first=33)], 203)
    assert found["nats"] != evaluate_recurrent_lm(model, split.stream)["nats"]


def test_adaptive_softmax_is_scored_by_its_own_probabilities(split: Split) -> None:
    model = make_recurrent(scale=3.0, tie_word_embeddings=False, adaptive_cutoffs=[10, 30]).eval()
    ids = torch.from_numpy(split.stream.read(-1, 204))
    logits = model(input_ids=ids[None, :-1]).logits[0]
    expected = -logits.gather(1, ids[1:, None]).double().sum().item()
    assert evaluate_recurrent_lm(model, split.stream)["nats"] == pytest.approx(expected, rel=1e-6)


def test_bf16_is_near(split: Split) -> None:
    model = make_recurrent(scale=3.0).eval()
    exact, near = (evaluate_recurrent_lm(model, split.stream, precision=kind)["nats"] for kind in ("fp32", "bf16"))
    assert near == pytest.approx(exact, rel=1e-2)
