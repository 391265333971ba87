"""Recipes and records of earlier versions are read under today's names, and the user hears of each."""

from pathlib import Path

import pytest

from llmkit.config.loading import load_recipe
from llmkit.config.renamed import rename_fields
from llmkit.core.errors import UsageError


def test_old_keys_and_values_are_taken_with_a_line_each(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "old.yaml"
    path.write_text("task: mlm\nmlm:\n  mask_share: 0.3\n  nsp: order\ntrain: {max_eval_blocks: 7}\n", encoding="utf-8")
    recipe = load_recipe(path)
    assert (recipe.mlm.mlm_probability, recipe.mlm.sentence_objective) == (0.3, "sop")  # type: ignore[attr-defined]
    assert recipe.train.max_eval_samples == 7
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert f"{path}:3, mlm.mask_share: mlm.mask_share is now called mlm.mlm_probability" in lines
    assert f"{path}:4, mlm.nsp: mlm.nsp is now called mlm.sentence_objective, and order sop" in lines


def test_wrong_value_under_an_old_key_is_an_error_at_its_line(tmp_path: Path) -> None:
    path = tmp_path / "old.yaml"
    path.write_text("task: mlm\nmlm:\n  mask_share: 3\n", encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        load_recipe(path)
    assert str(path) + ":3" in caught.value.problems[0].where


def test_key_under_both_names_is_refused() -> None:
    with pytest.raises(UsageError, match=r"unknown key 'mlm\.mask_share'"):
        load_recipe(None, ["mlm.mask_share=0.3", "mlm.mlm_probability=0.2"])


def test_recorded_fields_get_todays_names_and_values() -> None:
    old = {"precision": "fp32", "mlm.nsp": True, "cls.labels": "multiple", "cls.window_overlap": 3, "train.seed": 1}
    assert rename_fields(old) == {
        "precision": "fp32",
        "mlm.sentence_objective": "nsp",
        "cls.labels": "multi_label",
        "cls.stride": 3,
        "train.seed": 1,
    }
