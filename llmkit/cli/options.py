"""The options of all commands, and the handling of options that several commands share."""

import os
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from llmkit.core.distributed import expected_ranks
from llmkit.core.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from llmkit.config.recipe import Recipe

COMMAND_STARTED = time.perf_counter()
"""Time from which `train.max_minutes` counts: the import of this module, before slow imports."""
LAUNCHER_OPTIONS = ("--nproc", "--nnodes", "--rdzv-endpoint")


class ResumeMode(StrEnum):
    """Values of `--resume`; `now` represents the option without a value, see cli/app.py."""

    now = "now"
    auto = "auto"


# ---- every command ----

RecipeArgument = Annotated[Path | None, typer.Argument(help="Recipe (YAML); without it, the defaults.")]
RecipeOption = Annotated[Path | None, typer.Option("--recipe", help="Recipe (YAML).")]
Model = Annotated[str, typer.Argument(help="Run folder, saved model folder, or hub name.")]
Set = Annotated[
    list[str] | None, typer.Option("--set", "-s", help="section.key=value; overrides the recipe; repeatable.")
]
Overwrite = Annotated[
    bool,
    typer.Option("--overwrite", help="Replace the files that llmkit wrote to --out; other files are never deleted."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the resolved recipe, check it, and stop.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]

# ---- prepare ----

Inputs = Annotated[
    list[str], typer.Argument(metavar="INPUT...", help="Files, folders, globs, - (stdin), hf:NAME, builtin:NAME.")
]
PreparedOut = Annotated[Path, typer.Option("--out", help="Prepared folder to write.")]
ValidationText = Annotated[
    str | None, typer.Option("--validation", help="Validation text; without it, a part of the input is held out.")
]
TestText = Annotated[str | None, typer.Option("--test", help="Test text.")]
Encoding = Annotated[str | None, typer.Option("--encoding", help="Encoding of all files, such as gb18030.")]
SkipBadFiles = Annotated[
    bool, typer.Option("--skip-bad", help="Skip and count unreadable files and rows instead of raising an error.")
]
Strict = Annotated[bool, typer.Option("--strict", help="Treat control characters as an error.")]
Repair = Annotated[
    bool, typer.Option("--repair", help="Check every file of --out; rebuild those that are damaged or missing.")
]
Executor = Annotated[
    str, typer.Option("--engine", help="Executor: local, ray (at RAY_ADDRESS, or on all cores), slurm.")
]

# ---- training ----

Data = Annotated[
    Path | None, typer.Option("--data", help="Prepared folder, from `llmkit prepare`; default: the recipe's.")
]
RunFolder = Annotated[Path, typer.Option("--out", help="Run folder to write.")]
StartModel = Annotated[str | None, typer.Option("--model", help="Start from this model's weights and tokenizer.")]
Resume = Annotated[
    ResumeMode | None,
    typer.Option("--resume", metavar="[auto]", help="Resume the run in --out; auto: start it if there is none."),
]
Allow = Annotated[
    list[str] | None,
    typer.Option("--allow", help="With --resume: recipe field or fingerprint that may differ; repeatable."),
]
Nproc = Annotated[
    str | None,
    typer.Option("--nproc", metavar="N|auto", help="Number of processes per machine; auto: one per GPU."),
]
Engine = Annotated[
    str | None,
    typer.Option(
        "--engine",
        metavar="ddp|fsdp2|zero2|zero3",
        help="Parallelism: ddp replicates the model, the other engines shard it; same as train.engine.",
    ),
]
Nnodes = Annotated[
    int, typer.Option("--nnodes", min=1, max=100_000, help="Number of machines; run the same command on each.")
]
RdzvEndpoint = Annotated[
    str | None,
    typer.Option("--rdzv-endpoint", metavar="HOST:PORT", help="Address of one machine; the same on all."),
]

# ---- labelled rows ----

Rows = Annotated[str | None, typer.Option("--data", help="Texts and labels: .csv .tsv .xlsx .jsonl .parquet, hf:NAME.")]
TaggedRows = Annotated[
    str | None, typer.Option("--data", help="Tagged words: CoNLL columns, .jsonl .csv .parquet, hf:NAME.")
]
TagColumn = Annotated[
    int | None, typer.Option("--tag-column", help="CoNLL column with the tags; 1 is the first, -1 the last.")
]
ValidationRows = Annotated[
    str | None, typer.Option("--validation", help="Validation rows; without it, a tenth of --data is held out.")
]
TestRows = Annotated[str | None, typer.Option("--test", help="Test rows, scored after training.")]
Folds = Annotated[
    int | None, typer.Option("--folds", min=2, help="Number of folds for cross-validation; one run per fold.")
]
Seeds = Annotated[int, typer.Option("--seeds", min=1, help="Number of seeds; reports mean and standard deviation.")]
LearningCurve = Annotated[
    str | None,
    typer.Option(
        "--learning-curve",
        metavar="N,N,...",
        help="Numbers of train rows, such as 10,100,1000 or 10,100,all; one run each, on a stratified sample.",
    ),
]
Text = Annotated[str | None, typer.Option("--text", help="Column with the text; detected by default.")]
Pair = Annotated[str | None, typer.Option("--pair", help="Column with the second text of a pair.")]
Label = Annotated[str | None, typer.Option("--label", help="Column with the label; detected by default.")]
Questions = Annotated[
    str | None,
    typer.Option("--data", help="Questions, contexts and answers: SQuAD's .json, .jsonl .csv .tsv .parquet, hf:NAME."),
]
Question = Annotated[str | None, typer.Option("--question", help="Column with the question; detected by default.")]
Context = Annotated[str | None, typer.Option("--context", help="Column with the context; detected by default.")]
Answer = Annotated[str | None, typer.Option("--answer", help="Column with the answers; detected by default.")]
LabelMap = Annotated[
    str | None,
    typer.Option("--label-map", help="New names of labels, such as 0=neg,1=pos, or a YAML or JSON file with names."),
]
Delimiter = Annotated[str | None, typer.Option("--delimiter", help="Delimiter of a .csv or .tsv; detected by default.")]
Sheet = Annotated[str | None, typer.Option("--sheet", help="Sheet of an .xlsx; default: the first visible, non-empty.")]
HasHeader = Annotated[
    bool | None,
    typer.Option("--header/--no-header", help="Whether the first row of a table is a header; detected by default."),
]
UnseenLabels = Annotated[
    str | None,
    typer.Option(
        "--unseen-labels", help="What to do with rows whose label was not in training: refuse (default) or ignore."
    ),
]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="Skip and count rows that cannot be used.")]
ShowSamples = Annotated[
    bool, typer.Option("--show-samples", help="Add the worst errors to the report, with their texts.")
]

