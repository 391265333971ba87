"""Training on tiny files of questions, and what `eval` and `predict` do with the model."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from asked import make_articles, write_rows, write_squad
from several import INTERRUPT, run_command
from tiny import save_bert, save_gpt2
from transformers import AutoModelForQuestionAnswering

from llmkit.config.loading import load_recipe
from llmkit.config.recipe import Recipe
from llmkit.core.errors import DataError, UsageError
from llmkit.evaluating.evaluate import evaluate
from llmkit.evaluating.predict import predict
from llmkit.runs.train import finetune
from llmkit.tasks.base import TrainingRequest
from llmkit.tasks.qa.training import open_reader_training

TINY = (
    "train.max_steps=16", "train.global_batch_size=8", "train.log_steps=1", "train.precision=fp32",
    "train.block_size=48", "optim.learning_rate=1e-2", "model.dropout=0", "qa.validation=0.25", "qa.stride=8",
    "qa.max_question_length=12",
)  # fmt: skip


def recipe(*overrides: str) -> Recipe:
    return load_recipe(None, [*TINY, *overrides], task="qa")


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_bert(tmp_path_factory.mktemp("models") / "bert")


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_gpt2(tmp_path_factory.mktemp("models") / "gpt2")


@pytest.fixture(scope="module")
def questions(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_squad(tmp_path_factory.mktemp("data") / "train.json", make_articles(16))


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_squad(tmp_path_factory.mktemp("data") / "mixed.json", make_articles(24, unanswerable=0.4))


@pytest.fixture(scope="module")
def run(bert: str, questions: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    finetune(recipe(), files={"train": questions}, out=out, model=bert, show_samples=True)
    return out


@pytest.fixture(scope="module")
def mixed_run(bert: str, mixed: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "mixed"
    finetune(recipe(), files={"train": mixed}, out=out, model=bert)
    return out


def read_json(run: Path, name: str) -> dict[str, Any]:
    return dict(json.loads((run / name).read_text()))


def read_log(run: Path, kind: str = "train") -> list[dict[str, Any]]:
    records = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [record for record in records if record["kind"] == kind]


def answer_rows(run: Path, data: Any, *overrides: str, n_best: bool = False) -> list[dict[str, Any]]:
    lines: list[str] = []
    asked = load_recipe(run / "recipe.yaml", overrides, forget_columns=True)
    predict(
        asked, model=str(run), data=data, out=None, write=lines.append, file_format="jsonl", all_probabilities=n_best
    )
    return [json.loads(line) for line in lines]


def test_loss_falls_and_the_model_opens_in_transformers_with_its_format(run: Path) -> None:
    losses = [record["loss"] for record in read_log(run)]
    assert sum(losses[-4:]) < 0.8 * sum(losses[:4])
    model = AutoModelForQuestionAnswering.from_pretrained(run / "model")
    saved = model.config.llmkit
    assert saved["block_size"] == 48 and saved["stride"] == 8 and saved["may_decline"] is False
    assert saved["max_answer_length"] == 30
    metrics = read_json(run, "metrics.json")["validation"]
    assert {"exact_match", "answer_f1", "baseline_answer_f1", "n_questions", "mistakes"} <= metrics.keys()
    assert "no_answer_accuracy" not in metrics and metrics["method"]["rules"] == "squad_1.1"
    assert len(metrics["intervals"]["answer_f1"]) == 2
    assert "Most confident mistakes" in (run / "report.html").read_text()


def test_loss_of_an_evaluation_is_that_of_the_objective(run: Path, bert: str, questions: str, tmp_path: Path) -> None:
    setup = open_reader_training(recipe(), TrainingRequest({"train": questions}, tmp_path / "x", bert))  # type: ignore[arg-type]
    task: Any = setup.task
    split = task.questions.splits["validation"]
    from llmkit.datasets.examples import Example
    from llmkit.tasks.qa.training import mean_loss

    setup.network.eval()
    examples = [Example(split.windows.read(n), split.labels[n]) for n in range(len(split.windows))]
    with torch.no_grad():
        total = task.objective.sum_losses(setup.network, task.objective.collate(examples))["loss"].item()
    scores = task._score(setup.network, split, "fp32", None)
    assert mean_loss(split.windows, scores, split.labels) == pytest.approx(total / len(examples), rel=1e-5)


@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_losses_do_not_depend_on_accumulation(
    family: str, request: pytest.FixtureRequest, questions: str, tmp_path: Path
) -> None:
    model, losses = request.getfixturevalue(family), []
    for size in (2, 8):
        asked = recipe(f"train.micro_batch_size={size}", "train.max_steps=3", "qa.validation=0", "qa.baseline=false")
        finetune(asked, files={"train": questions}, out=tmp_path / str(size), model=model)
        losses.append([(each["loss"], each["grad_norm"]) for each in read_log(tmp_path / str(size))])
    for one, other in zip(*losses, strict=True):
        assert one == pytest.approx(other, rel=2e-4)


def test_interrupted_run_resumes_to_the_same_bytes(bert: str, mixed: str, tmp_path: Path) -> None:
    asked = ("train.max_steps=6", "train.eval_steps=2", "model.dropout=0.1")
    finetune(recipe(*asked), files={"train": mixed}, out=tmp_path / "whole", model=bert)
    command = ["finetune-qa", "--data", mixed, "--model", bert, "--out", str(tmp_path / "run")]
    command += [part for override in (*TINY, *asked) for part in ("-s", override)]
    code, _, err = run_command(command, tmp_path / "said", INTERRUPT)
    assert code == 130, err
    finetune(load_recipe(tmp_path / "run/recipe.yaml"), files={}, out=tmp_path / "run", resume=True)
    for file in ("model/model.safetensors", "model/config.json", "predictions/validation.safetensors"):
        assert (tmp_path / "run" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()
    assert (
        read_json(tmp_path / "run", "metrics.json")["validation"]
        == read_json(tmp_path / "whole", "metrics.json")["validation"]
    )


def test_eval_of_the_run_and_of_its_file_give_the_figures_of_training(run: Path, tmp_path: Path) -> None:
    trained = read_json(run, "metrics.json")["validation"]
    again = evaluate(load_recipe(run / "recipe.yaml"), model=str(run))
    assert {key: again[key] for key in ("exact_match", "answer_f1", "intervals", "baseline_answer_f1")} == {
        key: trained[key] for key in ("exact_match", "answer_f1", "intervals", "baseline_answer_f1")
    }
    articles = make_articles(5, seed=9)
    scored = [
        evaluate(load_recipe(run / "recipe.yaml", forget_columns=True), model=str(run), data=[file])
        for file in (write_squad(tmp_path / "a.json", articles), write_rows(tmp_path / "a.jsonl", articles))
    ]
    assert scored[0]["n_questions"] == 20 and scored[0]["answer_f1"] == scored[1]["answer_f1"]


def test_answers_are_parts_of_the_context_with_their_characters_and_probabilities(run: Path, tmp_path: Path) -> None:
    rows = [
        {"id": 7, "question": "what is win ?", "context": "we at win noon, in   later "},
        {"id": 8, "question": "what is cash ?", "context": "in a the " * 60 + "cash lunch"},
        {"id": 9, "question": "", "context": ""},
    ]
    found = answer_rows(run, rows, n_best=True)
    assert [row["id"] for row in found] == [7, 8, 9] and found[0]["context"] == rows[0]["context"]
    for row in found[:2]:
        assert row["context"][row["start"] : row["end"]] == row["answer"] != ""
        assert row["answer"] == row["answer"].strip()
        assert len(row["n_best"]) == 5 and row["n_best"][0]["answer"] == row["answer"]
        assert 1 >= row["n_best"][0]["probability"] >= row["n_best"][1]["probability"] > 0
        assert sum(each["probability"] for each in row["n_best"]) <= 1 + 1e-6
    assert (found[2]["answer"], found[2]["start"], found[2]["n_best"]) == ("", None, [])


def test_columns_that_the_file_has_already_are_not_replaced(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = {"question": "what is win ?", "context": "we at win noon", "answer": "noon"}
    [found] = answer_rows(run, [row])
    assert found["answer"] == "noon" and found["predicted_answer"] and "probability" in found
    assert "predicted_answer" in capsys.readouterr().err
    with pytest.raises(DataError, match="already has a column 'predicted_answer'"):
        answer_rows(run, [row | {"predicted_answer": "x"}])


def test_threshold_of_no_answer_is_tuned_saved_and_used(mixed_run: Path, mixed: str) -> None:
    saved = read_json(mixed_run, "model/config.json")["llmkit"]
    metrics = read_json(mixed_run, "metrics.json")["validation"]
    assert saved["may_decline"] is True and metrics["method"]["no_answer_threshold"] == saved["no_answer_threshold"]
    assert metrics["method"]["rules"] == "squad_2.0" and 0 < metrics["n_answerable"] < metrics["n_questions"]
    asked = load_recipe(mixed_run / "recipe.yaml")
    tuned = evaluate(asked, model=str(mixed_run))["answer_f1"]
    for other in (-1e9, saved["no_answer_threshold"] - 1, saved["no_answer_threshold"] + 1, 1e9):
        changed = load_recipe(mixed_run / "recipe.yaml", [f"qa.no_answer_threshold={other}"])
        assert evaluate(changed, model=str(mixed_run))["answer_f1"] <= tuned + 1e-9
    rows = answer_rows(mixed_run, mixed, "qa.no_answer_threshold=-1e9")
    assert {row["answer"] for row in rows} == {""} and {row["start"] for row in rows} == {None}
    assert all(row["answer"] for row in answer_rows(mixed_run, mixed, "qa.no_answer_threshold=1e9"))
    assert all(row["answer"] for row in answer_rows(mixed_run, mixed, "qa.unanswerable=false"))


def test_unanswerable_questions_can_be_left_out_of_training(
    bert: str, mixed: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = recipe("qa.unanswerable=false", "train.max_steps=2")
    finetune(asked, files={"train": mixed}, out=tmp_path / "run", model=bert)
    assert "and are left out (qa.unanswerable=false)" in capsys.readouterr().err
    assert read_json(tmp_path / "run", "model/config.json")["llmkit"]["may_decline"] is False
    scored = evaluate(load_recipe(tmp_path / "run/recipe.yaml"), model=str(tmp_path / "run"), data=[mixed])
    assert scored["no_answer_accuracy"] == 0.0
    assert "the model always gives one" in capsys.readouterr().err


@pytest.mark.parametrize(
    "overrides",
    [("qa.lora_rank=4",), ("qa.freeze=1",), ("qa.from_scratch=true",), ("optim.name=muon",), ("train.max_rows=20",)],
)
def test_every_training_mode_exports_a_model_that_transformers_reads(
    overrides: tuple[str, ...], bert: str, questions: str, tmp_path: Path
) -> None:
    if "lora" in overrides[0]:
        pytest.importorskip("peft")
    finetune(recipe("train.max_steps=2", *overrides), files={"train": questions}, out=tmp_path / "run", model=bert)
    _, info = AutoModelForQuestionAnswering.from_pretrained(tmp_path / "run/model", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]


def test_early_stopping_keeps_the_best_weights(bert: str, questions: str, tmp_path: Path) -> None:
    asked = recipe("train.early_stopping=2", "train.eval_steps=2", "train.max_steps=100", "qa.metric=loss")
    metrics = finetune(asked, files={"train": questions}, out=tmp_path / "run", model=bert)
    evals = read_log(tmp_path / "run", "eval")
    best = min(evals, key=lambda record: record["loss"])
    assert metrics["training"]["best_step"] == best["step"]
    assert metrics["validation"]["answer_f1"] == pytest.approx(best["answer_f1"])


def test_held_out_questions_have_other_articles(bert: str, questions: str, tmp_path: Path) -> None:
    setup = open_reader_training(recipe(), TrainingRequest({"train": questions}, tmp_path / "x", bert))  # type: ignore[arg-type]
    task: Any = setup.task
    sides = {name: {each.article for each in split.questions} for name, split in task.questions.splits.items()}
    assert len(sides["validation"]) == 4 and not sides["train"] & sides["validation"]


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ("no answers", DataError, "no train question has an answer"),
        ("other words", DataError, "no answer is in its context"),
        ("long", UsageError, "no room for a question"),
    ],
)
def test_unusable_questions_and_settings_are_refused(
    change: str, kind: type[Exception], message: str, bert: str, tmp_path: Path
) -> None:
    articles = make_articles(3)
    for each in (asked for a in articles for p in a["paragraphs"] for asked in p["qas"]):
        if change == "no answers":
            each["answers"] = []
        elif change == "other words":
            each["answers"] = [{"text": "queen", "answer_start": 0}]
    asked = recipe("qa.stride=40") if change == "long" else recipe()
    with pytest.raises(kind, match=message):
        finetune(asked, files={"train": write_squad(tmp_path / "a.json", articles)}, out=tmp_path / "run", model=bert)


def test_changed_questions_are_refused_when_a_run_is_scored_again(bert: str, tmp_path: Path) -> None:
    articles = make_articles(8)
    path = write_squad(tmp_path / "a.json", articles)
    finetune(recipe("train.max_steps=1"), files={"train": path}, out=tmp_path / "run", model=bert)
    articles[0]["paragraphs"][0]["qas"][0]["answers"][0]["text"] = "we"
    write_squad(tmp_path / "a.json", articles)
    with pytest.raises(UsageError, match="have changed since the run began"):
        evaluate(load_recipe(tmp_path / "run/recipe.yaml"), model=str(tmp_path / "run"))
