"""The contract of a task: everything that commands, training, reports and plans need of it.

A task is a folder, whose `__init__.py` has its `Task`, and one line in `table.py`. Nothing outside of the folder asks
which task it is. What a recipe, data and a model make of a task is a `TrainingTask`, which runs/train.py trains.

Loads no torch: a `Task` imports what it needs inside its methods.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, Protocol

from llmkit.core.errors import UsageError
from llmkit.metrics.spec import Metric, MetricSet
from llmkit.training.run_record import Record, RunRecord, get_number

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from llmkit.config.evaluate import Evaluate
    from llmkit.config.generate import Generate
    from llmkit.config.recipe import Recipe
    from llmkit.pages.blocks import Block, Section
    from llmkit.tokens.prepared import Prepared
    from llmkit.training.contract import Objective, Plan, Samples
    from llmkit.training.folder import RunFolder

Emit = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True)
class TrainingData:
    """What training must know of the data, whatever it is made of."""

    path: Path | None
    """The prepared folder, where there is one."""
    manifest: dict[str, Any]
    """For the run's own manifest and its report."""
    fingerprint: dict[str, str]
    """What must be the same on resume."""
    n_train_tokens: int
    train_size: str
    """Size of the train split in the units of its source: bytes of text, rows."""
    sequence_length: float
    """Tokens of a sequence, on average."""
    n_held_out: int
    """Sequences that an evaluation while training goes through, at most; 0: there is no validation split."""
    n_final: int
    """Sequences that the score at the end goes through, of all held-out splits."""

    def describe(self) -> str:
        """For the model card."""
        return f"{self.n_train_tokens:,} tokens ({self.train_size})"


class MeasuredTask(Protocol):
    """What measuring steps and estimating their cost need of a task."""

    @property
    def objective(self) -> "Objective": ...
    @property
    def samples(self) -> "Samples": ...
    @property
    def output_share(self) -> float:
        """The share of tokens that go through the output layer."""

    @property
    def cuts_by_tokens(self) -> bool:
        """Whether sequences differ so much in length that micro-batches are cut by tokens."""

    def count_scored_logits(self, network: "PreTrainedModel") -> float:
        """Logits in memory at once when held-out data is scored at the end."""


class PlannedTask(MeasuredTask, Protocol):
    """A task that `llmkit plan` plans, on a prepared folder or on made-up tokens."""

    def build_model(self) -> "PreTrainedModel":
        """A new model, as the recipe has it."""


class TrainingTask(MeasuredTask, Protocol):
    """One task on one set of data, as a recipe wants it."""

    @property
    def data(self) -> TrainingData: ...
    @property
    def metrics(self) -> MetricSet: ...

    def open_model(self, path: str) -> "PreTrainedModel":
        """One that this task saved in a checkpoint."""

    def describe(self) -> dict[str, Any]:
        """What else the run's manifest should say."""

    def evaluate(self, network: "PreTrainedModel", plan: "Plan") -> dict[str, Any]:
        """Held-out figures while training, on a bounded part of the validation split."""

    def selection_key(self, metrics: dict[str, Any]) -> tuple[float, ...]:
        """By what of these figures the best weights are chosen: the lower the better, the first before the next."""

    def sample(self, network: "PreTrainedModel") -> dict[str, Any] | None:
        """What the model writes now; None where the recipe asks for nothing."""

    def finish_model(self, network: "PreTrainedModel", share: float) -> None:
        """Make the best weights ready to be saved; what is chosen on held-out data takes `share` of it."""

    def score(self, network: "PreTrainedModel", settings: "Evaluate", share: float = 1.0) -> dict[str, dict[str, Any]]:
        """Figures over whole held-out splits by their names, or over a share of each, spread evenly."""

    def describe_failure(self, metrics: dict[str, Any]) -> str | None:
        """A warning, with both values, if the model is no better than a constant prediction, else None. `metrics` are
        those of `score` for one split."""

    def finish_tokenizer(self, network: "PreTrainedModel") -> "PreTrainedTokenizerBase":
        """The tokenizer as it is saved with the model."""

    def describe_model(self) -> tuple[str, str, str]:
        """For the model card: pipeline tag, what the model is, which class loads it."""


@dataclass(frozen=True)
class TrainingRequest:
    """What a training command was given beside the recipe."""

    data: Mapping[str, str]
    """By split; a prepared folder is `train`."""
    out: Path
    model: str | None
    """What training starts from; None: new weights."""
    resume: bool = False
    dry_run: bool = False
    show_samples: bool = False
    fold: tuple[int, int] | None = None
    """Number and folds: the part of the train rows that is held out."""
    quiet: bool = False

    @cached_property
    def checkpoint(self) -> Path | None:
        """What is resumed: the newest sound checkpoint, whose files are hashed when it is asked for first."""
        from llmkit.training.checkpoints import find_resume_point
        from llmkit.training.folder import RunFolder

        return find_resume_point(RunFolder(self.out).checkpoints) if self.resume else None


@dataclass(frozen=True)
class TrainingSetup:
    """What a training run starts with: the recipe with its defaults resolved, the task and the model."""

    recipe: "Recipe"
    task: TrainingTask
    network: "PreTrainedModel"


