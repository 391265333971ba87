"""Pretrain a language model on a prepared folder: from scratch, from a model, or on from a checkpoint.

This is the road that all objectives share. What differs between them is a `Task` (task.py), one file each.
"""

import importlib.util
import os
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from llmkit.config.loading import dump_recipe
from llmkit.config.recipe import Recipe
from llmkit.errors import EnvironmentFault, Interrupted, ModelError, UsageError, say
from llmkit.evaluation.report import write_report
from llmkit.files import new_folder, read_json, write_text
from llmkit.models.attention import choose_attention
from llmkit.models.loading import embedding_rows, longest_context, pick_device, put_on_device
from llmkit.pipelines.pretrain_clm import CausalTask
from llmkit.pipelines.pretrain_mlm import MaskedTask
from llmkit.pipelines.progress import TrainingLine
from llmkit.pipelines.run_plan import plan_again, plan_run, write_start
from llmkit.pipelines.task import Task
from llmkit.pipelines.training_hooks import make_hooks
from llmkit.runs.checkpoints import find_checkpoint, set_aside, verify_checkpoint
from llmkit.runs.folder import RunFolder, check_run, create_run
from llmkit.tokens.prepared import Prepared, load_prepared
from llmkit.tokens.tokenizer import load_tokenizer
from llmkit.training.optimizer import count_weights
from llmkit.training.trainer import LlmkitTrainer, Plan

TASKS = {"clm": CausalTask, "mlm": MaskedTask}
"""By the recipe's `objective`."""


def pretrain(
    recipe: Recipe,
    *,
    data: Path,
    out: Path,
    model: str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    dry_run: bool = False,
) -> dict[str, Any]:
    """Train, export the best weights to `out/model`, score them on the whole held-out split, write the report.

    Returns metrics.json's contents. With `dry_run` everything is checked, nothing is written, and the resolved
    recipe comes back.

    Raises:
        UsageError, DataError, EnvironmentFault, TrainingFailed, ModelError: see errors.py.
        Interrupted: a signal came; the run was saved and can be resumed.
    """
    check_run(out, resume=resume, overwrite=overwrite)
    prepared = load_prepared(data)
    _check_request(recipe, prepared)
    checkpoint = _find_resume_point(RunFolder(out)) if resume else None
    task: Task = TASKS[recipe.objective](recipe, prepared, load_tokenizer(str(prepared.tokenizer_path)))
    network = _make_model(task, model, checkpoint)
    _check_model(recipe, network, prepared)
    if dry_run:
        facts = {
            "n_parameters": count_weights(network.parameters()),
            "samples_per_epoch": task.samples.samples_per_epoch,
        }
        return {"recipe": dump_recipe(recipe), **facts}
    if checkpoint is not None:
        run = RunFolder(out)
        plan = plan_again(run, recipe, prepared)
        run.truncate_log(int(checkpoint.name.removeprefix("step-")))
    else:
        plan = plan_run(recipe, prepared, network, task.objective, task.samples, pick_device(), task.output_share)
        run = create_run(out, resume=resume, overwrite=overwrite)
        write_start(run, recipe, prepared, network, plan, task.describe())
    trained = _train(recipe, prepared, task, network, run, plan, checkpoint)
    exported = _export(run, trained, task, network, prepared)
    if prepared.has_split("validation"):
        run.add_metrics("validation", task.score(exported, recipe.evaluate))
    write_report(run.path)
    return dict(read_json(run.metrics))


def _check_request(recipe: Recipe, prepared: Prepared) -> None:
    """What can be refused before any model is loaded."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        hint = "start llmkit without torchrun or accelerate launch"
        raise UsageError("training in several processes is not supported yet", where="WORLD_SIZE", hint=hint)
    if recipe.train.early_stopping and not prepared.has_split("validation"):
        hint = "set prepare.split.validation above 0 and prepare again"
        raise UsageError("early stopping needs a validation split", where="train.early_stopping", hint=hint)
    if recipe.train.tensorboard and importlib.util.find_spec("tensorboard") is None:
        hint = "pip install 'llmkit[tensorboard]', or set train.tensorboard to false"
        raise EnvironmentFault("TensorBoard is not installed", where="train.tensorboard", hint=hint)


def _find_resume_point(run: RunFolder) -> Path:
    """The newest sound checkpoint; damaged newer ones are said and set aside."""
    checkpoint, _, passed_over = find_checkpoint(run.checkpoints)
    for name, fault in passed_over.items():
        say(f"{name} is damaged: {fault}; using {checkpoint.name}")
        set_aside(run.checkpoints / name)
    return checkpoint


def _make_model(task: Task, name: str | None, checkpoint: Path | None) -> PreTrainedModel:
    """A new model; or the one of a checkpoint, with its own configuration; or the user's."""
    if checkpoint is not None:
        return task.open_model(str(checkpoint))
    return task.build_model() if name is None else task.start_from(name)


