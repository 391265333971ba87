"""The options of all commands, and what becomes of those that several commands share."""

import os
import sys
import time
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
"""Start of `train.max_minutes`: when the command line is imported, before anything slow."""
LAUNCHER_OPTIONS = ("--nproc", "--nnodes", "--rdzv-endpoint")


class Resume(StrEnum):
    """What may follow `--resume`; nothing is `now`, see cli/app.py."""

    now = "now"
    auto = "auto"


# ---- every command ----

RecipeArgument = Annotated[Path | None, typer.Argument(help="Recipe (YAML); without it, the defaults.")]
RecipeOption = Annotated[Path | None, typer.Option("--recipe", help="Recipe (YAML).")]
ModelArgument = Annotated[str, typer.Argument(help="Run folder, saved model folder, or hub name.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", "-s", help="section.key=value; overrides the recipe; repeatable.")
]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace what is in --out.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Print the resolved recipe, check it, and stop.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]

# ---- prepare ----

InputsArgument = Annotated[
    list[str], typer.Argument(metavar="INPUT...", help="Files, folders, globs, - (stdin), hf:NAME, builtin:NAME.")
]
PreparedOutOption = Annotated[Path, typer.Option("--out", help="Prepared folder to write.")]
ValidationTextOption = Annotated[
    str | None, typer.Option("--validation", help="Validation text; without it, a part of the input is held out.")
]
TestTextOption = Annotated[str | None, typer.Option("--test", help="Test text.")]
EncodingOption = Annotated[str | None, typer.Option("--encoding", help="Encoding of all files, such as gb18030.")]
SkipBadFilesOption = Annotated[
    bool, typer.Option("--skip-bad", help="Skip and count what cannot be read, instead of an error.")
]
StrictOption = Annotated[bool, typer.Option("--strict", help="Treat control characters as an error.")]
RepairOption = Annotated[
    bool, typer.Option("--repair", help="Check every file of --out; rebuild those that are damaged or missing.")
]
ExecutorOption = Annotated[
    str, typer.Option("--engine", help="Where to run: local, ray (at RAY_ADDRESS, or on all cores), slurm.")
]

# ---- training ----

DataOption = Annotated[Path, typer.Option("--data", help="Prepared folder, from `llmkit prepare`.")]
RunOption = Annotated[Path, typer.Option("--out", help="Run folder to write.")]
StartOption = Annotated[str | None, typer.Option("--model", help="Start from this model's weights and tokenizer.")]
ResumeOption = Annotated[
    Resume | None,
    typer.Option("--resume", metavar="[auto]", help="Resume the run in --out; auto: start it if there is none."),
]
AllowOption = Annotated[
    list[str] | None,
    typer.Option("--allow", help="With --resume: recipe field or fingerprint that may differ; repeatable."),
]
NprocOption = Annotated[
    str | None,
    typer.Option("--nproc", metavar="N|auto", help="Number of processes per machine; auto: one per GPU."),
]
EngineOption = Annotated[
    str | None,
    typer.Option(
        "--engine",
        metavar="ddp|fsdp2|zero2|zero3",
        help="How to parallelize: ddp replicates the model, the others shard it; same as train.engine.",
    ),
]
NnodesOption = Annotated[int, typer.Option("--nnodes", min=1, help="Number of machines; run the same command on each.")]
RdzvOption = Annotated[
    str | None, typer.Option("--rdzv-endpoint", metavar="HOST:PORT", help="Where the machines connect.")
]

# ---- labelled rows ----

RowsOption = Annotated[str | None, typer.Option("--data", help="Texts and labels: .csv .tsv .jsonl .parquet, hf:NAME.")]
ValidationRowsOption = Annotated[
    str | None, typer.Option("--validation", help="Validation rows; without it, a tenth of --data is held out.")
]
TestRowsOption = Annotated[str | None, typer.Option("--test", help="Test rows, scored after training.")]
FoldsOption = Annotated[
    int | None, typer.Option("--folds", min=2, help="Number of folds for cross-validation; one run per fold.")
]
SeedsOption = Annotated[
    int, typer.Option("--seeds", min=1, help="Number of seeds; reports mean and standard deviation.")
]
TextOption = Annotated[str | None, typer.Option("--text", help="Text column; detected by default.")]
PairOption = Annotated[str | None, typer.Option("--pair", help="Column of the second text.")]
LabelOption = Annotated[str | None, typer.Option("--label", help="Label column; detected by default.")]
UnseenOption = Annotated[
    str | None,
    typer.Option("--unseen-labels", help="Rows with a label that training has not seen: refuse (default) or ignore."),
]
SkipBadOption = Annotated[bool, typer.Option("--skip-bad", help="Skip and count rows that cannot be used.")]
ShowSamplesOption = Annotated[
    bool, typer.Option("--show-samples", help="Add the most confident errors, with their texts, to the report.")
]

# ---- using a model ----

EvalDataOption = Annotated[
    list[str] | None,
    typer.Option("--data", help="Prepared folder, text, or labelled rows; default: the data of the run."),
]
SplitOption = Annotated[
    str | None, typer.Option("--split", help="Split of a prepared folder: validation, test, train.")
]
StrideOption = Annotated[
    int | None, typer.Option("--stride", help="Number of tokens scored per window; the rest of it is context.")
]
PromptOption = Annotated[
    list[str] | None, typer.Option("--prompt", help="Text to continue; repeatable; - reads stdin.")
]
PromptsOption = Annotated[
    Path | None, typer.Option("--prompts", help="File with one prompt per line, empty ones too; - reads stdin.")
]
PredictDataOption = Annotated[
    str, typer.Option("--data", help="Texts: .csv .tsv .jsonl .parquet .txt hf:NAME; - reads stdin.")
]
PredictOutOption = Annotated[
    Path | None, typer.Option("--out", help="File to write: .csv, .tsv or .jsonl; default: stdout.")
]
ProbabilitiesOption = Annotated[
    bool, typer.Option("--probabilities", help="Add one column of probabilities per label.")
]
FormatOption = Annotated[
    Literal["csv", "tsv", "jsonl"] | None, typer.Option("--format", help="Output format; csv on stdout.")
]

