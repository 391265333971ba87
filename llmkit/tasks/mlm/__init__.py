"""Masked language modelling as in BERT: predict masked tokens, and the relation of two segments."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from llmkit.config.recipe import MlmRecipe, Recipe
from llmkit.metrics.spec import Metric, MetricSet
from llmkit.tasks.base import EvaluationRequest, GenerationRequest, Task, TrainingRequest, TrainingSetup

if TYPE_CHECKING:
    from llmkit.config.generate import Generate
    from llmkit.pages.blocks import Block
    from llmkit.tasks.mlm.training import MlmTraining
    from llmkit.tokens.prepared import Prepared

CORRECT = "fraction of correct predictions"


def _pair_metrics(prefix: str, name: str, place: int) -> tuple[Metric, ...]:
    """Return the metrics of next-sentence prediction or sentence order."""
    accuracy = f"{name.replace(' ', '-')} accuracy"
    return (
        Metric(
            f"{prefix}_loss", f"{name}, nats", higher_is_better=False,
            chart=f"{accuracy.removesuffix(' accuracy').capitalize()} loss", unit="nats per pair", logged=True,
        ),
        Metric(
            f"{prefix}_accuracy", accuracy, "{:.2%}", note=CORRECT, headline=place,
            baseline=f"{prefix}_baseline_accuracy", chart=f"Held-out {accuracy}",
            progress=f"{prefix} accuracy {{:.1%}}",
        ),
        Metric(f"{prefix}_baseline_accuracy", "  most frequent relation", "{:.2%}"),
    )  # fmt: skip


METRICS = MetricSet(
    (
        Metric(
            "mlm_loss", "masked-token loss, nats", higher_is_better=False, title="masked-token loss",
            note="nats per masked token", headline=5, chart="Masked-token loss", unit="nats per masked token",
            logged=True,
        ),
        Metric(
            "mlm_perplexity", "perplexity, masked tokens", "{:,.3f}", higher_is_better=False, title="perplexity",
            note="per masked token", headline=2,
        ),
        Metric(
            "mlm_accuracy", "masked-token accuracy", "{:.2%}", note=CORRECT, headline=1,
            baseline="mlm_baseline_accuracy", chart="Held-out masked-token accuracy",
            progress="mlm accuracy {:.1%}",
        ),
        Metric("mlm_baseline_accuracy", "  most frequent token", "{:.2%}"),
        Metric("mlm_top5_accuracy", "  top-5 accuracy", "{:.2%}"),
        Metric("n_masked", "  over masked tokens", "{:,}"),
        *_pair_metrics("nsp", "next sentence", 3),
        *_pair_metrics("sop", "sentence order", 4),
        Metric("n_pairs", "  over pairs", "{:,}"),
        Metric("pseudo_perplexity", "pseudo-perplexity", "{:,.3f}", higher_is_better=False),
    ),
    loss_unit="nats, masked-token loss plus pair loss",
)  # fmt: skip


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
        from llmkit.tasks.pretraining import open_pretraining

        return open_pretraining(_to_mlm_recipe(recipe), request, self.open_prepared)

    def evaluate(self, recipe: Recipe, request: EvaluationRequest) -> dict[str, Any]:
        from llmkit.models.masked import load_masked
        from llmkit.tasks.evaluation import open_for_evaluation
        from llmkit.tasks.mlm.evaluation import score_split

        own = _to_mlm_recipe(recipe)
        with open_for_evaluation(own, request, load_masked, sentences=True) as (network, tokenizer, data):
            return score_split(network, tokenizer, data, own.evaluate, own.mlm)

    def generate(self, settings: "Generate", request: GenerationRequest) -> list[dict[str, Any]]:
        from llmkit.tasks.mlm.fill_in import fill_prompts

        return fill_prompts(settings, request)

    def open_prepared(self, recipe: Recipe, prepared: "Prepared", tokenizer: Any) -> "MlmTraining":
        from llmkit.tasks.mlm.training import MlmTraining

        return MlmTraining(_to_mlm_recipe(recipe), prepared, tokenizer, METRICS)

    def describe_samples(self, records: Sequence[Mapping[str, Any]]) -> str:
        """Return the candidates for each mask, one per line: probability, and the prompt with the candidate."""
        masks = [mask for record in records for mask in record["masks"]]
        lines = ([f"{fill['probability']:>7.2%}  {fill['text']}" for fill in mask] for mask in masks)
        return "\n\n".join("\n".join(candidates) for candidates in lines)

    def tables(self, figures: Mapping[str, Any], *, brief: bool = False) -> "list[Block]":
        """Return the confusion matrix of sentence pairs, and the pseudo-perplexity of each document."""
        from llmkit.pages.blocks import Fold, Table, make_confusion

        blocks: list[Block] = []
        for key, value in figures.items():
            if key.endswith("_confusion") and isinstance(value, dict):
                counts = [list(row.values()) for row in value.values() if isinstance(row, dict)]
                kinds = [kind.replace("_", " ") for kind in value]
                matrix = make_confusion(kinds, counts, f"{key.removesuffix('_confusion').upper()} confusion matrix")
                blocks += [matrix] if matrix else []
        documents = figures.get("documents", [])
        rows = [
            [f"{each['source']} {each['index']}", each["n_tokens"], each["pseudo_perplexity"]] for each in documents
        ]
        if rows:
            table = Table(["document", "tokens", "pseudo-perplexity"], rows)
            blocks.append(table if brief else Fold("Pseudo-perplexity per document", [table]))
        return blocks


def _to_mlm_recipe(recipe: Recipe) -> MlmRecipe:
    """Return the recipe itself, or an mlm recipe with the shared sections of another task's recipe."""
    own = recipe.for_task(MlmTask.name)
    assert isinstance(own, MlmRecipe)
    return own
