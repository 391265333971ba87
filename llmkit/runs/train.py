"""Training from a recipe to a run folder with the best weights and a report: a new run, or on from a checkpoint.

What differs between tasks is behind their contract (tasks/base.py).
"""

import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import PreTrainedModel

from llmkit.config.loading import dump_recipe
from llmkit.config.recipe import Recipe
from llmkit.core import console, distributed
from llmkit.core.devices import pick_device
from llmkit.core.disk import explain_full_disk, measure_folder, require_space
from llmkit.core.errors import EnvironmentFault, Interrupted, ModelError
from llmkit.core.files import check_writable, new_folder, read_json, write_text
from llmkit.core.lock import hold_folder
from llmkit.core.progress import TrainingProgress
from llmkit.models.families import family_of
from llmkit.models.kernels.optimized import optimized
from llmkit.models.layers import checkpoint_layers
from llmkit.models.loading import put_on_device
from llmkit.runs.hooks import make_hooks
from llmkit.runs.plan import plan_run, write_start
from llmkit.runs.resuming import restore_plan
from llmkit.tasks.base import TrainingRequest, TrainingTask
from llmkit.tasks.table import TASKS, read_figures
from llmkit.training.checkpoints import list_checkpoints, set_aside, verify_checkpoint
from llmkit.training.contract import Plan, Progress
from llmkit.training.engines import is_sharded, refuse_engine
from llmkit.training.folder import RunFolder, check_run, create_run, is_finished, resolve_resume
from llmkit.training.guards import describe_trend
from llmkit.training.loop import TrainingLoop
from llmkit.training.memory import give_back_freed_memory, keep_freed_memory
from llmkit.training.optimizer import count_weights, forecast_bytes
from llmkit.training.speed import set_threads
from llmkit.training.time_budget import Spent
from llmkit.training.tracking import open_trackers
from llmkit.training.trial import is_out_of_memory

CHECKPOINTS_AT_ONCE = 4
"""The newest two, the best, and the one that is being written."""


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
    """Train a language model on the prepared folder `data`: from scratch, from `model`, or on from a checkpoint.

    See `train`.
    """
    files = {"train": str(data)}
    return train(
        recipe, data=files, out=out, model=model, resume=resume, overwrite=overwrite, dry_run=dry_run, allow=allow,
        started=started,
    )  # fmt: skip