# ---- using a model ----

EvalData = Annotated[
    list[str] | None,
    typer.Option("--data", help="Prepared folder, text, or labelled rows; default: the data of the run."),
]
Split = Annotated[
    str | None,
    typer.Option("--split", help="Split of a prepared folder or run: validation (default), test or train."),
]
Stride = Annotated[
    int | None, typer.Option("--stride", help="Number of tokens scored per window; the other tokens are context.")
]
Prompt = Annotated[list[str] | None, typer.Option("--prompt", help="Text to continue; repeatable; - reads stdin.")]
Prompts = Annotated[
    Path | None, typer.Option("--prompts", help="File with one prompt per line; lines may be empty; - reads stdin.")
]
PredictData = Annotated[
    str, typer.Option("--data", help="Texts: .csv .tsv .xlsx .jsonl .parquet .txt hf:NAME; - reads stdin.")
]
PredictOut = Annotated[Path | None, typer.Option("--out", help="File to write: .csv, .tsv or .jsonl; default: stdout.")]
Probabilities = Annotated[bool, typer.Option("--probabilities", help="Add one column of probabilities per label.")]
SafeCsv = Annotated[
    bool, typer.Option("--safe-csv", help="Put an apostrophe before cells that a spreadsheet would run as formulas.")
]
Excel = Annotated[
    bool, typer.Option("--excel", help="Write a .csv for Excel: keeps non-ASCII letters, long ids and leading zeros.")
]
Format = Annotated[
    Literal["csv", "tsv", "jsonl"] | None, typer.Option("--format", help="Output format; csv on stdout.")
]

