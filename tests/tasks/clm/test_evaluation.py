"""Evaluation of causal language models against plain torch, one token at a time."""

import math
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tiny import PlainRecurrent, make_gpt2, make_recurrent, make_split, save_gpt2

from llmkit.config.evaluate import Evaluate
from llmkit.config.prepare import Prepare, Read
from llmkit.core.errors import UsageError
from llmkit.models.loading import load_causal_lm
from llmkit.models.recurrent import RecurrentForCausalLM
from llmkit.tasks.clm import evaluation as causal_lm
from llmkit.tasks.clm.evaluation import (
    evaluate_causal_lm,
    evaluate_recurrent_lm,
    score_split,
    to_metrics,
)
from llmkit.tasks.evaluation import encode_files, open_split
from llmkit.tokens.loading import load_tokenizer
from llmkit.tokens.store import Split, TokenStream


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
def test_sums_do_not_depend_on_the_logits_per_chunk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plain: bool
) -> None:
    split, model = make_split(tmp_path / "held", n_documents=3, length=23), make_gpt2().eval()
    whole = evaluate_causal_lm(model, split.stream, block_size=16, stride=5)
    sizes = []
    model.lm_head.register_forward_hook(lambda module, inputs, logits: sizes.append(logits.numel()))
    monkeypatch.setattr(causal_lm, "LOGITS_PER_CHUNK", 3 * 50)
    monkeypatch.setattr(causal_lm, "has_plain_lm_head", lambda config: plain)
    parts = evaluate_causal_lm(model, split.stream, block_size=16, stride=5)
    assert parts == whole | {"nats": pytest.approx(whole["nats"], rel=1e-6)}
    assert (max(sizes) <= 3 * 50) is plain


def test_text_shorter_than_a_block_is_scored_whole(tmp_path: Path) -> None:
    split = make_split(tmp_path / "held", n_documents=1, length=5)
    assert evaluate_causal_lm(make_gpt2().eval(), split.stream, block_size=16)["n_tokens"] == 5


def test_limited_evaluation_scores_evenly_spaced_windows(tmp_path: Path) -> None:
    split = make_split(tmp_path / "held", n_documents=10, length=64)
    sums = evaluate_causal_lm(make_gpt2().eval(), split.stream, block_size=16, max_windows=7)
    assert sums["n_tokens"] == 7 * 16
    first = evaluate_causal_lm(make_gpt2().eval(), split.stream, block_size=16, max_windows=1)
    assert sums["nats"] != pytest.approx(first["nats"] * 7)


def test_clm_metrics_equal_their_formulas() -> None:
    metrics = to_metrics({"nats": 70.0, "n_correct": 3, "n_tokens": 20}, {"tokens": 20, "bytes": 50, "characters": 40})
    assert metrics["loss"] == 3.5
    assert metrics["perplexity"] == pytest.approx(math.exp(3.5))
    assert metrics["bits_per_byte"] == pytest.approx(70 / math.log(2) / 50)
    assert metrics["bits_per_character"] == pytest.approx(70 / math.log(2) / 40)
    assert metrics["accuracy"] == 0.15


def test_word_perplexity_equals_perplexity_if_each_word_is_one_token() -> None:
    sums, totals = {"nats": 70.0, "n_correct": 3, "n_tokens": 20}, {"tokens": 20, "bytes": 50, "characters": 40}
    same = to_metrics(sums, totals | {"words": 20})
    assert same["word_perplexity"] == same["perplexity"]
    assert to_metrics(sums, totals | {"words": 10})["word_perplexity"] == pytest.approx(math.exp(7))
    assert to_metrics(sums, totals | {"words": 0.05})["word_perplexity"] is None  # beyond a double


def test_text_without_words_has_no_word_perplexity() -> None:
    metrics = to_metrics({"nats": 70.0, "n_correct": 3, "n_tokens": 20}, {"tokens": 20, "bytes": 50, "characters": 40})
    assert not [name for name in metrics if "word" in name]


