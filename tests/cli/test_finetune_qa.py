"""`llmkit finetune-qa`, and the options of `eval` and `predict` for questions."""

import json
from pathlib import Path

import pytest
from asked import make_articles, write_rows, write_squad
from cli.test_app import run
from tiny import save_bert

SMALL = ("-s", "train.max_steps=2", "-s", "train.block_size=48", "-s", "qa.stride=8", "-s", "qa.max_question_length=12")


def test_command_trains_and_its_model_is_scored_and_asked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    data, model = write_squad(tmp_path / "a.json", make_articles(12)), save_bert(tmp_path / "bert")
    out = str(tmp_path / "run")
    code, shown, _ = run(monkeypatch, capsys, "finetune-qa", "--data", data, "--model", model, "--out", out, *SMALL)
    assert code == 0 and "exact match" in shown and "word overlap" in shown and "over questions" in shown
    rows = write_rows(tmp_path / "b.jsonl", make_articles(2, seed=3))
    renamed = tmp_path / "c.jsonl"
    renamed.write_text(Path(rows).read_text().replace('"question"', '"ask"').replace('"context"', '"body"'))
    columns = ("--question", "ask", "--context", "body")
    asked = ("eval", out, "--data", str(renamed), *columns, "--answer", "answers", "--json")
    code, shown, _ = run(monkeypatch, capsys, *asked)
    assert code == 0 and json.loads(shown)["n_questions"] == 8 and json.loads(shown)["task"] == "qa"
    code, shown, _ = run(monkeypatch, capsys, "predict", out, "--data", str(renamed), *columns, "--format", "jsonl")
    found = [json.loads(line) for line in shown.splitlines()]
    assert code == 0 and len(found) == 8 and {"answer", "probability", "start", "end", "ask"} <= found[0].keys()


def test_columns_of_labels_are_refused_for_questions(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    data, model = write_squad(tmp_path / "a.json", make_articles(2)), save_bert(tmp_path / "bert")
    command = ("finetune-qa", "--data", data, "--model", model, "--out", str(tmp_path / "o"))
    code, _, err = run(monkeypatch, capsys, *command, "-s", "cls.text=a")
    assert code == 2 and "error:" in err and "where:" in err and "hint:" in err
    code, _, err = run(monkeypatch, capsys, *command, "--dry-run", *SMALL)
    assert code == 0 and not (tmp_path / "o").exists()
