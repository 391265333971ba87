"""The interface of a task, as used by commands, training, reports and plans.

A task is a folder, whose `__init__.py` defines its `Task`, and one line in `table.py`. Code outside of the folder never
checks which task it has. `Task.open_training` combines recipe, data and model in a `TrainingTask`, which runs/train.py
trains.

Does not import torch: a `Task` imports its dependencies inside its methods.
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
    from llmkit.metrics.paired import PairedTest
    from llmkit.pages.blocks import Block, Section
    from llmkit.tokens.prepared import Prepared
    from llmkit.training.contract import Objective, Plan, Samples
    from llmkit.training.folder import RunFolder

Emit = Callable[[Mapping[str, Any]], None]


def describe_interval(figures: Mapping[str, Any], metric: Metric) -> str:
    """Format the interval of a metric, `95% interval 81.21% to 85.34%`; empty if there is none."""
    bounds = get_section(figures, "intervals").get(metric.key)
    if not isinstance(bounds, list) or len(bounds) != 2 or not all(isinstance(bound, int | float) for bound in bounds):
        return ""
    confidence = get_number(get_section(figures, "method"), "confidence") or 0.95
    low, high = (f"{bound:.2%}" if metric.is_fraction else f"{bound:.4f}" for bound in bounds)
    return f"{100 * confidence:g}% interval {low} to {high}"


@dataclass(frozen=True)
class TrainingData:
    """Sizes and fingerprint of the training data of any task."""

    path: Path | None
    """The prepared folder; None if the task has none."""
    manifest: dict[str, Any]
    """Description of the data, for the run's manifest and its report."""
    fingerprint: dict[str, str]
    """Fingerprint of the data, which must not change on resume."""
    n_train_tokens: int
    train_size: str
    """Size of the train split in units of its source, such as bytes of text or rows."""
    sequence_length: float
    """Mean number of tokens per sequence."""
    n_held_out: int
    """Number of sequences in the validation split; 0 if there is none."""
    n_final: int
    """Number of sequences in all held-out splits, which the final evaluation scores."""

    def describe(self) -> str:
        """Describe the size of the train split in words, for the model card."""
        return f"{self.n_train_tokens:,} tokens ({self.train_size})"


@dataclass(frozen=True)
class HeldOut:
    """Size and identity of the data on which a run was scored: runs are compared only on the same data."""

    size: int | None
    unit: str
    """Unit of the size: `bytes` or `rows`."""
    digest: str | None
    """Hash of the data; None if an earlier version of llmkit did not record it."""
    train_digest: str | None
    """Hash of the data that the run was trained on."""

    def describe(self) -> str:
        """Format as `1,000 bytes (0123456789ab)`."""
        return f"{'unknown' if self.size is None else f'{self.size:,}'} {self.unit} ({str(self.digest)[:12]})"


class MeasuredTask(Protocol):
    """What a task provides for measuring steps and estimating their cost."""

    @property
    def objective(self) -> "Objective": ...
    @property
    def samples(self) -> "Samples": ...
    @property
    def output_fraction(self) -> float:
        """Return the fraction of tokens that pass through the output layer."""

    @property
    def cuts_by_tokens(self) -> bool:
        """Whether micro-batches are limited by their number of tokens, because sequences differ in length."""

    def count_scored_logits(self, network: "PreTrainedModel") -> float:
        """Return the maximum number of logits in memory during the final evaluation."""
        return 0.0


class PlannedTask(MeasuredTask, Protocol):
    """A task that `llmkit plan` supports, on a prepared folder or on random tokens."""

    def build_model(self) -> "PreTrainedModel":
        """Return a new model with random weights, as configured in the recipe."""


