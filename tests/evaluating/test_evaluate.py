"""`eval` refuses options that the model's task does not read, and names the task of its metrics."""

from math import nan
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from tiny import save_bert, save_gpt2, write_table

from llmkit.config.generate import Generate
from llmkit.config.loading import load_recipe
from llmkit.core.errors import ModelError, UsageError
from llmkit.evaluating.evaluate import check_columns, evaluate
from llmkit.generating.generate import generate


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("models")
    return {"clm": save_gpt2(folder / "gpt2"), "mlm": save_bert(folder / "bert")}


def test_metrics_name_the_task_of_the_model_and_not_of_the_recipe(models: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("free cash at home. dinner soon.\n" * 30)
    for task, model in models.items():
        for recipe in ("clm", "mlm"):
            found = evaluate(load_recipe(None, [], recipe), model=model, data=[str(tmp_path / "text.txt")])
            assert found["task"] == task
            assert found["n_unknown_tokens"] == 0 or task == "mlm"


def test_options_that_the_task_does_not_read_are_refused(models: dict[str, str], tmp_path: Path) -> None:
    data = [write_table(tmp_path / "rows.csv", [("a", "x"), ("b", "y")])]
    with pytest.raises(UsageError, match="a masked language model cannot be evaluated with a stride"):
        evaluate(load_recipe(None, ["evaluate.stride=4"]), model=models["mlm"], data=data)
    with pytest.raises(UsageError, match="a causal language model is not evaluated on rows") as caught:
        evaluate(load_recipe(None), model=models["clm"], data=data, show_samples=True)
    assert caught.value.problems[0].where == "--show-samples"
    with pytest.raises(UsageError, match="section cls is not read"):
        evaluate(load_recipe(None, ["cls.text=text"]), model=models["clm"], data=data)


def test_missing_data_and_missing_model_have_different_errors(models: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no data to score is given"):
        evaluate(load_recipe(None), model=models["clm"])
    with pytest.raises(ModelError, match="there is no model"):
        evaluate(load_recipe(None), model=str(tmp_path))


@pytest.mark.parametrize("kind", ["gpt2", "bert"])
def test_weights_that_are_not_finite_are_a_fault_of_the_model(kind: str, tmp_path: Path) -> None:
    model = (save_gpt2 if kind == "gpt2" else save_bert)(tmp_path / "model")
    weights = load_file(f"{model}/model.safetensors")
    next(weight for name, weight in weights.items() if name.endswith(("c_fc.weight", "output.dense.weight")))[0] = nan
    save_file(weights, f"{model}/model.safetensors", metadata={"format": "pt"})
    (tmp_path / "text.txt").write_text("win cash now please. lunch at home later. meeting now.\n" * 3)
    with pytest.raises(ModelError, match="not a finite number"):
        recipe = load_recipe(None, task="mlm" if kind == "bert" else "clm")
        evaluate(recipe, model=model, data=[str(tmp_path / "text.txt")])
    with pytest.raises(ModelError, match="not finite"):
        generate(Generate(), model=model, prompts=["win [MASK] now"])


def test_a_column_without_a_file_is_refused() -> None:
    check_columns({"text": "body", "label": None}, ["a.csv"])
    check_columns({"text": None, "label": None}, ())
    with pytest.raises(UsageError, match="--label needs --data"):
        check_columns({"text": None, "label": "verdict"}, ())


def test_a_split_that_the_data_does_not_have_is_reported_as_unused(
    models: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text.txt").write_text("free cash at home. dinner soon.\n" * 30)
    for split, output in (("test", True), ("validation", False)):
        recipe = load_recipe(None, [f"evaluate.split={split}"])
        evaluate(recipe, model=models["clm"], data=[str(tmp_path / "text.txt")])
        assert ("evaluate.split test is not used" in capsys.readouterr().err) == output
