"""Blocks: every token once an epoch, and an order that needs no memory."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from tiny import make_split

from llmkit.datasets.blocks import Blocks
from llmkit.tokens.store import Split


@pytest.mark.parametrize("epoch", [0, 1, 5])
def test_every_token_is_a_label_exactly_once_an_epoch(tiny_split: Split, epoch: int) -> None:
    blocks = Blocks(tiny_split, block_size=16, seed=3)
    n = blocks.samples_per_epoch
    labels = np.concatenate([blocks[epoch * n + i][1] for i in range(n)])
    everything = tiny_split.stream.read(0, len(tiny_split.stream))
    assert sorted(labels) == sorted(everything)
    assert len(labels) == 7 * 29  # which 16 does not divide: the tail is kept as a short block


def test_inputs_are_the_tokens_just_before_the_labels(tiny_split: Split) -> None:
    blocks = Blocks(tiny_split, block_size=16, seed=3)
    stream = tiny_split.stream.read(0, len(tiny_split.stream))
    before = {tuple(stream[p : p + 5]): stream[p - 1] for p in range(len(stream) - 5)}
    for number in range(3 * blocks.samples_per_epoch):
        inputs, labels = blocks[number]
        assert (inputs[1:] == labels[:-1]).all()
        if len(labels) >= 5 and tuple(labels[:5]) in before:
            assert inputs[0] == before[tuple(labels[:5])]


def test_first_token_is_predicted_from_the_end_of_text(tiny_split: Split) -> None:
    inputs, labels = Blocks(tiny_split, block_size=16, seed=0).read(0)
    assert inputs[0] == 0
    assert labels[0] == tiny_split.stream.read(0, 1)[0]


def test_later_epochs_cut_elsewhere_and_in_another_order(tiny_split: Split) -> None:
    blocks = Blocks(tiny_split, block_size=16, seed=3)
    n = blocks.samples_per_epoch
    epochs = [{tuple(blocks[e * n + i][1]) for i in range(n)} for e in range(3)]
    assert not epochs[0] & epochs[1]
    assert not epochs[1] & epochs[2]


def test_sample_is_a_function_of_its_number_alone(tiny_split: Split) -> None:
    one, other = Blocks(tiny_split, 16, seed=3), pickle.loads(pickle.dumps(Blocks(tiny_split, 16, seed=3)))
    backwards = {number: other[number][1].tolist() for number in reversed(range(40))}
    assert all(one[number][1].tolist() == backwards[number] for number in range(40))
    assert any(one[n][1].tolist() != Blocks(tiny_split, 16, seed=4)[n][1].tolist() for n in range(10))


def test_text_shorter_than_a_block_is_kept_whole(tmp_path: Path) -> None:
    split = make_split(tmp_path / "short", n_documents=1, length=5)
    blocks = Blocks(split, block_size=64, seed=0)
    assert blocks.samples_per_epoch == 1
    assert blocks[0][1].tolist() == split.stream.read(0, 5).tolist()
