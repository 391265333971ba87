"""Random tokens for plans: a function of their position, without padding."""

import numpy as np
import pytest

from llmkit.config.loading import load_recipe
from llmkit.tasks.synthetic import N_TOKENS, RandomPrepared, RandomStream, Vocabulary
from llmkit.tasks.table import TASKS


def test_random_ids_depend_on_the_position_and_are_never_padding() -> None:
    stream = RandomStream(20)
    ids = stream.read(5, 5000)
    assert (ids == stream.read(5, 5000)).all() and (ids == stream.read(5 + N_TOKENS, 5000)).all()
    assert not (ids == stream.read(6, 5000)).all()
    assert set(np.unique(ids)) == set(range(1, 20))
    assert RandomPrepared(20).split("train").stream == stream


@pytest.mark.parametrize("task", ["clm", "mlm"])
def test_synthetic_task_trains_a_new_model_on_full_sequences(task: str) -> None:
    small = ["model.n_layer=1", "model.n_embd=16", "model.n_head=2", "train.block_size=16"]
    planned = TASKS[task].make_synthetic(load_recipe(None, [f"task={task}", *small]), Vocabulary(60))
    batch = planned.objective.collate([planned.samples[number] for number in range(3)])
    assert planned.objective.count_tokens(batch) == 3 * 16
    losses = planned.objective.sum_losses(planned.build_model(), batch)
    for name, value in losses.items():
        assert np.isfinite(value.item() / planned.objective.count(batch)[name])
