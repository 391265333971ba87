"""The Python functions of `import llmkit`: one for each step; they return the same results as `--json` of the commands.

A recipe is a path, a mapping, a recipe object or None for the defaults. Keywords with a double underscore are recipe
keys, as scikit-learn writes nested parameters: `train__max_steps=100` is `-s train.max_steps=100`.

Importing this module does not load torch, transformers or pydantic. No function exits the process or changes its
working directory. SIGINT and SIGTERM during training save a checkpoint; the previous handlers are restored at the end.
"""

import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from llmkit.config.recipe import Recipe

StrPath: TypeAlias = str | Path
RecipeLike: TypeAlias = "StrPath | Mapping[str, Any] | Recipe | None"
Metrics: TypeAlias = dict[str, Any]


class Loaded(NamedTuple):
    """A model in evaluation mode on the CPU, and its tokenizer."""

    model: "PreTrainedModel"
    tokenizer: "PreTrainedTokenizerBase"


def prepare(
    inputs: StrPath | Iterable[StrPath],
    out: StrPath,
    *,
    recipe: RecipeLike = None,
    validation: StrPath | None = None,
    test: StrPath | None = None,
    engine: str = "local",
    overwrite: bool = False,
    repair: bool = False,
    **keys: Any,
) -> dict[str, Any]:
    """Read, clean, deduplicate, split and tokenize text into the folder `out`.

    Args:
        inputs: Files, folders, globs, `hf:NAME` or `builtin:NAME`.
        validation, test: Your own held-out files; without them a fraction of the text is held out.
        engine: `local`, `ray` or `slurm`.
        overwrite: Replace a folder made from other input or with other settings.
        repair: Check every file of `out` and rebuild damaged ones.
        keys: Recipe keys, such as `prepare__tokenizer__vocab_size=4096`.

    Returns:
        The manifest of the folder: sources, counts of every step, splits, tokenizer.

    Raises:
        UsageError, DataError, EnvironmentFault: see llmkit.core.errors.
    """
    settings = _load_recipe(recipe, keys).prepare
    from llmkit.preparing.prepare import prepare as run

    own = {"validation": _to_str(validation), "test": _to_str(test)}
    with _running():
        prepared = run(_to_list(inputs), Path(out), settings, overwrite=overwrite, repair=repair, engine=engine, **own)
    return prepared.manifest


def pretrain(
    recipe: RecipeLike = None,
    *,
    data: StrPath | None = None,
    out: StrPath,
    model: StrPath | None = None,
    task: Literal["clm", "mlm"] | None = None,
    resume: bool | Literal["auto"] = False,
    allow: Collection[str] = (),
    overwrite: bool = False,
    dry_run: bool = False,
    **keys: Any,
) -> Metrics:
    """Pretrain a language model on a prepared folder; the run folder `out` gets model, log, metrics and report.

    Args:
        recipe: Path of a YAML file, mapping or recipe object; None: the defaults of `task`.
        out: Run folder to write.
        data: Prepared folder; default: `inputs.data` of the recipe, or with `resume` the data of the run.
        model: Run, model folder or hub name to start from; default: `inputs.model` of the recipe, else from scratch.
        task: Task if the recipe names none: `clm` (causal language model) or `mlm` (BERT).
        resume: Continue the run in `out`; `auto`: start it if there is none.
        allow: With `resume`, the names of recipe fields or fingerprints that may have changed.
        overwrite: Replace an earlier run in `out`.
        dry_run: Check everything and write nothing; returns the resolved recipe and the number of parameters.
        keys: Recipe keys, such as `train__max_steps=100, model__size="mini"`.

    Returns:
        The contents of metrics.json: `training`, `validation` and, where it was scored, `test`.

    Raises:
        UsageError, DataError, EnvironmentFault, TrainingFailed, ModelError: see llmkit.core.errors.
        KeyboardInterrupt: after the checkpoint was saved; `resume=True` continues.
    """
    from llmkit.training.inputs import choose_prepared, is_resumed_alone

    own = Path(out) if is_resumed_alone(Path(out), resume, recipe) else None
    recipe = _own_recipe(out, resume, recipe)
    config = _load_recipe(recipe, keys, task, command="pretrain")
    start, prepared = choose_prepared(config, _to_path(recipe), _to_str(model), data, own)
    from llmkit.runs.train import pretrain as run

    with _running():
        return run(
            config, data=prepared, out=Path(out), model=start, resume=resume, overwrite=overwrite,
            dry_run=dry_run, allow=allow,
        )  # fmt: skip


