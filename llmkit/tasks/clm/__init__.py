"""Causal language modelling: predict each token from the previous ones."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from llmkit.metrics.spec import Metric, MetricSet
from llmkit.tasks.base import EvaluationRequest, GenerationRequest, Task, TrainingRequest, TrainingSetup

if TYPE_CHECKING:
    from llmkit.config.generate import Generate
    from llmkit.config.recipe import Recipe
    from llmkit.tasks.clm.training import ClmTraining
    from llmkit.tokens.prepared import Prepared

METRICS = MetricSet(
    (
        Metric(
            "bits_per_byte", "bits per byte", higher_is_better=False, note="comparable across tokenizers", headline=1,
            chart="Held-out bits per byte", expected=True, progress="{:.3f} bits/byte", column="bits/byte",
        ),
        Metric("bits_per_character", "bits per character", higher_is_better=False),
        Metric(
            "loss", "loss, nats per token", higher_is_better=False, title="loss", heading="loss",
            note="nats per token", headline=3, column="loss", per_token=True,
        ),
        Metric(
            "perplexity", "perplexity per token", "{:,.3f}", higher_is_better=False, title="perplexity",
            note="per token", headline=2, column="ppl/token", per_token=True,
        ),
        Metric("word_perplexity", "perplexity per word", "{:,.3f}", higher_is_better=False, column="ppl/word"),
        Metric(
            "accuracy", "next-token accuracy", "{:.2%}", title="accuracy",
            note="fraction of correct predictions", headline=4, chart="Held-out accuracy",
        ),
        Metric("n_tokens", "over tokens", "{:,}"),
        Metric("n_words", "over words", "{:,}"),
        Metric("n_bytes", "over bytes", "{:,}"),
    )
)  # fmt: skip


class ClmTask(Task):
    """GPT-2, Llama, GRU, LSTM, Transformer, and any causal language model of transformers."""

    name = "clm"
    model_is = "a causal language model"
    commands = "pretrain-clm, eval, generate, finetune-cls"
    is_planned = True
    streams_text = True
    takes_stride = True

    def claims(self, architecture: str, model_type: str) -> bool:
        from llmkit.models.loading import is_causal

        return is_causal(architecture, model_type)

    def metrics(self, facts: Mapping[str, Any]) -> MetricSet:
        return METRICS

    def open_training(self, recipe: "Recipe", request: TrainingRequest) -> TrainingSetup:
        from llmkit.tasks.pretraining import open_pretraining

        return open_pretraining(recipe, request, self.open_prepared)

    def evaluate(self, recipe: "Recipe", request: EvaluationRequest) -> dict[str, Any]:
        from llmkit.models.loading import load_causal_lm
        from llmkit.tasks.clm.evaluation import score_split
        from llmkit.tasks.evaluation import open_for_evaluation

        recipe = recipe.for_task(self.name)
        with open_for_evaluation(recipe, request, load_causal_lm) as (network, _, data):
            return score_split(network, data, recipe.evaluate)

    def generate(self, settings: "Generate", request: GenerationRequest) -> list[dict[str, Any]]:
        from llmkit.tasks.clm.generation import generate_samples

        return generate_samples(settings, request)

    def open_prepared(self, recipe: "Recipe", prepared: "Prepared", tokenizer: Any) -> "ClmTraining":
        from llmkit.tasks.clm.training import ClmTraining

        return ClmTraining(recipe, prepared, tokenizer, METRICS)
