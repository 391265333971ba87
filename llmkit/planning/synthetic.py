"""A task on made-up tokens: for what a model costs, when there is no data yet.

Cost does not depend on what the tokens are, only on how many there are in a sequence.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedModel

from llmkit.config.recipe import Recipe
from llmkit.datasets.pairs import IS_NEXT, NO_PAIR, Example
from llmkit.models.families import BUILDERS
from llmkit.models.masked import build_masked
from llmkit.tasks.clm.task import CausalTask
from llmkit.tasks.mlm.objective import MaskedLM
from llmkit.training.contract import Objective

N_TOKENS = 1 << 20


@dataclass(frozen=True)
class Vocabulary:
    """As much of a tokenizer as a new model asks for."""

    n_tokens: int
    bos_token_id: int = 0
    eos_token_id: int = 0
    pad_token_id: int = 0
    cls_token_id: int = 0
    sep_token_id: int = 0

    def __len__(self) -> int:
        return self.n_tokens


@dataclass(frozen=True)
class RandomStream:
    """An endless stream of random ids, 0 left out as that is padding; the same place gives the same ids."""

    n_ids: int

    def __len__(self) -> int:
        return N_TOKENS

    def read(self, start: int, length: int) -> NDArray[np.int64]:
        return np.random.default_rng(start % N_TOKENS).integers(1, self.n_ids, length)


@dataclass(frozen=True)
class _Split:
    stream: RandomStream


@dataclass(frozen=True)
class _Prepared:
    n_ids: int

    def split(self, name: str) -> _Split:
        return _Split(RandomStream(self.n_ids))


@dataclass(frozen=True)
class MaskedExamples:
    """Full sequences of random ids, of which the recipe's share is masked; two equal segments where there are pairs."""

    n_ids: int
    block_size: int
    mask_share: float
    pairs: bool

    @property
    def samples_per_epoch(self) -> int:
        return N_TOKENS // self.block_size

    def __getitem__(self, sample: int) -> Example:
        rng = np.random.default_rng(sample)
        n_masked = max(1, rng.binomial(self.block_size - 3, self.mask_share))
        masked = np.sort(rng.choice(self.block_size, n_masked, replace=False))
        ids = rng.integers(1, self.n_ids, self.block_size)
        n_first = self.block_size // 2 if self.pairs else self.block_size
        return Example(ids, n_first, masked, ids[masked], IS_NEXT if self.pairs else NO_PAIR, ())


@dataclass(frozen=True)
class MadeUpTask:
    """What of a `Task` (task.py) trying steps and weighing a model need."""

    recipe: Recipe
    vocabulary: Vocabulary

    @cached_property
    def _causal(self) -> CausalTask:
        return CausalTask(self.recipe, cast(Any, _Prepared(len(self.vocabulary))), cast(Any, self.vocabulary))

    @property
    def output_share(self) -> float:
        """Of the tokens, that go through the output layer."""
        return self.recipe.mlm.mask_share if self.recipe.objective == "mlm" else 1.0

    @cached_property
    def objective(self) -> Objective:
        if self.recipe.objective == "mlm":
            return MaskedLM(self.vocabulary.pad_token_id, self.recipe.mlm.nsp)
        return self._causal.objective

    @cached_property
    def samples(self) -> Any:
        recipe = self.recipe
        if recipe.objective == "mlm":
            pairs = recipe.mlm.nsp is not False
            return MaskedExamples(len(self.vocabulary), recipe.block_size, recipe.mlm.mask_share, pairs)
        return self._causal.samples

    def build_model(self) -> PreTrainedModel:
        """A new model, as training builds it."""
        recipe, tokenizer = self.recipe, cast(Any, self.vocabulary)
        block_size, seed = recipe.block_size, recipe.train.seed
        if recipe.objective == "mlm":
            return build_masked(recipe.model, tokenizer, block_size, seed, nsp=recipe.mlm.nsp)
        return BUILDERS[recipe.model.family](recipe.model, tokenizer, block_size, seed)
