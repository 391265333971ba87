"""`llmkit finetune-ner` trains on CoNLL columns, and `eval` and `predict` use the tagger."""

import json
from pathlib import Path

import pytest
from cli.test_app import run
from tiny import make_tagged, save_bert, write_conll

TINY = ("-s", "train.max_steps=2", "-s", "train.precision=fp32", "-s", "train.global_batch_size=8")


def test_tagger_is_trained_scored_and_used(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    rows = [(words, [f"x\t{tag}\t0" for tag in tags]) for words, tags in make_tagged(40)]
    data, out = write_conll(tmp_path / "a.conll", rows), str(tmp_path / "out")
    command = ("finetune-ner", "--data", data, "--model", save_bert(tmp_path / "bert"), "--out", out, *TINY)
    code, _, err = run(monkeypatch, capsys, *command, "--tag-column", "9")
    assert code == 3 and "set ner.tag_column to 1 to 4" in err
    code, shown, _ = run(monkeypatch, capsys, *command, "--tag-column", "-2")
    assert code == 0 and "most frequent tag of each word" in shown
    code, shown, _ = run(monkeypatch, capsys, "eval", out, "--data", data, "--json")
    assert code == 0 and json.loads(shown)["task"] == "ner"
    (tmp_path / "b.txt").write_text("you win cash\n\n")
    code, shown, _ = run(monkeypatch, capsys, "predict", out, "--data", str(tmp_path / "b.txt"), "--format", "jsonl")
    assert code == 0 and [json.loads(line)["text"] for line in shown.splitlines()] == ["you win cash", ""]
    code, _, err = run(monkeypatch, capsys, "predict", out, "--data", data, "-s", "ner.tags=x")
    assert code == 2 and "does not read ner.tags" in err
    code, _, err = run(monkeypatch, capsys, "plan", f"{out}/recipe.yaml")
    assert code == 2 and "plan does not forecast fine-tuning" in err


def test_recipe_of_another_task_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "r.yaml").write_text("task: cls\n")
    code, _, err = run(monkeypatch, capsys, "finetune-ner", str(tmp_path / "r.yaml"), "--out", str(tmp_path / "o"))
    assert code == 2 and "use llmkit finetune-cls" in err