# ---- plan, doctor, report, demo ----

PlanData = Annotated[
    Path | None, typer.Option("--data", help="Prepared folder; its vocabulary size and number of tokens are used.")
]
Gpu = Annotated[str | None, typer.Option("--gpu", help="GPU name: h100, rtx4090, ...; default: this machine.")]
Gpus = Annotated[int | None, typer.Option("--gpus", min=1, help="Number of GPUs.")]
Price = Annotated[float | None, typer.Option("--price", min=0, help="Price of one GPU per hour, in any currency.")]
Tokens = Annotated[
    str | None, typer.Option("--tokens", help="Number of training tokens, such as 10B; overrides the recipe's length.")
]
Mfu = Annotated[
    float | None,
    typer.Option(
        "--mfu", min=0.001, max=1, help="Model FLOPs utilization: fraction of the peak FLOP/s that training reaches."
    ),
]
Measure = Annotated[
    bool, typer.Option("--measure", help="Train a few steps on this machine and report the error of the forecast.")
]
DoctorOut = Annotated[Path, typer.Option("--out", help="Folder for runs; its disk is checked.")]
Offline = Annotated[bool, typer.Option("--offline", help="Do not contact the hub; same as HF_HUB_OFFLINE=1.")]
Run = Annotated[Path, typer.Argument(help="Run folder.")]
Corpus = Annotated[str | None, typer.Option("--corpus", help="Your own file or folder instead of the built-in text.")]
DemoOut = Annotated[Path, typer.Option("--out", help="Folder for data and run; replaces an earlier demo in it.")]
DemoPrompt = Annotated[str | None, typer.Option("--prompt", help="Text that the sample continues.")]


# ---- handling of options ----


def resume_of(option: ResumeMode | None) -> bool | Literal["auto"]:
    """Convert `--resume` to the argument of the training functions."""
    return "auto" if option == ResumeMode.auto else option is not None


def task_in_name(context: typer.Context) -> str | None:
    """Return the task that a command's name ends with: `clm` for `pretrain-clm`."""
    return (context.info_name or "").partition("-")[2] or None


def overrides_of(given: list[str] | None, **settings: tuple[str, object]) -> list[str | tuple[str, str]]:
    """Combine `--set` with the options that set one recipe key, such as `split=("evaluate.split", "test")`.

    An option that was not given, with the value None or False, sets nothing.
    """
    overrides: list[str | tuple[str, str]] = [*(given or [])]
    for name, (key, value) in settings.items():
        if value is not None and value is not False:
            overrides.append((f"--{name.replace('_', '-')}", f"{key}={'true' if value is True else value}"))
    return overrides


def word_of(flag: bool | None) -> str | None:
    """Convert a flag with a negative form to a value for `overrides_of`, which treats False as not given."""
    return None if flag is None else str(flag).lower()


def own_recipe(model: str | Path, recipe: Path | None) -> Path | None:
    """Return the recipe of the command line, else the recipe in a run folder."""
    kept = Path(model) / "recipe.yaml"
    return kept if recipe is None and kept.is_file() else recipe


def check_model(name: str) -> None:
    """Check that a model's path exists, before slow imports.

    Raises:
        ModelError: see `find_model_folder`.
    """
    from llmkit.core.model_folder import find_model_folder

    if not name.startswith("pickle:"):
        find_model_folder(name)


def check_data(paths: Iterable[str]) -> None:
    """Check that files exist, before slow imports; data sets of the hub are not looked up.

    Raises:
        DataError: there is no such file.
    """
    from llmkit.text.inputs import find_files

    find_files([path for path in paths if not Path(path).exists()])


