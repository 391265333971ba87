"""Classification and regression of texts: one label a row, several, or a number."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from llmkit.config.recipe import ClsRecipe, Recipe
from llmkit.core.errors import ModelError, did_you_mean
from llmkit.metrics.spec import Metric, MetricSet
from llmkit.tasks.base import EvaluationRequest, PredictionRequest, Task, TrainingRequest, TrainingSetup
from llmkit.tasks.cls.metrics import METRICS
from llmkit.training.run_record import Record, RunRecord

if TYPE_CHECKING:
    from llmkit.pages.page import Html


class ClsTask(Task):
    """Any encoder or decoder of transformers with a head for labels."""

    name = "cls"
    model_is = "a classifier"
    commands = "finetune-cls, eval, predict"
    writes_samples = False
    reads_rows = True
    fixed_fields = ("cls.freeze", "cls.lora_rank")

    def claims(self, architecture: str, model_type: str) -> bool:
        return architecture.endswith("ForSequenceClassification")

    def metrics(self, facts: Mapping[str, Any]) -> MetricSet:
        name = str(facts.get("label_type") or "single_label")
        if name not in METRICS:
            what = f"the labels are of type {name!r}, which this llmkit does not know"
            raise ModelError(what, where="manifest.json", hint=did_you_mean(name, METRICS))
        return METRICS[name]

    def open_training(self, recipe: Recipe, request: TrainingRequest) -> TrainingSetup:
        from llmkit.tasks.cls.opening import open_classifier_training

        return open_classifier_training(_own(recipe), request)

    def evaluate(self, recipe: Recipe, request: EvaluationRequest) -> dict[str, Any]:
        from llmkit.tasks.cls.evaluation import evaluate_classifier

        return evaluate_classifier(_own(recipe), request)

    def predict(self, recipe: Recipe, request: PredictionRequest) -> dict[str, Any]:
        from llmkit.tasks.cls.prediction import predict_rows

        return predict_rows(_own(recipe), request)

    def describe_figures(self, figures: Mapping[str, Any]) -> Iterator[str]:
        from llmkit.tasks.cls.output import describe_classes

        return describe_classes(figures, self.metrics(figures))

    def note_headline(self, result: Record, metric: Metric) -> str:
        from llmkit.tasks.cls.report import describe_interval

        note = super().note_headline(result, metric)
        interval = describe_interval(result, metric)
        return f"{interval}; {note}" if interval else note

    def render_sections(self, record: RunRecord, split: str, result: Record, metrics: MetricSet) -> "list[Html | None]":
        from llmkit.tasks.cls.report import render_classes, render_other_mistakes

        return [render_classes(result, metrics), render_other_mistakes(record.metrics, split)]

    def shorten(self, part: Record, *, is_above: bool) -> Record:
        from llmkit.tasks.cls.report import shorten_metrics

        return shorten_metrics(part, self.metrics(part), is_above=is_above)


def _own(recipe: Recipe) -> ClsRecipe:
    """The recipe itself, or for a recipe of another task one of this task with its shared sections."""
    own = recipe.for_task(ClsTask.name)
    assert isinstance(own, ClsRecipe)
    return own