def finetune(
    recipe: RecipeLike = None,
    *,
    data: StrPath | None = None,
    out: StrPath,
    model: StrPath | None = None,
    validation: StrPath | None = None,
    test: StrPath | None = None,
    task: Literal["cls", "ner", "qa"] | None = None,
    text: str | None = None,
    pair: str | None = None,
    label: str | None = None,
    folds: int | None = None,
    seeds: int = 1,
    learning_curve: Iterable[int | Literal["all"]] = (),
    resume: bool | Literal["auto"] = False,
    allow: Collection[str] = (),
    overwrite: bool = False,
    dry_run: bool = False,
    **keys: Any,
) -> Metrics:
    """Fine-tune a model on labelled rows: a classifier or a regressor, unless `task` or the recipe names another task.

    Args:
        data: Table (.csv, .tsv, .jsonl, .json, .parquet) or `hf:NAME`; default: `inputs.data` of the recipe, or with
            `resume` the data of the run.
        model: Pretrained model: a run, a model folder or a hub name; default: `inputs.model`, as for `data`.
        validation, test: Files of held-out rows; without `validation`, a tenth of the rows is held out.
        task: Task of a recipe that names none.
        text, pair, label: Names of columns; inferred unless given.
        folds: Cross-validate with this number of folds.
        seeds: Number of seeds; with more than one, or with folds, the result has mean and standard deviation.
        learning_curve: Numbers of train rows, such as `[10, 100, "all"]`; trains one model per number.
        resume, allow, overwrite, dry_run: As in `pretrain`.
        keys: Recipe keys, such as `cls__class_weights="balanced"`.

    Returns:
        The contents of metrics.json. With folds or seeds: `runs` and `summary`. With `learning_curve`: `runs` and
        `learning_curve`.

    Raises:
        UsageError, DataError, EnvironmentFault, TrainingFailed, ModelError: see llmkit.core.errors.
        KeyboardInterrupt: after the checkpoint was saved; `resume=True` continues.
    """
    columns = {"text": text, "pair": pair, "label": label}
    from llmkit.config.recipe import ROW_TASK, find_task
    from llmkit.training.folder import Series, read_series, read_sizes
    from llmkit.training.inputs import choose_inputs, is_resumed_alone

    is_alone = is_resumed_alone(Path(out), resume, recipe)
    given, recipe = recipe, _own_recipe(out, resume, recipe)
    chosen = task or find_task({name.partition("__")[0]: {} for name in keys}) or ROW_TASK
    config = _load_recipe(recipe, keys, chosen, columns=columns, command="finetune")
    if given is None and isinstance(recipe, Path):
        from llmkit.config.loading import require_named_code

        require_named_code(config, recipe, [f"{name.replace('__', '.')}={value}" for name, value in keys.items()])
    named = {"train": data, "validation": validation, "test": test}
    files = {name: str(path) for name, path in named.items() if path is not None}
    start = _to_str(model)
    if not is_alone:
        start, files = choose_inputs(config, _to_path(recipe), start, files)

    series = Series(folds, seeds, read_sizes(",".join(map(str, learning_curve)) or None))
    with _running():
        if resume and not series.has_several_runs:
            series = read_series(Path(out))
        if series.has_several_runs and not dry_run:
            from llmkit.runs.repeat import finetune_repeatedly

            return finetune_repeatedly(
                config, series, files=files, out=Path(out), model=start, resume=resume, overwrite=overwrite
            )
        from llmkit.runs.train import finetune as run

        return run(
            config, files=files, out=Path(out), model=start, resume=resume, overwrite=overwrite, dry_run=dry_run,
            allow=allow, fold=(0, series.folds) if series.folds else None,
        )  # fmt: skip


def evaluate(
    model: StrPath,
    data: StrPath | Iterable[StrPath] = (),
    *,
    recipe: RecipeLike = None,
    split: Literal["train", "validation", "test"] | None = None,
    stride: int | None = None,
    text: str | None = None,
    pair: str | None = None,
    label: str | None = None,
    **keys: Any,
) -> Metrics:
    """Score a language model on text or on a prepared folder, or a classifier on labelled rows.

    Args:
        model: A run, a model folder or a hub name.
        data: A prepared folder, text files or labelled rows; without it, the held-out data of the run itself.
        split: Split of a prepared folder or a run; `validation` by default.
        stride: Tokens scored per window of a causal model; the rest of the window is context.
        text, pair, label: Names of columns of labelled rows.
        keys: Recipe keys, such as `evaluate__precision="bf16"`.

    Returns:
        The metrics of the model's task: `loss`, `perplexity`, `bits_per_byte`, `accuracy`, ...

    Raises:
        UsageError, DataError, EnvironmentFault, ModelError: see llmkit.core.errors.
    """
    given = {"evaluate__split": split, "evaluate__stride": stride}
    keys |= {name: value for name, value in given.items() if value is not None}
    columns = {"text": text, "pair": pair, "label": label}
    config = _load_model_recipe("eval", model, recipe, keys, columns)
    from llmkit.evaluating.evaluate import check_columns
    from llmkit.evaluating.evaluate import evaluate as run

    with _running():
        check_columns(columns, _to_list(data))
        return run(config, model=str(model), data=_to_list(data))


