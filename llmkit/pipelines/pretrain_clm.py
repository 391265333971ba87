"""Train a causal language model on a prepared folder: from scratch, from a model, or on from a checkpoint."""

import importlib.util
import os
from pathlib import Path
from typing import Any

from tokenizers import processors
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from llmkit.config.loading import dump_recipe
from llmkit.config.recipe import Recipe
from llmkit.errors import EnvironmentFault, Interrupted, ModelError, UsageError, say
from llmkit.evaluation.report import write_report
from llmkit.files import new_folder, read_json, write_text
from llmkit.models.gpt2 import build_gpt2
from llmkit.models.loading import embedding_rows, load_causal_lm, longest_context, pick_device, put_on_device
from llmkit.objectives.causal_lm import CausalLM
from llmkit.pipelines.evaluate import score_prepared
from llmkit.pipelines.progress import TrainingLine
from llmkit.pipelines.run_plan import plan_again, plan_run, write_start
from llmkit.pipelines.starting_model import load_starting_model
from llmkit.pipelines.training_hooks import make_hooks
from llmkit.runs.checkpoints import find_checkpoint, set_aside, verify_checkpoint
from llmkit.runs.folder import RunFolder, check_run, create_run
from llmkit.tokens.blocks import Blocks
from llmkit.tokens.prepared import Prepared, load_prepared
from llmkit.tokens.tokenizer import load_tokenizer
from llmkit.training.optimizer import count_weights
from llmkit.training.trainer import LlmkitTrainer, Plan

BUILDERS = {"gpt2": build_gpt2}
"""The constructor of each `model.family`."""


def pretrain_clm(
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
    tokenizer = load_tokenizer(str(prepared.tokenizer_path))
    network = _make_model(recipe, prepared, tokenizer, model, checkpoint)
    samples = Blocks(prepared.split("train"), recipe.train.block_size, recipe.train.seed)
    _check_model(recipe, network, samples, prepared)
    if dry_run:
        facts = {"n_parameters": count_weights(network.parameters()), "blocks_per_epoch": samples.blocks_per_epoch}
        return {"recipe": dump_recipe(recipe), **facts}
    objective = CausalLM(tokenizer.pad_token_id)
    if checkpoint is not None:
        run = RunFolder(out)
        plan = plan_again(run, recipe, prepared)
        run.truncate_log(int(checkpoint.name.removeprefix("step-")))
    else:
        plan = plan_run(recipe, prepared, network, objective, samples, pick_device())
        run = create_run(out, resume=resume, overwrite=overwrite)
        write_start(run, recipe, prepared, network, plan)
    trained = _train(recipe, prepared, tokenizer, network, objective, samples, run, plan, checkpoint)
    exported = _export(run, trained, network, tokenizer, prepared)
    if prepared.has_split("validation"):
        metrics = score_prepared(exported, prepared, "validation", recipe.evaluate, recipe.train.block_size)
        run.add_metrics("validation", metrics)
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


def _make_model(
    recipe: Recipe, prepared: Prepared, tokenizer: PreTrainedTokenizerBase, name: str | None, checkpoint: Path | None
) -> PreTrainedModel:
    """A new model; or the one of a checkpoint, with its own configuration; or the user's."""
    if checkpoint is not None:
        return load_causal_lm(str(checkpoint))
    if name is not None:
        return load_starting_model(name, recipe.model, prepared, tokenizer)
    return BUILDERS[recipe.model.family](recipe.model, tokenizer, recipe.train.block_size, recipe.train.seed)


def _check_model(recipe: Recipe, network: PreTrainedModel, samples: Blocks, prepared: Prepared) -> None:
    """The model must have a position for every token of a block, and a row for every id.

    An id beyond the embedding crashes on a CPU and reads foreign memory on some GPUs.
    """
    positions = longest_context(network)
    if positions is not None and recipe.train.block_size > positions:
        what = f"block_size {recipe.train.block_size} does not fit the model's {positions} positions"
        hint = f"set train.block_size to {positions} or less, or model.n_positions to {recipe.train.block_size}"
        raise UsageError(what, where="train.block_size", hint=hint)
    rows, largest = embedding_rows(network), samples.split.stream.max_id()
    if largest >= rows:
        what = f"the data holds token id {largest}, the model's embedding has {rows} rows"
        raise ModelError(what, where=str(prepared.path), hint="prepare the data with this model's tokenizer")


def _train(
    recipe: Recipe, prepared: Prepared, tokenizer: PreTrainedTokenizerBase, network: PreTrainedModel,
    objective: CausalLM, samples: Blocks, run: RunFolder, plan: Plan, checkpoint: Path | None,
) -> LlmkitTrainer:  # fmt: skip
    """Run the trainer to its end and write down what it did."""
    line = TrainingLine(plan.n_steps)
    hooks = make_hooks(recipe, prepared, tokenizer, network, plan, run, line, pick_device())
    trainer = LlmkitTrainer(
        network, objective, samples, run=run, train=recipe.train, optim=recipe.optim, plan=plan, hooks=hooks
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
            "epochs": progress.n_tokens / len(samples.split.stream),
            "seconds": round(progress.seconds, 2),
            "n_parameters": count_weights(network.parameters()),
        },
    )
    return trainer


def _export(
    run: RunFolder, trainer: LlmkitTrainer, network: PreTrainedModel, tokenizer: PreTrainedTokenizerBase,
    prepared: Prepared,
) -> PreTrainedModel:  # fmt: skip
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
        network = load_causal_lm(str(checkpoint))
    if tokenizer.cls_token is not None and isinstance(tokenizer, PreTrainedTokenizerFast):
        # A causal model has never seen [CLS], and [SEP] ends a text: a prompt must not get them from BERT's template.
        tokenizer.backend_tokenizer.post_processor = processors.Sequence([])
        tokenizer.model_input_names = ["input_ids", "attention_mask"]
    with new_folder(run.model) as folder:
        network.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        write_text(folder / "README.md", _model_card(network, prepared, best))
    network.eval()
    return put_on_device(network)


def _model_card(network: PreTrainedModel, prepared: Prepared, step: int) -> str:
    train = prepared.manifest["splits"]["train"]
    return (
        f"---\nlibrary_name: transformers\npipeline_tag: text-generation\ntags: [llmkit]\n---\n\n"
        f"A {network.config.model_type} causal language model with {count_weights(network.parameters()):,} weights, "
        f"trained with llmkit on {train['tokens']:,} tokens ({train['bytes']:,} bytes of text), "
        f"at optimizer step {step}.\n\nLoad it with `AutoModelForCausalLM.from_pretrained` and "
        f"`AutoTokenizer.from_pretrained`; llmkit is not needed.\n"
    )
