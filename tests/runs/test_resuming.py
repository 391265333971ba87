"""The plan of a resumed run, refused changes, and allowed ones."""

from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from llmkit.config.loading import load_recipe
from llmkit.config.recipe import Recipe
from llmkit.core import distributed
from llmkit.core.errors import UsageError
from llmkit.core.files import read_json, write_json
from llmkit.runs import resuming
from llmkit.runs.plan import recipe_fields
from llmkit.runs.resuming import choose_plan
from llmkit.training.batches import BatchPlan
from llmkit.training.contract import Plan
from llmkit.training.folder import RunFolder

PLAN = Plan(
    20, 5, 5, BatchPlan(8, 8, 1), "fp32",
    resume_fingerprint={"data": "d" * 64, "optim.learning_rate": 0.1, "train.block_size": 16, "model.n_layer": 2}
)  # fmt: skip


def check(changed: dict[str, Any], *allow: str, recipe: Recipe | None = None) -> None:
    run: Any = SimpleNamespace(
        path=Path("a run"), manifest=Path("manifest.json"), data_path=Path("d"), read_manifest=lambda: {"data_path": ""}
    )
    resuming._check(changed, PLAN, allow, run, recipe or load_recipe(None))


@pytest.mark.parametrize(
    ("compile_", "device", "again"),
    [("auto", "cuda", "whole"), ("auto", "cpu", "none"), ("layers", "cuda", "layers"), ("none", "cuda", "none")],
)
def test_resumed_run_is_compiled_as_before_on_the_same_kind_of_device(
    compile_: str, device: str, again: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resuming, "pick_device", lambda: torch.device(device))
    recipe = load_recipe(None, [f"train.compile={compile_}"])
    assert resuming._recompile(recipe, {"device": "cuda"}, "whole") == again


def test_auto_does_not_compile_a_sharded_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resuming, "pick_device", lambda: cast(Any, SimpleNamespace(type="cuda")))
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    for engine, again in (("ddp", "whole"), ("fsdp2", "none")):
        recipe = load_recipe(None, [f"train.engine={engine}"])
        assert resuming._recompile(recipe, {"device": "cuda"}, "whole") == again


def test_a_resumed_run_keeps_the_lengths_that_were_planned_after_its_checkpoint() -> None:
    before = Plan(100, 10, 10, BatchPlan(4, 4, 1), "fp32", calibration_step=5)
    lengths = {"n_steps": 80, "eval_steps": 8, "save_steps": 8, "max_eval_samples": 9, "final_share": 0.5}
    lengths |= {"calibration_step": None}
    fixed = replace(before, **lengths)
    manifest = {"plan": asdict(fixed), "lengths": {"5": lengths}}
    assert choose_plan(asdict(before), manifest, 5) == fixed
    assert choose_plan(asdict(before), manifest, 3) == before, "they come in step 5, by the manifest again"
    assert choose_plan(asdict(before), {"plan": asdict(before)}, 5) == before
    later = replace(fixed, n_steps=90)  # a change was allowed since
    assert choose_plan(asdict(later), manifest, 9) == later


def test_plan_of_0_1_0_is_read() -> None:
    plan = Plan(100, 10, 10, BatchPlan(4, 4, 1), "fp32", max_eval_samples=9)
    plan.resume_fingerprint.update({"data": "d", "mlm.sentence_objective": "sop", "mlm.mlm_probability": 0.2})
    old = asdict(plan) | {"facts": {"data": "d", "mlm.nsp": "order", "mlm.mask_share": 0.2}, "max_eval_blocks": 9}
    del old["resume_fingerprint"], old["max_eval_samples"]
    assert choose_plan(old, {"plan": old}, 9) == plan


def test_refused_change_names_both_values_and_the_options_that_allow_it() -> None:
    check({})
    changed = {"data": "e" * 64, "optim.learning_rate": 0.2}
    with pytest.raises(UsageError) as caught:
        check(changed, "data")
    [problem] = caught.value.problems
    assert "data: dddddddddddd -> eeeeeeeeeeee; optim.learning_rate: 0.1 -> 0.2" in problem.what
    assert "own values: llmkit pretrain-clm --data d --out 'a run' --resume;" in problem.hint
    assert problem.hint.endswith("--allow data --allow optim.learning_rate")
    check(changed, "data", "optim.learning_rate")


def test_fixed_fields_cannot_be_allowed() -> None:
    for changed, settings in (
        ({"train.block_size": 32}, ["model.family=gru"]),
        ({"optim.learning_rate": 0.2, "model.n_layer": 3}, []),
    ):
        recipe = load_recipe(None, settings)
        with pytest.raises(UsageError, match=" -> 3") as caught:
            check(changed, *changed, recipe=recipe)
        assert "--allow" not in caught.value.problems[0].hint
    check({"train.block_size": 32}, "train.block_size")


def test_unknown_name_in_allow_is_refused_with_a_suggestion() -> None:
    with pytest.raises(UsageError, match="not a field that a run depends on") as caught:
        check({}, "optim.lerning_rate")
    assert caught.value.problems[0].hint == "did you mean 'optim.learning_rate'?"


