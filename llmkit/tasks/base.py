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
from llmkit.training.run_record import Record, RunRecord, get_number, get_section

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


def describe_interval(figures: Mapping[str, Any], metric: Metric) -> str:
    """`95% interval 81.21% to 85.34%`; empty if the figure has no interval."""
    bounds = get_section(figures, "intervals").get(metric.key)
    if not isinstance(bounds, list) or len(bounds) != 2 or not all(isinstance(bound, int | float) for bound in bounds):
        return ""
    confidence = get_number(get_section(figures, "method"), "confidence") or 0.95
    low, high = (f"{bound:.2%}" if metric.is_share else f"{bound:.4f}" for bound in bounds)
    return f"{100 * confidence:g}% interval {low} to {high}"


@dataclass(frozen=True)
class TrainingData:
    """What training needs to know of the data of any task."""

    path: Path | None
    """The prepared folder, where there is one."""
    manifest: dict[str, Any]
    """For the run's own manifest and its report."""
    fingerprint: dict[str, str]
    """Must not change on resume."""
    n_train_tokens: int
    train_size: str
    """Size of the train split in the units of its source: bytes of text, rows."""
    sequence_length: float
    """Tokens of a sequence, on average."""
    n_held_out: int
    """Sequences of the validation split; 0 if there is none."""
    n_final: int
    """Sequences of all held-out splits, which the final evaluation scores."""

    def describe(self) -> str:
        """For the model card."""
        return f"{self.n_train_tokens:,} tokens ({self.train_size})"


class MeasuredTask(Protocol):
    """What a task provides for measuring steps and estimating their cost."""

    @property
    def objective(self) -> "Objective": ...
    @property
    def samples(self) -> "Samples": ...
    @property
    def output_share(self) -> float:
        """The share of tokens that go through the output layer."""

    @property
    def cuts_by_tokens(self) -> bool:
        """Whether micro-batches are limited by tokens, as sequences differ in length."""

    def count_scored_logits(self, network: "PreTrainedModel") -> float:
        """Logits in memory at once in the final evaluation."""
        return 0.0


class PlannedTask(MeasuredTask, Protocol):
    """A task that `llmkit plan` supports, on a prepared folder or on random tokens."""

    def build_model(self) -> "PreTrainedModel":
        """A new model of the recipe."""


class TrainingTask(MeasuredTask, Protocol):
    """A task with its data and its recipe; methods with a body are defaults."""

    @property
    def data(self) -> TrainingData: ...
    @property
    def metrics(self) -> MetricSet: ...

    def open_model(self, path: str) -> "PreTrainedModel":
        """The model of a checkpoint of this task."""

    def describe(self) -> dict[str, Any]:
        """More entries of the run's manifest."""
        return {}

    def evaluate(self, network: "PreTrainedModel", plan: "Plan") -> dict[str, Any]:
        """Held-out metrics during training, on at most `max_eval_samples` of the validation split."""

    def selection_key(self, metrics: dict[str, Any]) -> tuple[float, ...]:
        """The key by which the best weights are selected; the lowest is the best."""
        return self.metrics.selection_key(metrics)

    def sample(self, network: "PreTrainedModel") -> dict[str, Any] | None:
        """A sample of the model's output; None if the recipe has no prompt."""
        return None

    def finish_model(self, network: "PreTrainedModel", share: float) -> None:
        """Prepare the best weights for saving; thresholds are tuned on a `share` of the held-out data."""
        return

    def score(self, network: "PreTrainedModel", settings: "Evaluate", share: float = 1.0) -> dict[str, dict[str, Any]]:
        """Metrics of the held-out splits by name, or of a share of each, evenly spaced."""

    def describe_failure(self, metrics: dict[str, Any]) -> str | None:
        """A warning, with both values, if the model is no better than a constant prediction, else None. `metrics` are
        those of `score` for one split."""

    def finish_tokenizer(self, network: "PreTrainedModel") -> "PreTrainedTokenizerBase":
        """The tokenizer as it is saved with the model."""

    def describe_model(self) -> tuple[str, str, str]:
        """For the model card: pipeline tag, what the model is, which class loads it."""


@dataclass(frozen=True)
class TrainingRequest:
    """The arguments of a training command, without the recipe."""

    data: Mapping[str, str]
    """By split; a prepared folder is `train`."""
    out: Path
    model: str | None
    """The model that training starts from; None for new weights."""
    resume: bool = False
    dry_run: bool = False
    show_samples: bool = False
    fold: tuple[int, int] | None = None
    """Index and number of folds; this fold of the train rows is held out."""
    quiet: bool = False

    @cached_property
    def checkpoint(self) -> Path | None:
        """The newest valid checkpoint if `resume`; its files are hashed on first access."""
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
class ModelRequest:
    """The arguments of a command that uses a model, without the recipe."""

    model: str
    """The user's name of the model, for messages."""
    path: str
    """Where its files are."""


@dataclass(frozen=True)
class EvaluationRequest(ModelRequest):
    """For `llmkit eval`."""

    data: Sequence[str]
    run: "RunFolder | None"
    """The run of the model."""
    show_samples: bool = False


