"""The options that several commands share: recipes, resuming, and several processes."""

from pathlib import Path

import pytest
import typer

from llmkit.cli.options import (
    DistributedOptions,
    ResumeMode,
    check_command,
    overrides_of,
    own_recipe,
    resume_of,
    strip_options,
)
from llmkit.config.loading import load_recipe
from llmkit.config.recipe import ClsRecipe
from llmkit.core.errors import UsageError


@pytest.mark.parametrize("name", ["1", "yes", "it's", "null", "[a", "a: b", "#", "", "''", "标签"])
def test_name_of_a_column_reaches_the_recipe_as_it_was_typed(name: str) -> None:
    recipe = load_recipe(None, columns={"text": name, "pair": name, "label": name})
    assert isinstance(recipe, ClsRecipe)
    section = recipe.cls
    assert (section.text, section.pair, section.label) == (name, name, name)


def test_only_options_that_were_given_are_reported() -> None:
    assert load_recipe(None, columns={"text": None}) == load_recipe(None)
    given = load_recipe(None, ["cls.text=a"], columns={"text": None, "label": "y", "unseen_labels": "ignore"})
    assert isinstance(given, ClsRecipe)
    assert (given.cls.text, given.cls.label, given.cls.unseen_labels) == ("a", "y", "ignore")


def test_resume_alone_is_true_with_auto_is_auto_and_without_is_false() -> None:
    assert [resume_of(option) for option in (None, ResumeMode.now, ResumeMode.auto)] == [False, True, "auto"]


def test_run_is_read_by_its_own_recipe_unless_one_is_given(tmp_path: Path) -> None:
    assert own_recipe(str(tmp_path), None) is None
    (tmp_path / "recipe.yaml").touch()
    assert own_recipe(str(tmp_path), None) == tmp_path / "recipe.yaml"
    assert own_recipe(str(tmp_path), Path("other.yaml")) == Path("other.yaml")
    assert own_recipe("who/what", None) is None


def test_recipe_of_another_command_names_the_one_that_runs_it() -> None:
    mlm, cls = load_recipe(None, ["task=mlm"]), load_recipe(None, ["task=cls"])
    check_command(mlm, None, "pretrain", None)
    check_command(mlm, None, "pretrain", "mlm")
    for recipe, command, task, right in (
        (mlm, "pretrain", "clm", "llmkit pretrain-mlm"),
        (cls, "pretrain", None, "llmkit finetune-cls"),
        (mlm, "finetune", None, "llmkit pretrain-mlm"),
    ):
        with pytest.raises(UsageError, match="does not train") as caught:
            check_command(recipe, Path("r.yaml"), command, task)
        assert right in caught.value.problems[0].hint
        assert caught.value.problems[0].where == "r.yaml, task"


@pytest.mark.parametrize(
    "typed",
    [
        ["pretrain-clm", "--nproc", "2", "--data", "d", "--nnodes=2", "--rdzv-endpoint", "a:1", "--out", "r"],
        ["pretrain-clm", "--data", "d", "--rdzv-endpoint=a:1", "--out", "r", "--nnodes", "2", "--nproc=auto"],
    ],
)
def test_processes_get_the_command_without_the_launchers_options(typed: list[str]) -> None:
    assert strip_options(typed) == ["pretrain-clm", "--data", "d", "--out", "r"]


def test_values_of_other_options_are_kept_though_they_look_like_the_launchers() -> None:
    typed = ["pretrain", "-s", "train.sample_prompt=--nproc", "--nproc=2", "--out", "--nnodes-run"]
    assert strip_options(typed) == ["pretrain", "-s", "train.sample_prompt=--nproc", "--out", "--nnodes-run"]


def test_engine_option_is_reported_as_the_recipe_key() -> None:
    assert overrides_of(["a.b=1"], engine=("train.engine", "zero3")) == ["a.b=1", ("--engine", "train.engine=zero3")]
    assert overrides_of(None, engine=("train.engine", None), skip_bad=("prepare.read.skip_bad", False)) == []
    assert overrides_of(None, stride=("evaluate.stride", 0)) == [("--stride", "evaluate.stride=0")]


@pytest.mark.parametrize("nproc", ["0", "-1", "aut", "2.5", "", "٣x"])
def test_invalid_number_of_processes_is_refused(nproc: str) -> None:
    with pytest.raises(UsageError, match="--nproc is"):
        DistributedOptions(nproc=nproc)


def test_machines_without_a_number_of_processes_are_refused_and_one_process_launches_nothing() -> None:
    DistributedOptions().launch()
    with pytest.raises(UsageError, match="need --nproc"):
        DistributedOptions(nnodes=2)
    with pytest.raises(UsageError, match="need --nproc"):
        DistributedOptions(rdzv_endpoint="a:1")


def test_command_line_and_numbers_reach_the_launcher_and_its_exit_code_is_the_commands(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[object] = []
    monkeypatch.setattr("sys.argv", ["llmkit", "pretrain", "--nproc", "3", "--out", "r"])
    monkeypatch.setattr("llmkit.training.launch.launch", lambda *what: asked.extend(what) or 143)
    with pytest.raises(typer.Exit) as ended:
        DistributedOptions(nproc="3", nnodes=2, rdzv_endpoint="a:1").launch()
    assert ended.value.exit_code == 143
    assert asked == [["pretrain", "--out", "r"], 3, 2, "a:1"]


def test_options_for_one_process_are_refused_with_nproc_and_under_a_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    DistributedOptions().refuse("folds", "--folds")
    with pytest.raises(UsageError, match="folds"):
        DistributedOptions(nproc="2").refuse("folds", "--folds")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="folds"):
        DistributedOptions().refuse("folds", "--folds")