@pytest.mark.parametrize(("size", "n_steps"), [(16, 4 + 8), (4, 4 + 32), (6, 4 + 22)])
def test_larger_batch_continues_at_the_next_sample_and_sees_as_many_in_all(
    monkeypatch: pytest.MonkeyPatch, size: int, n_steps: int
) -> None:
    """After 4 steps of 8 samples, 128 of 160 are left."""
    monkeypatch.setattr(resuming, "plan_micro_batches", lambda *_: BatchPlan(size, size, 1))
    monkeypatch.setattr(resuming, "make_trial", lambda *_: None)
    recipe: Any = load_recipe(None, [f"train.global_batch_size={size}"])
    plan = resuming._change_plan(PLAN, ["train.global_batch_size"], recipe, cast(Any, None), cast(Any, None), 4)
    assert plan.batches.numbers(4, 0)[0] == 32, "step 4 begins where it would have begun"
    seen = plan.batches.numbers(plan.n_steps - 1, 0)[-1] + 1
    assert 160 <= seen < 160 + size
    assert plan.n_steps == n_steps


def test_allowed_epochs_or_steps_set_the_new_length(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resuming, "plan_micro_batches", lambda *_: BatchPlan(8, 8, 1))
    monkeypatch.setattr(resuming, "make_trial", lambda *_: None)
    task: Any = SimpleNamespace(samples=SimpleNamespace(samples_per_epoch=100))
    for name, value, n_steps in (("train.epochs", 3, 38), ("train.max_steps", 50, 50)):
        recipe = load_recipe(None, [f"{name}={value}"])
        assert resuming._change_plan(PLAN, [name], recipe, task, cast(Any, None), 4).n_steps == n_steps


def test_allowed_change_is_recorded_once_and_later_lengths_are_dropped(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    write_json(run.manifest, {"lengths": {"3": {"n_steps": 9}, "8": {"n_steps": 7}}, "kept": 1})
    for _ in range(2):
        resuming._record(run, load_recipe(None), PLAN, ["optim.learning_rate: 0.1 -> 0.2"], 5)
    manifest = read_json(run.manifest)
    assert manifest["changes"] == [{"step": 5, "changed": ["optim.learning_rate: 0.1 -> 0.2"]}]
    assert (manifest["lengths"], manifest["kept"]) == ({"3": {"n_steps": 9}}, 1)
    assert resuming._allowed_before(run, 5) == {"optim.learning_rate"}
    assert resuming._allowed_before(run, 6) == set()
    assert load_recipe(run.recipe) == load_recipe(None)


def test_other_machine_is_reported_with_its_differences(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(resuming, "describe_versions", lambda: {"torch": "2.0"})
    n_threads = torch.get_num_threads()
    resuming._report_machine({"threads": n_threads, "device": "cpu", "versions": {"torch": "2.0"}})
    resuming._report_machine({})
    assert capsys.readouterr().err == ""
    resuming._report_machine({"threads": n_threads + 1, "device": "cuda", "versions": {"torch": "1.0"}})
    assert f"threads {n_threads + 1} -> {n_threads}, device cuda -> cpu, torch 1.0 -> 2.0" in capsys.readouterr().err


def make_stopped_run(path: Path, *settings: str) -> RunFolder:
    """A run folder with what `check_recipe` reads."""
    run, recipe = RunFolder(path), load_recipe(None, settings)
    plan = replace(PLAN, resume_fingerprint={"precision": "fp32", **recipe_fields(recipe), "train.block_size": 32})
    (run.checkpoints / "step-4").mkdir(parents=True)
    write_json(run.checkpoints / "step-4" / "MANIFEST.json", {"step": 4, "plan": asdict(plan)})
    write_json(run.manifest, {"task": "clm", "data_path": "../books"})
    return run


def test_recipe_that_differs_is_refused_before_data_or_model_are_opened(tmp_path: Path) -> None:
    run = make_stopped_run(tmp_path / "run", "train.block_size=32", "train.max_steps=9", "optim.learning_rate=1e-2")
    resuming.check_recipe(run, load_recipe(None, ["train.max_steps=9", "optim.learning_rate=1e-2"]), ())
    with pytest.raises(UsageError) as caught:
        resuming.check_recipe(run, load_recipe(None, ["train.block_size=64"]), ())
    [problem] = caught.value.problems
    assert "train.block_size: 32 -> 64" in problem.what
    assert "train.max_steps: 9 -> null" in problem.what
    assert "optim.learning_rate: 0.01 -> 0.001" in problem.what
    assert f"llmkit pretrain-clm --data {tmp_path}/books --out {tmp_path}/run --resume;" in problem.hint
    allow = ["train.max_steps", "optim.learning_rate"]
    resuming.check_recipe(run, load_recipe(None), allow)


def test_recipe_of_another_task_is_refused_and_the_family_of_a_starting_model_is_not_compared(tmp_path: Path) -> None:
    run = make_stopped_run(tmp_path / "run", "model.family=llama", "model.n_layer=2")
    resuming.check_recipe(run, load_recipe(None), ())
    with pytest.raises(UsageError, match=r"task: clm -> mlm"):
        resuming.check_recipe(run, load_recipe(None, (), "mlm"), ())


def test_run_without_a_readable_checkpoint_is_left_to_what_finds_the_checkpoint(tmp_path: Path) -> None:
    run = make_stopped_run(tmp_path / "run")
    (run.checkpoints / "step-4" / "MANIFEST.json").write_text("{")
    resuming.check_recipe(run, load_recipe(None, ["train.seed=5"]), ())
