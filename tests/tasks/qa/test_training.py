"""Training on tiny files of questions, and what it exports."""

from pathlib import Path

import pytest
from asked import TINY, read_json, read_log, recipe
from several import INTERRUPT, run_command, run_ranks
from transformers import AutoModelForQuestionAnswering

from llmkit.config.loading import load_recipe
from llmkit.evaluating.evaluate import evaluate
from llmkit.runs.train import finetune


def test_loss_falls_and_the_model_opens_in_transformers_with_its_format(run: Path) -> None:
    losses = [record["loss"] for record in read_log(run)]
    assert sum(losses[-4:]) < 0.9 * sum(losses[:4])
    model = AutoModelForQuestionAnswering.from_pretrained(run / "model")
    saved = model.config.llmkit
    assert saved["block_size"] == 48 and saved["stride"] == 8 and saved["may_decline"] is False
    assert saved["max_answer_length"] == 30
    metrics = read_json(run, "metrics.json")["validation"]
    assert {"exact_match", "answer_f1", "baseline_answer_f1", "n_questions", "mistakes"} <= metrics.keys()
    assert "no_answer_accuracy" not in metrics and metrics["method"]["rules"] == "squad_1.1"
    assert len(metrics["intervals"]["answer_f1"]) == 2
    assert "Most confident mistakes" in (run / "report.html").read_text()


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


@pytest.mark.slow
def test_two_ranks_log_the_losses_and_metrics_of_one(bert: str, mixed: str, tmp_path: Path) -> None:
    asked = ("train.max_steps=6", "train.eval_steps=3", "optim.learning_rate=1e-3")
    finetune(recipe(*asked), files={"train": mixed}, out=tmp_path / "one", model=bert)
    command = ["finetune-qa", "--data", mixed, "--model", bert, "--out", str(tmp_path / "two")]
    command += [part for override in (*TINY, *asked) for part in ("-s", override)]
    ended = run_ranks(2, command, tmp_path / "said")
    assert ended.codes == [0, 0], ended.err
    for kind, names in (("train", ("loss", "grad_norm")), ("eval", ("loss", "answer_f1"))):
        for one, two in zip(*(read_log(tmp_path / name, kind) for name in ("one", "two")), strict=True):
            assert [one[name] for name in names] == pytest.approx([two[name] for name in names], rel=1e-4)
    metrics = [read_json(tmp_path / name, "metrics.json")["validation"] for name in ("one", "two")]
    assert metrics[0]["answer_f1"] == pytest.approx(metrics[1]["answer_f1"])