@dataclass(frozen=True)
class GenerationRequest(ModelRequest):
    """For `llmkit generate`."""

    prompts: Sequence[str]
    on_text: Callable[[str], None] | None = None
    """Gets the text while it is generated, if the model generates left to right."""


@dataclass(frozen=True)
class PredictionRequest(ModelRequest):
    """For `llmkit predict`."""

    data: str
    all_probabilities: bool
    open_writer: Callable[[list[str]], Emit]
    """From the output columns to a function that writes one row."""


class Task(ABC):
    """The interface of a task to the rest of llmkit."""

    name: ClassVar[str]
    """In recipes and manifests."""
    model_is: ClassVar[str]
    """With an article, such as `a causal language model`."""
    commands: ClassVar[str]
    """The commands that accept its models, for hints."""
    writes_samples: ClassVar[bool] = True
    """Whether a run logs samples of its model."""
    reads_rows: ClassVar[bool] = False
    """Whether its data are rows of a table."""
    is_planned: ClassVar[bool] = False
    """Whether `llmkit plan` supports it."""
    streams_text: ClassVar[bool] = False
    """Whether `generate` can stream text."""
    takes_stride: ClassVar[bool] = False
    """Whether it supports `eval --stride`."""
    fixed_fields: ClassVar[tuple[str, ...]] = ()
    """Recipe fields that must not change on resume, in addition to those of all tasks."""

    @abstractmethod
    def claims(self, architecture: str, model_type: str) -> bool:
        """Whether a model is of this task, by `architectures` (empty if absent) and `model_type` in config.json."""

    @abstractmethod
    def metrics(self, facts: Mapping[str, Any]) -> MetricSet:
        """The metrics; `facts` is a run's manifest or the metrics of an evaluation."""

    @abstractmethod
    def open_training(self, recipe: "Recipe", request: TrainingRequest) -> TrainingSetup:
        """Read the data, open or build the model.

        Raises:
            UsageError, DataError, EnvironmentFault, ModelError: see errors.py.
        """

    @abstractmethod
    def evaluate(self, recipe: "Recipe", request: EvaluationRequest) -> dict[str, Any]:
        """Metrics of a model on the data; without data, on the held-out split of its run.

        Raises:
            UsageError, DataError, ModelError: see errors.py.
        """

    def generate(self, settings: "Generate", request: "GenerationRequest") -> list[dict[str, Any]]:
        """One record per sample; see generating/generate.py.

        Raises:
            UsageError: models of this task do not generate text.
        """
        self._refuse(request)

    def predict(self, recipe: "Recipe", request: PredictionRequest) -> dict[str, Any]:
        """Predict labels of new rows and write them one by one; returns row counts.

        Raises:
            UsageError: models of this task do not predict labels.
        """
        self._refuse(request)

    def _refuse(self, request: ModelRequest) -> NoReturn:
        where, hint = f"{request.path}/config.json, architectures", f"use it with: {self.commands}"
        raise UsageError(f"{request.model!r} is {self.model_is}", where=where, hint=hint)

    def open_prepared(self, recipe: "Recipe", prepared: "Prepared", tokenizer: Any) -> PlannedTask:
        """The task on a prepared folder; only if `is_planned`."""
        raise NotImplementedError

    def make_synthetic(self, recipe: "Recipe", vocabulary: Any) -> PlannedTask:
        """The task on random tokens, for `llmkit plan` without data; only if `is_planned`."""
        from llmkit.tasks.synthetic import RandomPrepared

        random: Any = RandomPrepared(len(vocabulary))
        return self.open_prepared(recipe, random, vocabulary)

    # ---- what is shown ----

    def describe_samples(self, records: Sequence[Mapping[str, Any]]) -> str:
        """What `generate` gave, for the terminal."""
        return f"\n{'-' * 40}\n".join(record["prompt"] + record["text"] for record in records)

    def describe_figures(self, figures: Mapping[str, Any]) -> list[tuple[str, str, str]]:
        """Name and value of each figure for the terminal, and what follows them on the line, such as an interval."""
        return [
            (metric.name, metric.format.format(figures[metric.key]), describe_interval(figures, metric))
            for metric in self.metrics(figures).metrics
            if metric.in_terminal and figures.get(metric.key) is not None
        ]

    def tables(self, figures: Mapping[str, Any], *, brief: bool = False) -> "list[Block]":
        """What there is to show below the figures, such as a confusion matrix: in the report, and `brief` on the
        terminal, which shows the tables among these blocks."""
        return []

    def note_headline(self, result: Record, metric: Metric) -> str:
        """The line below a figure at the top of the report: its interval, and for an accuracy its baseline."""
        baseline = get_number(result, metric.baseline) if metric.is_share and metric.baseline else None
        note = metric.note if baseline is None else f"constant baseline: {baseline:.2%}"
        interval = describe_interval(result, metric)
        return f"{interval}; {note}" if interval else note

    def sections(self, record: RunRecord, split: str, result: Record, metrics: MetricSet) -> "list[Section]":
        """Sections of the report that only this task has, from the figures of one split. Empty ones are left out."""
        return []

    def shorten(self, part: Record, *, is_above: bool) -> Record:
        """The figures of a split for the report's list of all metrics, without what is shown in tables."""
        return part
