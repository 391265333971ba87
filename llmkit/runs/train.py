"""Train a recipe, new or resumed: write a run folder with the best weights, their metrics and a report.

All differences between tasks are behind the interface of tasks/base.py.
"""

import time
from collections.abc import Collection, Mapping
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import PreTrainedModel

from llmkit.config.loading import dump_recipe
from llmkit.config.recipe import Recipe
from llmkit.core import console, distributed
from llmkit.core.devices import pick_device, trim_malloc, tune_malloc
from llmkit.core.disk_space import explain_full_disk, measure_folder, require_space
from llmkit.core.errors import EnvironmentFault, Interrupted, ModelError
from llmkit.core.files import new_folder, write_text
from llmkit.core.lock import lock_output
from llmkit.core.output_paths import check_writable
from llmkit.core.progress import TrainingProgress
from llmkit.models.families import family_of
from llmkit.models.kernels.optimized import optimized
from llmkit.models.layers import checkpoint_layers
from llmkit.models.loading import put_on_device
from llmkit.runs.hooks import make_hooks
from llmkit.runs.plan import plan_run, write_run_files
from llmkit.runs.resuming import check_recipe, restore_plan, resume_command
from llmkit.tasks.base import TrainingRequest, TrainingTask
from llmkit.tasks.starting_model import restore_dropout
from llmkit.tasks.table import TASKS, read_figures
from llmkit.tokens.normalization import describe_for_card
from llmkit.training.callbacks import open_trackers
from llmkit.training.checkpoints import delete_checkpoints, list_checkpoints, mark_damaged, verify_checkpoint
from llmkit.training.contract import Plan, Progress
from llmkit.training.engines import is_sharded, refuse_engine
from llmkit.training.folder import RunFolder, check_run, create_run, is_finished, load_origin, resolve_resume
from llmkit.training.inputs import record_inputs
from llmkit.training.loop import TrainingLoop
from llmkit.training.losses import describe_trend
from llmkit.training.optimizer import checkpoint_bytes, count_parameters
from llmkit.training.run_files import keep_foreign_files
from llmkit.training.speed import set_threads
from llmkit.training.time_budget import PhaseSeconds
from llmkit.training.trial import is_out_of_memory

MAX_CHECKPOINTS = 4
"""Maximum number of checkpoints on the disk: the newest two, the best, and the one being written."""


def pretrain(
    recipe: Recipe,
    *,
    data: Path,
    out: Path,
    model: str | None = None,
    resume: bool | Literal["auto"] = False,
    overwrite: bool = False,
    dry_run: bool = False,
    allow: Collection[str] = (),
    started: float | None = None,
) -> dict[str, Any]:
    """Pretrain a language model on the prepared folder `data`: from scratch, from `model`, or from a checkpoint.

    See `train`.
    """
    return train(
        recipe, files={"train": str(data)}, out=out, model=model, resume=resume, overwrite=overwrite, dry_run=dry_run,
        allow=allow, started=started,
    )  # fmt: skip


