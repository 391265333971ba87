"""Extractive question answering: the answer is a part of the question's context, or there is none."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmkit.config.recipe import QaRecipe, Recipe
from llmkit.metrics.spec import Metric, MetricSet
from llmkit.tasks.base import EvaluationRequest, PredictionRequest, TrainingRequest, TrainingSetup
from llmkit.tasks.qa.metrics import METRICS
from llmkit.tasks.row_task import RowTask
from llmkit.training.run_record import Record, RunRecord

if TYPE_CHECKING:
    from llmkit.metrics.paired import PairedTest
    from llmkit.pages.blocks import Block, Section


class QaTask(RowTask):
    """Question answering with any encoder or decoder of transformers that has a question answering head."""

    name = "qa"
    model_is = "a question-answering model"
    commands = "finetune-qa, eval, predict"
    unit = "questions"
    fixed_fields = ("qa.freeze", "qa.lora_rank", "qa.lora_target_modules")

    def claims(self, architecture: str, model_type: str) -> bool:
        return architecture.endswith(("ForQuestionAnswering", "ForQuestionAnsweringSimple"))

    def metrics(self, facts: Mapping[str, Any]) -> MetricSet:
        return METRICS

    def check_request(self, recipe: Recipe, model: str | None, files: Mapping[str, str]) -> None:
        from llmkit.tasks.qa.request import check_files, check_request

        check_request(model, files)
        check_files(_to_qa_recipe(recipe), files)

    def open_training(self, recipe: Recipe, request: TrainingRequest) -> TrainingSetup:
        from llmkit.tasks.qa.training import open_reader_training

        return open_reader_training(_to_qa_recipe(recipe), request)

    def evaluate(self, recipe: Recipe, request: EvaluationRequest) -> dict[str, Any]:
        from llmkit.tasks.qa.evaluation import evaluate_reader

        return evaluate_reader(_to_qa_recipe(recipe), request)

    def predict(self, recipe: Recipe, request: PredictionRequest) -> dict[str, Any]:
        from llmkit.tasks.qa.prediction import predict_answers

        return predict_answers(_to_qa_recipe(recipe), request)

    def describe_method(self, record: RunRecord, method: Record) -> Record:
        return {"rules": method.get("rules")}

    def test_difference(self, first: Path, second: Path, split: str, metric: str) -> "PairedTest | None":
        from llmkit.tasks.qa.saved_predictions import compare_scores, load_scores

        one, other = (load_scores(run, split) for run in (first, second))
        return None if one is None or other is None else compare_scores(one, other, metric)

    def describe_figures(self, figures: Mapping[str, Any]) -> list[tuple[str, str, str]]:
        from llmkit.tasks.qa.report import describe_counts

        return super().describe_figures(figures) + describe_counts(figures)

    def tables(self, figures: Mapping[str, Any], *, brief: bool = False) -> "list[Block]":
        from llmkit.tasks.qa.report import make_tables

        return make_tables(figures, METRICS, brief=brief)

    def note_headline(self, result: Record, metric: Metric) -> str:
        note = super().note_headline(result, metric)
        return note.replace("constant baseline", "word overlap") if metric.baseline else note

    def sections(self, record: RunRecord, split: str, result: Record, metrics: MetricSet) -> "list[Section]":
        from llmkit.tasks.qa.report import make_sections

        return make_sections(result, split, record.metrics)

    def shorten(self, part: Record, *, is_above: bool) -> Record:
        from llmkit.tasks.qa.report import shorten_metrics

        return shorten_metrics(part, METRICS, is_above=is_above)


def _to_qa_recipe(recipe: Recipe) -> QaRecipe:
    """Return the recipe itself, or a qa recipe with the shared sections of another task's recipe."""
    own = recipe.for_task(QaTask.name)
    assert isinstance(own, QaRecipe)
    return own