# ---- plan, doctor, report, demo ----

PlanDataOption = Annotated[
    Path | None, typer.Option("--data", help="Prepared folder, for its vocabulary and number of tokens.")
]
GpuOption = Annotated[str | None, typer.Option("--gpu", help="GPU name: h100, rtx4090, ...; default: this machine.")]
GpusOption = Annotated[int | None, typer.Option("--gpus", min=1, help="Number of GPUs.")]
PriceOption = Annotated[
    float | None, typer.Option("--price", min=0, help="Price of one GPU per hour, in any currency.")
]
TokensOption = Annotated[
    str | None, typer.Option("--tokens", help="Number of training tokens, such as 10B; overrides the recipe's length.")
]
MfuOption = Annotated[
    float | None,
    typer.Option("--mfu", min=0.001, max=1, help="Model FLOPs utilization: share of the peak that training reaches."),
]
MeasureOption = Annotated[
    bool, typer.Option("--measure", help="Train a few steps on this machine and report the error of the forecast.")
]
DoctorOutOption = Annotated[Path, typer.Option("--out", help="Folder for runs; its disk is checked.")]
OfflineOption = Annotated[bool, typer.Option("--offline", help="Do not contact the hub; same as HF_HUB_OFFLINE=1.")]
RunArgument = Annotated[Path, typer.Argument(help="Run folder.")]
CorpusOption = Annotated[
    str | None, typer.Option("--corpus", help="Your own file or folder instead of the built-in text.")
]
DemoOutOption = Annotated[
    Path, typer.Option("--out", help="Folder for data and run; an earlier demo there is replaced.")
]
DemoPromptOption = Annotated[str | None, typer.Option("--prompt", help="Text that the sample continues.")]


# ---- what becomes of them ----


def resume_of(option: Resume | None) -> bool | Literal["auto"]:
    """`--resume` as training takes it."""
    return "auto" if option == Resume.auto else option is not None


def own_recipe(model: str | Path, recipe: Path | None) -> Path | None:
    """The recipe of the command line, else the one that a run folder keeps."""
    kept = Path(model) / "recipe.yaml"
    return kept if recipe is None and kept.is_file() else recipe


def check_command(config: "Recipe", path: Path | None, command: str, task: str | None) -> None:
    """Refuse a recipe of another command; `task` is the command's own.

    Raises:
        UsageError: names the command that runs it.
    """
    if command in config.COMMANDS and task in (None, config.task):
        return
    from llmkit.config.recipe import RECIPES

    fitting = [name for name, recipe in RECIPES.items() if command in recipe.COMMANDS]
    named = f"llmkit {command}{f'-{task}' if task else ''}"
    what = f"the recipe's task is {config.task}, which `{named}` does not train"
    hint = f"use llmkit {config.COMMANDS[0]}-{config.task}, or write `task: {task or ' or '.join(fitting)}` into it"
    raise UsageError(what, where=f"{path or 'recipe'}, task", hint=hint)


@dataclass(frozen=True, slots=True)
class DistributedOptions:
    """The options that run a command on several processes."""

    nproc: str | None = None
    nnodes: int = 1
    rdzv_endpoint: str | None = None
    engine: str | None = None

    @property
    def overrides(self) -> list[str]:
        """The engine, as `--set` takes it."""
        return [] if self.engine is None else [f"train.engine={self.engine}"]

    def launch(self) -> None:
        """Start the processes, wait for them and exit with their code; does nothing without `--nproc`.

        Raises:
            UsageError: several machines without `--nproc`, or a value that is no number.
        """
        if self.nproc is None:
            if self.nnodes > 1 or self.rdzv_endpoint:
                hint = "add --nproc auto, or --nproc with a number"
                raise UsageError("--nnodes and --rdzv-endpoint need --nproc", where="--nproc", hint=hint)
            return
        if self.nproc != "auto" and (not self.nproc.isdecimal() or int(self.nproc) < 1):
            hint = did_you_mean(self.nproc, ["auto"]) if self.nproc.isalpha() else "a number from 1 on, or auto"
            raise UsageError(f"--nproc is {self.nproc!r}", where="--nproc", hint=hint)
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # else torch prints its C++ stack on a failure to connect
        from llmkit.training.launch import launch

        n_processes = None if self.nproc == "auto" else int(self.nproc)
        raise typer.Exit(launch(strip_options(sys.argv[1:]), n_processes, self.nnodes, self.rdzv_endpoint))

    def refuse(self, what: str, where: str) -> None:
        """Raises UsageError if several processes were asked for, or are running."""
        if self.nproc is not None or expected_ranks() > 1:
            raise UsageError(what, where=where, hint="leave out --nproc, or run each fold and seed by itself")


def strip_options(arguments: list[str]) -> list[str]:
    """The command line of each process: without the launcher's options."""
    kept: list[str] = []
    words = iter(arguments)
    for word in words:
        if word in LAUNCHER_OPTIONS:
            next(words, None)
        elif word.partition("=")[0] not in LAUNCHER_OPTIONS:
            kept.append(word)
    return kept
