"""A tokenizer whose time grows with the square of a text's length is refused by name, and never waited for."""

import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from tiny import make_messages, save_bert, write_table

import llmkit
from llmkit.core.errors import ModelError
from llmkit.tokens import time_limit
from llmkit.tokens.loading import load_tokenizer
from llmkit.tokens.time_limit import EncodingTooSlow, run_limited
from llmkit.tokens.tokenizer import encode_texts, encode_with_offsets

from .test_tokenizer_check import split, words, write_tokenizer

LONG = "a" * 25_000
"""Two seconds with the slow pattern."""
SLOW: dict[str, dict[str, Any]] = {
    "a pattern that looks for an end that is not there": {"pre_tokenizer": split("[a-z]+=|[a-z]")},
    "words of any length": {
        "model": {
            "type": "WordPiece", "vocab": {"[UNK]": 0, "a": 1, "##a": 2}, "unk_token": "[UNK]",
            "continuing_subword_prefix": "##", "max_input_chars_per_word": 10**9,
        }
    },
}  # fmt: skip


@pytest.fixture
def short_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time_limit, "CPU_SECONDS", 0.3)
    monkeypatch.setattr(time_limit, "CPU_SECONDS_PER_CHARACTER", 0.0)


@pytest.mark.usefixtures("short_limit")
@pytest.mark.parametrize("what", SLOW)
def test_tokenizer_that_is_too_slow_for_a_long_text_is_refused_by_name(tmp_path: Path, what: str) -> None:
    tokenizer = load_tokenizer(str(write_tokenizer(tmp_path / "slow", **SLOW[what])))
    text = LONG[:5_000] if "words" in what else LONG
    for encode in (encode_texts, lambda *args: list(encode_with_offsets(*args))):
        with pytest.raises(EncodingTooSlow, match=f"CPU seconds for {len(text) + 5:,} characters") as caught:
            encode(tokenizer, ["a b c", text])
        (problem,) = caught.value.problems
        assert problem.where == str(tmp_path / "slow")
        assert f"of {len(text):,} characters ('aaaa" in problem.hint


@pytest.mark.usefixtures("short_limit")
def test_prepare_with_a_tokenizer_that_is_too_slow_ends_with_its_name(tmp_path: Path) -> None:
    folder = write_tokenizer(tmp_path / "slow", **SLOW["a pattern that looks for an end that is not there"])
    (tmp_path / "a.txt").write_text(LONG, encoding="utf-8")
    with pytest.raises(ModelError, match="the tokenizer needs more than") as caught:
        llmkit.prepare(tmp_path / "a.txt", tmp_path / "data", prepare__tokenizer__path=str(folder))
    assert caught.value.problems[0].where == str(folder)
    assert not (tmp_path / "data").exists()


@pytest.mark.usefixtures("short_limit")
def test_predict_with_a_tokenizer_that_is_too_slow_ends_with_its_name(tmp_path: Path) -> None:
    save_bert(tmp_path / "bert")
    table = write_table(tmp_path / "rows.csv", make_messages(40))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time_limit, "CPU_SECONDS", 60.0)
        llmkit.finetune(data=table, out=tmp_path / "run", model=tmp_path / "bert", train__max_steps=1)
    write_tokenizer(tmp_path / "run/model", **SLOW["words of any length"])
    with pytest.raises(ModelError, match="the tokenizer needs more than") as caught:
        llmkit.predict(tmp_path / "run", [LONG[:5_000]])
    assert caught.value.problems[0].where == str(tmp_path / "run/model")


def test_ids_of_long_texts_are_those_of_a_direct_call(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(str(write_tokenizer(tmp_path, pre_tokenizer={"type": "WhitespaceSplit"}, model=words())))
    texts = ["ab a b " * 1000, "", "b"]
    ids, lengths = encode_texts(tokenizer, texts)
    assert lengths.tolist() == [3000, 0, 1]
    assert ids.tolist() == [4, 2, 3] * 1000 + [3]


def test_error_of_a_long_call_is_raised_in_the_caller() -> None:
    def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_limited(fail, ["a" * 2000], "tokenizer")


def test_process_that_was_stopped_has_used_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGSTOP: the clock goes on, and the process gets no time."""
    monkeypatch.setattr(time_limit.time, "monotonic", iter(range(0, 10**9, 1000)).__next__)
    monkeypatch.setattr(time_limit.time, "process_time", lambda: 0.0)
    assert run_limited(lambda: time.sleep(0.5) or "ids", ["a" * 2000], "tokenizer") == "ids"


def test_signal_in_a_long_call_is_handled_at_once() -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    is_over = threading.Event()
    try:
        with pytest.raises(KeyboardInterrupt):
            run_limited(lambda: is_over.wait(600), ["a" * 2000], "tokenizer")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        is_over.set()