def predict(
    model: StrPath,
    data: StrPath | Iterable[str | Mapping[str, Any]],
    *,
    out: StrPath | None = None,
    recipe: RecipeLike = None,
    text: str | None = None,
    pair: str | None = None,
    probabilities: bool = False,
    overwrite: bool = False,
    **keys: Any,
) -> list[dict[str, Any]]:
    """Label new texts with a classifier.

    Args:
        model: A run of `finetune`, a model folder or a hub name.
        data: A file with rows, or the texts themselves, or rows as mappings from column to value.
        out: Write a .csv, .tsv or .jsonl instead of returning the rows; for files that do not fit into memory.
        text, pair: Names of columns; by default, the names in training.
        probabilities: Add one column per label with its probability.
        keys: Recipe keys, such as `evaluate__batch_size=64`.

    Returns:
        The rows in the order of `data`, each with `prediction` and `probability`; an empty list if `out` is given.

    Raises:
        UsageError, DataError, EnvironmentFault, ModelError: see llmkit.core.errors.
    """
    rows: str | list[dict[str, Any]]
    if isinstance(data, str | Path):
        rows = str(data)
    else:
        given = list(data)
        rows = [dict(row) if isinstance(row, Mapping) else {text or "text": row} for row in given]
        text = text or (None if any(isinstance(row, Mapping) for row in given) else "text")
    config = _load_model_recipe("predict", model, recipe, keys, {"text": text, "pair": pair})
    from llmkit.evaluating.predict import predict as run

    written: list[str] = []
    with _running():
        run(
            config, model=str(model), data=rows, out=None if out is None else Path(out), write=written.append,
            file_format="jsonl" if out is None else None, all_probabilities=probabilities, overwrite=overwrite,
        )  # fmt: skip
    return [json.loads(line) for line in written]


def generate(
    model: StrPath,
    prompts: str | Iterable[str] = "",
    *,
    max_new_tokens: int | None = None,
    temperature: float | None = None,
    top_k: int | None = None,
    top_p: float | None = None,
    num_samples: int | None = None,
    stop: list[str] | None = None,
    seed: int | None = None,
    recipe: RecipeLike = None,
    **keys: Any,
) -> list[dict[str, Any]]:
    """Continue prompts with a causal language model, or fill in their [MASK] tokens with a masked language model.

    Args:
        model: A run, a model folder or a hub name.
        prompts: One text or several.
        max_new_tokens, temperature, top_k, top_p, num_samples, stop, seed: As in the recipe section `generate`.
        keys: Other recipe keys, such as `generate__repetition_penalty=1.1`.

    Returns:
        One record per sample of a causal model (`prompt`, `text`, `n_tokens`, `finish_reason`), one per prompt of a
        masked model (`prompt`, `masks`).

    Raises:
        UsageError, EnvironmentFault, ModelError: see llmkit.core.errors.
    """
    given = {
        "max_new_tokens": max_new_tokens, "temperature": temperature, "top_k": top_k, "top_p": top_p,
        "num_samples": num_samples, "stop": stop, "seed": seed,
    }  # fmt: skip
    keys |= {f"generate__{name}": value for name, value in given.items() if value is not None}
    config = _load_model_recipe("generate", model, recipe, keys, {})
    from llmkit.generating.generate import generate as run

    texts = [prompts] if isinstance(prompts, str) else list(prompts)
    with _running():
        return run(config.generate, model=str(model), prompts=texts)


def load(model: StrPath) -> Loaded:
    """Open a model with its tokenizer as transformers objects, after the same safety checks as every command.

    Args:
        model: A run, a model folder or a hub name.

    Raises:
        UsageError, EnvironmentFault, ModelError: see llmkit.core.errors.
    """
    from llmkit.models.classifier import load_classifier
    from llmkit.models.loading import load_causal_lm, load_masked_lm, read_kind, resolve_model
    from llmkit.models.saved_head import ANSWER_SPANS, TOKEN_LABELS
    from llmkit.tokens.loading import load_tokenizer

    openers: dict[str, Callable[[str], Any]] = {
        "causal": load_causal_lm,
        "masked": load_masked_lm,
        "classifier": load_classifier,
        "token classifier": partial(load_classifier, kind=TOKEN_LABELS),
        "reader": partial(load_classifier, kind=ANSWER_SPANS),
    }
    with _running():
        path = resolve_model(str(model))
        return Loaded(openers[read_kind(path)](path), load_tokenizer(path))


