"""The order of labelled rows: each once per epoch, similar lengths within a step; and augmentation."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from llmkit.config.cls import Augment
from llmkit.datasets.examples import (
    MAX_STEPS_PER_CHUNK,
    MIN_CHUNKS_PER_EPOCH,
    Augmenter,
    Examples,
    augment_words,
    make_augmenter,
)
from llmkit.datasets.labelled import NO_WORD, Input, Inputs


def make_inputs(lengths: NDArray[np.int64]) -> Inputs:
    """One input for each row; its tokens are all the row's own number."""
    rows = np.arange(len(lengths))
    ids = np.repeat(rows, lengths).astype(np.uint32)
    return Inputs(ids, np.cumsum(lengths), lengths.astype(np.int32), rows + 1, None, 0)


def make_examples(n_rows: int, global_batch_size: int, seed: int = 0, **more: object) -> Examples:
    lengths = np.random.default_rng(n_rows).integers(1, 200, n_rows)
    return Examples(
        make_inputs(lengths), np.arange(n_rows) * 10, seed=seed, global_batch_size=global_batch_size, block_size=200,
        **more,
    )  # fmt: skip


@settings(deadline=None, max_examples=80)
@given(n_rows=st.integers(1, 400), global_batch_size=st.integers(1, 64), seed=st.integers(0, 2**32 - 1))
def test_every_row_is_sampled_once_per_epoch_for_any_batch_size(n_rows: int, global_batch_size: int, seed: int) -> None:
    examples = make_examples(n_rows, global_batch_size, seed)
    for epoch in range(3):
        rows = [examples.row(sample) for sample in range(epoch * n_rows, (epoch + 1) * n_rows)]
        assert sorted(rows) == list(range(n_rows))


