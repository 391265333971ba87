"""Paths of a recipe are relative to its folder, those typed with -s to the current one, names of the hub to none."""

from pathlib import Path

import pytest

from llmkit.config.inputs import Inputs
from llmkit.config.loading import dump_recipe, find_line, load_recipe
from llmkit.core.errors import UsageError


def test_path_of_a_recipe_is_relative_to_its_folder_and_a_typed_one_to_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("recipes").mkdir()
    path = Path("recipes/my.yaml")
    path.write_text("task: cls\ninputs: {data: ../rows.csv, test: test.csv, model: ../runs/a}\n")
    inputs = load_recipe(path, ["inputs.test=new.csv"]).inputs
    assert inputs == Inputs(data="rows.csv", test="new.csv", model="./runs/a")
    assert load_recipe(path, ["inputs={data: x.csv}"]).inputs == Inputs(data="x.csv")
    assert load_recipe(path, ["inputs.test=null"]).inputs.test is None
    path.write_text("task: cls\ninputs:\n  data: rows.csv\n")
    assert find_line(path, ("inputs", "data")) == "recipes/my.yaml:3, inputs.data"
    assert find_line(path, ("inputs", "model")) == "recipes/my.yaml, inputs.model"


@pytest.mark.parametrize(
    ("name", "value"),
    [("data", "hf:sst2"), ("data", "/a/b.csv"), ("model", "bert-base-chinese"), ("model", "org/name"),
     ("model", "~/bert"), ("data", "~/rows.csv"), ("model", "pickle:old")],
)  # fmt: skip
def test_hub_names_and_absolute_paths_stay_as_they_are(tmp_path: Path, name: str, value: str) -> None:
    inputs = Inputs.model_validate({name: value})
    assert inputs.read_from(tmp_path, {name}) == inputs
    if value.startswith(("hf:", "pickle:", "org", "bert")):
        assert inputs.written_to(tmp_path) == inputs


def test_model_folder_beside_the_recipe_is_not_a_name_of_the_hub(tmp_path: Path) -> None:
    (tmp_path / "bert").mkdir()
    assert Inputs(model="bert").read_from(tmp_path, {"model"}).model == str(tmp_path / "bert")


@pytest.mark.parametrize("value", ["rows.csv", "数据/行.csv", "a b/c.csv", "# no comment", "0"])
def test_written_inputs_are_read_back_unchanged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.chdir(tmp_path)
    run = Path("runs/a")
    run.mkdir(parents=True)
    recipe = load_recipe(None, task="cls").with_updates(inputs=Inputs(data=value).written_to(run))
    (run / "recipe.yaml").write_text(dump_recipe(recipe), encoding="utf-8")
    assert load_recipe(run / "recipe.yaml").inputs == Inputs(data=value)
    assert Inputs(data="x.csv").written_to(Path()).data == "./x.csv"


def test_files_of_rows_are_refused_by_tasks_that_read_none() -> None:
    assert load_recipe(None, ["inputs.data=books", "inputs.model=a"], task="clm").inputs.data == "books"
    for key in ("validation", "test"):
        with pytest.raises(UsageError, match="which mlm does not read"):
            load_recipe(None, [f"inputs.{key}=a.csv"], task="mlm")
    with pytest.raises(UsageError, match="at least 1 character"):
        load_recipe(None, ["inputs.data=''"], task="cls")
