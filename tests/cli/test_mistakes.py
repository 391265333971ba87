"""A wrong command line is reported in three lines with a suggestion."""

import os
import subprocess
import sys
from pathlib import Path

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
        ("--lr 1e-3", "no such option: --lr", "--lr", "write -s optim.learning_rate=1e-3 ("),
        ("--lr", "no such option: --lr", "--lr", "write -s optim.learning_rate=3e-4 ("),
        ("-lr 1e-3", "no such option: -lr", "-lr", "write -s optim.learning_rate=1e-3 ("),
        ("--epochs=5", "no such option: --epochs", "--epochs", "write -s train.epochs=5 ("),
        ("--max_steps 20", "no such option: --max_steps", "--max_steps", "write -s train.max_steps=20 ("),
        ("--max_steps 1.5", "no such option: --max_steps", "--max_steps", "write -s train.max_steps=1000 ("),
        ("--batch-size x", "no such option: --batch-size", "--batch-size", "write -s train.global_batch_size=32 ("),
        ("--min_lr 1e-5", "no such option: --min_lr", "--min_lr", "write -s optim.min_learning_rate_ratio=0.1 ("),
        ("--weight_decay 0", "no such option: --weight_decay", "--weight_decay", "write -s optim.weight_decay=0 ("),
        ("--config r.yaml", "no such option: --config", "--config", "give the recipe as the first argument"),
        ("--output_dir r", "no such option: --output_dir", "--output_dir", "write --out FOLDER"),
        ("--dry_run", "no such option: --dry_run", "--dry_run", "did you mean '--dry-run'?"),
        ("--resum", "no such option: --resum", "--resum", "did you mean '--resume'?"),
        ("--frobnicate", "no such option: --frobnicate", "--frobnicate", "llmkit pretrain-clm --help lists"),
        ("r.yaml —seeds", "unexpected argument '—seeds'", "—seeds", "options begin with ASCII hyphens: --seeds"),
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
def test_unknown_command_suggests_the_one_of_llmkit(
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


WITHOUT_TORCH = """
import os
import subprocess
import sys
from pathlib import Path
sys.modules["torch"] = None
from llmkit.cli.app import main
for line in sys.stdin:
    sys.argv = ["llmkit", *line.split()]
    if not (pid := __import__("os").fork()):
        main()
    code = __import__("os").waitstatus_to_exitcode(__import__("os").waitpid(pid, 0)[1])
    print(f"exit {code}", file=sys.stderr, flush=True)
"""


def test_cheap_mistakes_are_reported_without_torch(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken/thesis.txt").touch()
    (tmp_path / "bert").mkdir()
    (tmp_path / "bert/config.json").write_text("{}")
    (tmp_path / "rows.csv").write_text("text,label\na b,x\nc d,y\n")
    (tmp_path / "data").mkdir()
    (tmp_path / "data/manifest.json").write_text("{}")
    tuned = "finetune-cls --model bert --data"
    mistakes = {
        "pretrain-clm --data data --out taken": "2 'taken' is not empty and not a run of llmkit",
        "pretrain-clm --data data --out new --resume": "2 there is no run to resume in 'new'",
        f"{tuned} rows.csv --out taken": "2 'taken' is not empty and not a run of llmkit",
        f"{tuned} rows.csv --out rows.csv": "2 'rows.csv' is a file",
        f"{tuned} gone.csv --out new": "3 no such file or folder: gone.csv",
        f"{tuned} rows.csv --validation gone.csv --out new": "3 no such file or folder: gone.csv",
        f"{tuned} rows.csv --out new --text body": "3 no column 'body'; found: 'text', 'label'",
        f"{tuned} rows.csv --out new --label class --folds 2": "3 no column 'class'; found: 'text', 'label'",
        "finetune-cls --data rows.csv --out new": "2 there is no model to fine-tune",
        "predict bert --data rows.csv --out rows.csv": "2 'rows.csv' is the input, --data",
        "predict bert --data gone.csv": "3 no such file or folder: gone.csv",
        "eval bert --data gone.csv": "3 no such file or folder: gone.csv",
    }
    ended = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH], cwd=tmp_path, input="\n".join(mistakes), text=True, capture_output=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}, check=True,
    )  # fmt: skip
    lines = [line for line in ended.stderr.splitlines() if line.startswith(("error: ", "exit "))]
    output = [f"{code[5:]} {what[7:]}" for what, code in zip(lines[::2], lines[1::2], strict=True)]
    assert output == list(mistakes.values()), ended.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bert", "data", "rows.csv", "taken"]
