"""Tagging of words: entities, slots, chunks."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmkit.config.recipe import NerRecipe, Recipe
from llmkit.metrics.spec import Metric, MetricSet
from llmkit.tasks.base import EvaluationRequest, PredictionRequest, TrainingRequest, TrainingSetup
from llmkit.tasks.ner.metrics import METRICS, WORD_BASELINE
from llmkit.tasks.row_task import RowTask
from llmkit.training.run_record import Record, RunRecord, get_number

if TYPE_CHECKING:
    from llmkit.metrics.paired import PairedTest
    from llmkit.pages.blocks import Block, Section


class NerTask(RowTask):
    """Tagging with any encoder or decoder of transformers that has a token classification head."""

    name = "ner"
    model_is = "a tagger"
    commands = "finetune-ner, eval, predict"
    fixed_fields = ("ner.freeze", "ner.lora_rank", "ner.lora_target_modules")

    def claims(self, architecture: str, model_type: str) -> bool:
        return architecture.endswith("ForTokenClassification")

    def metrics(self, facts: Mapping[str, Any]) -> MetricSet:
        return METRICS

    def check_request(self, recipe: Recipe, model: str | None, files: Mapping[str, str]) -> None:
        from llmkit.tasks.ner.request import CONTENT, check_files
        from llmkit.tasks.row_request import check_request

        check_request(model, files, CONTENT)
        check_files(_to_ner_recipe(recipe), files)

    def open_training(self, recipe: Recipe, request: TrainingRequest) -> TrainingSetup:
        from llmkit.tasks.ner.training import open_tagger_training

        return open_tagger_training(_to_ner_recipe(recipe), request)

    def evaluate(self, recipe: Recipe, request: EvaluationRequest) -> dict[str, Any]:
        from llmkit.tasks.ner.evaluation import evaluate_tagger

        return evaluate_tagger(_to_ner_recipe(recipe), request)

    def predict(self, recipe: Recipe, request: PredictionRequest) -> dict[str, Any]:
        from llmkit.tasks.ner.prediction import predict_entities

        return predict_entities(_to_ner_recipe(recipe), request)

    def describe_method(self, record: RunRecord, method: Record) -> Record:
        return {"decoding": method.get("decoding")}

    def test_difference(self, first: Path, second: Path, split: str, metric: str) -> "PairedTest | None":
        from llmkit.tasks.ner.saved_predictions import compare_counts, load_counts

        one, other = (load_counts(run, split) for run in (first, second))
        return None if one is None or other is None else compare_counts(one, other, metric)

    def describe_figures(self, figures: Mapping[str, Any]) -> list[tuple[str, str, str]]:
        counts = [("rows", "n_rows"), ("words", "n_words"), ("entities", "n_entities")]
        found = [(name, get_number(figures, key)) for name, key in counts]
        return super().describe_figures(figures) + [(name, f"{n:,.0f}", "") for name, n in found if n is not None]

    def tables(self, figures: Mapping[str, Any], *, brief: bool = False) -> "list[Block]":
        from llmkit.tasks.ner.report import make_tables

        return make_tables(figures, brief=brief)

    def note_headline(self, result: Record, metric: Metric) -> str:
        note, value = super().note_headline(result, metric), get_number(result, f"{WORD_BASELINE}_{metric.key}")
        return note if value is None else f"{note}; most frequent tag of each word: {metric.show_on_page(value)}"

    def sections(self, record: RunRecord, split: str, result: Record, metrics: MetricSet) -> "list[Section]":
        from llmkit.tasks.ner.report import make_sections

        return make_sections(result)

    def shorten(self, part: Record, *, is_above: bool) -> Record:
        from llmkit.tasks.ner.report import shorten_metrics

        return shorten_metrics(part)


def _to_ner_recipe(recipe: Recipe) -> NerRecipe:
    """Return the recipe itself, or a ner recipe with the shared sections of another task's recipe."""
    own = recipe.for_task(NerTask.name)
    assert isinstance(own, NerRecipe)
    return own
