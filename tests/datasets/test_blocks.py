"""Every token is a label once per epoch, in a random order that is computed, not stored."""

import pickle
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from tiny import make_split

from llmkit.datasets.blocks import Blocks, Streams
from llmkit.tokens.store import Split, TokenStream


@pytest.mark.parametrize("epoch", [0, 1, 5])
def test_every_token_is_a_label_exactly_once_per_epoch(tiny_split: Split, epoch: int) -> None:
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


def test_later_epochs_cut_and_order_blocks_differently(tiny_split: Split) -> None:
    blocks = Blocks(tiny_split, block_size=16, seed=3)
    n = blocks.samples_per_epoch
    epochs = [{tuple(blocks[e * n + i][1]) for i in range(n)} for e in range(3)]
    assert not epochs[0] & epochs[1]
    assert not epochs[1] & epochs[2]


def test_sample_depends_on_its_number_alone(tiny_split: Split) -> None:
    one, other = Blocks(tiny_split, 16, seed=3), pickle.loads(pickle.dumps(Blocks(tiny_split, 16, seed=3)))
    backwards = {number: other[number][1].tolist() for number in reversed(range(40))}
    assert all(one[number][1].tolist() == backwards[number] for number in range(40))
    assert any(one[n][1].tolist() != Blocks(tiny_split, 16, seed=4)[n][1].tolist() for n in range(10))


def test_text_shorter_than_a_block_is_kept_whole(tmp_path: Path) -> None:
    split = make_split(tmp_path / "short", n_documents=1, length=5)
    blocks = Blocks(split, block_size=64, seed=0)
    assert blocks.samples_per_epoch == 1
    assert blocks[0][1].tolist() == split.stream.read(0, 5).tolist()


SHAPES = [
    (203, 8, 16),
    (203, 1, 16),
    (64, 4, 16),
    (65, 4, 16),
    (63, 4, 16),
    (7, 3, 2),
    (5, 8, 4),
    (1, 3, 4),
    (90, 7, 99),
]


class Numbered:
    """A split in which token i has id i."""

    def __init__(self, n_tokens: int) -> None:
        self.stream = TokenStream([np.arange(n_tokens, dtype=np.uint16)])


def make_streams(n_tokens: int, n_streams: int, block_size: int, seed: int = 3) -> Streams:
    return Streams(Numbered(n_tokens), block_size, n_streams, seed)  # type: ignore[arg-type]


@pytest.mark.parametrize(("n_tokens", "n_streams", "block_size"), SHAPES)
@pytest.mark.parametrize("epoch", [0, 1, 4])
def test_every_token_of_the_streams_is_a_label_exactly_once_per_epoch(
    n_tokens: int, n_streams: int, block_size: int, epoch: int
) -> None:
    streams = make_streams(n_tokens, n_streams, block_size)
    n = streams.samples_per_epoch
    assert n % n_streams == 0
    labels = np.concatenate([streams[epoch * n + place].labels for place in range(n)])
    assert sorted(labels.tolist()) == list(range(n_tokens))


@pytest.mark.parametrize(("n_tokens", "n_streams", "block_size"), SHAPES)
def test_stream_inputs_precede_labels(n_tokens: int, n_streams: int, block_size: int) -> None:
    streams = make_streams(n_tokens, n_streams, block_size)
    for number in range(3 * streams.samples_per_epoch):
        block = streams[number]
        assert len(block.inputs) == len(block.labels) <= block_size
        assert ((block.inputs + 1) % n_tokens == block.labels).all()


@pytest.mark.parametrize(("n_tokens", "n_streams", "block_size"), SHAPES)
def test_only_the_first_block_of_a_stream_is_fresh(n_tokens: int, n_streams: int, block_size: int) -> None:
    streams = make_streams(n_tokens, n_streams, block_size)
    n_steps = streams.samples_per_epoch // n_streams
    for epoch in range(3):
        for row in range(n_streams):
            blocks = [streams[(epoch * n_steps + step) * n_streams + row] for step in range(n_steps)]
            assert {block.row for block in blocks} == {row}
            assert [block.fresh for block in blocks] == [True] + [False] * (n_steps - 1)
            for before, after in pairwise(blocks):
                if len(after.inputs) and len(before.inputs):
                    assert after.inputs[0] == before.labels[-1]


@pytest.mark.parametrize("n_tokens", [64, 65, 203, 640])
def test_steps_differ_in_length_by_at_most_one_token(n_tokens: int) -> None:
    streams = make_streams(n_tokens, 4, 16)
    lengths = {len(streams[number].labels) for number in range(streams.samples_per_epoch)}
    assert max(lengths) <= 16
    assert max(lengths) - min(lengths) <= 1


def test_streams_of_equal_length_have_no_empty_block() -> None:
    streams = make_streams(64, 4, 16)
    assert streams.samples_per_epoch == 4
    assert all(len(streams[number].labels) == 16 for number in range(12))


def test_first_input_of_a_stream_is_the_end_of_text(tiny_split: Split) -> None:
    first = Streams(tiny_split, 16, 4, seed=0)[0]
    assert first.inputs[0] == 0
    assert first.labels.tolist() == tiny_split.stream.read(0, len(first.labels)).tolist()


def test_later_epochs_start_at_other_positions() -> None:
    streams = make_streams(203, 4, 16)
    firsts = [int(streams[epoch * streams.samples_per_epoch].labels[0]) for epoch in range(4)]
    assert firsts[0] == 0
    assert len(set(firsts)) == 4


def test_stream_sample_depends_on_its_number_alone(tmp_path: Path) -> None:
    split = make_split(tmp_path / "train", n_documents=7, length=29)
    one, other = Streams(split, 16, 4, seed=3), pickle.loads(pickle.dumps(Streams(split, 16, 4, seed=3)))
    backwards = {number: other[number].labels.tolist() for number in reversed(range(60))}
    assert all(one[number].labels.tolist() == backwards[number] for number in range(60))
    n = one.samples_per_epoch
    assert one[n].labels.tolist() != Streams(split, 16, 4, seed=4)[n].labels.tolist()