def finetune(
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
    """Train `model` on labelled files: `train`, and `validation` and `test` where they are.

    A resumed run knows its model and files. `fold` (number, folds) holds that part of the train rows out. See `train`.
    """
    return train(
        recipe, data=files, out=out, model=model, resume=resume, overwrite=overwrite, dry_run=dry_run, allow=allow,
        started=started, show_samples=show_samples, fold=fold, quiet=quiet,
    )  # fmt: skip


def train(
    recipe: Recipe,
    *,
    data: Mapping[str, str],
    out: Path,
    model: str | None,
    resume: bool | Literal["auto"],
    overwrite: bool,
    dry_run: bool,
    allow: Collection[str],
    started: float | None,
    show_samples: bool = False,
    fold: tuple[int, int] | None = None,
    quiet: bool = False,
) -> dict[str, Any]:
    """What the recipe's task says, in the run folder `out`; see `train_run`.

    With `dry_run` everything is checked and nothing is written. `train.max_minutes` count from `started`, a
    `time.perf_counter()`, or from this call.

    Raises:
        UsageError, DataError, EnvironmentFault, TrainingFailed, ModelError: see errors.py.
        Interrupted: a signal came; the run was saved and can be resumed.
    """
    started = time.perf_counter() if started is None else started
    with open_for_training(recipe, out, resume=resume, overwrite=overwrite, dry_run=dry_run, allow=allow) as start:
        if start.metrics is not None:
            return start.metrics
        request = TrainingRequest(data, out, model, start.resume, dry_run, show_samples, fold, quiet)
        opened = TASKS[recipe.task].open_training(recipe, request)
        return train_run(
            opened.recipe, opened.task, opened.network, out=out, checkpoint=request.checkpoint,
            overwrite=start.overwrite, dry_run=dry_run, allow=allow, started=started,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Start:
    """How a command begins: with `--resume auto` decided, and the figures of a run that had ended already."""

    resume: bool
    overwrite: bool
    metrics: dict[str, Any] | None = None


@contextmanager
def open_for_training(
    recipe: Recipe, out: Path, *, resume: bool | Literal["auto"], overwrite: bool, dry_run: bool,
    allow: Collection[str],
) -> Iterator[Start]:  # fmt: skip
    """Meet the other ranks, check the run folder and keep other processes out of it.

    Raises:
        UsageError, EnvironmentFault: as `check_run`; another process writes it; the ranks did not meet.
    """
    if not dry_run:
        distributed.init_process_group(pick_device().type, recipe.train.ddp_timeout)
    with ExitStack() as held:
        held.callback(set_threads, torch.get_num_threads())  # a plan may take fewer

        def decide() -> Start:
            check_writable(out, dry_run=dry_run)
            if not dry_run:
                held.enter_context(hold_folder(out))
            if resume == "auto" and is_finished(out) and not allow:
                console.info(f"{out} has ended already: nothing to do")
                return Start(False, False, read_figures(out))
            go_on, replace = resolve_resume(out, resume, overwrite)
            check_run(out, resume=go_on, overwrite=replace)
            return Start(go_on, replace)

        yield distributed.broadcast_from_main(decide)


def train_run(
    recipe: Recipe,
    task: TrainingTask,
    network: PreTrainedModel,
    *,
    out: Path,
    checkpoint: Path | None,
    overwrite: bool,
    dry_run: bool,
    allow: Collection[str] = (),
    started: float | None = None,
) -> dict[str, Any]:
    """Train, export the best weights to `out/model`, score them on the whole held-out split, write the report.

    `network` is the checkpoint's where there is one; `allow` names what may have changed since. `train.max_minutes`
    count from `started`, a `time.perf_counter()`, or from this call. Returns metrics.json's contents.
    With `dry_run` nothing is written, and the resolved recipe comes back.

    Raises:
        UsageError, EnvironmentFault, TrainingFailed, ModelError: see errors.py.
        Interrupted: a signal came; the run was saved and can be resumed.
    """
    if dry_run:
        facts = {
            "n_parameters": count_weights(network.parameters()),
            "samples_per_epoch": task.samples.samples_per_epoch,
        }
        return {"recipe": dump_recipe(recipe), **facts}
    started = time.perf_counter() if started is None else started
    if pick_device().type == "cpu":
        keep_freed_memory()
    if distributed.world_size() > 1 and (refused := refuse_engine(recipe.train.engine, network, recipe.optim)):
        raise refused
    run = RunFolder(out)
    if recipe.train.gradient_checkpointing:  # before a trial step looks whether memory will do
        checkpoint_layers(network)
    if checkpoint is not None:
        plan = restore_plan(run, checkpoint, recipe, task, network, allow)
        distributed.broadcast_from_main(lambda: _take_back(run, checkpoint))
    else:
        plan = plan_run(recipe, task, network, pick_device(), time.perf_counter() - started)
        distributed.broadcast_from_main(lambda: _begin(out, recipe, task, network, plan, overwrite=overwrite))
    trained = _train(recipe, task, network, run, plan, checkpoint, started)
    trained_at = time.perf_counter()
    give_back_freed_memory()
    with distributed.main_process_first():
        if not distributed.is_main_process():
            return {}
        with explain_full_disk(run.path, "the model", 4 * count_weights(network.parameters())):
            exported = _export(run, trained, task, network)
            _score(run, trained, task, exported, recipe)
            spent = _spent(trained.progress).add(finish=time.perf_counter() - trained_at)
            run.add_metrics("training", read_json(run.metrics)["training"] | {"seconds_spent": asdict(spent)})
            from llmkit.reporting.report import write_report  # steps need none of it

            write_report(run.path)
    spent = _spent(trained.progress).add(finish=time.perf_counter() - trained_at)
    if recipe.train.max_minutes is not None:
        console.info(f"{recipe.train.max_minutes:g} minutes were asked for; {spent.describe()}")
    return dict(read_json(run.metrics))


def _score(run: RunFolder, trained: TrainingLoop, task: TrainingTask, network: PreTrainedModel, recipe: Recipe) -> None:
    """Score the held-out splits, and say where the result is not worth much."""
    share = trained.plan.final_share
    if share < 1:
        console.info(
            f"{share:.0%} of the held-out data is scored, to end in time; `llmkit eval {run.path}` scores all of it"
        )
    for split, metrics in task.score(network, recipe.evaluate, share).items():
        run.add_metrics(split, {"task": recipe.task} | metrics)
        if split == "validation":
            _warn_of_poor_result(run, trained.step, task.describe_failure(metrics))


def _warn_of_poor_result(run: RunFolder, step: int, failure: str | None) -> None:
    """Say and log where the model learned nothing, or was still learning when the run ended."""
    advice = "train longer, or change optim.learning_rate"
    trend = describe_trend([(record["step"], record["loss"]) for record in run.read_log("eval")])
    for text in (failure and f"{failure}; {advice}", trend):
        note = {"kind": "note", "step": step, "text": text}
        if text is not None:
            console.info(f"warning: {text}")
            if note not in run.read_log("note"):  # a run that had ended is scored again by --resume
                run.append_log(note)


def _spent(progress: Progress) -> Spent:
    training = progress.seconds - sum(progress.spent.values()) + progress.spent["start"]
    return Spent(**progress.spent, training=training)


def _begin(
    out: Path, recipe: Recipe, task: TrainingTask, network: PreTrainedModel, plan: Plan, *, overwrite: bool
) -> None:
    """The run's folder and what it says of itself."""
    n_saves = -(-plan.n_steps // plan.save_steps)
    needed = min(CHECKPOINTS_AT_ONCE, n_saves) * forecast_bytes(network, recipe.optim)
    require_space(out if out.is_dir() else out.parent, needed - (measure_folder(out) if overwrite else 0), "this run")
    write_start(create_run(out, resume=False, overwrite=overwrite), recipe, task, network, plan)


def _take_back(run: RunFolder, checkpoint: Path) -> None:
    """Set aside the damaged checkpoints after this one, and remove what the run's folder says of the time after it."""
    known = list_checkpoints(run.checkpoints)
    for damaged in known[known.index(checkpoint) + 1 :]:
        set_aside(damaged)
    (run.path / "report.html").unlink(missing_ok=True)  # it says that a run has come to its end
    run.truncate_log(int(checkpoint.name.removeprefix("step-")))


def _train(
    recipe: Recipe, task: TrainingTask, network: PreTrainedModel, run: RunFolder, plan: Plan, checkpoint: Path | None,
    started: float,
) -> TrainingLoop:  # fmt: skip
    """Run the trainer to its end and write down what it did."""
    optimized(network, plan.precision, pick_device())
    line = TrainingProgress(plan.n_steps, task.metrics.describe_progress)
    config = recipe.model_dump(mode="json")
    trackers = open_trackers(recipe.train.trackers, run.path, config) if distributed.is_main_process() else []
    hooks = make_hooks(recipe, task, network, plan, run, line, trackers)
    trainer = TrainingLoop(
        network, task.objective, task.samples, run=run, train=recipe.train, optim=recipe.optim, plan=plan, hooks=hooks
    )
    try:
        with explain_full_disk(run.path, "the next checkpoint", forecast_bytes(network, recipe.optim)):
            progress = trainer.fit(checkpoint, time.perf_counter() - started)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        half = max(1, plan.batches.micro_batch_size // 2)
        name = "train.micro_batch_size"
        hint = f"go on from the last checkpoint with --resume -s {name}={half} --allow {name}"
        raise EnvironmentFault("memory ran out while training", where=str(run.path), hint=hint) from error
    finally:
        line.close()
        for tracker in trackers:
            tracker.finish()
    plan = trainer.plan
    step = trainer.step
    best = progress.best_step or step
    if trainer.stop_signal is None and (step < plan.n_steps or best != step):
        early = f"stopped at step {step} of {plan.n_steps}, as nothing got better; " if step < plan.n_steps else ""
        console.info(f"{early}the weights of step {best} are kept: the best on held-out data")
    if trainer.stop_signal is not None:
        raise Interrupted(trainer.stop_signal, f"saved at step {step} of {plan.n_steps}; go on with: --resume")
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
            "n_parameters": count_weights(network.parameters()),
        },
    )
    return trainer


def _export(run: RunFolder, trainer: TrainingLoop, task: TrainingTask, network: PreTrainedModel) -> PreTrainedModel:
    """Write the best weights to `model/` as others load them, and give them back.

    Raises:
        ModelError: the best checkpoint is damaged.
    """
    last = trainer.step
    best = trainer.progress.best_step or last
    if best != last or is_sharded(network):
        checkpoint = run.checkpoints / f"step-{best}"
        fault = verify_checkpoint(checkpoint)
        if fault is not None:
            hint = "the last checkpoint is a model folder too: --resume after removing the damaged one takes it"
            raise ModelError(f"the best checkpoint is damaged: {fault}", where=str(checkpoint), hint=hint)
        network = task.open_model(str(checkpoint))
    network.eval()
    network = put_on_device(network)
    task.finish_model(network, trainer.plan.final_share)
    with new_folder(run.model) as folder:
        network.save_pretrained(folder)
        task.finish_tokenizer(network).save_pretrained(folder)
        write_text(folder / "README.md", _model_card(task, network, best))
    return network


def _model_card(task: TrainingTask, network: PreTrainedModel, step: int) -> str:
    tag, kind, loader = task.describe_model()
    ours = family_of(network.config) != network.config.model_type
    needed = "`import llmkit` first, as the architecture is its own" if ours else "llmkit is not needed"
    return (
        f"---\nlibrary_name: transformers\npipeline_tag: {tag}\ntags: [llmkit]\n---\n\n"
        f"A {family_of(network.config)} {kind} with {count_weights(network.parameters()):,} weights, "
        f"trained with llmkit on {task.data.describe()}, "
        f"at optimizer step {step}.\n\nLoad it with `{loader}.from_pretrained` and "
        f"`AutoTokenizer.from_pretrained`; {needed}.\n"
    )
