"""Train a causal language model on a prepared folder: from scratch, from a model, or on from a checkpoint."""

from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from llmkit.config.recipe import Recipe
from llmkit.errors import Interrupted, ModelError, UsageError, say
from llmkit.evaluation.report import write_report
from llmkit.files import new_folder, read_json, write_text
from llmkit.models.gpt2 import build_gpt2
from llmkit.models.loading import check_vocabulary, embedding_rows, load_causal_lm, longest_context, resolve_model
from llmkit.objectives.causal_lm import CausalLM
from llmkit.pipelines.evaluate import score_prepared
from llmkit.pipelines.progress import TrainingLine
from llmkit.pipelines.run_plan import plan_again, plan_run, write_start
from llmkit.pipelines.training_hooks import make_hooks
from llmkit.runs.checkpoints import find_checkpoint, verify_checkpoint
from llmkit.runs.folder import RunFolder, create_run
from llmkit.tokens.blocks import Blocks
from llmkit.tokens.prepared import Prepared, load_prepared
from llmkit.tokens.tokenizer import ensure_special_tokens, fingerprint_tokenizer, load_tokenizer
from llmkit.training.optimizer import count_weights
from llmkit.training.trainer import LlmkitTrainer

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

    Returns metrics.json's contents. With `dry_run` everything is checked and nothing is written.

    Raises:
        UsageError, DataError, EnvironmentFault, TrainingFailed, ModelError: see errors.py.
        Interrupted: a signal came; the run was saved and can be resumed.
    """
    prepared = load_prepared(data)
    network, tokenizer = _make_model(recipe, prepared, model)
    _check_block_size(recipe, network)
    samples = Blocks(prepared.split("train"), recipe.train.block_size, recipe.train.seed)
    _check_ids(samples, network, prepared)
    if dry_run:
        return {"n_parameters": count_weights(network.parameters()), "blocks_per_epoch": samples.blocks_per_epoch}
    run = create_run(out, resume=resume, overwrite=overwrite)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    objective = CausalLM(tokenizer.pad_token_id)
    checkpoint = _find_resume_point(run) if resume else None
    if resume:
        plan = plan_again(run, recipe, prepared)
    else:
        plan = plan_run(recipe, prepared, network, objective, samples, device)
        write_start(run, recipe, prepared, network, plan)
    line = TrainingLine(plan.n_steps)
    trainer = LlmkitTrainer(
        network, objective, samples, run=run, train=recipe.train, optim=recipe.optim, plan=plan,
        hooks=make_hooks(recipe, prepared, tokenizer, network, plan, run, line, device),
    )  # fmt: skip
    try:
        progress = trainer.fit(checkpoint)
    finally:
        line.close()
    if trainer.stop_signal is not None:
        hint = f"saved at step {trainer.state.global_step} of {plan.n_steps}; go on with: --resume"
        raise Interrupted(trainer.stop_signal, hint)
    best = progress.best_step or trainer.state.global_step
    finished = _export(run, best, trainer.state.global_step, network, tokenizer, prepared)
    run.add_metrics(
        "training",
        {
            "steps": trainer.state.global_step,
            "best_step": best,
            "n_tokens": progress.n_tokens,
            "epochs": progress.n_tokens / len(samples.split.stream),
            "seconds": round(progress.seconds, 2),
            "n_parameters": count_weights(network.parameters()),
        },
    )
    if prepared.has_split("validation"):
        run.add_metrics(
            "validation", score_prepared(finished, prepared, "validation", recipe.evaluate, recipe.train.block_size)
        )
    write_report(run.path)
    return dict(read_json(run.metrics))


def _make_model(
    recipe: Recipe, prepared: Prepared, name: str | None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A new model for the prepared tokenizer, or an existing one with its own, which must be the same."""
    tokenizer = load_tokenizer(str(prepared.tokenizer_path))
    if name is None:
        build = BUILDERS[recipe.model.family]
        return build(recipe.model, tokenizer, recipe.train.block_size, recipe.train.seed), tokenizer
    path = resolve_model(name)
    network, own = load_causal_lm(path), load_tokenizer(path)
    n_own = len(own)
    added = ensure_special_tokens(own)
    ours, theirs = prepared.fingerprint["tokenizer"], fingerprint_tokenizer(own)
    rows = embedding_rows(network)
    if recipe.model.resize_embeddings or (ours == theirs and added and n_own <= rows):
        _grow(network, len(tokenizer), added)
    elif ours != theirs:
        what = f"the data was made with another tokenizer ({ours[:12]}) than the model's ({theirs[:12]})"
        hint = f"prepare again with: -s prepare.tokenizer.path={name}"
        raise ModelError(what, where=f"{prepared.path}/tokenizer and {name}", hint=hint)
    check_vocabulary(network, tokenizer, name)
    return network, tokenizer


