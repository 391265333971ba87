"""Recipes and records of earlier versions are read with the current names, and each renamed key is logged."""

from pathlib import Path
from typing import Any

import pytest

from llmkit.config.loading import load_recipe
from llmkit.config.renamed import rename_fields
from llmkit.core.errors import UsageError


def test_old_keys_and_values_are_taken_with_a_line_each(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "old.yaml"
    sections = "mlm:\n  mask_share: 0.3\n  nsp: order\ntrain: {max_eval_blocks: 7}\n"
    path.write_text(f"task: mlm\n{sections}prepare: {{read: {{text_column: body}}}}\n", encoding="utf-8")
    recipe = load_recipe(path)
    assert recipe.prepare.read.field == "body"
    assert (recipe.mlm.mlm_probability, recipe.mlm.sentence_objective) == (0.3, "sop")  # type: ignore[attr-defined]
    assert recipe.train.max_eval_samples == 7
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 4
    assert f"{path}:3, mlm.mask_share: mlm.mask_share is now called mlm.mlm_probability" in lines
    assert f"{path}:4, mlm.nsp: mlm.nsp is now called mlm.sentence_objective, and order sop" in lines


def test_wrong_value_under_an_old_key_is_an_error_at_its_line(tmp_path: Path) -> None:
    path = tmp_path / "old.yaml"
    path.write_text("task: mlm\nmlm:\n  mask_share: 3\n", encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        load_recipe(path)
    assert str(path) + ":3" in caught.value.problems[0].where


def test_key_under_both_names_is_refused_in_a_file_and_typed_ones_beat_the_file(tmp_path: Path) -> None:
    path = tmp_path / "old.yaml"
    path.write_text("train: {max_eval_blocks: 7}\n", encoding="utf-8")
    for typed in ("max_eval_samples", "max_eval_blocks"):
        assert load_recipe(path, [f"train.{typed}=9"]).train.max_eval_samples == 9
    path.write_text("train: {max_eval_blocks: 7, max_eval_samples: 8}\n", encoding="utf-8")
    with pytest.raises(UsageError, match=r"unknown key 'train\.max_eval_blocks'"):
        load_recipe(path)
    assert load_recipe(None, ["train.max_eval_samples=9", "train.max_eval_blocks=7"]).train.max_eval_samples == 7


def test_recorded_fields_get_todays_names_and_values() -> None:
    old = {"precision": "fp32", "mlm.nsp": True, "cls.labels": "multiple", "cls.window_overlap": 3, "train.seed": 1}
    assert rename_fields(old) == {
        "precision": "fp32",
        "mlm.sentence_objective": "nsp",
        "cls.labels": "multi_label",
        "cls.stride": 3,
        "train.seed": 1,
    }


def test_objective_is_taken_for_task(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "old.yaml"
    path.write_text("objective: mlm\nmlm: {nsp: false}\n", encoding="utf-8")
    recipe = load_recipe(path)
    assert (recipe.task, recipe.model.family) == ("mlm", "bert")
    assert f"{path}:1, objective: objective is now called task" in capsys.readouterr().err
    assert load_recipe(None, ["objective=mlm"]).task == "mlm"
    labels = load_recipe(None, ["task=cls", "cls.labels=multiple"])
    assert labels.cls.labels == "multi_label"  # type: ignore[attr-defined]
    assert "cls.labels multiple is now called multi_label" in capsys.readouterr().err


def test_recipe_that_a_run_keeps_is_read_without_lines_on_renamed_keys(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "recipe.yaml").write_text("objective: mlm\nmlm: {mask_share: 0.2}\n")
    (tmp_path / "manifest.json").touch()
    recipe: Any = load_recipe(tmp_path / "recipe.yaml")
    assert recipe.mlm.mlm_probability == 0.2
    assert capsys.readouterr().err == ""
    load_recipe(tmp_path / "recipe.yaml", ["mlm.mask_share=0.3"])
    assert "mlm.mask_share is now called mlm.mlm_probability" in capsys.readouterr().err
