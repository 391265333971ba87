"""Made-up masked sequences are full, masked as often as the recipe says, and cost what real ones do."""

import numpy as np
import pytest
from tiny import make_bert

from llmkit.config.loading import load_recipe
from llmkit.config.recipe import MlmRecipe
from llmkit.datasets.pairs import NO_PAIR
from llmkit.tasks.mlm.synthetic import SyntheticMlm, count_scored_logits
from llmkit.tasks.synthetic import N_TOKENS, Vocabulary


def make(*overrides: str) -> SyntheticMlm:
    recipe = load_recipe(None, ["task=mlm", "train.block_size=64", *overrides])
    assert isinstance(recipe, MlmRecipe)
    return SyntheticMlm(recipe, Vocabulary(60))


@pytest.mark.parametrize(("sentence_objective", "n_first"), [("nsp", 32), ("sop", 32), ("none", 64)])
def test_example_is_full_and_has_two_segments_where_there_are_pairs(sentence_objective: str, n_first: int) -> None:
    samples = make(f"mlm.sentence_objective={sentence_objective}").samples
    example, again = samples[7], samples[7]
    assert (len(example.input_ids), example.n_first) == (64, n_first)
    assert (example.relation == NO_PAIR) is (sentence_objective == "none")
    assert (example.input_ids == again.input_ids).all() and (example.masked == again.masked).all()
    assert example.input_ids[example.masked].tolist() == example.targets.tolist()
    assert samples.samples_per_epoch == N_TOKENS // 64


@pytest.mark.parametrize("share", [0.15, 0.4])
def test_masked_share_is_the_recipes_of_what_can_be_masked(share: float) -> None:
    task = make(f"mlm.mlm_probability={share}")
    n_masked = [len(task.samples[number].masked) for number in range(400)]
    assert min(n_masked) >= 1
    assert np.mean(n_masked) == pytest.approx(share * (64 - 3), rel=0.05)
    assert task.output_share == share


def test_scored_logits_are_those_of_the_masked_tokens_of_a_batch() -> None:
    recipe = make("evaluate.batch_size=4").recipe
    assert count_scored_logits(recipe, make_bert()) == pytest.approx(4 * 64 * 0.15 * 100)
    shorter = make("evaluate.batch_size=4", "evaluate.block_size=32").recipe
    assert count_scored_logits(shorter, make_bert()) == pytest.approx(4 * 32 * 0.15 * 100)
