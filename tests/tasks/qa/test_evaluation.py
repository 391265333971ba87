"""`eval` gives the figures of training, and uses the threshold that was tuned."""

from pathlib import Path

import pytest
from asked import answer_rows, make_articles, read_json, recipe, write_rows, write_squad

from llmkit.config.loading import load_recipe
from llmkit.core.errors import UsageError
from llmkit.evaluating.evaluate import evaluate
from llmkit.runs.train import finetune


def test_eval_of_the_run_and_of_its_file_give_the_figures_of_training(run: Path, tmp_path: Path) -> None:
    trained = read_json(run, "metrics.json")["validation"]
    again = evaluate(load_recipe(run / "recipe.yaml"), model=str(run), show_samples=True)
    assert {key: again[key] for key in ("exact_match", "answer_f1", "intervals", "baseline_answer_f1")} == {
        key: trained[key] for key in ("exact_match", "answer_f1", "intervals", "baseline_answer_f1")
    }
    articles = make_articles(5, seed=9)
    scored = [
        evaluate(load_recipe(run / "recipe.yaml", forget_columns=True), model=str(run), data=[file])
        for file in (write_squad(tmp_path / "a.json", articles), write_rows(tmp_path / "a.jsonl", articles))
    ]
    assert scored[0]["n_questions"] == 20 and scored[0]["answer_f1"] == scored[1]["answer_f1"]


def test_threshold_of_no_answer_is_tuned_saved_and_used(mixed_run: Path, mixed: str) -> None:
    saved = read_json(mixed_run, "model/config.json")["llmkit"]
    metrics = read_json(mixed_run, "metrics.json")["validation"]
    assert saved["may_decline"] is True and metrics["method"]["no_answer_threshold"] == saved["no_answer_threshold"]
    assert metrics["method"]["rules"] == "squad_2.0" and 0 < metrics["n_answerable"] < metrics["n_questions"]
    asked = load_recipe(mixed_run / "recipe.yaml")
    tuned = evaluate(asked, model=str(mixed_run))["answer_f1"]
    for other in (-1e5, saved["no_answer_threshold"] - 1, saved["no_answer_threshold"] + 1, 1e5):
        changed = load_recipe(mixed_run / "recipe.yaml", [f"qa.no_answer_threshold={other}"])
        assert evaluate(changed, model=str(mixed_run))["answer_f1"] <= tuned + 1e-9
    rows = answer_rows(mixed_run, mixed, "qa.no_answer_threshold=-1e5")
    assert {row["answer"] for row in rows} == {""} and {row["start"] for row in rows} == {None}
    assert all(row["answer"] for row in answer_rows(mixed_run, mixed, "qa.no_answer_threshold=1e5"))
    assert all(row["answer"] for row in answer_rows(mixed_run, mixed, "qa.unanswerable=false"))


def test_changed_questions_are_refused_when_a_run_is_scored_again(bert: str, tmp_path: Path) -> None:
    articles = make_articles(8)
    path = write_squad(tmp_path / "a.json", articles)
    finetune(recipe("train.max_steps=1"), files={"train": path}, out=tmp_path / "run", model=bert)
    articles[0]["paragraphs"][0]["qas"][0]["answers"][0]["text"] = "we"
    write_squad(tmp_path / "a.json", articles)
    with pytest.raises(UsageError, match="have changed since the run began"):
        evaluate(load_recipe(tmp_path / "run/recipe.yaml"), model=str(tmp_path / "run"))
