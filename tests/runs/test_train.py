"""From a recipe to a run folder, for every task."""

# ruff: noqa: F811 - fixtures of another file are used under their names

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tasks.clm.test_training import data, read_log, recipe, run  # noqa: F401

from llmkit.core.errors import EnvironmentFault, ModelError, TrainingFailed, UsageError
from llmkit.evaluating.evaluate import evaluate
from llmkit.runs.train import pretrain
from llmkit.training.loop import TrainingLoop


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file and folder in it, with size and modification time."""
    found = {str(path.relative_to(folder)): path.stat() for path in folder.rglob("*")}
    return {name: (stat.st_size, stat.st_mtime_ns) for name, stat in sorted(found.items())}


def test_run_folder_holds_what_the_contract_says(run: Path) -> None:
    names = {path.name for path in run.iterdir()}
    promised = {"recipe.yaml", "manifest.json", "log.jsonl", "checkpoints", "model", "metrics.json", "report.html"}
    assert names == promised
    assert {path.suffix for path in (run / "model").iterdir()} == {".json", ".safetensors", ".md"}
    train = [record for record in read_log(run) if record["kind"] == "train"]
    wanted = {"step", "epoch", "loss", "learning_rate", "grad_norm", "tokens_per_second", "mfu", "seconds", "n_tokens"}
    assert [record["step"] for record in train] == [2, 4, 6]
    assert wanted <= set(train[0])
    assert train[-1]["n_tokens"] == 6 * 4 * 16


def test_run_folder_in_use_is_refused(run: Path, data: Path) -> None:
    with pytest.raises(UsageError, match="not empty"):
        pretrain(recipe(), data=data, out=run)


def test_dry_run_writes_nothing(data: Path, tmp_path: Path) -> None:
    facts = pretrain(recipe(), data=data, out=tmp_path / "run", dry_run=True)
    assert facts["n_parameters"] > 0
    assert list(tmp_path.iterdir()) == []


def test_finished_run_resumes_without_training_and_exports_again(run: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(run, out)
    (out / "model/model.safetensors").unlink()
    (out / "model/notes.txt").write_text("mine")
    pretrain(recipe(), data=data, out=out, resume=True)
    assert (out / "model/notes.txt").read_text() == "mine"
    assert (out / "model/model.safetensors").read_bytes() == (run / "model/model.safetensors").read_bytes()
    assert read_log(out) == read_log(run)


@pytest.mark.parametrize("name", ["metrics.json", "log.jsonl", "manifest.json"])
def test_damaged_state_file_is_named_before_training_goes_on(run: Path, data: Path, tmp_path: Path, name: str) -> None:
    out = tmp_path / "run"
    shutil.copytree(run, out)
    shutil.rmtree(out / "checkpoints/step-6")  # the last step would be trained again
    (out / name).write_text('{"training": {\n{"kind": "train"}\n')
    before = snapshot(out)
    with pytest.raises(ModelError, match="damaged") as caught:
        pretrain(recipe(), data=data, out=out, resume=True)
    assert name in caught.value.problems[0].where and caught.value.problems[0].hint
    assert snapshot(out) == before


def test_damaged_newest_checkpoint_is_renamed_and_training_resumes(
    run: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    shutil.copytree(run, out)
    shutil.rmtree(out / "model")
    (out / "checkpoints/step-6/optimizer.pt").write_bytes(b"")
    pretrain(recipe(), data=data, out=out, resume=True)
    assert "step-6 is damaged: optimizer.pt has 0 bytes" in capsys.readouterr().err
    assert (out / "model/model.safetensors").read_bytes() == (run / "model/model.safetensors").read_bytes()
    assert (out / "checkpoints/step-6.damaged").is_dir()


def test_run_with_a_damaged_best_checkpoint_is_refused_and_ends_with_the_last_weights_without_it(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    rising = ("optim.learning_rate=3", "optim.schedule=constant", "train.eval_steps=1", "train.save_steps=1")
    metrics = pretrain(recipe(*rising), data=data, out=out)
    best = out / f"checkpoints/step-{metrics['training']['best_step']}"
    assert metrics["training"]["best_step"] < metrics["training"]["steps"] == 6
    shutil.rmtree(out / "model")
    (best / "model.safetensors").write_bytes(b"")
    with pytest.raises(ModelError, match="the best checkpoint is damaged") as caught:
        pretrain(recipe(*rising), data=data, out=out, resume=True)
    assert "delete it to save step 6 instead; then add --resume" in caught.value.problems[0].hint
    shutil.rmtree(best)
    metrics = pretrain(recipe(*rising), data=data, out=out, resume=True)
    assert "the best on held-out data, is missing; step 6 is saved instead" in capsys.readouterr().err
    assert metrics["training"]["best_step"] == 6
    assert (out / "model/model.safetensors").is_file()


def test_dry_run_renames_and_makes_nothing(
    run: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    shutil.copytree(run, out)
    (out / "checkpoints/step-6/optimizer.pt").write_bytes(b"")
    before = snapshot(tmp_path)
    pretrain(recipe(), data=data, out=out, resume=True, dry_run=True)
    assert "step-6 is damaged: optimizer.pt has 0 bytes" in capsys.readouterr().err
    pretrain(recipe(), data=data, out=tmp_path / "new/deep/run", dry_run=True)
    assert snapshot(tmp_path) == before
    with pytest.raises(EnvironmentFault, match="Not a directory"):
        pretrain(recipe(), data=data, out=out / "recipe.yaml/run", dry_run=True)


def test_refused_overwrite_leaves_the_old_run_alone(run: Path, data: Path) -> None:
    before = sorted(path.name for path in run.rglob("*"))
    with pytest.raises(UsageError, match="does not fit"):
        pretrain(recipe("model.n_positions=8"), data=data, out=run, overwrite=True)
    with pytest.raises(UsageError, match="cannot be used together"):
        pretrain(recipe(), data=data, out=run, overwrite=True, resume=True)
    assert sorted(path.name for path in run.rglob("*")) == before


def test_run_and_data_can_be_moved_together(run: Path, data: Path, tmp_path: Path) -> None:
    shutil.copytree(data, tmp_path / "a/data")
    pretrain(recipe("train.max_steps=1"), data=tmp_path / "a/data", out=tmp_path / "a/run")
    (tmp_path / "a").rename(tmp_path / "b")
    assert evaluate(recipe(), model=str(tmp_path / "b/run"))["n_tokens"] > 0


def test_huge_learning_rate_ends_with_exit_code_5_and_no_model(data: Path, tmp_path: Path) -> None:
    wild = recipe(
        "optim.learning_rate=1000",
        "optim.name=sgd",
        "train.max_steps=20",
        "optim.warmup_steps=0",
        "optim.max_grad_norm=0",
    )
    with pytest.raises(TrainingFailed) as caught:
        pretrain(wild, data=data, out=tmp_path / "run")
    assert caught.value.exit_code == 5
    assert not (tmp_path / "run/model").exists()


def test_max_minutes_becomes_a_recorded_number_of_steps(data: Path, tmp_path: Path) -> None:
    timed = recipe("train.max_steps=null", "train.max_minutes=0.05", "train.sample_prompt=null")
    result = pretrain(timed, data=data, out=tmp_path / "run")
    manifest = json.loads((tmp_path / "run/manifest.json").read_text())
    assert result["training"]["steps"] == manifest["plan"]["n_steps"] > 1
    assert manifest["plan"]["calibration_step"] is None
    spent = result["training"]["seconds_spent"]
    assert min(spent[part] for part in ("start", "training", "evaluation", "saving", "finish")) > 0


def test_model_that_learned_nothing_is_reported_in_log_and_report(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pretrain(recipe("train.max_steps=1", "optim.learning_rate=1e-9"), data=data, out=tmp_path / "run")
    output = "no better than the loss of token frequencies alone"
    error = capsys.readouterr().err
    assert output in error
    assert "train longer with a higher train.max_steps (now 1), or change optim.learning_rate" in error
    assert output in (tmp_path / "run/report.html").read_text()
    assert [record for record in read_log(tmp_path / "run") if record["kind"] == "note"]


def test_run_that_still_improves_at_its_end_says_which_setting_ended_it(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = ["train.max_steps=null", "train.epochs=1", "train.eval_steps=2", "optim.learning_rate=3e-3"]
    pretrain(recipe(*settings), data=data, out=tmp_path / "run")
    output = "train longer with a higher train.epochs (now 1)"
    assert output in capsys.readouterr().err
    notes = [record["text"] for record in read_log(tmp_path / "run") if record["kind"] == "note"]
    assert any(note.startswith("the held-out loss still fell by") and note.endswith(output) for note in notes)
    assert output in (tmp_path / "run/report.html").read_text()


def test_run_that_exceeds_max_minutes_says_so_in_log_and_report(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    timed = recipe("train.max_steps=null", "train.max_minutes=0.001", "train.sample_prompt=null")
    pretrain(timed, data=data, out=tmp_path / "run")
    output = "longer than train.max_minutes=0.001 allows"
    assert output in capsys.readouterr().err
    assert output in (tmp_path / "run/report.html").read_text()


def test_out_of_memory_in_training_names_the_command_to_continue(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def step(self: TrainingLoop, *_: Any) -> Any:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(TrainingLoop, "train_step", step)
    with pytest.raises(EnvironmentFault, match="memory ran out while training") as refused:
        pretrain(recipe("train.global_batch_size=8"), data=data, out=tmp_path / "run")
    assert "--resume -s train.micro_batch_size=4 --allow train.micro_batch_size" in str(refused.value)
