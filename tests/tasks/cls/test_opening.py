"""What follows from model and data where the recipe leaves it open, and what cannot begin."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from llmkit.config.loading import load_recipe
from llmkit.config.recipe import ClsRecipe
from llmkit.core.errors import UsageError
from llmkit.core.files import write_json
from llmkit.tasks.base import TrainingRequest
from llmkit.tasks.cls.opening import describe_origin, load_origin, open_classifier_training, resolve
from llmkit.training.folder import RunFolder


def resolved(*overrides: str, n_rows: int = 1000, n_labels: int = 2, width: int = 768) -> ClsRecipe:
    recipe: Any = load_recipe(None, ["train.global_batch_size=10", *overrides], task="cls")
    labelled: Any = SimpleNamespace(splits={"train": range(n_rows)}, label2id=dict.fromkeys(range(n_labels)))
    config: Any = SimpleNamespace(hidden_size=width)
    return resolve(recipe, config, labelled)


@pytest.mark.parametrize(
    ("n_rows", "n_labels", "epochs"),
    [(1000, 2, 3), (500, 2, 6), (100, 2, 20), (10, 2, 20), (1000, 50, 10), (10**6, 2, 3)],
)
def test_small_data_is_gone_through_more_often_and_never_more_than_twenty_times(
    n_rows: int, n_labels: int, epochs: float
) -> None:
    """At least 300 steps of 10 rows, and 20 a label."""
    train = resolved(n_rows=n_rows, n_labels=n_labels).train
    assert train.epochs == epochs
    assert train.eval_steps == max(1, -(-n_rows // 10)), "once an epoch"


@pytest.mark.parametrize("override", ["train.max_steps=7", "train.epochs=2", "train.max_minutes=1"])
def test_length_that_is_given_is_left_alone(override: str) -> None:
    train = resolved(override).train
    name, value = override.removeprefix("train.").split("=")
    given = {name: getattr(train, name) for name in ("max_steps", "epochs", "max_minutes")}
    assert given == {"max_steps": None, "epochs": None, "max_minutes": None} | {name: float(value)}
    if name == "max_steps":
        assert train.eval_steps == 7, "at least once"
    if name == "max_minutes":
        assert train.eval_steps is None


def test_rate_is_berts_for_its_width_grows_for_narrower_models_and_is_ten_times_for_lora() -> None:
    assert resolved().optim.learning_rate == 5e-5
    assert resolved(width=192).optim.learning_rate == pytest.approx(8 * 5e-5)
    assert resolved("cls.lora_rank=4").optim.learning_rate == pytest.approx(5e-4)
    assert resolved("optim.learning_rate=0.5").optim.learning_rate == 0.5


@pytest.mark.parametrize(
    ("files", "model", "where", "words"),
    [
        ({}, "m", "--data", "nothing to train on"),
        ({"train": "-"}, "m", "--data", "cannot read from stdin"),
        ({"train": "PREPARED"}, "m", "--data", "is a prepared folder"),
        ({"train": "a.csv"}, None, "--model", "no model to fine-tune"),
    ],
)
def test_request_that_lacks_something_is_refused_before_anything_is_opened(
    tmp_path: Path, files: dict[str, str], model: str | None, where: str, words: str
) -> None:
    (tmp_path / "manifest.json").touch()
    files = {name: path.replace("PREPARED", str(tmp_path)) for name, path in files.items()}
    recipe: Any = load_recipe(None, task="cls")
    with pytest.raises(UsageError, match=words) as caught:
        open_classifier_training(recipe, TrainingRequest(files, tmp_path / "run", model, None))
    assert caught.value.problems[0].where == where


def test_run_finds_its_model_and_files_again_where_all_were_moved_unless_they_are_given(tmp_path: Path) -> None:
    (tmp_path / "here/bert").mkdir(parents=True)
    run = RunFolder(tmp_path / "here/run")
    run.path.mkdir()
    assert load_origin(run, None, {}) == (None, {})
    files = {"train": str(tmp_path / "here/a.csv")}
    write_json(run.manifest, {"origin": describe_origin(str(tmp_path / "here/bert"), files, run.path)})
    (tmp_path / "here").rename(tmp_path / "there")
    moved = RunFolder(tmp_path / "there/run")
    model, found = load_origin(moved, None, {})
    assert Path(str(model)).resolve() == tmp_path / "there/bert"
    assert found == {"train": str(tmp_path / "there/a.csv")}
    assert load_origin(moved, "other", {"train": "b.csv"}) == ("other", {"train": "b.csv"})
    assert describe_origin("who/what", {}, run.path)["start"] == "who/what"