class TrainingTask(MeasuredTask, Protocol):
    """A task with its recipe and data, ready to train. Methods with a body are default implementations."""

    @property
    def data(self) -> TrainingData: ...
    @property
    def metrics(self) -> MetricSet: ...

    def open_model(self, path: str) -> "PreTrainedModel":
        """Load the model of a checkpoint of this task."""

    def describe(self) -> dict[str, Any]:
        """Return additional entries of the run's manifest."""
        return {}

    def evaluate(self, network: "PreTrainedModel", plan: "Plan") -> dict[str, Any]:
        """Return held-out metrics during training, on at most `max_eval_samples` of the validation split."""

    def selection_key(self, metrics: dict[str, Any]) -> tuple[float, ...]:
        """Return the sort key that selects the best weights from evaluation metrics; lower is better."""
        return self.metrics.selection_key(metrics)

    def sample(self, network: "PreTrainedModel") -> dict[str, Any] | None:
        """Return a sample of the model's output; None if the recipe has no prompt."""
        return None

    def finish_model(self, network: "PreTrainedModel", share: float) -> None:
        """Prepare the best weights for saving; tunes thresholds on a fraction `share` of the held-out data."""
        return

    def score(self, network: "PreTrainedModel", settings: "Evaluate", share: float = 1.0) -> dict[str, dict[str, Any]]:
        """Return metrics per held-out split; `share` is the fraction of each split to score, evenly spaced."""

    def save_predictions(self, run: Path) -> None:
        """Save the predictions of the last `score` in the folder of the run, for tests between runs."""
        return

    def describe_failure(self, metrics: dict[str, Any]) -> str | None:
        """Return a warning with both values if the model is no better than a constant prediction, else None.

        `metrics` are the result of `score` for one split.
        """

    def compare_with_baseline(self, metrics: dict[str, Any]) -> str | None:
        """Return a warning with advice if a simple model trained on the same data is better, else None.

        `metrics` are as in `describe_failure`.
        """
        return None

    def finish_tokenizer(self, network: "PreTrainedModel") -> "PreTrainedTokenizerBase":
        """Return the tokenizer to save with the model."""

    def describe_use(self, network: "PreTrainedModel") -> str:
        """Return Markdown for the model card on how to use the saved model; empty if there is nothing to add."""
        return ""

    def describe_model(self) -> tuple[str, str, str]:
        """Return (pipeline tag, kind of model, class that loads it) for the model card."""


@dataclass(frozen=True)
class TrainingRequest:
    """The arguments of a training command, without the recipe."""

    data: Mapping[str, str]
    """Paths by split; a prepared folder is `train`."""
    out: Path
    model: str | None
    """The model that training starts from; None for new weights."""
    resume: bool = False
    dry_run: bool = False
    show_samples: bool = False
    fold: tuple[int, int] | None = None
    """(index, number of folds): this fold of the train rows is used for validation."""
    quiet: bool = False

    @cached_property
    def checkpoint(self) -> Path | None:
        """Return the newest valid checkpoint if `resume`, else None; the first access hashes its files."""
        from llmkit.training.checkpoints import find_resume_point
        from llmkit.training.folder import RunFolder

        return find_resume_point(RunFolder(self.out).checkpoints) if self.resume else None


@dataclass(frozen=True)
class TrainingSetup:
    """Start of a training run: the recipe with resolved defaults, the task and the model."""

    recipe: "Recipe"
    task: TrainingTask
    network: "PreTrainedModel"


@dataclass(frozen=True)
class ModelRequest:
    """The arguments of a command that uses a model, without the recipe."""

    model: str
    """The model as the user named it, for messages."""
    path: str
    """Folder or hub name to load the model from."""


@dataclass(frozen=True)
class EvaluationRequest(ModelRequest):
    """The arguments of `llmkit eval`."""

    data: Sequence[str]
    run: "RunFolder | None"
    """The run that trained the model; None if the model is not in a run folder."""
    show_samples: bool = False


@dataclass(frozen=True)
class GenerationRequest(ModelRequest):
    """The arguments of `llmkit generate`."""

    prompts: Sequence[str]
    on_text: Callable[[str], None] | None = None
    """Called with each new piece of text while it is generated, if the model generates left to right."""


@dataclass(frozen=True)
class PredictionRequest(ModelRequest):
    """The arguments of `llmkit predict`."""

    data: str | Sequence[str | dict[str, Any]]
    """The rows, in any form that `open_rows` accepts."""
    all_probabilities: bool
    open_writer: Callable[[list[str]], Emit]
    """Called with the output columns; returns a function that writes one row."""