@pytest.mark.parametrize(("n_rows", "global_batch_size"), [(1000, 32), (20_000, 32), (300, 7), (64, 16)])
def test_no_row_is_repeated_in_a_step_within_one_epoch(n_rows: int, global_batch_size: int) -> None:
    examples = make_examples(n_rows, global_batch_size)
    for step in range(2 * n_rows // global_batch_size):
        first = step * global_batch_size
        if first // n_rows == (first + global_batch_size - 1) // n_rows:
            assert len({examples.row(first + place) for place in range(global_batch_size)}) == global_batch_size


@pytest.mark.parametrize(("n_rows", "global_batch_size", "most"), [(20_000, 32, 0.1), (1000, 32, 0.4), (300, 7, 0.4)])
def test_rows_of_a_step_have_similar_lengths(n_rows: int, global_batch_size: int, most: float) -> None:
    """The share of padding, against that in a random order."""
    examples = make_examples(n_rows, global_batch_size)
    lengths = examples.inputs.lengths

    def padding_share(rows: NDArray[np.int64]) -> float:
        steps = lengths[rows[: len(rows) // global_batch_size * global_batch_size]].reshape(-1, global_batch_size)
        return 1 - steps.sum() / (steps.max(1) * global_batch_size).sum()

    rows = np.array([examples.row(sample) for sample in range(n_rows)])
    assert padding_share(rows) < most * padding_share(np.random.default_rng(0).permutation(n_rows))


@pytest.mark.parametrize(("n_rows", "global_batch_size"), [(1000, 32), (300, 7), (97, 5)])
def test_steps_of_one_chunk_have_disjoint_length_ranges(n_rows: int, global_batch_size: int) -> None:
    examples = make_examples(n_rows, global_batch_size)
    chunk = global_batch_size * min(MAX_STEPS_PER_CHUNK, n_rows // (MIN_CHUNKS_PER_EPOCH * global_batch_size))
    spans: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for first in range(0, 3 * n_rows, global_batch_size):
        last = first + global_batch_size - 1
        lengths = [int(examples.inputs.lengths[examples.row(sample)]) for sample in range(first, last + 1)]
        if first // n_rows == last // n_rows:
            spans.setdefault((first // chunk, first // n_rows), []).append((min(lengths), max(lengths)))
    assert max(map(len, spans.values())) == chunk // global_batch_size
    for here in map(sorted, spans.values()):
        assert all(before[1] <= after[0] for before, after in pairwise(here))


def test_steps_do_not_get_longer_over_an_epoch() -> None:
    examples = make_examples(4000, 16)
    means = [examples.inputs.lengths[[examples.row(16 * step + k) for k in range(16)]].mean() for step in range(250)]
    assert abs(np.corrcoef(means, np.arange(250))[0, 1]) < 0.2
    assert np.std(means) > 30  # steps differ as rows do


def test_order_depends_on_the_seed_and_the_sample_alone() -> None:
    samples = list(range(700))
    straight = make_examples(200, 16)
    expected = [straight.row(sample) for sample in samples]
    jumping = make_examples(200, 16)
    shuffled = np.random.default_rng(0).permutation(samples).tolist()
    found = {sample: jumping.row(sample) for sample in shuffled}
    assert [found[sample] for sample in samples] == expected
    other = make_examples(200, 16, seed=1)
    assert [other.row(sample) for sample in samples] != expected
    assert expected[:200] != expected[200:400]


def test_example_has_the_inputs_and_the_label_of_its_row() -> None:
    examples = make_examples(50, 8)
    assert examples.samples_per_epoch == 50
    for sample in range(70):
        row, example = examples.row(sample), examples[sample]
        assert example.label == 10 * row
        assert example.inputs[0].ids.tolist() == [row] * examples.inputs.lengths[row]


def test_augmentation_differs_by_epoch_and_by_window() -> None:
    keys: list[int] = []

    def remember(source: Input, key: int) -> Input:
        keys.append(key)
        return source

    windows = Inputs(np.zeros(8, np.uint8), np.arange(2, 9, 2), np.full(4, 2, np.int32), np.array([2, 4]), None, 0)
    examples = Examples(windows, np.zeros(2), seed=3, global_batch_size=2, block_size=2, change=remember)
    for sample in range(6):
        examples[sample]
    assert len(keys) == len(set(keys)) == 12
    examples[5]
    assert keys[-2:] == keys[-4:-2]


MASK = 250
TEMPLATE = (200, 201, 202)
"""[CLS], and a [SEP] after each text; different ids here."""


def make_input(n_first_words: int, n_second_words: int | None = None, types: bool = True) -> Input:
    """Words of 1, 2, 3, 1, 2, 3 ... tokens; ids are 0, 1, 2 ... but for the template's."""
    ids, words, n_tokens, n_words = [TEMPLATE[0]], [NO_WORD], 0, 0
    n_first = 0
    for text, n in enumerate((n_first_words, n_second_words)):
        for word in range(n or 0):
            for _ in range(1 + word % 3):
                ids.append(n_tokens)
                words.append(n_words)
                n_tokens += 1
            n_words += 1
        if n is not None:
            ids.append(TEMPLATE[1 + text])
            words.append(NO_WORD)
        n_first = len(ids) if text == 0 or not types else n_first
    return Input(np.array(ids, np.uint8), n_first, np.array(words, np.int32))


def changer(**shares: float) -> Augmenter:
    made = make_augmenter(Augment(**shares), MASK)
    assert made is not None
    return made


def words_in_order(changed: Input) -> list[int]:
    assert changed.words is not None
    words = [int(word) for word in changed.words if word != NO_WORD]
    return [word for place, word in enumerate(words) if place == 0 or words[place - 1] != word]


shares = st.floats(0, 0.95)


@given(
    delete=shares, swap=shares, mask=shares, key=st.integers(0, 2**64 - 1), n_first=st.integers(0, 9),
    n_second=st.none() | st.integers(0, 9), types=st.booleans(),
)  # fmt: skip
def test_augmentation_keeps_special_tokens_and_a_word_of_each_text(
    delete: float, swap: float, mask: float, key: int, n_first: int, n_second: int | None, types: bool
) -> None:
    source = make_input(n_first, n_second, types)
    before = source.ids.copy()
    changed = augment_words(Augment(delete=delete, swap=swap, mask=mask), MASK, source, key)
    assert np.array_equal(source.ids, before)
    assert changed.ids.dtype == source.ids.dtype
    assert changed.words is not None
    assert len(changed.words) == len(changed.ids)
    ids = changed.ids.tolist()
    n_texts = 1 if n_second is None else 2
    assert [token for token in ids if token in TEMPLATE] == list(TEMPLATE[: 1 + n_texts])
    assert (ids[0], ids[-1]) == (TEMPLATE[0], TEMPLATE[n_texts])
    assert ((changed.ids >= 200) & (changed.ids < 250)).tolist() == (changed.words == NO_WORD).tolist()
    first_end = ids.index(TEMPLATE[1]) + 1
    assert changed.n_first == (first_end if types else len(ids))
    for n_words, begin, words in (
        (n_first, 0, changed.words[:first_end]),
        (n_second or 0, n_first, changed.words[first_end:]),
    ):
        kept = set(words.tolist()) - {NO_WORD}
        assert kept <= set(range(begin, begin + n_words))
        assert bool(kept) == bool(n_words)
    # The tokens of a word stay together, in their order, or are all behind the mask.
    for word in set(changed.words.tolist()) - {NO_WORD}:
        places = np.flatnonzero(changed.words == word)
        assert np.ptp(places) == len(places) - 1
        assert changed.ids[places].tolist() in (source.ids[source.words == word].tolist(), [MASK] * len(places))


def test_augmentation_keeps_texts_separated_by_token_type() -> None:
    source = Input(np.arange(6, dtype=np.uint8), 3, np.arange(6, dtype=np.int32))
    for key in range(100):
        changed = changer(swap=0.9, delete=0.5)(source, key)
        first, second = changed.ids[: changed.n_first].tolist(), changed.ids[changed.n_first :].tolist()
        assert first and set(first) <= {0, 1, 2}
        assert second and set(second) <= {3, 4, 5}


def test_augmentation_depends_on_the_key_alone() -> None:
    source, change = make_input(30), changer(delete=0.2, swap=0.2, mask=0.2)
    first = change(source, 7)
    assert change(source, 7).ids.tolist() == first.ids.tolist()
    assert len({tuple(change(source, key).ids.tolist()) for key in range(50)}) == 50


def test_a_swapped_word_moves_one_place_and_swaps_with_its_neighbour() -> None:
    source, change = make_input(20), changer(swap=0.3)
    n_swapped = 0
    for key in range(200):
        order = words_in_order(change(source, key))
        assert sorted(order) == list(range(20))
        for place, word in enumerate(order):
            assert order[word] == place  # a pair, each where the other was
            assert abs(word - place) <= 1
            n_swapped += word > place
    # 0.3 of the words that did not just move: p / (1 + p) of all, the last one never.
    assert n_swapped / (200 * 20) == pytest.approx(0.3 / 1.3, rel=0.1)


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_augmented_fraction_of_words_is_that_of_the_recipe(share: float) -> None:
    source = make_input(40)
    n_kept = [len(words_in_order(changer(delete=share)(source, key))) for key in range(200)]
    assert np.mean(n_kept) / 40 == pytest.approx(1 - share, rel=0.05)
    n_masked = [int((changer(mask=share)(source, key).ids == MASK).sum()) for key in range(200)]
    n_tokens = len(source.ids) - 2
    assert np.mean(n_masked) / n_tokens == pytest.approx(share, rel=0.1)
    assert changer(mask=share)(source, 0).words.tolist() == source.words.tolist()


def test_nothing_is_masked_without_a_mask_token() -> None:
    change = make_augmenter(Augment(mask=0.9), None)
    assert change is not None
    source = make_input(20)
    assert all(change(source, key).ids.tolist() == source.ids.tolist() for key in range(20))


def test_default_recipe_has_no_augmentation() -> None:
    assert make_augmenter(Augment(), MASK) is None
