"""The options that several commands share become what a recipe says."""

from pathlib import Path

import pytest

from llmkit.cli.options import Resume, check_command, column_overrides, own_recipe, quote, resume_of
from llmkit.config.loading import load_recipe
from llmkit.core.errors import UsageError


@pytest.mark.parametrize("name", ["1", "yes", "it's", "null", "[a", "a: b", "#", "", "''", "标签"])
def test_name_of_a_column_reaches_the_recipe_as_it_was_typed(name: str) -> None:
    section = load_recipe(None, column_overrides(name, name, name), task="cls").cls
    assert (section.text, section.pair, section.label) == (name, name, name)


def test_only_options_that_were_given_are_said() -> None:
    assert column_overrides(None, None, None) == []
    given = load_recipe(None, column_overrides(None, None, "y", "ignore", True), task="cls")
    assert (given.cls.label, given.cls.unseen_labels, given.prepare.read.skip_bad) == ("y", "ignore", True)
    assert quote("a'b") == "'a''b'"


def test_resume_alone_is_true_with_auto_is_auto_and_without_is_false() -> None:
    assert [resume_of(option) for option in (None, Resume.now, Resume.auto)] == [False, True, "auto"]


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
