"""Masked language modelling as in BERT: predict masked tokens, and the relation of two segments."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from llmkit.config.recipe import MlmRecipe, Recipe
from llmkit.core.console import clean_line
from llmkit.metrics.spec import MetricSet
from llmkit.tasks.base import EvaluationRequest, GenerationRequest, PlannedTask, Task, TrainingRequest, TrainingSetup
from llmkit.tasks.mlm.metrics import METRICS
from llmkit.training.run_record import Record

if TYPE_CHECKING:
    from llmkit.config.generate import Generate
    from llmkit.pages.page import Html
    from llmkit.tokens.prepared import Prepared


class MlmTask(Task):
    """BERT, and any masked language model of transformers."""

    name = "mlm"
    model_is = "a masked language model"
    commands = "pretrain-mlm, eval, generate (fill-in), finetune-cls"
    is_planned = True
    fixed_fields = ("mlm.sentence_objective",)

    def claims(self, architecture: str, model_type: str) -> bool:
        from llmkit.models.loading import is_masked

        return is_masked(architecture, model_type)

    def metrics(self, facts: Mapping[str, Any]) -> MetricSet:
        return METRICS

    def open_training(self, recipe: Recipe, request: TrainingRequest) -> TrainingSetup:
        from llmkit.tasks.mlm.training import MlmTraining
        from llmkit.tasks.prepared_folder import open_pretraining

        own = _own(recipe)
        return open_pretraining(own, request, MlmTraining)

    def evaluate(self, recipe: Recipe, request: EvaluationRequest) -> dict[str, Any]:
        from llmkit.models.masked import load_masked
        from llmkit.tasks.evaluation import open_for_evaluation
        from llmkit.tasks.mlm.evaluation import score_prepared, score_text

        own = _own(recipe)
        opened = open_for_evaluation(own, request, load_masked)
        settings, network, tokenizer = own.evaluate, opened.network, opened.tokenizer
        if opened.prepared is not None:
            return score_prepared(
                network, tokenizer, opened.prepared, settings.split, settings, own.mlm, opened.block_size
            )
        return score_text(network, tokenizer, opened.files, own.prepare, settings, own.mlm)

    def generate(self, settings: "Generate", request: GenerationRequest) -> list[dict[str, Any]]:
        from llmkit.tasks.mlm.fill_in import fill_prompts

        return fill_prompts(settings, request)

    def open_prepared(self, recipe: Recipe, prepared: "Prepared", tokenizer: Any) -> PlannedTask:
        from llmkit.tasks.mlm.training import MlmTraining

        own = _own(recipe)
        return MlmTraining(own, prepared, tokenizer)

    def make_synthetic(self, recipe: Recipe, vocabulary: Any) -> PlannedTask:
        from llmkit.tasks.mlm.training import SyntheticMlm

        own = _own(recipe)
        return SyntheticMlm(own, vocabulary)

    def describe_samples(self, records: Sequence[Mapping[str, Any]]) -> str:
        """The candidates of each mask, one a line: probability, and the prompt with it filled in."""
        masks = [mask for record in records for mask in record["masks"]]
        lines = ([f"{fill['probability']:>7.2%}  {fill['text']}" for fill in mask] for mask in masks)
        return "\n\n".join("\n".join(candidates) for candidates in lines)

    def describe_tables(self, figures: Mapping[str, Any], width: int) -> Iterable[str]:
        """Confusion matrix of pairs, true relation in rows, predicted in columns; pseudo-perplexity of documents."""
        for confusion in _confusions(figures):
            yield f"{'  true, predicted as':<{width}}" + "".join(f"{name:>10}" for name in confusion)
            for name, row in confusion.items():
                yield f"{'  ' + name:<{width}}" + "".join(f"{count:>10,}" for count in row.values())
        for record in figures.get("documents", []):
            place = clean_line(f"{record['source']} {record['index']}")
            yield f"{'':<{width}} {record['pseudo_perplexity']:,.3f} over {record['n_tokens']:,} tokens of {place}"

    def render_result(self, result: Record) -> "list[Html | None]":
        from llmkit.pages.page import table

        tables: list[Html | None] = []
        for confusion in _confusions(result):
            kinds = [kind.replace("_", " ") for kind in confusion]
            rows = [[kind, *row.values()] for kind, row in zip(kinds, confusion.values(), strict=True)]
            tables.append(table(["true, predicted as", *kinds], rows))
        return tables


def _confusions(figures: Mapping[str, Any]) -> list[dict[str, dict[str, int]]]:
    found = [value for key, value in figures.items() if key.endswith("_confusion")]
    return [value for value in found if isinstance(value, dict)]


def _own(recipe: Recipe) -> MlmRecipe:
    """The recipe itself, or for a recipe of another task one of this task with its shared sections."""
    own = recipe.for_task(MlmTask.name)
    assert isinstance(own, MlmRecipe)
    return own
