"""The task of a run and of a model."""

import json
from pathlib import Path
from typing import Any

import pytest

from llmkit.config.recipe import RECIPES
from llmkit.core.errors import ModelError, UsageError
from llmkit.tasks.table import TASKS, describe_run, task_of_model, task_of_run
from llmkit.training.run_record import RunRecord


def record(manifest: dict[str, Any], **metrics: Any) -> RunRecord:
    return RunRecord("run", {}, metrics, manifest, "", ())


def test_each_task_has_its_recipe_and_fixes_fields_that_it_has() -> None:
    assert TASKS.keys() == RECIPES.keys()
    for name, task in TASKS.items():
        assert task.name == name
        assert set(task.fixed_fields) <= {
            f"{section}.{field}"
            for section, of in RECIPES[name].model_fields.items()
            for field in getattr(of.annotation, "model_fields", {})
        }


@pytest.mark.parametrize(
    ("manifest", "metrics", "name"),
    [
        ({"task": "mlm"}, {}, "mlm"),
        ({}, {"test": {"task": "cls"}}, "cls"),
        ({"task": "mlm"}, {"test": {"task": "cls"}}, "mlm"),
        ({}, {"training": {"steps": 3}}, "clm"),
    ],
)
def test_task_of_a_run_comes_from_its_manifest_or_its_metrics(
    manifest: dict[str, Any], metrics: dict[str, Any], name: str
) -> None:
    assert task_of_run(record(manifest, **metrics)).name == name


def test_label_type_of_an_earlier_version_is_read() -> None:
    assert describe_run(record({"label_type": "regression"}))["label_type"] == "regression"
    assert describe_run(record({}, test={"task": "cls", "label_type": "multiple"}))["label_type"] == "multi_label"


def test_run_of_an_unknown_task_is_refused() -> None:
    with pytest.raises(ModelError, match="'t5', which this version of llmkit does not know"):
        task_of_run(record({"task": "t5"}))


def test_task_of_a_model_follows_from_its_architecture(tmp_path: Path) -> None:
    for architecture, name in (
        ("GPT2LMHeadModel", "clm"),
        ("GPT2ForSequenceClassification", "cls"),
        ("BertForMaskedLM", "mlm"),
    ):
        (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2", "architectures": [architecture]}))
        assert task_of_model(str(tmp_path)).name == name


def test_model_of_no_task_is_refused_with_its_architecture(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2", "architectures": ["GPT2Model"]}))
    with pytest.raises(UsageError, match="is a GPT2Model, not a ForCausalLM"):
        task_of_model(str(tmp_path))
