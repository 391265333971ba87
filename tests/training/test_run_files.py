"""--overwrite deletes only files that llmkit wrote to a run folder."""

from pathlib import Path

import pytest

from llmkit.core.errors import UsageError
from llmkit.core.files import write_json
from llmkit.training.checkpoints import write_checkpoint
from llmkit.training.folder import RunFolder, check_run, create_run
from llmkit.training.run_files import delete_run, is_run, keep_foreign_files, refuse_foreign_files

WRITTEN = [
    "log.jsonl", "metrics.json", "report.html", "predictions/test.safetensors",
    "refused-step-3-rank-1.json", "model/model.safetensors",
    "model/config.json", "model/vocab.txt", "tensorboard/events.out", "wandb/run/files/x", ".metrics.json.partial",
    "checkpoints/.step-4.partial/x", "checkpoints/step-2.damaged/x", "checkpoints/step-2.damaged-2/x",
    "model/model-00001-of-00002.safetensors", "model/adapter_model.safetensors",
]  # fmt: skip


def make_run(path: Path) -> RunFolder:
    run = create_run(path, overwrite=False)
    run.recipe.touch()
    write_json(run.manifest, {"task": "clm"})
    for name in WRITTEN:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).touch()
    with write_checkpoint(run.checkpoints, 5, {}) as folder:
        (folder / "inner").mkdir()
        (folder / "inner/weights").touch()
    return run


def test_all_that_a_run_writes_is_deleted(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    refuse_foreign_files(run.path)
    delete_run(run.path)
    assert not run.path.exists()


@pytest.mark.parametrize(
    "name",
    [
        "thesis.tex",
        "model/notes.txt",
        "model/own.safetensors",
        "checkpoints/step-5/notes",
        "checkpoints/step-keep/x",
        "seed-0/log.jsonl",
    ],
)
def test_files_of_others_are_named_and_nothing_is_deleted(tmp_path: Path, name: str) -> None:
    run = make_run(tmp_path / "run")
    (run.path / name).parent.mkdir(exist_ok=True)
    (run.path / name).touch()
    before = sorted(run.path.rglob("*"))
    with pytest.raises(UsageError, match=f"did not write: {name.rsplit('/', 1)[0]}"):
        create_run(run.path, overwrite=True)
    assert sorted(run.path.rglob("*")) == before


def test_series_is_deleted_with_its_runs_and_not_with_files_of_others(tmp_path: Path) -> None:
    group = make_run(tmp_path / "series")
    write_json(group.manifest, {"series": {"folds": 2, "seeds": 2}})
    part = make_run(group.path / "fold-0-seed-42").path
    (group.path / ".fold-1-seed-42.lock").touch()
    (part / "notes.txt").touch()
    with pytest.raises(UsageError, match=r"did not write: fold-0-seed-42/notes\.txt"):
        check_run(group.path, resume=False, overwrite=True)
    (part / "notes.txt").unlink()
    assert list(create_run(group.path, overwrite=True).path.iterdir()) == []


def test_linked_folder_is_not_followed(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk/weights").touch()
    (run.path / "wandb/latest").symlink_to(tmp_path / "disk")
    create_run(run.path, overwrite=True)
    assert (tmp_path / "disk/weights").exists()


@pytest.mark.parametrize("manifest", [None, {"format": "llmkit-prepared-1"}])
def test_recipe_of_the_user_makes_no_run(tmp_path: Path, manifest: dict[str, str] | None) -> None:
    (tmp_path / "recipe.yaml").touch()
    if manifest:
        write_json(tmp_path / "manifest.json", manifest)
    assert not is_run(tmp_path)
    with pytest.raises(UsageError, match="it is not deleted"):
        create_run(tmp_path, overwrite=True)
    with pytest.raises(UsageError, match="not a run of llmkit") as caught:
        check_run(tmp_path, resume=False, overwrite=False)
    assert "--overwrite" not in str(caught.value)
    assert (tmp_path / "recipe.yaml").exists()


def test_input_of_the_new_run_is_not_deleted_with_the_old_one(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    with pytest.raises(UsageError, match="is in the output folder"):
        check_run(run.path, resume=False, overwrite=True, inputs=[None, "hf:imdb", str(run.model)])
    check_run(run.path, resume=False, overwrite=True, inputs=[None, "hf:imdb", str(tmp_path / "other")])


def test_user_files_in_the_model_folder_are_kept_when_it_is_replaced(tmp_path: Path) -> None:
    model, new = tmp_path / "model", tmp_path / ".model.partial"
    for name in ("config.json", "notes.txt", "onnx/model.onnx", "own/config.json"):
        (model / name).parent.mkdir(parents=True, exist_ok=True)
        (model / name).write_text(name)
    (model / "link").symlink_to("nowhere")
    new.mkdir()
    (new / "config.json").write_text("new")
    keep_foreign_files(model, new)
    files = {path.relative_to(new).as_posix(): path.read_text() for path in new.rglob("*") if path.is_file()}
    assert files == {
        "config.json": "new", "notes.txt": "notes.txt", "onnx/model.onnx": "onnx/model.onnx",
        "own/config.json": "own/config.json",
    }  # fmt: skip
    assert (new / "link").is_symlink()