def _load_model_recipe(
    command: str, model: StrPath, recipe: RecipeLike, keys: Mapping[str, Any], columns: Mapping[str, str | None]
) -> "Recipe":
    """Load the recipe for a command that uses a model; by default, the recipe in the model's run folder.

    Raises:
        UsageError: a recipe that is not valid, or a keyword that `command` does not read.
    """
    from llmkit.config.command_keys import check_overrides

    check_overrides(command, [f"{name.replace('__', '.')}={value}" for name, value in keys.items()])
    own = Path(model) / "recipe.yaml"
    if recipe is None and own.is_file():
        return _load_recipe(own, keys, columns=columns, forget_columns=True)
    return _load_recipe(recipe, keys, columns=columns, forget_columns=recipe is None)


def _load_recipe(
    recipe: RecipeLike,
    keys: Mapping[str, Any],
    task: str | None = None,
    *,
    command: str | None = None,
    columns: Mapping[str, str | None] | None = None,
    forget_columns: bool = False,
) -> "Recipe":
    """Load the recipe of a function's arguments, with the checks of the command of the same name.

    Raises:
        UsageError: a recipe that is not valid; `where` names the keyword.
        TypeError: a keyword that is not a recipe key; the message suggests a key.
    """
    from llmkit.config.loading import load_recipe
    from llmkit.config.problems import describe_unknown
    from llmkit.config.recipe import RECIPES, Recipe
    from llmkit.core.errors import Problem, UsageError

    for name, value in keys.items():
        if "__" not in name and "." not in name:
            meant = _as_keywords(describe_unknown(name, value=value) or "recipe keys have the form section__key")
            raise TypeError(f"unexpected keyword argument {name!r}; {meant}")
    path = None
    values: dict[str, Any] = {}
    if isinstance(recipe, str | Path):
        path = Path(recipe)
    elif isinstance(recipe, Recipe):
        values = recipe.model_dump(mode="json")
    else:
        values = dict(recipe or {})
    values |= {name.replace("__", "."): value for name, value in keys.items()}
    overrides = [f"{name}={json.dumps(value, ensure_ascii=False, default=str)}" for name, value in values.items()]
    try:
        config = load_recipe(path, overrides, task, columns=columns, forget_columns=forget_columns)
    except UsageError as error:
        named = [
            Problem(each.what, each.where.removeprefix("--set "), _as_keywords(each.hint)) for each in error.problems
        ]
        raise UsageError.from_problems(named) from None
    if command is not None and command not in config.COMMANDS:
        fitting = " or ".join(name for name, other in RECIPES.items() if command in other.COMMANDS)
        what = f"the recipe's task is {config.task}, which {command} does not train"
        raise UsageError(what, where="task", hint=f"use a recipe of task {fitting}, or llmkit.{config.COMMANDS[0]}")
    return config


def _as_keywords(hint: str) -> str:
    """Convert `-s a.b=1` in a hint to the keyword `a__b=1`."""
    return re.sub(r"-s ([\w.]+)=", lambda match: f"{match[1].replace('.', '__')}=", hint)


@contextmanager
def _running() -> Iterator[None]:
    """Hide transformers' progress bars and advice during a call, as commands do.

    Converts a SIGINT that llmkit has handled to the KeyboardInterrupt that Python programs and notebooks expect.
    """
    import signal

    from transformers.utils import logging

    from llmkit.core.errors import Interrupted

    verbosity, has_bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    except Interrupted as stop:
        if stop.signal_number != signal.SIGINT:
            raise
        raise KeyboardInterrupt(str(stop)) from None
    finally:
        logging.set_verbosity(verbosity)
        if has_bars:
            logging.enable_progress_bar()


def _own_recipe(out: StrPath, resume: bool | Literal["auto"], recipe: RecipeLike) -> RecipeLike:
    """Return the recipe; if a run is resumed without a recipe, the recipe in its folder."""
    kept = Path(out) / "recipe.yaml"
    return kept if resume and recipe is None and kept.is_file() else recipe


def _to_path(recipe: RecipeLike) -> Path | None:
    return Path(recipe) if isinstance(recipe, str | Path) else None


def _to_str(path: StrPath | None) -> str | None:
    return None if path is None else str(path)


def _to_list(paths: StrPath | Iterable[StrPath]) -> list[str]:
    return [str(paths)] if isinstance(paths, str | Path) else [str(path) for path in paths]
