"""Masking: the published fractions, whole words, no special tokens."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from llmkit.datasets.masking import MaskVocabulary, choose_masked, corrupt
from llmkit.datasets.randomness import draw_uniforms


def make_vocabulary(size: int = 100, mask_id: int = 4) -> MaskVocabulary:
    is_special = np.arange(size) < 5
    return MaskVocabulary(mask_id, np.flatnonzero(~is_special), is_special)


@given(
    bits=st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=80),
    share=st.floats(0.01, 0.99),
    key=st.integers(0, 2**64 - 1),
)
@settings(max_examples=200, deadline=None)
def test_whole_maskable_words_are_masked_within_the_share(
    bits: list[tuple[bool, bool]], share: float, key: int
) -> None:
    maskable, continues = (np.array(column) for column in zip(*bits, strict=True))
    masked = set(choose_masked(maskable, continues, share, draw_uniforms(key, len(bits))).tolist())
    assert all(maskable[place] for place in masked)
    assert len(masked) <= max(1, round(share * maskable.sum()))
    for place in range(1, len(bits)):  # adjacent tokens of one word are masked together
        if maskable[place - 1] and maskable[place] and continues[place]:
            assert (place in masked) == (place - 1 in masked)


def test_single_tokens_fill_the_share_exactly() -> None:
    maskable = np.ones(100, bool)
    maskable[[0, 50, 99]] = False
    for key in range(50):
        assert len(choose_masked(maskable, np.zeros(100, bool), 0.15, draw_uniforms(key, 100))) == round(0.15 * 97)


def test_every_word_is_as_likely_to_be_masked() -> None:
    continues = np.arange(40) % 2 == 1  # twenty words of two tokens, of which three are masked
    counts = np.zeros(40)
    for key in range(4000):
        counts[choose_masked(np.ones(40, bool), continues, 0.15, draw_uniforms(key, 40))] += 1
    assert abs(counts / 4000 - 0.15).max() < 0.03


def test_word_longer_than_the_share_is_skipped_for_a_shorter_one() -> None:
    continues = np.array([False, *[True] * 18, False])
    for key in range(20):
        assert choose_masked(np.ones(20, bool), continues, 0.1, draw_uniforms(key, 20)).tolist() == [19]


def test_sequence_without_maskable_tokens_has_no_masks() -> None:
    assert not len(choose_masked(np.zeros(5, bool), np.zeros(5, bool), 0.15, draw_uniforms(0, 5)))


def test_of_the_masked_tokens_eighty_percent_are_masks_ten_random_and_ten_kept() -> None:
    ids, masked = np.full(50_000, 7), np.arange(50_000)
    seen = corrupt(ids, masked, make_vocabulary(), draw_uniforms(1, 100_000))
    assert abs((seen == 4).mean() - 0.8) < 0.01
    assert abs((seen == 7).mean() - (0.1 + 0.1 / 95)) < 0.01
    others = seen[(seen != 4) & (seen != 7)]
    assert len(np.unique(others)) == 94  # every ordinary id comes up, no special one
    assert others.min() >= 5


def test_tokens_that_are_not_masked_stay_as_they_are() -> None:
    ids = np.arange(5, 95)
    seen = corrupt(ids, np.array([3, 40]), make_vocabulary(), draw_uniforms(3, 4))
    assert np.delete(seen, [3, 40]).tolist() == np.delete(ids, [3, 40]).tolist()
    assert ids.tolist() == list(range(5, 95))
