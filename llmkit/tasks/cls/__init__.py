"""Text classification with one or several labels per row, and regression."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmkit.config.recipe import ClsRecipe, Recipe
from llmkit.core.errors import ModelError, did_you_mean
from llmkit.metrics.spec import Metric, MetricSet
from llmkit.tasks.base import EvaluationRequest, PredictionRequest, TrainingRequest, TrainingSetup
from llmkit.tasks.cls.metrics import METRICS, NGRAM_BASELINE, with_custom_metrics
from llmkit.tasks.row_task import RowTask
from llmkit.training.run_record import Record, RunRecord, get_number

if TYPE_CHECKING:
    from llmkit.metrics.paired import PairedTest
    from llmkit.pages.blocks import Block, Section


class ClsTask(RowTask):
    """Classification with any encoder or decoder of transformers that has a sequence classification head."""

    name = "cls"
    model_is = "a classifier"
    commands = "finetune-cls, eval, predict"
    fixed_fields = ("cls.freeze", "cls.lora_rank", "cls.lora_target_modules")

    def claims(self, architecture: str, model_type: str) -> bool:
        return architecture.endswith("ForSequenceClassification")

    def metrics(self, facts: Mapping[str, Any]) -> MetricSet:
        name = str(facts.get("label_type") or "single_label")
        if name not in METRICS:
            what = f"the labels are of type {name!r}, which this version of llmkit does not know"
            raise ModelError(what, where="manifest.json", hint=did_you_mean(name, METRICS))
        return with_custom_metrics(METRICS[name], facts.get("custom_metrics"))

    def check_request(self, recipe: Recipe, model: str | None, files: Mapping[str, str]) -> None:
        from llmkit.tasks.cls.request import check_files
        from llmkit.tasks.row_request import check_request

        check_request(model, files)
        check_files(_to_cls_recipe(recipe), files)

    def open_training(self, recipe: Recipe, request: TrainingRequest) -> TrainingSetup:
        from llmkit.tasks.cls.training import open_classifier_training

        return open_classifier_training(_to_cls_recipe(recipe), request)

    def evaluate(self, recipe: Recipe, request: EvaluationRequest) -> dict[str, Any]:
        from llmkit.tasks.cls.evaluation import evaluate_classifier

        return evaluate_classifier(_to_cls_recipe(recipe), request)

    def predict(self, recipe: Recipe, request: PredictionRequest) -> dict[str, Any]:
        from llmkit.tasks.cls.prediction import predict_rows

        return predict_rows(_to_cls_recipe(recipe), request)

    def describe_method(self, record: RunRecord, method: Record) -> Record:
        return {"label type": record.manifest.get("label_type")}

    def test_difference(self, first: Path, second: Path, split: str, metric: str) -> "PairedTest | None":
        from llmkit.tasks.cls.saved_predictions import compare_predictions, load_predictions

        one, other = (load_predictions(run, split) for run in (first, second))
        return None if one is None or other is None else compare_predictions(one, other, metric)

    def describe_figures(self, figures: Mapping[str, Any]) -> list[tuple[str, str, str]]:
        from llmkit.tasks.cls.report import describe_counts

        return super().describe_figures(figures) + describe_counts(figures)

    def tables(self, figures: Mapping[str, Any], *, brief: bool = False) -> "list[Block]":
        from llmkit.tasks.cls.report import make_tables

        return make_tables(figures, self.metrics(figures), brief=brief)

    def note_headline(self, result: Record, metric: Metric) -> str:
        note, value = super().note_headline(result, metric), get_number(result, f"{NGRAM_BASELINE}_{metric.key}")
        return note if value is None else f"{note}; n-gram baseline: {metric.show_on_page(value)}"

    def sections(self, record: RunRecord, split: str, result: Record, metrics: MetricSet) -> "list[Section]":
        from llmkit.tasks.cls.report import make_sections

        return make_sections(result, metrics, split, record.metrics)

    def shorten(self, part: Record, *, is_above: bool) -> Record:
        from llmkit.tasks.cls.report import shorten_metrics

        return shorten_metrics(part, self.metrics(part), is_above=is_above)


def _to_cls_recipe(recipe: Recipe) -> ClsRecipe:
    """Return the recipe itself, or a cls recipe with the shared sections of another task's recipe."""
    own = recipe.for_task(ClsTask.name)
    assert isinstance(own, ClsRecipe)
    return own