class Task(ABC):
    """The interface of a task to the rest of llmkit."""

    name: ClassVar[str]
    """Name in recipes and manifests."""
    model_is: ClassVar[str]
    """Kind of model with an article, such as `a causal language model`."""
    commands: ClassVar[str]
    """Commands that accept models of this task, for hints."""
    writes_samples: ClassVar[bool] = True
    """Whether a run logs samples of the model's output."""
    reads_rows: ClassVar[bool] = False
    """Whether the data are rows of a table."""
    is_planned: ClassVar[bool] = False
    """Whether `llmkit plan` supports the task."""
    streams_text: ClassVar[bool] = False
    """Whether `generate` can stream text."""
    takes_stride: ClassVar[bool] = False
    """Whether the task supports `eval --stride`."""
    fixed_fields: ClassVar[tuple[str, ...]] = ()
    """Recipe fields of this task that must not change on resume, in addition to the shared fields."""

    @abstractmethod
    def claims(self, architecture: str, model_type: str) -> bool:
        """Whether this task handles a model; `architecture` is the first entry of `architectures` in its config.json
        (empty if there is none), `model_type` the key of that name.
        """

    @abstractmethod
    def metrics(self, facts: Mapping[str, Any]) -> MetricSet:
        """Return the metrics of the task; `facts` is a run's manifest or the metrics of an evaluation."""

    def check_request(self, recipe: "Recipe", model: str | None, files: Mapping[str, str]) -> None:
        """Check the arguments of a new run without torch, so that mistakes are reported before torch is imported.

        Raises:
            UsageError, DataError: see errors.py.
        """
        return

    @abstractmethod
    def open_training(self, recipe: "Recipe", request: TrainingRequest) -> TrainingSetup:
        """Read the data and open or build the model.

        Raises:
            UsageError, DataError, EnvironmentFault, ModelError: see errors.py.
        """

    @abstractmethod
    def evaluate(self, recipe: "Recipe", request: EvaluationRequest) -> dict[str, Any]:
        """Evaluate a model on the data, or without data on the held-out split of its run; returns metrics.

        Raises:
            UsageError, DataError, ModelError: see errors.py.
        """

    def generate(self, settings: "Generate", request: "GenerationRequest") -> list[dict[str, Any]]:
        """Return one record per sample; see generating/generate.py.

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
        where, hint = f"{request.path}/config.json, architectures", f"use the model with: {self.commands}"
        raise UsageError(f"{request.model!r} is {self.model_is}", where=where, hint=hint)

    def open_prepared(self, recipe: "Recipe", prepared: "Prepared", tokenizer: Any) -> PlannedTask:
        """Open the task on a prepared folder; only if `is_planned`."""
        raise NotImplementedError

    def make_synthetic(self, recipe: "Recipe", vocabulary: Any) -> PlannedTask:
        """Open the task on random tokens, for `llmkit plan` without data; only if `is_planned`."""
        from llmkit.tasks.synthetic import RandomPrepared

        random: Any = RandomPrepared(len(vocabulary))
        return self.open_prepared(recipe, random, vocabulary)

    # ---- comparison of runs ----

    def describe_held_out(self, record: RunRecord, split: str) -> HeldOut:
        """Return what identifies the data of a split on which a run was scored."""
        splits = get_section(get_section(record.manifest, "data"), "splits")
        prepared, train = get_section(splits, split), get_section(splits, "train")
        n_bytes = get_number(get_section(record.metrics, split), "n_bytes") or get_number(prepared, "bytes")
        size = None if n_bytes is None else int(n_bytes)
        return HeldOut(size, "bytes", prepared.get("documents_hash"), train.get("documents_hash"))

    def describe_compared(self, record: RunRecord, split: str) -> Record:
        """Return the settings of a run that `compare` shows, by name; if empty, it shows tokenizer and context."""
        return {}

    def test_difference(self, first: Path, second: Path, split: str, metric: str) -> "PairedTest | None":
        """Test the difference of a metric between two runs on the same rows of a split.

        Returns None if a run has no saved predictions, if the rows or labels of the runs differ, or if the metric
        cannot be computed from what was saved.
        """
        return None

    # ---- output ----

    def describe_samples(self, records: Sequence[Mapping[str, Any]]) -> str:
        """Format the samples of `generate` as text for the terminal."""
        return f"\n{'-' * 40}\n".join(record["prompt"] + record["text"] for record in records)

    def describe_figures(self, figures: Mapping[str, Any]) -> list[tuple[str, str, str]]:
        """Return (name, value, remark) of each metric for the terminal; a remark is, for example, an interval."""
        return [
            (metric.name, metric.format.format(figures[metric.key]), describe_interval(figures, metric))
            for metric in self.metrics(figures).metrics
            if metric.in_terminal and figures.get(metric.key) is not None
        ]

    def tables(self, figures: Mapping[str, Any], *, brief: bool = False) -> "list[Block]":
        """Return report blocks that follow the list of metrics, such as a confusion matrix.

        The terminal shows only the blocks that are tables. With `brief`, the tables are shorter.
        """
        return []

    def note_headline(self, result: Record, metric: Metric) -> str:
        """Return the text below a main metric of the report: its interval, and its baseline or else its note."""
        baseline = get_number(result, metric.baseline) if metric.is_fraction and metric.baseline else None
        note = metric.note if baseline is None else f"constant baseline: {baseline:.2%}"
        interval = describe_interval(result, metric)
        return f"{interval}; {note}" if interval else note

    def sections(self, record: RunRecord, split: str, result: Record, metrics: MetricSet) -> "list[Section]":
        """Return report sections that only this task has, from the metrics of one split; empty sections are omitted."""
        return []

    def shorten(self, part: Record, *, is_above: bool) -> Record:
        """Return the metrics of a split for the report's list of all metrics, without those that tables show.

        `is_above`: whether the report shows the tables of this split above the list.
        """
        return part
