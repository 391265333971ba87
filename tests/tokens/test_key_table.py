"""The key table finds the keys that were added, and no others."""

import numpy as np
import pytest

from llmkit.tokens.key_table import KeyTable


def test_table_finds_added_keys_and_no_others() -> None:
    random = np.random.default_rng(0)
    table = KeyTable(8, 300)
    lows = random.permutation(np.arange(1, 241, dtype=np.uint64))  # nearly full: long probes
    highs = random.integers(0, 3, 240).astype(np.uint64)
    numbers = random.permutation(np.arange(1, 241))
    for half in (slice(0, 120), slice(120, 240)):
        table.add(lows[half], highs[half], numbers[half])
    assert table.find(lows, highs).tolist() == numbers.tolist()
    assert not table.find(lows, highs + np.uint64(5)).any()
    assert not table.find(lows + np.uint64(1000), highs).any()


@pytest.mark.parametrize("seed", range(5))
def test_table_finds_the_same_as_a_dict_in_whatever_pieces_keys_are_added(seed: int) -> None:
    rng = np.random.default_rng(seed)
    keys = np.unique(rng.integers(1, 60, (200, 2)).astype(np.uint64), axis=0)  # few values: lows and highs recur
    keys = rng.permutation(keys)
    table, known = KeyTable(9, len(keys) + 1), dict[tuple[int, int], int]()
    for piece in np.array_split(np.arange(len(keys)), 6):
        table.add(keys[piece, 0], keys[piece, 1], piece + 1)
        known |= {(int(keys[at, 0]), int(keys[at, 1])): int(at) + 1 for at in piece}
        asked = rng.integers(1, 60, (300, 2)).astype(np.uint64)
        expected = [known.get((int(low), int(high)), 0) for low, high in asked]
        assert table.find(asked[:, 0], asked[:, 1]).tolist() == expected


def test_empty_table_finds_nothing_and_no_keys_give_no_numbers() -> None:
    table = KeyTable(4, 8)
    one, none = np.array([1], np.uint64), np.array([], np.uint64)
    assert table.find(one, one).tolist() == [0]
    table.add(none, none, none.astype(np.int64))
    assert table.find(none, none).tolist() == []
