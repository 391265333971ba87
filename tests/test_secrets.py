"""Passwords stay out of files and messages, markup out of pages, control characters out of the terminal."""

import json
import logging
import os
import re
import sys
from pathlib import Path

import pytest
from tiny import make_messages, save_bert, write_table

from llmkit.cli import app
from llmkit.cli.app import main
from llmkit.cli.output import echo, show_json
from llmkit.core import console
from llmkit.core.console import redact
from llmkit.core.errors import DataError
from llmkit.core.machine import describe_command

ROOT = Path(__file__).parents[1]
CANARY = "c4n4ryC4N4RYc4n4ry"
ESCAPES = "\x1b[31m\x9b2J\u202e"
HOSTILE = f"{ESCAPES}<script>alert(1)<|script>"  # a name of a file has no slash
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    monkeypatch.setattr(sys, "argv", ["llmkit", *words])
    monkeypatch.setattr(app.signal, "signal", lambda *_: None)
    capsys.readouterr()
    with pytest.raises(SystemExit) as caught:
        main()
    printed = capsys.readouterr()
    return int(caught.value.code or 0), printed.out + printed.err


def set_canaries(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "WANDB_API_KEY", "AWS_SECRET_ACCESS_KEY", "DB_PASSWORD", "USER"):
        monkeypatch.setenv(name, CANARY)


def test_no_secret_markup_or_control_character_gets_out_of_any_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    # main() asks transformers for this before it is imported.
    monkeypatch.setattr("transformers.utils.logging._tqdm_active", False)
    logging.getLogger("transformers").setLevel(logging.ERROR)
    set_canaries(monkeypatch)
    book = f"{HOSTILE}.txt"
    Path(book).write_text("".join(f"{HOSTILE} line {n}, and {n * n} more.\n" for n in range(400)), encoding="utf-8")
    Path("unread").mkdir()
    Path(f"unread/{HOSTILE}.exe").touch()
    Path("unread/a.txt").write_text("A short text, which is all there is to read here.\n" * 20)
    rows = [(text, f"{HOSTILE}{label}") for text, label in make_messages(40)]
    table = write_table(Path("rows.csv"), rows, (f"te{HOSTILE}xt", "label"))
    save_bert(tmp_path / "bert")
    config = json.loads(Path("bert/config.json").read_text())
    Path("bert/config.json").write_text(json.dumps(config | {"_name_or_path": HOSTILE, "task": HOSTILE}))
    smoke = f"{ROOT}/recipes/smoke"
    printed = ""
    for words in (
        ["prepare", book, "unread", "--out", "data", "--recipe", f"{smoke}/prepare.yaml"],
        ["pretrain", f"{smoke}/pretrain.yaml", "--data", "data", "--out", f"run{HOSTILE}", "-s", "train.max_steps=2"],
        ["pretrain", f"{smoke}/pretrain.yaml", "--data", "data", "--out", "run", "-s", "train.max_steps=2"],
        ["compare", f"run{HOSTILE}", "run"],
        ["eval", f"run{HOSTILE}"],
        ["generate", "run", "--prompt", HOSTILE, "-s", "generate.max_new_tokens=20"],
        ["generate", "run", "--prompt", HOSTILE, "-s", "generate.max_new_tokens=20", "--json"],
        ["finetune-cls", "--data", table, "--out", "cls", "--model", "bert", "-s", "train.max_steps=2",
         "--show-samples"],
        ["eval", "cls", "--data", table, "--show-samples"],
        ["predict", "cls", "--data", table, "--out", "labelled.csv"],
        ["report", "cls"],
    ):  # fmt: skip
        code, lines = run(monkeypatch, capsys, *words)
        assert code == 0, lines
        printed += lines
    for words in (
        ["prepare", f"https://user:{CANARY}@host/{HOSTILE}.txt", "--out", "other"],
        ["prepare", f"{HOSTILE}.txt", "--out", "other", "-s", f"hub.token={CANARY}x", "-s", f"prepare.{HOSTILE}=1"],
        ["eval", f"cls{HOSTILE}"],
        ["predict", "cls", "--data", book, "--text", HOSTILE],
        ["eval", "cls", f"--{HOSTILE}"],
    ):
        code, lines = run(monkeypatch, capsys, *words)
        assert code in (2, 3, 4, 6), lines
        printed += lines
    assert "script" in printed
    assert CANARY not in printed
    assert not CONTROL.findall(printed), [line for line in printed.split("\n") if CONTROL.search(line)]
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert [path for path in files if CANARY.encode() in path.read_bytes()] == []
    pages = [path.read_text(encoding="utf-8") for path in files if path.suffix == ".html"]
    assert len(pages) == 4
    for page in pages:
        assert "&lt;script&gt;alert" in page
        assert "<script>alert" not in page
        assert not CONTROL.findall(page)


def test_command_lines_and_messages_are_kept_without_passwords(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    set_canaries(monkeypatch)
    hub = "hf_" + "aB3" * 8
    words = [f"https://me:{CANARY}x@host/a", f"x.token={CANARY}y", f"--model=x/{hub}", CANARY, "-s", "a.b=c"]
    monkeypatch.setattr(sys, "argv", ["/somewhere/llmkit", "eval", *words])
    kept = ["https://[redacted]@host/a", "x.token=[redacted]", "--model=x/[redacted]", "[redacted]", "-s", "a.b=c"]
    assert describe_command() == ["llmkit", "eval", *kept]
    console.info(" ".join(words))
    assert capsys.readouterr().err == " ".join(kept) + "\n"


def test_ordinary_words_are_not_redacted(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_TOKEN", "text")
    words = "the text has no end-of-text token: [SEP] is used; hf:imdb@train, mail@host, https://huggingface.co/a@b"
    assert redact(words) == words


def test_lines_for_people_are_clean_and_json_says_the_same_in_escapes(capsys: pytest.CaptureFixture[str]) -> None:
    text = f"a{ESCAPES}b\U000e0041\ud800 却说\u3000c"
    echo(f"x\t{text}\ny")
    shown = r"\x1b[31m\x9b2J\u202eb\U000e0041\ud800"
    assert capsys.readouterr().out == f"x\ta{shown} 却说\u3000c\ny\n"
    show_json({text: text})
    out = capsys.readouterr().out
    assert json.loads(out) == {text: text}
    assert not CONTROL.findall(out)
    assert str(DataError("a\nb", where=f"{ESCAPES}.txt", hint="c")).split("\n")[0] == "error: a⏎b"
    assert not CONTROL.findall(str(DataError("a", where=ESCAPES, hint=ESCAPES)))