def check_run_options(
    out: Path, resume: ResumeMode | None, *, overwrite: bool, dry_run: bool, inputs: Iterable[str | None],
    nnodes: int = 1,
) -> bool:  # fmt: skip
    """Check the options of a new run's folder before slow imports; returns whether this is a new run that was checked.

    Nothing is checked with `--resume auto`, which decides later whether it starts a run, nor with several ranks or
    machines, because the first of them may already have written to the shared folder.

    Raises:
        UsageError, EnvironmentFault: see `check_out`.
    """
    if resume == ResumeMode.auto or expected_ranks() > 1 or nnodes > 1:
        return False
    from llmkit.training.folder import check_out

    check_out(out, resume=resume is not None, overwrite=overwrite, dry_run=dry_run, inputs=inputs)
    return resume is None


def check_command(config: "Recipe", path: Path | None, command: str, task: str | None) -> None:
    """Check that a recipe belongs to this command; `task` is the command's task.

    Raises:
        UsageError: it belongs to another command; the error names that command.
    """
    if command in config.COMMANDS and task in (None, config.task):
        return
    from llmkit.config.recipe import RECIPES

    fitting = [name for name, recipe in RECIPES.items() if command in recipe.COMMANDS]
    named = f"llmkit {command}{f'-{task}' if task else ''}"
    what = f"the recipe's task is {config.task}, which `{named}` does not train"
    hint = f"use llmkit {config.COMMANDS[0]}-{config.task}, or set `task: {task or ' or '.join(fitting)}` in the recipe"
    raise UsageError(what, where=f"{path or 'recipe'}, task", hint=hint)


@dataclass(frozen=True, slots=True)
class DistributedOptions:
    """The options that run a command on several processes."""

    nproc: str | None = None
    nnodes: int = 1
    rdzv_endpoint: str | None = None

    def __post_init__(self) -> None:
        """Check the options.

        Raises:
            UsageError: several machines without `--nproc` or an endpoint, or a value that is not a number.
        """
        if self.nproc is None:
            if self.nnodes > 1 or self.rdzv_endpoint:
                hint = "add --nproc auto, or --nproc with a number"
                raise UsageError("--nnodes and --rdzv-endpoint need --nproc", where="--nproc", hint=hint)
        elif self.nproc != "auto" and not _is_count(self.nproc):
            hint = "set it to the number of GPUs or cores to use, or to auto"
            hint = did_you_mean(self.nproc, ["auto"]) if self.nproc.isalpha() else hint
            raise UsageError(f"--nproc is {self.nproc!r}", where="--nproc", hint=hint)
        elif self.nnodes > 1 and self.rdzv_endpoint is None:
            hint = "--rdzv-endpoint HOST:PORT, the same on every machine; HOST is one of them"
            raise UsageError(f"{self.nnodes} machines need a rendezvous endpoint", where="--nnodes", hint=hint)

    def launch(self) -> None:
        """Start the processes, wait for them and exit with their code; does nothing without `--nproc`."""
        if self.nproc is None:
            return
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # no C++ stack if torch cannot connect
        from llmkit.training.launch import launch

        n_processes = None if self.nproc == "auto" else int(self.nproc)
        raise typer.Exit(launch(strip_options(sys.argv[1:]), n_processes, self.nnodes, self.rdzv_endpoint))

    def refuse(self, what: str, where: str) -> None:
        """Raise UsageError if --nproc is given or several ranks are running."""
        if self.nproc is not None or expected_ranks() > 1:
            raise UsageError(what, where=where, hint="leave out --nproc, or run each fold and seed separately")


def _is_count(text: str) -> bool:
    """Whether the text is a positive integer below 10^9; launch.py compares it with the number of GPUs or cores."""
    return text.isascii() and text.isdecimal() and 0 < len(text.lstrip("0")) < 10


def strip_options(arguments: list[str]) -> list[str]:
    """Return the command line of each process, without the launcher's options."""
    kept: list[str] = []
    words = iter(arguments)
    for word in words:
        if word in LAUNCHER_OPTIONS:
            next(words, None)
        elif word.partition("=")[0] not in LAUNCHER_OPTIONS:
            kept.append(word)
    return kept
