"""The recipe of a run alone trains the same weights from any folder, and a moved file is named with its key."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from cli.test_app import run
from four_kinds import make_commands
from tiny import make_messages, write_table

from llmkit.config.inputs import Inputs
from llmkit.config.loading import load_recipe
from llmkit.config.recipe import Recipe
from llmkit.core.errors import DataError, LlmkitError, ModelError, UsageError
from llmkit.core.files import write_json
from llmkit.training.folder import RunFolder, Series
from llmkit.training.inputs import choose_inputs, choose_prepared, is_resumed_alone, record_inputs


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_table(tmp_path / "rows.csv", make_messages(8))
    write_table(tmp_path / "test.csv", make_messages(8, seed=1))
    for folder in ("bert", "recipes", "books"):
        Path(folder).mkdir()
    return tmp_path


def write(inputs: dict[str, str], task: str = "cls") -> tuple[Recipe, Path]:
    path = Path("recipes/my.yaml")
    path.write_text(yaml.safe_dump({"task": task, "inputs": inputs}))
    return load_recipe(path), path


def test_options_beat_the_recipe_and_what_the_recipe_names_is_reported(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, path = write({"data": "../rows.csv", "test": "../test.csv", "model": "../bert"})
    assert choose_inputs(recipe, path, None, {}) == ("./bert", {"train": "rows.csv", "test": "test.csv"})
    assert capsys.readouterr().err == "from recipes/my.yaml: model ./bert, data rows.csv, test test.csv\n"
    assert choose_inputs(recipe, path, "m", {"train": "a", "test": "b"}) == ("m", {"train": "a", "test": "b"})
    assert capsys.readouterr().err == ""
    assert choose_inputs(load_recipe(None, task="cls"), None, None, {"train": "a"}) == (None, {"train": "a"})


@pytest.mark.parametrize(
    ("inputs", "kind", "words"),
    [
        ({"data": "rows.csv"}, DataError, "give --data rows.csv"),
        ({"data": "../gone.csv"}, DataError, "there is no file or folder 'gone.csv'"),
        ({"data": "../rows.csv", "test": "../x/gone.csv"}, DataError, "recipes/my.yaml:3, inputs.test"),
        ({"model": "../gone"}, ModelError, "recipes/my.yaml:2, inputs.model"),
        ({"model": "/nowhere/model"}, ModelError, "change inputs.model in the recipe, or give --model"),
        ({"model": "pickle:bert"}, UsageError, "give it on the command line every time: --model pickle:bert"),
    ],
)
def test_moved_file_is_named_with_its_key(
    place: Path, inputs: dict[str, str], kind: type[LlmkitError], words: str
) -> None:
    recipe, path = write(inputs)
    with pytest.raises(kind) as caught:
        choose_inputs(recipe, path, None, {})
    assert words in str(caught.value) and len(str(caught.value).splitlines()) == 3


def test_globs_and_hub_names_are_not_checked_here(place: Path) -> None:
    recipe, path = write({"data": "../ro*.csv", "model": "org/model", "test": "hf:sst2@test"})
    assert choose_inputs(recipe, path, None, {}) == ("org/model", {"train": "ro*.csv", "test": "hf:sst2@test"})


def test_pretraining_takes_its_folder_from_option_recipe_or_run(place: Path) -> None:
    recipe, path = write({"data": "../books"}, task="clm")
    assert choose_prepared(recipe, path, None, None) == (None, Path("books"))
    assert choose_prepared(recipe, path, "m", "other") == ("m", Path("other"))
    with pytest.raises(UsageError, match=r"no training data is given(.|\n)*inputs\.data"):
        choose_prepared(load_recipe(None, task="clm"), None, None, None)
    run_folder = RunFolder(place / "run")
    run_folder.path.mkdir()
    write_json(run_folder.manifest, {"data_path": "../books"})
    assert choose_prepared(recipe, None, None, None, place / "run") == (None, place / "books")


def test_only_a_resumed_run_without_a_recipe_goes_by_its_manifest(place: Path) -> None:
    out = place / "run"
    assert is_resumed_alone(out, True, None)
    assert not any(is_resumed_alone(out, resume, None) for resume in (False, "auto"))
    assert not is_resumed_alone(out, True, "my.yaml")
    (out / "checkpoints/step-3").mkdir(parents=True)
    assert is_resumed_alone(out, "auto", None)
    group = RunFolder(place / "series")
    group.path.mkdir()
    write_json(group.manifest, {"series": Series(3, 1).describe()})
    assert is_resumed_alone(group.path, "auto", None)


def test_recipe_of_a_fold_or_series_names_the_options_it_lacks(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe, path = write({"data": "../rows.csv"})
    write_json(Path("recipes/manifest.json"), {"origin": {"fold": [1, 5]}})
    choose_inputs(recipe, path, None, {})
    assert "the run was fold 1 of 5; the new run holds out other rows" in capsys.readouterr().err
    write_json(Path("recipes/manifest.json"), {"series": Series(5, 2, (10, None)).describe()})
    choose_inputs(recipe, path, None, {})
    assert "to repeat the series, add --folds 5 --seeds 2 --learning-curve 10,all" in capsys.readouterr().err


def test_resumed_run_keeps_the_inputs_that_it_was_started_with(place: Path) -> None:
    recipe, _ = write({})
    out = Path("run")
    out.mkdir()
    named = record_inputs(recipe, out, "bert", {"train": "rows.csv"}, resume=False)
    assert named.inputs == Inputs(model="../bert", data="../rows.csv")
    (out / "recipe.yaml").write_text(yaml.safe_dump(named.model_dump(mode="json")))
    assert record_inputs(recipe, out, None, {}, resume=True).inputs == named.inputs
    other = record_inputs(recipe, out, None, {"train": "test.csv"}, resume=True).inputs
    assert other == Inputs(model="../bert", data="../test.csv")


def test_name_that_is_not_utf8_is_left_out(place: Path) -> None:
    recipe, _ = write({})
    found = record_inputs(recipe, Path("run"), "bert", {"train": "bad\udcff.csv"}, resume=False).inputs
    assert found == Inputs(model="../bert")


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, list[str]]]:
    folder = tmp_path_factory.mktemp("kinds")
    return folder, make_commands(folder)


@pytest.mark.parametrize("kind", ["clm", "mlm", "cls"])
def test_recipe_of_a_run_alone_trains_the_same_weights(
    commands: tuple[Path, dict[str, list[str]]], kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    folder, arguments = commands
    monkeypatch.chdir(folder)
    short = ["-s", "train.max_steps=2", "-s", "train.save_steps=2"]
    first, second = folder / f"runs/{kind}", tmp_path / "elsewhere/again"
    for path in (first, second):
        path.parent.mkdir(parents=True, exist_ok=True)
    assert run(monkeypatch, capsys, *arguments[kind], *short, "--out", str(first))[0] == 0
    recipe = first / "recipe.yaml"
    given: dict[str, Any] = yaml.safe_load(recipe.read_text())["inputs"]
    assert given["data"].startswith("../../"), "relative to the run"
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, capsys, arguments[kind][0], str(recipe), "--out", str(second))[0] == 0
    weights = "model/model.safetensors"
    assert (second / weights).read_bytes() == (first / weights).read_bytes()
    assert load_recipe(second / "recipe.yaml").inputs.data == load_recipe(recipe).inputs.data
    old = yaml.safe_load(recipe.read_text())
    del old["inputs"]  # as earlier versions wrote it
    recipe.write_text(yaml.safe_dump(old))
    assert run(monkeypatch, capsys, arguments[kind][0], "--out", str(first), "--resume")[0] == 0
    code, _, err = run(monkeypatch, capsys, arguments[kind][0], str(recipe), "--out", str(tmp_path / "third"))
    assert code == 2 and "--data" in err and "Traceback" not in err
    shutil.rmtree(second)