def train(
    recipe: Recipe,
    *,
    files: Mapping[str, str],
    out: Path,
    model: str | None = None,
    resume: bool | Literal["auto"] = False,
    overwrite: bool = False,
    dry_run: bool = False,
    allow: Collection[str] = (),
    show_samples: bool = False,
    fold: tuple[int, int] | None = None,
    quiet: bool = False,
    started: float | None = None,
) -> dict[str, Any]:
    """Train on `files` by split in the run folder `out`; returns the contents of metrics.json.

    A resumed run takes model and files from its manifest. `allow` names recipe fields that may differ from the
    checkpoint. `fold` (index, number of folds) holds out that fold of the train rows. `train.max_minutes` counts from
    `started`, a value of `time.perf_counter()`; by default, from this call. With `dry_run`, everything is checked,
    nothing is written, and the resolved recipe is returned.

    Raises:
        UsageError, DataError, EnvironmentFault, TrainingFailed, ModelError: see errors.py.
        Interrupted: a signal came; the run was saved and can be resumed.
    """
    started = time.perf_counter() if started is None else started
    if not dry_run:
        distributed.init_process_group(pick_device().type, recipe.train.ddp_timeout)
    with ExitStack() as stack:
        stack.callback(set_threads, torch.get_num_threads())  # a plan may use fewer

        def check_folder() -> tuple[bool, bool, Mapping[str, str], str | None, dict[str, Any] | None]:
            """Lock the run folder; returns whether the run is resumed, whether it is overwritten, its files, its model,
            and its metrics if it has ended.
            """
            check_writable(out, dry_run=dry_run)
            if not dry_run:
                stack.enter_context(lock_output(out))
            if resume == "auto" and is_finished(out) and not allow:
                console.info(f"{out} is already complete: nothing to do")
                return False, False, files, model, read_figures(out)
            is_resumed, is_overwritten = resolve_resume(out, resume, overwrite)
            start, own_files = model, files
            if resume is True and is_overwritten:
                console.info(f"{out} has no checkpoint yet: the run starts again at step 0")
                start, own_files = load_origin(RunFolder(out), model, files)
            check_run(out, resume=is_resumed, overwrite=is_overwritten, inputs=[*own_files.values(), start])
            if is_resumed:
                RunFolder(out).check_files()
                check_recipe(RunFolder(out), recipe, allow)
            return is_resumed, is_overwritten, own_files, start, None

        is_resumed, is_overwritten, files, model, metrics = distributed.broadcast_from_main(check_folder)
        if metrics is not None:
            return metrics
        request = TrainingRequest(files, out, model, is_resumed, dry_run, show_samples, fold, quiet)
        opened = TASKS[recipe.task].open_training(recipe, request)
        here = Path() if dry_run else out  # a dry run prints the recipe, with paths from here
        named = record_inputs(opened.recipe, here, model, files, resume=is_resumed and not dry_run)
        if dry_run:
            return {
                "recipe": dump_recipe(named),
                "n_parameters": count_parameters(opened.network.parameters()),
                "samples_per_epoch": opened.task.samples.samples_per_epoch,
            }
        return train_run(
            named, opened.task, opened.network, out=out, checkpoint=request.checkpoint,
            overwrite=is_overwritten, allow=allow, started=started,
        )  # fmt: skip


finetune = train
"""Fine-tunes `model` on labelled files: `train`, and `validation` and `test` if there are any."""


def train_run(
    recipe: Recipe,
    task: TrainingTask,
    network: PreTrainedModel,
    *,
    out: Path,
    checkpoint: Path | None,
    overwrite: bool,
    allow: Collection[str],
    started: float,
) -> dict[str, Any]:
    """Train `network`, export the best weights to `out/model`, score the held-out data, write the report.

    Returns the contents of metrics.json on rank 0. See `train`.
    """
    if pick_device().type == "cpu":
        tune_malloc()
    if distributed.world_size() > 1 and (refused := refuse_engine(recipe.train.engine, network, recipe.optim)):
        raise refused
    run = RunFolder(out)
    if recipe.train.gradient_checkpointing:  # before trial steps measure memory
        checkpoint_layers(network)
    if checkpoint is not None:
        plan = restore_plan(run, checkpoint, recipe, task, network, allow)
        distributed.broadcast_from_main(lambda: _rewind_run(run, checkpoint))
    else:
        plan = plan_run(recipe, task, network, pick_device(), time.perf_counter() - started)
        distributed.broadcast_from_main(lambda: _create_run(out, recipe, task, network, plan, overwrite=overwrite))

    trained = _train(recipe, task, network, run, plan, checkpoint, started)
    trained_at = time.perf_counter()
    trim_malloc()
    with distributed.main_process_first():
        if not distributed.is_main_process():
            return {}
        with explain_full_disk(run.path, "the model", 4 * count_parameters(network.parameters())):
            _score(run, trained, task, _export(run, trained, task, network), recipe)
            seconds = _phase_seconds(trained.progress, time.perf_counter() - trained_at)
            run.add_metrics("training", run.read_metrics()["training"] | {"seconds_spent": asdict(seconds)})
            if recipe.train.max_minutes is not None and trained.step > trained.first_step:
                _warn(run, trained.step, seconds.describe_overrun(recipe.train.max_minutes))
            from llmkit.reporting.report import write_report  # training does not need this import

            write_report(run.path)
        if recipe.train.keep_checkpoints is False:
            delete_checkpoints(run.checkpoints)
    if recipe.train.max_minutes is not None:
        seconds = _phase_seconds(trained.progress, time.perf_counter() - trained_at)
        console.info(f"budget {recipe.train.max_minutes:g} min; {seconds.describe()}")
    return run.read_metrics()


