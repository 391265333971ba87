"""A causal model is scored over all of a text, exactly, with the sizes of what was scored."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tiny import make_gpt2, make_recurrent, make_split, save_gpt2

from llmkit.config.evaluate import Evaluate
from llmkit.config.prepare import Read
from llmkit.core.errors import DataError, UsageError
from llmkit.models.loading import load_causal_lm
from llmkit.tasks.clm.scoring import score_prepared, score_text
from llmkit.tokens.tokenizer import load_tokenizer

TOTALS = {"bytes": 1000, "characters": 800, "words": 150, "unknown_tokens": 0}


@pytest.fixture
def prepared(tmp_path: Path) -> Any:
    """As much of a prepared folder as scoring reads."""
    split = make_split(tmp_path / "data/test", n_documents=8, length=25)
    return SimpleNamespace(
        path=tmp_path / "data", manifest={"splits": {"test": dict(TOTALS)}}, has_split=lambda name: name == "test",
        split=lambda name: split,
    )  # fmt: skip


@torch.no_grad()
def test_bits_and_perplexities_are_those_of_a_plain_loop_over_blocks(prepared: Any) -> None:
    model = make_gpt2().eval()
    found = score_prepared(model, prepared, "test", Evaluate())
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


def test_part_of_a_split_has_its_share_of_the_bytes_and_about_the_figures_of_all(prepared: Any) -> None:
    model = make_gpt2().eval()
    whole, part = (score_prepared(model, prepared, "test", Evaluate(), share=share) for share in (1.0, 0.5))
    assert part["n_tokens"] < whole["n_tokens"] == 200
    assert part["n_held_out_tokens"] == 200
    assert part["n_bytes"] == round(1000 * part["n_tokens"] / 200)
    assert part["bits_per_byte"] == pytest.approx(whole["bits_per_byte"], rel=0.1)


def test_stride_beyond_the_block_would_leave_tokens_out_and_is_refused(prepared: Any) -> None:
    with pytest.raises(UsageError, match="stride 17 is longer than the block of 16"):
        score_prepared(make_gpt2().eval(), prepared, "test", Evaluate(stride=17))
    sliding = score_prepared(make_gpt2().eval(), prepared, "test", Evaluate(stride=4))
    assert (sliding["method"]["windows"], sliding["n_tokens"]) == ("sliding", 200)


def test_recurrent_model_carries_its_state_and_takes_no_windows(prepared: Any) -> None:
    model = make_recurrent().eval()
    assert score_prepared(model, prepared, "test", Evaluate())["method"]["windows"] == "carried state"
    with pytest.raises(UsageError, match="reads the whole text"):
        score_prepared(model, prepared, "test", Evaluate(stride=4))


def test_tokens_that_are_unknown_are_counted_and_said(prepared: Any, capsys: pytest.CaptureFixture[str]) -> None:
    prepared.manifest["splits"]["test"]["unknown_tokens"] = 1234
    found = score_prepared(make_gpt2().eval(), prepared, "test", Evaluate())
    assert found["n_unknown_tokens"] == 1234
    assert "1,234 tokens are unknown to the tokenizer" in capsys.readouterr().err


def test_raw_text_is_scored_to_its_last_byte_whatever_files_it_comes_in(tmp_path: Path) -> None:
    path = save_gpt2(tmp_path / "model")
    model, tokenizer = load_causal_lm(path), load_tokenizer(path)
    text = "win the prize now, 却说 you call\n" * 20
    (tmp_path / "a.txt").write_text(text)
    found = score_text(model, tokenizer, [str(tmp_path / "a.txt")], Read(), Evaluate())
    ids = tokenizer(text, add_special_tokens=False).input_ids
    assert (found["n_bytes"], found["n_characters"]) == (len(text.encode()), len(text))
    assert found["n_tokens"] == len(ids) + 1, "with its first token and the end of text"
    in_parts = score_text(model, tokenizer, [str(tmp_path / "a.txt")], Read(max_doc_chars=1000), Evaluate())
    assert in_parts["n_bytes"] == found["n_bytes"]
    (tmp_path / "empty.txt").write_text("")
    with pytest.raises(DataError, match="no text to score"):
        score_text(model, tokenizer, [str(tmp_path / "empty.txt")], Read(), Evaluate())