def test_perplexity_beyond_the_range_of_floats_is_none() -> None:
    metrics = to_metrics({"nats": 2000.0, "n_correct": 0, "n_tokens": 1}, {"tokens": 1, "bytes": 1, "characters": 1})
    assert metrics["perplexity"] is None


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
def test_parallel_streams_score_every_token_once(cell: str, split: Split, n_streams: int) -> None:
    model, n_rows = make_recurrent(cell, scale=3.0).eval(), min(n_streams, 203)
    edges = [203 * row // n_rows for row in range(n_rows + 1)]
    expected = [score_slowly(model, split.stream, *pair) for pair in pairwise(edges)]
    assert_equals(evaluate_recurrent_lm(model, split.stream, n_streams=n_streams), expected, 203)


@CELLS
@pytest.mark.parametrize("logits_at_once", [1, 50, 50 * 7, 50 * 3 * 13])
@pytest.mark.parametrize("n_streams", [1, 3])
def test_recurrent_sums_do_not_depend_on_the_chunk_size(
    monkeypatch: pytest.MonkeyPatch, cell: str, split: Split, logits_at_once: int, n_streams: int
) -> None:
    model = make_recurrent(cell, scale=3.0).eval()
    whole = evaluate_recurrent_lm(model, split.stream, n_streams=n_streams)
    monkeypatch.setattr(causal_lm, "STREAM_LOGITS_PER_CHUNK", logits_at_once)
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
def test_limit_beyond_the_text_has_no_effect(split: Split, n_streams: int) -> None:
    model = make_recurrent(scale=3.0).eval()
    limited = evaluate_recurrent_lm(model, split.stream, n_streams=n_streams, max_tokens=10_000)
    assert limited == evaluate_recurrent_lm(model, split.stream, n_streams=n_streams)


def test_first_token_precedes_the_text(monkeypatch: pytest.MonkeyPatch, split: Split) -> None:
    monkeypatch.setattr(causal_lm, "STREAM_LOGITS_PER_CHUNK", 50 * 20)  # read in parts, of which only one is the first
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


def test_bf16_sums_are_close_to_fp32(split: Split) -> None:
    model = make_recurrent(scale=3.0).eval()
    exact, near = (evaluate_recurrent_lm(model, split.stream, precision=kind)["nats"] for kind in ("fp32", "bf16"))
    assert near == pytest.approx(exact, rel=1e-2)


TOTALS = {"tokens": 200, "bytes": 1000, "characters": 800, "words": 150, "unknown_tokens": 0}


@pytest.fixture
def prepared(tmp_path: Path) -> Any:
    """As much of a prepared folder as scoring reads."""
    split = make_split(tmp_path / "data/test", n_documents=8, length=25)
    return SimpleNamespace(
        path=tmp_path / "data", manifest={"splits": {"test": dict(TOTALS)}}, has_split=lambda name: name == "test",
        split=lambda name: split,
    )  # fmt: skip


@torch.no_grad()
def test_prepared_split_metrics_equal_a_plain_loop_over_blocks(prepared: Any) -> None:
    model = make_gpt2().eval()
    found = score_split(model, open_split(prepared, "test"), Evaluate())
    text = prepared.split("test").stream.read(0, 200).astype("int64")
    ids = torch.cat([torch.zeros(1, dtype=torch.int64), torch.from_numpy(text)])  # an end of text stands before it
    nats = 0.0
    for begin in range(0, 200, 16):
        inputs, targets = ids[begin : begin + 16], ids[begin + 1 : begin + 17]
        logits = model(inputs[None]).logits[0][: len(targets)]
        nats += torch.nn.functional.cross_entropy(logits.double(), targets, reduction="sum").item()
    assert found["n_tokens"] == 200
    assert found["loss"] == pytest.approx(nats / 200, rel=1e-5)
    assert found["bits_per_byte"] == pytest.approx(nats / math.log(2) / 1000, rel=1e-5)
    assert found["word_perplexity"] == pytest.approx(math.exp(nats / 150), rel=1e-4)
    assert found["method"]["windows"] == "block-wise"


def test_part_of_a_split_has_its_share_of_the_bytes_and_similar_metrics(prepared: Any) -> None:
    model = make_gpt2().eval()
    whole, part = (score_split(model, open_split(prepared, "test"), Evaluate(), share=share) for share in (1.0, 0.5))
    assert part["n_tokens"] < whole["n_tokens"] == 200
    assert part["n_held_out_tokens"] == 200
    assert part["n_bytes"] == round(1000 * part["n_tokens"] / 200)
    assert part["bits_per_byte"] == pytest.approx(whole["bits_per_byte"], rel=0.1)


def test_stride_beyond_the_block_is_refused(prepared: Any) -> None:
    with pytest.raises(UsageError, match="stride 17 is longer than the block of 16"):
        score_split(make_gpt2().eval(), open_split(prepared, "test"), Evaluate(stride=17))
    sliding = score_split(make_gpt2().eval(), open_split(prepared, "test"), Evaluate(stride=4))
    assert (sliding["method"]["windows"], sliding["n_tokens"]) == ("sliding", 200)


def test_recurrent_model_carries_its_state_and_refuses_windows(prepared: Any) -> None:
    model = make_recurrent().eval()
    assert score_split(model, open_split(prepared, "test"), Evaluate())["method"]["windows"] == "carried state"
    with pytest.raises(UsageError, match="uses all text"):
        score_split(model, open_split(prepared, "test"), Evaluate(stride=4))


def test_unknown_tokens_of_a_causal_model_are_counted_with_a_note(
    prepared: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    unknown = {"unknown_tokens": 1234, "unknown_characters": 50, "unknown_examples": ["ж", "火"]}
    prepared.manifest["splits"]["test"] |= {"tokens": 12340, "characters": 1000, **unknown}
    found = score_split(make_gpt2().eval(), open_split(prepared, "test"), Evaluate())
    assert found["n_unknown_tokens"] == 1234
    note = "1,234 tokens (10.0%), 50 of 1,000 characters (5%) are unknown to the tokenizer, such as ж, 火"
    assert note in capsys.readouterr().err


def test_raw_text_is_scored_completely(tmp_path: Path) -> None:
    path = save_gpt2(tmp_path / "model")
    model, tokenizer = load_causal_lm(path), load_tokenizer(path)
    text = "win the prize now, 却说 you call\n" * 20
    (tmp_path / "a.txt").write_text(text)
    files = [str(tmp_path / "a.txt")]
    with encode_files(files, Prepare(), tokenizer) as data:
        found = score_split(model, data, Evaluate())
    ids = tokenizer(text, add_special_tokens=False).input_ids
    assert (found["n_bytes"], found["n_characters"]) == (len(text.encode()), len(text))
    assert found["n_tokens"] == len(ids) + 1, "with its first token and the end of text"
    with encode_files(files, Prepare(read=Read(max_doc_chars=1000)), tokenizer) as data:
        assert score_split(model, data, Evaluate())["n_bytes"] == found["n_bytes"]
