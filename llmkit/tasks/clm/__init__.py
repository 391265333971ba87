"""Causal language modelling: predict each token from those before it."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from llmkit.metrics.spec import MetricSet
from llmkit.tasks.base import EvaluationRequest, GenerationRequest, PlannedTask, Task, TrainingRequest, TrainingSetup
from llmkit.tasks.clm.metrics import METRICS

if TYPE_CHECKING:
    from llmkit.config.generate import Generate
    from llmkit.config.recipe import Recipe
    from llmkit.tokens.prepared import Prepared


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
        from llmkit.tasks.clm.training import ClmTraining
        from llmkit.tasks.prepared_folder import open_pretraining

        return open_pretraining(recipe, request, ClmTraining)

    def evaluate(self, recipe: "Recipe", request: EvaluationRequest) -> dict[str, Any]:
        from llmkit.models.loading import load_causal_lm
        from llmkit.tasks.clm.evaluation import score_prepared, score_text
        from llmkit.tasks.evaluation import open_for_evaluation

        recipe = recipe.for_task(self.name)
        opened = open_for_evaluation(recipe, request, load_causal_lm)
        settings = recipe.evaluate
        if opened.prepared is not None:
            return score_prepared(opened.network, opened.prepared, settings.split, settings, opened.block_size)
        return score_text(opened.network, opened.tokenizer, opened.files, recipe.prepare.read, settings)

    def generate(self, settings: "Generate", request: GenerationRequest) -> list[dict[str, Any]]:
        from llmkit.tasks.clm.generation import generate_samples

        return generate_samples(settings, request)

    def open_prepared(self, recipe: "Recipe", prepared: "Prepared", tokenizer: Any) -> PlannedTask:
        from llmkit.tasks.clm.training import ClmTraining

        return ClmTraining(recipe, prepared, tokenizer)

    def make_synthetic(self, recipe: "Recipe", vocabulary: Any) -> PlannedTask:
        from llmkit.tasks.clm.training import ClmTraining
        from llmkit.tasks.synthetic import RandomPrepared

        random: Any = RandomPrepared(len(vocabulary))
        return ClmTraining(recipe, random, vocabulary)