def _create_run(
    out: Path, recipe: Recipe, task: TrainingTask, network: PreTrainedModel, plan: Plan, *, overwrite: bool
) -> None:
    """Create the run folder with its recipe and manifest, if the disk has space for the checkpoints."""
    n_saves = -(-plan.n_steps // plan.save_steps)
    needed = min(MAX_CHECKPOINTS, n_saves) * checkpoint_bytes(network, recipe.optim)
    require_space(out if out.is_dir() else out.parent, needed - (measure_folder(out) if overwrite else 0), "this run")
    write_run_files(create_run(out, overwrite=overwrite), recipe, task, network, plan)


def _rewind_run(run: RunFolder, checkpoint: Path) -> None:
    """Rename damaged checkpoints after this one, and delete the report and log records of later steps."""
    known = list_checkpoints(run.checkpoints)
    for damaged in known[known.index(checkpoint) + 1 :]:
        mark_damaged(damaged)
    (run.path / "report.html").unlink(missing_ok=True)  # it marks a run that has ended
    run.truncate_log(int(checkpoint.name.removeprefix("step-")))


def _train(
    recipe: Recipe, task: TrainingTask, network: PreTrainedModel, run: RunFolder, plan: Plan, checkpoint: Path | None,
    started: float,
) -> TrainingLoop:  # fmt: skip
    """Run the training loop and write its measurements to metrics.json."""
    optimized(network, plan.precision, pick_device())
    line = TrainingProgress(plan.n_steps, task.metrics.describe_progress)
    config = recipe.model_dump(mode="json")
    trackers = open_trackers(recipe.train.trackers, run.path, config) if distributed.is_main_process() else []
    hooks = make_hooks(recipe, task, network, plan, run, line, trackers)
    trainer = TrainingLoop(
        network, task.objective, task.samples, run=run, train=recipe.train, optim=recipe.optim, plan=plan, hooks=hooks
    )
    try:
        with explain_full_disk(run.path, "the next checkpoint", checkpoint_bytes(network, recipe.optim)):
            progress = trainer.fit(checkpoint, time.perf_counter() - started)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        half = max(1, plan.batches.micro_batch_size // 2)
        name = "train.micro_batch_size"
        again = f"{resume_command(run, recipe)} -s {name}={half} --allow {name}"
        hint = f"continue from the last checkpoint with: {again}"
        raise EnvironmentFault("memory ran out while training", where=str(run.path), hint=hint) from error
    finally:
        line.close()
        for tracker in trackers:
            tracker.finish()
    plan, step = trainer.plan, trainer.step
    if trainer.stop_signal is not None:
        again = resume_command(run, recipe)
        raise Interrupted(trainer.stop_signal, f"saved at step {step} of {plan.n_steps}; continue with: {again}")
    best = progress.best_step or step
    if best != step and not (run.checkpoints / f"step-{best}").exists():
        what = f"the checkpoint of step {best}, the best on held-out data, is missing; step {step} is saved instead"
        if distributed.is_main_process():
            _warn(run, step, what)
        progress.best_step = best = step
    if step < plan.n_steps or best != step:
        early = f"stopped early at step {step} of {plan.n_steps}; " if step < plan.n_steps else ""
        console.info(f"{early}keeping the weights of step {best}, the best on held-out data")
    if not distributed.is_main_process():
        return trainer
    run.add_metrics(
        "training",
        {
            "steps": step,
            "best_step": best,
            "n_tokens": progress.n_tokens,
            "epochs": step * plan.batches.global_batch_size / task.samples.samples_per_epoch,
            "seconds": round(progress.seconds, 2),
            "n_parameters": count_parameters(network.parameters()),
        },
    )
    return trainer


def _export(run: RunFolder, trainer: TrainingLoop, task: TrainingTask, network: PreTrainedModel) -> PreTrainedModel:
    """Write the best weights to `model/`, in the format that other libraries load, and return the model.

    Raises:
        ModelError: the best checkpoint is damaged.
    """
    last = trainer.step
    best = trainer.progress.best_step or last
    if best != last or is_sharded(network):
        checkpoint = run.checkpoints / f"step-{best}"
        fault = verify_checkpoint(checkpoint)
        if fault is not None:
            hint = f"restore the checkpoint from a backup, or delete it to save step {last} instead; then add --resume"
            raise ModelError(f"the best checkpoint is damaged: {fault}", where=str(checkpoint), hint=hint)
        network = task.open_model(str(checkpoint))
    network.eval()
    network = put_on_device(network)
    task.finish_model(network, trainer.plan.final_share)
    restore_dropout(network.config)
    with new_folder(run.model) as folder:
        network.save_pretrained(folder)
        tokenizer = task.finish_tokenizer(network)
        tokenizer.save_pretrained(folder)
        write_text(folder / "README.md", _model_card(task, network, best, describe_for_card(tokenizer)))
        if run.model.is_dir():
            keep_foreign_files(run.model, folder)
    return network


def _model_card(task: TrainingTask, network: PreTrainedModel, step: int, normalization: str) -> str:
    tag, kind, loader = task.describe_model()
    ours = family_of(network.config) != network.config.model_type
    needed = "run `import llmkit` first, as llmkit defines the architecture" if ours else "llmkit is not needed"
    return (
        f"---\nlibrary_name: transformers\npipeline_tag: {tag}\ntags: [llmkit]\n---\n\n"
        f"A {family_of(network.config)} {kind} with {count_parameters(network.parameters()):,} parameters, "
        f"trained with llmkit on {task.data.describe()}, "
        f"at optimizer step {step}.\n\nLoad it with `{loader}.from_pretrained` and "
        f"`AutoTokenizer.from_pretrained`; {needed}.\n"
        + (f"\n{use}\n" if (use := task.describe_use(network)) else "")
        + (f"\n{normalization}\n" if normalization else "")
    )


def _score(run: RunFolder, trained: TrainingLoop, task: TrainingTask, network: PreTrainedModel, recipe: Recipe) -> None:
    """Score the held-out splits; warn if the model learned nothing or was still improving."""
    share = trained.plan.final_share
    if share < 1:
        console.info(
            f"{share:.0%} of the held-out data is scored, to finish in time; `llmkit eval {run.path}` scores all of it"
        )
    for split, metrics in task.score(network, recipe.evaluate, share).items():
        run.add_metrics(split, {"task": recipe.task} | metrics)
        if split == "validation":
            longer = recipe.train.describe_longer(trained.step, trained.plan.n_steps)
            failure = task.describe_failure(metrics)
            _warn(run, trained.step, failure and f"{failure}; {longer}, or change optim.learning_rate")
            _warn(run, trained.step, task.compare_with_baseline(metrics))
            losses = [(record["step"], record["loss"]) for record in run.read_log("eval")]
            _warn(run, trained.step, describe_trend(losses, longer))
    task.save_predictions(run.path)


def _warn(run: RunFolder, step: int, text: str | None) -> None:
    """Show a warning, if there is one, and keep it in the log for the report."""
    if text:
        console.info(f"warning: {text}")
        note = {"kind": "note", "step": step, "text": text}
        if note not in run.read_log("note"):  # --resume scores a finished run again
            run.append_log(note)


def _phase_seconds(progress: Progress, finish: float) -> PhaseSeconds:
    training = progress.seconds - sum(progress.spent.values()) + progress.spent["start"]
    return PhaseSeconds(**progress.spent, training=training, finish=finish)
