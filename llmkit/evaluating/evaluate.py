"""Score a model on a prepared split, raw text or labelled rows; how is decided by what the model does."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from llmkit.config.loading import load_recipe
from llmkit.config.recipe import Recipe
from llmkit.core.errors import UsageError, say
from llmkit.models.loading import check_vocabulary, load_causal_lm, read_kind, resolve_model
from llmkit.models.masked import open_masked
from llmkit.reporting.report import write_report
from llmkit.tasks.scoring import get_ready
from llmkit.tasks.starting_model import other_tokenizer
from llmkit.tokens.prepared import Prepared, load_prepared
from llmkit.tokens.tokenizer import ensure_special_tokens, fingerprint_tokenizer, load_tokenizer
from llmkit.training.folder import RunFolder


def evaluate(recipe: Recipe, *, model: str, data: Sequence[str] = (), show_samples: bool = False) -> dict[str, Any]:
    """The metrics of one split of a prepared folder, of raw text, or of labelled rows, with how they were computed.

    Without `data` a run is scored on what it was trained on, and its metrics.json and report are brought up to date.
    `show_samples` puts a classifier's worst mistakes into both.

    Raises:
        UsageError: nothing to score on, or a model that predicts no tokens.
        DataError: a prepared folder that is damaged.
        ModelError: data made with another tokenizer.
    """
    run = RunFolder(Path(model))
    path = resolve_model(model)
    kind = read_kind(path)
    if kind == "classifier":
        return _evaluate_classifier(recipe, path, data, run, show_samples)
    masked = kind == "masked"
    network = get_ready(open_masked(path) if masked else load_causal_lm(path), recipe.evaluate.precision)
    tokenizer = load_tokenizer(path)
    check_vocabulary(network, tokenizer, model)
    own = not data and run.manifest.is_file()
    block_size = load_recipe(run.recipe).block_size if own else None
    if own:
        data = [str(run.data_path)]
    if not data:
        raise UsageError("there is nothing to score on", where="--data", hint="give a prepared folder or text files")
    if masked and recipe.evaluate.stride is not None:
        hint = "leave it out: masked tokens have the whole of their block as context"
        raise UsageError("a masked language model is not scored with a stride", where="evaluate.stride", hint=hint)
    score = _score_masked if masked else _score_causal
    if len(data) > 1 or not (Path(data[0]) / "manifest.json").is_file():
        return score(recipe, network, tokenizer, list(data), block_size)
    prepared = load_prepared(Path(data[0]))
    prepared.verify(recipe.evaluate.split)
    _check_tokenizer(prepared, tokenizer, model)
    metrics = score(recipe, network, tokenizer, prepared, block_size)
    if own:
        run.add_metrics(recipe.evaluate.split, metrics)
        write_report(run.path)
    return metrics


def _evaluate_classifier(
    recipe: Recipe, path: str, data: Sequence[str], run: RunFolder, show_samples: bool
) -> dict[str, Any]:
    if recipe.evaluate.stride is not None:
        raise UsageError("a classifier is not scored with a stride", where="evaluate.stride", hint="leave it out")
    from llmkit.tasks.cls.scoring import evaluate_classifier

    is_run = run.manifest.is_file()
    metrics = evaluate_classifier(recipe, path, data, run if is_run else None, show_samples=show_samples)
    if is_run and (not data or show_samples):
        # The file's whole name: validation.csv is not the run's own `validation`.
        run.add_metrics(f"file {Path(data[0]).name}" if data else recipe.evaluate.split, metrics)
        say(f"report: {write_report(run.path)}")
    return metrics


def _score_causal(
    recipe: Recipe, network: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, data: Prepared | list[str],
    block_size: int | None,
) -> dict[str, Any]:  # fmt: skip
    from llmkit.tasks.clm import scoring as evaluate_clm

    if isinstance(data, Prepared):
        return evaluate_clm.score_prepared(network, data, recipe.evaluate.split, recipe.evaluate, block_size)
    return evaluate_clm.score_text(network, tokenizer, data, recipe.prepare.read, recipe.evaluate)


def _score_masked(
    recipe: Recipe, network: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, data: Prepared | list[str],
    block_size: int | None,
) -> dict[str, Any]:  # fmt: skip
    from llmkit.tasks.mlm import scoring as evaluate_mlm

    settings = recipe.evaluate
    if isinstance(data, Prepared):
        return evaluate_mlm.score_prepared(network, tokenizer, data, settings.split, settings, recipe.mlm, block_size)
    return evaluate_mlm.score_text(network, tokenizer, data, recipe.prepare, settings, recipe.mlm)


def _check_tokenizer(prepared: Prepared, tokenizer: PreTrainedTokenizerBase, model: str) -> None:
    before = fingerprint_tokenizer(tokenizer)
    ensure_special_tokens(tokenizer)  # as `prepare` did with it
    if prepared.fingerprint["tokenizer"] not in (before, fingerprint_tokenizer(tokenizer)):
        raise other_tokenizer(prepared, before, model)
