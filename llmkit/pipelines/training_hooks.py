"""What a training run does at intervals: log, score held-out text, write a sample."""

from typing import Any, cast

import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from llmkit.config.recipe import Recipe
from llmkit.evaluation.causal_lm import evaluate_causal_lm, to_metrics
from llmkit.generation.generate import generate_texts
from llmkit.pipelines.progress import TrainingLine
from llmkit.runs.folder import RunFolder
from llmkit.tokens.prepared import Prepared
from llmkit.training.speed import flops_a_token, peak_flops
from llmkit.training.trainer import Hooks, Plan

SAMPLE_TOKENS = 80


def make_hooks(
    recipe: Recipe, prepared: Prepared, tokenizer: PreTrainedTokenizerBase, network: PreTrainedModel, plan: Plan,
    run: RunFolder, line: TrainingLine, device: torch.device,
) -> Hooks:  # fmt: skip
    """Log, evaluation and sample, bound to this run."""
    work = flops_a_token(network, recipe.train.block_size)
    peak = peak_flops(plan.precision, device)
    n_train = len(prepared.split("train").stream)
    writer = _open_tensorboard(run) if recipe.train.tensorboard else None
    sampling = recipe.generate.model_copy(update={"max_new_tokens": SAMPLE_TOKENS, "num_samples": 1})

    def log(record: dict[str, Any]) -> None:
        if record["kind"] == "train":
            record |= {"mfu": record["tokens_per_second"] * work / peak, "epoch": record["n_tokens"] / n_train}
        run.append_log(record)
        line.show(record)
        if writer is not None:
            for name, value in record.items():
                if isinstance(value, float):
                    writer.add_scalar(f"{record['kind']}/{name}", value, record["step"])
            writer.flush()

    def evaluate(model: nn.Module) -> dict[str, Any]:
        stream = prepared.split("validation").stream
        unwrapped = _unwrap(model)
        sums = evaluate_causal_lm(
            unwrapped, stream, block_size=recipe.train.block_size, batch_size=plan.batches.micro_batch_size,
            precision=plan.precision, max_windows=recipe.train.max_eval_blocks,
        )  # fmt: skip
        # Bytes of a part of the split are its share of the tokens: exact once all blocks are scored.
        share = sums["n_tokens"] / len(stream)
        totals = prepared.manifest["splits"]["validation"]
        return {"split": "validation"} | to_metrics(
            sums, n_bytes=totals["bytes"] * share, n_characters=totals["characters"] * share
        )

    def sample(model: nn.Module) -> dict[str, Any]:
        prompt = recipe.train.sample_prompt or ""
        unwrapped = _unwrap(model)
        text = generate_texts(unwrapped, tokenizer, [prompt], sampling)[0][0].text
        return {"prompt": prompt, "text": text}

    return Hooks(
        evaluate if prepared.has_split("validation") else None,
        sample if recipe.train.sample_prompt is not None else None,
        log,
    )


def _unwrap(model: nn.Module) -> PreTrainedModel:
    """The model itself, whatever wraps it for several ranks."""
    return cast(PreTrainedModel, getattr(model, "module", model))


def _open_tensorboard(run: RunFolder) -> Any:
    from torch.utils.tensorboard import SummaryWriter  # only with the extra

    return SummaryWriter(str(run.path / "tensorboard"))
