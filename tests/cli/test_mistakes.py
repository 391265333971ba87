"""A wrong command line is three lines that lead to what was meant."""

import sys

import pytest

from llmkit.cli import app


def explain(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], typed: str) -> tuple[str, str, str]:
    monkeypatch.setattr(sys, "argv", ["llmkit", *typed.split()])
    monkeypatch.setattr(app, "_leave", sys.exit)
    with pytest.raises(SystemExit) as caught:
        app.main()
    assert caught.value.code == 2
    what, where, hint = capsys.readouterr().err.splitlines()
    return what.removeprefix("error: "), where.removeprefix("where: "), hint.removeprefix("hint:  ")


@pytest.mark.parametrize(
    ("typed", "what", "where", "hint"),
    [
        ("--lr 3e-4", "no such option: --lr", "--lr", "write -s optim.learning_rate=3e-4 ("),
        ("-lr 3e-4", "no such option: -lr", "-lr", "write -s optim.learning_rate=3e-4 ("),
        ("--epochs=3", "no such option: --epochs", "--epochs", "write -s train.epochs=3 ("),
        ("--max_steps 3", "no such option: --max_steps", "--max_steps", "write -s train.max_steps=1000 ("),
        ("--batch-size 3", "no such option: --batch-size", "--batch-size", "write -s train.global_batch_size=32 ("),
        ("--weight_decay 3", "no such option: --weight_decay", "--weight_decay", "write -s optim.weight_decay=0.1 ("),
        ("--config r.yaml", "no such option: --config", "--config", "give the recipe as the first argument"),
        ("--output_dir r", "no such option: --output_dir", "--output_dir", "write --out FOLDER"),
        ("--dry_run", "no such option: --dry_run", "--dry_run", "did you mean '--dry-run'?"),
        ("--resum", "no such option: --resum", "--resum", "did you mean '--resume'?"),
        ("--frobnicate", "no such option: --frobnicate", "--frobnicate", "llmkit pretrain-clm --help lists"),
        ("r.yaml train.seed=1", "unexpected argument 'train.seed=1'", "train.seed=1", "settings follow -s: -s train.s"),
    ],
)
def test_unknown_option_leads_to_the_key_that_was_meant(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], typed: str, what: str, where: str, hint: str
) -> None:
    found = explain(monkeypatch, capsys, f"pretrain-clm --data d --out r {typed}")
    assert found[:2] == (what, f"llmkit pretrain-clm {where}")
    assert found[2].startswith(hint)


@pytest.mark.parametrize(
    ("typed", "hint"),
    [
        ("train --lr 1", "use pretrain-clm, pretrain-mlm or finetune-cls"),
        ("evaluat m", "use eval"),
        ("Generate m", "did you mean 'generate'?"),
        ("pre-train r", "did you mean 'pretrain'?"),
        ("frobnicate", "known: compare, demo"),
    ],
)
def test_unknown_command_leads_to_ours(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], typed: str, hint: str
) -> None:
    what, where, found = explain(monkeypatch, capsys, typed)
    assert (what, where) == (f"no such command: {typed.split()[0]}", f"llmkit {typed.split()[0]}")
    assert found.startswith(hint)


def test_missing_option_says_what_it_is_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    what, where, hint = explain(monkeypatch, capsys, "prepare book.txt")
    assert (what, where) == ("missing option '--out'", "llmkit prepare")
    assert hint.startswith("add --out OUT: prepared folder to write; ")


def test_option_without_its_value_is_not_called_unknown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert explain(monkeypatch, capsys, "prepare book.txt --out")[0] == "option '--out' requires an argument"
