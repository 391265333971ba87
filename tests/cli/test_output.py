"""Results are shown without control characters, or as JSON, by one rank, even if the reader exits."""

import io
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from rich.cells import cell_len

from llmkit.cli.output import (
    echo,
    show_json,
    show_line,
    show_metrics,
    show_receipt,
    show_series,
    show_table,
    write_out,
)
from llmkit.pages.blocks import Table

HOSTILE = "\x1b[31m\x9b2J\u202e"


def test_only_the_first_rank_writes(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for rank in ("1", "0"):
        monkeypatch.setenv("RANK", rank)
        echo(f"from {rank}")
    assert capsys.readouterr().out == "from 0\n"


def test_reader_that_has_enough_ends_the_command_without_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    class Closed:
        def write(self, text: str) -> None:
            raise BrokenPipeError

        def fileno(self) -> int:
            return 99

    monkeypatch.setattr(sys, "stdout", Closed())
    monkeypatch.setattr("llmkit.cli.output.os.dup2", lambda *_: None)
    with pytest.raises(typer.Exit) as ended:
        write_out("text")
    assert ended.value.exit_code == 141


def test_json_of_hostile_texts_is_read_back_and_commands_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    result = {f"{HOSTILE}却说": [HOSTILE, 1.5, None]}
    show_json(result)
    out = capsys.readouterr().out
    assert json.loads(out) == result
    assert "却说" in out and all(c.isprintable() or c == "\n" for c in out)


def test_json_of_results_has_null_for_numbers_that_are_not_finite(capsys: pytest.CaptureFixture[str]) -> None:
    show_json({"a": float("nan"), "b": [1.5, float("-inf")], "c": {"d": (float("inf"), 2)}})
    assert json.loads(capsys.readouterr().out) == {"a": None, "b": [1.5, None], "c": {"d": [None, 2]}}


def test_line_of_data_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    show_line(f"a{HOSTILE}b\nc\n")
    assert capsys.readouterr().out == r"a\x1b[31m\x9b2J\u202eb⏎c" + "\n"


def test_figures_are_shown_as_their_task_shows_them(capsys: pytest.CaptureFixture[str]) -> None:
    show_metrics({"task": "clm", "loss": 1.0, "accuracy": 0.25, "n_tokens": 1234, "method": {"split": "test"}})
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[-1] for line in lines] == ["1.0000", "25.00%", "1,234", "test"]


def test_series_shows_mean_and_deviation_of_each_figure_that_all_runs_have(capsys: pytest.CaptureFixture[str]) -> None:
    found = {"mean": 0.5, "std": 0.1, "min": 0.4, "max": 0.6, "interval": [0.25, 0.75]}
    runs = {str(n): {"test": {"task": "cls", "label_type": "regression", "mse": 1.0}} for n in range(3)}
    show_series({"runs": runs, "summary": {"test": {"mse": found}}}, "cls", Path("out"))
    title, head, line, _, folder, page = capsys.readouterr().out.splitlines()
    assert title == "test rows, 3 runs"
    assert head.split() == ["metric", "mean", "std", "min", "max", "95%", "interval"]
    assert line.split()[-7:] == ["0.5000", "0.1000", "0.4000", "0.6000", "0.2500", "to", "0.7500"]
    assert line.startswith("mean squared error") and folder.endswith(" out") and page.endswith(" out/report.html")


def receipt(**more: Any) -> dict[str, Any]:
    split = {"documents": 9, "characters": 4000, "bytes": 5000, "tokens": 1250, "unknown_tokens": 0, "sentences": 50}
    return {
        "sources": [{"encoding": "utf-8", "skipped": {}}, {"encoding": "", "documents": 3, "skipped": {"bad row": 2}},
            {"encoding": "", "documents": 0, "skipped": {".doc file": 1}}],
        "steps": {}, "split_by": "document", "splits": {"train": split}, "overlap": {},
        "tokenizer": {"kind": "char", "vocab_size": 1234}, "bytes_per_token": 4.0, "sentences": None, "notes": [],
        "samples": [], **more,
    }  # fmt: skip


def test_receipt_accounts_for_every_source_drop_and_token(capsys: pytest.CaptureFixture[str]) -> None:
    quiet = {"changed": 0, "documents_in": 9, "removed": {}, "dropped": {}}
    steps = {"quality": quiet | {"changed": 3, "dropped": {"too short": 2}}, "whitespace": quiet,
             "gutenberg": quiet | {"changed": 1, "removed": {"header": 4700}},
             "controls": quiet | {"changed": 1, "removed": {"NUL": 3}},
             "marks kept as text": quiet | {"notes": {"soft hyphens": 2}}}  # fmt: skip
    overlap = {"test": {"share": 0.0123}}
    show_receipt(receipt(steps=steps, overlap=overlap, sentences={"chinese_words": "jieba"}, samples=[f"a{HOSTILE}"]))
    out = capsys.readouterr().out
    for words in (
        "2 bad row", "binary format", "3 of 9 documents changed; dropped documents: 2 too short",
        "whole documents, by hash",
        "1.23% of test is also in train, counted by passages of 50 letters",
        "1,234 entries, 4.00 bytes per token", "50, 25 tokens each",
        "removed characters: 4,700 header", "removed: 3 NUL",
        "2 soft hyphens (prepare.clean.soft_hyphens)",
    ):  # fmt: skip
        assert words in out
    assert "whitespace" not in out and "unknown tokens" not in out
    assert all(c.isprintable() or c == "\n" for c in out)


def test_unknown_tokens_are_shown_with_their_share(capsys: pytest.CaptureFixture[str]) -> None:
    manifest = receipt(split_by="position")
    manifest["splits"]["train"]["unknown_tokens"] = 25
    show_receipt(manifest)
    out = capsys.readouterr().out
    assert "25 (2.00%)" in out and "the tail of each document" in out


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_table_on_a_terminal_has_its_width_and_its_colours_and_in_a_pipe_neither(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table = Table(["label", "n"], [["财经新闻" * 3 + HOSTILE, 1], ["x" * 500, 22]], "a [bold]title")
    show_table(table)
    title, head, first, second = capsys.readouterr().out.splitlines()
    assert title == "a [bold]title" and head.split() == ["label", "n"]
    assert cell_len(first) == cell_len(second) == len(head), "Chinese characters are two columns wide"
    assert first.isprintable() and second.endswith("…  22")
    monkeypatch.setenv("COLUMNS", "30")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setattr(sys, "stdout", terminal := Terminal())
    show_table(table)
    plain = re.sub(r"\x1b\[[0-9;]*m", "", terminal.getvalue())
    assert "\x1b[1m" in terminal.getvalue() and all(line.isprintable() for line in plain.splitlines())
    assert max(map(cell_len, plain.splitlines())) <= 30
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr(sys, "stdout", terminal := Terminal())
    show_table(table)
    assert not re.search(r"\x1b\[[0-9;]*(3|9)[0-9]m", terminal.getvalue())
