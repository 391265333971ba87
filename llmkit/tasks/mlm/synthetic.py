"""Masked language modelling of random tokens, to estimate and measure what a model costs when there is no data yet."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import numpy as np
from transformers import PreTrainedModel

from llmkit.config.recipe import MlmRecipe
from llmkit.datasets.pairs import IS_NEXT, NO_PAIR, Example
from llmkit.models.loading import embedding_rows
from llmkit.models.masked import build_masked
from llmkit.tasks.mlm.objective import MaskedLM
from llmkit.tasks.synthetic import N_TOKENS, Vocabulary


@dataclass(frozen=True)
class MaskedExamples:
    """Full sequences of random ids, of which the recipe's share is masked; two equal segments where there are pairs."""

    n_ids: int
    block_size: int
    mlm_probability: float
    pairs: bool

    @property
    def samples_per_epoch(self) -> int:
        return N_TOKENS // self.block_size

    def __getitem__(self, sample: int) -> Example:
        rng = np.random.default_rng(sample)
        n_masked = max(1, rng.binomial(self.block_size - 3, self.mlm_probability))
        masked = np.sort(rng.choice(self.block_size, n_masked, replace=False))
        ids = rng.integers(1, self.n_ids, self.block_size)
        n_first = self.block_size // 2 if self.pairs else self.block_size
        return Example(ids, n_first, masked, ids[masked], IS_NEXT if self.pairs else NO_PAIR, ())


@dataclass(frozen=True)
class SyntheticMlm:
    """What a plan needs of a task (tasks/base.py)."""

    recipe: MlmRecipe
    vocabulary: Vocabulary
    cuts_by_tokens: bool = False

    @property
    def output_share(self) -> float:
        return self.recipe.mlm.mlm_probability

    @cached_property
    def objective(self) -> MaskedLM:
        return MaskedLM(self.vocabulary.pad_token_id, self.recipe.mlm.sentence_objective)

    @cached_property
    def samples(self) -> MaskedExamples:
        mlm, pairs = self.recipe.mlm, self.recipe.mlm.sentence_objective != "none"
        return MaskedExamples(len(self.vocabulary), self.recipe.block_size, mlm.mlm_probability, pairs)

    def build_model(self) -> PreTrainedModel:
        recipe, tokenizer = self.recipe, cast(Any, self.vocabulary)
        return build_masked(
            recipe.model,
            tokenizer,
            recipe.block_size,
            recipe.train.seed,
            sentence_objective=recipe.mlm.sentence_objective,
        )

    def count_scored_logits(self, network: PreTrainedModel) -> float:
        return count_scored_logits(self.recipe, network)


def count_scored_logits(recipe: MlmRecipe, network: PreTrainedModel) -> float:
    """Logits in memory at once when held-out examples are scored: those of the masked tokens of a batch."""
    settings = recipe.evaluate
    n_tokens = settings.batch_size * (settings.block_size or recipe.block_size)
    return n_tokens * recipe.mlm.mlm_probability * embedding_rows(network)