def _check_model(recipe: Recipe, network: PreTrainedModel, prepared: Prepared) -> None:
    """The model must have a position for every token of a sequence, and a row for every id.

    An id beyond the embedding crashes on a CPU and reads foreign memory on some GPUs.
    """
    positions = longest_context(network)
    if positions is not None and recipe.train.block_size > positions:
        what = f"block_size {recipe.train.block_size} does not fit the model's {positions} positions"
        hint = f"set train.block_size to {positions} or less, or model.n_positions to {recipe.train.block_size}"
        raise UsageError(what, where="train.block_size", hint=hint)
    rows, largest = embedding_rows(network), prepared.split("train").stream.max_id()
    if largest >= rows:
        what = f"the data holds token id {largest}, the model's embedding has {rows} rows"
        raise ModelError(what, where=str(prepared.path), hint="prepare the data with this model's tokenizer")


def _train(
    recipe: Recipe, prepared: Prepared, task: Task, network: PreTrainedModel, run: RunFolder, plan: Plan,
    checkpoint: Path | None,
) -> LlmkitTrainer:  # fmt: skip
    """Run the trainer to its end and write down what it did."""
    choose_attention(network, plan.precision, pick_device())
    line = TrainingLine(plan.n_steps)
    hooks = make_hooks(recipe, prepared, task, network, plan, run, line, pick_device())
    trainer = LlmkitTrainer(
        network, task.objective, task.samples, run=run, train=recipe.train, optim=recipe.optim, plan=plan, hooks=hooks
    )
    try:
        progress = trainer.fit(checkpoint)
    finally:
        line.close()
    step = trainer.state.global_step
    if trainer.stop_signal is not None:
        raise Interrupted(trainer.stop_signal, f"saved at step {step} of {plan.n_steps}; go on with: --resume")
    run.add_metrics(
        "training",
        {
            "steps": step,
            "best_step": progress.best_step or step,
            "n_tokens": progress.n_tokens,
            "epochs": step * plan.batches.global_batch_size / task.samples.samples_per_epoch,
            "seconds": round(progress.seconds, 2),
            "n_parameters": count_weights(network.parameters()),
        },
    )
    return trainer


def _export(
    run: RunFolder, trainer: LlmkitTrainer, task: Task, network: PreTrainedModel, prepared: Prepared
) -> PreTrainedModel:
    """Write the best weights to `model/` as others load them, and give them back.

    Raises:
        ModelError: the best checkpoint is damaged.
    """
    last = trainer.state.global_step
    best = trainer.progress.best_step or last
    if best != last:
        checkpoint = run.checkpoints / f"step-{best}"
        fault = verify_checkpoint(checkpoint)
        if fault is not None:
            hint = "the last checkpoint is a model folder too: --resume after removing the damaged one takes it"
            raise ModelError(f"the best checkpoint is damaged: {fault}", where=str(checkpoint), hint=hint)
        network = task.open_model(str(checkpoint))
    with new_folder(run.model) as folder:
        network.save_pretrained(folder)
        task.finish_tokenizer(network).save_pretrained(folder)
        write_text(folder / "README.md", _model_card(task, network, prepared, best))
    network.eval()
    return put_on_device(network)


def _model_card(task: Task, network: PreTrainedModel, prepared: Prepared, step: int) -> str:
    train = prepared.manifest["splits"]["train"]
    tag, kind, loader = task.describe_model()
    return (
        f"---\nlibrary_name: transformers\npipeline_tag: {tag}\ntags: [llmkit]\n---\n\n"
        f"A {network.config.model_type} {kind} with {count_weights(network.parameters()):,} weights, "
        f"trained with llmkit on {train['tokens']:,} tokens ({train['bytes']:,} bytes of text), "
        f"at optimizer step {step}.\n\nLoad it with `{loader}.from_pretrained` and "
        f"`AutoTokenizer.from_pretrained`; llmkit is not needed.\n"
    )