def _grow(network: PreTrainedModel, n_tokens: int, reasons: list[str]) -> None:
    """Rows for tokens that the model's own tokenizer lacked, such as a pad token that is not the end of text."""
    rows = embedding_rows(network)
    if n_tokens > rows:
        network.resize_token_embeddings(n_tokens)
        say(f"the model's embedding grew from {rows} to {n_tokens} rows" + "".join(f"; {line}" for line in reasons))


def _check_block_size(recipe: Recipe, network: PreTrainedModel) -> None:
    positions = longest_context(network)
    if positions is not None and recipe.train.block_size > positions:
        what = f"block_size {recipe.train.block_size} does not fit the model's {positions} positions"
        hint = f"set train.block_size to {positions} or less, or model.n_positions to {recipe.train.block_size}"
        raise UsageError(what, where="train.block_size", hint=hint)


def _check_ids(samples: Blocks, network: PreTrainedModel, prepared: Prepared) -> None:
    """An id beyond the embedding crashes on a CPU and reads foreign memory on some GPUs."""
    rows, largest = embedding_rows(network), samples.split.stream.max_id()
    if largest >= rows:
        what = f"the data holds token id {largest}, the model's embedding has {rows} rows"
        raise ModelError(what, where=str(prepared.path), hint="prepare the data with this model's tokenizer")


def _find_resume_point(run: RunFolder) -> Path:
    checkpoint, manifest, passed_over = find_checkpoint(run.checkpoints)
    for line in passed_over:
        say(f"{line}; using {checkpoint.name}")
    run.truncate_log(manifest["step"])
    return checkpoint


def _export(
    run: RunFolder, best: int, last: int, network: PreTrainedModel, tokenizer: PreTrainedTokenizerBase,
    prepared: Prepared,
) -> PreTrainedModel:  # fmt: skip
    """Write the best weights to `model/` as others load them, and give them back in fp32 on the CPU."""
    finished = network
    # BERT's kind also returns token_type_ids, which GPT-2 would add to its embeddings.
    tokenizer.model_input_names = ["input_ids", "attention_mask"]
    checkpoint = run.checkpoints / f"step-{best}"
    if best != last and verify_checkpoint(checkpoint) is None:
        finished = load_causal_lm(str(checkpoint))
    with new_folder(run.model) as folder:
        finished.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        write_text(folder / "README.md", _model_card(network, prepared, best))
    finished.cpu()
    finished.eval()
    return finished


def _model_card(network: PreTrainedModel, prepared: Prepared, step: int) -> str:
    train = prepared.manifest["splits"]["train"]
    return (
        f"---\nlibrary_name: transformers\npipeline_tag: text-generation\ntags: [llmkit]\n---\n\n"
        f"A {network.config.model_type} causal language model with {count_weights(network.parameters()):,} weights, "
        f"trained with llmkit on {train['tokens']:,} tokens ({train['bytes']:,} bytes of text), "
        f"at optimizer step {step}.\n\nLoad it with `AutoModelForCausalLM.from_pretrained` and "
        f"`AutoTokenizer.from_pretrained`; llmkit is not needed.\n"
    )