@dataclass(frozen=True)
class EvaluationRequest:
    """What `llmkit eval` was given beside the recipe."""

    model: str
    """As the user named it."""
    path: str
    """Where its files are."""
    data: Sequence[str]
    run: "RunFolder | None"
    """The run that the model is of."""
    show_samples: bool = False


@dataclass(frozen=True)
class GenerationRequest:
    """What `llmkit generate` was given beside the settings."""

    model: str
    path: str
    prompts: Sequence[str]
    on_text: Callable[[str], None] | None = None
    """Gets the text while it is written, where the model writes from left to right."""


@dataclass(frozen=True)
class PredictionRequest:
    """What `llmkit predict` was given beside the recipe."""

    model: str
    path: str
    data: str
    all_probabilities: bool
    open_writer: Callable[[list[str]], Emit]
    """Takes the columns that there will be, and gives what writes one row."""


class Task(ABC):
    """What a task is to the rest of llmkit."""

    name: ClassVar[str]
    """In recipes and manifests."""
    model_is: ClassVar[str]
    """With an article: `a causal language model`."""
    commands: ClassVar[str]
    """The commands that take its models, for hints."""
    writes_samples: ClassVar[bool] = True
    """Whether a run logs texts that its model wrote."""
    reads_rows: ClassVar[bool] = False
    """Whether its data are rows of a table, which can be shown one by one."""
    is_planned: ClassVar[bool] = False
    """Whether `llmkit plan` plans it."""
    streams_text: ClassVar[bool] = False
    """Whether `generate` gives text from left to right, so that it can be shown while it is written."""
    takes_stride: ClassVar[bool] = False
    """Whether `eval --stride` means something to it."""
    fixed_fields: ClassVar[tuple[str, ...]] = ()
    """Fields of the recipe that no resumed run may have otherwise, beside those of all tasks."""

    @abstractmethod
    def claims(self, architecture: str, model_type: str) -> bool:
        """Whether a model is of this task, by the `architectures` (empty if absent) and `model_type` of config.json."""

    @abstractmethod
    def metrics(self, facts: Mapping[str, Any]) -> MetricSet:
        """The figures; `facts` is a run's manifest, or figures that this task gave."""

    @abstractmethod
    def open_training(self, recipe: "Recipe", request: TrainingRequest) -> TrainingSetup:
        """Read the data, open or build the model.

        Raises:
            UsageError, DataError, EnvironmentFault, ModelError: see errors.py.
        """

    @abstractmethod
    def evaluate(self, recipe: "Recipe", request: EvaluationRequest) -> dict[str, Any]:
        """Figures of a model on data; without data, on the held-out split of its own run.

        Raises:
            UsageError, DataError, ModelError: see errors.py.
        """

    def generate(self, settings: "Generate", request: "GenerationRequest") -> list[dict[str, Any]]:
        """One record a sample; see generating/generate.py.

        Raises:
            UsageError: models of this task write no text.
        """
        self._refuse(request.model, request.path)

    def predict(self, recipe: "Recipe", request: PredictionRequest) -> dict[str, Any]:
        """Labels for new rows, written one by one; gives how many rows there were.

        Raises:
            UsageError: models of this task label no rows.
        """
        self._refuse(request.model, request.path)

    def _refuse(self, model: str, path: str) -> NoReturn:
        where, hint = f"{path}/config.json, architectures", f"use it with: {self.commands}"
        raise UsageError(f"{model!r} is {self.model_is}", where=where, hint=hint)

    def open_prepared(self, recipe: "Recipe", prepared: "Prepared", tokenizer: Any) -> PlannedTask:
        """The task on a prepared folder, to plan it; for tasks that are planned."""
        raise NotImplementedError

    def make_synthetic(self, recipe: "Recipe", vocabulary: Any) -> PlannedTask:
        """The task on made-up tokens, to plan it where there is no data; for tasks that are planned."""
        raise NotImplementedError

    # ---- what is shown ----

    def describe_samples(self, records: Sequence[Mapping[str, Any]]) -> str:
        """What `generate` gave, for the terminal."""
        return f"\n{'-' * 40}\n".join(record["prompt"] + record["text"] for record in records)

    def describe_figures(self, figures: Mapping[str, Any]) -> list[tuple[str, str, str]]:
        """Name and value of each figure for the terminal, and what follows them on the line, such as an interval."""
        shown = [metric for metric in self.metrics(figures).metrics if metric.in_terminal]
        return [
            (metric.name, metric.format.format(figures[metric.key]), "")
            for metric in shown
            if figures.get(metric.key) is not None
        ]

    def tables(self, figures: Mapping[str, Any], *, brief: bool = False) -> "list[Block]":
        """What there is to show below the figures, such as a confusion matrix: in the report, and `brief` on the
        terminal, which shows the tables among these blocks."""
        return []

    def note_headline(self, result: Record, metric: Metric) -> str:
        """The line below a figure at the top of the report: for an accuracy, its baseline."""
        baseline = get_number(result, metric.baseline) if metric.is_share and metric.baseline else None
        return metric.note if baseline is None else f"constant baseline: {baseline:.2%}"

    def sections(self, record: RunRecord, split: str, result: Record, metrics: MetricSet) -> "list[Section]":
        """Sections of the report that only this task has, from the figures of one split. Empty ones are left out."""
        return []

    def shorten(self, part: Record, *, is_above: bool) -> Record:
        """The figures of a split for the report's list of all metrics, without what is shown in tables."""
        return part
