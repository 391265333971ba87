"""Changes to training texts: what may move, what stays, and that a key decides it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmkit.config.cls import Augment
from llmkit.datasets.augment import change_words, make_changer
from llmkit.datasets.examples import Changer
from llmkit.datasets.labelled import NO_WORD, Input

MASK = 250
TEMPLATE = (200, 201, 202)
"""[CLS], and a [SEP] behind each text; told apart here."""


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


def changer(**shares: float) -> Changer:
    made = make_changer(Augment(**shares), MASK)
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
def test_template_stays_and_no_text_loses_all_its_words_or_one_to_the_other(
    delete: float, swap: float, mask: float, key: int, n_first: int, n_second: int | None, types: bool
) -> None:
    source = make_input(n_first, n_second, types)
    before = source.ids.copy()
    changed = change_words(Augment(delete=delete, swap=swap, mask=mask), MASK, source, key)
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


def test_texts_that_only_the_type_tells_apart_stay_apart() -> None:
    source = Input(np.arange(6, dtype=np.uint8), 3, np.arange(6, dtype=np.int32))
    for key in range(100):
        changed = changer(swap=0.9, delete=0.5)(source, key)
        first, second = changed.ids[: changed.n_first].tolist(), changed.ids[changed.n_first :].tolist()
        assert first and set(first) <= {0, 1, 2}
        assert second and set(second) <= {3, 4, 5}


def test_a_key_decides_the_change() -> None:
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
def test_shares_are_those_of_the_words(share: float) -> None:
    source = make_input(40)
    n_kept = [len(words_in_order(changer(delete=share)(source, key))) for key in range(200)]
    assert np.mean(n_kept) / 40 == pytest.approx(1 - share, rel=0.05)
    n_masked = [int((changer(mask=share)(source, key).ids == MASK).sum()) for key in range(200)]
    n_tokens = len(source.ids) - 2
    assert np.mean(n_masked) / n_tokens == pytest.approx(share, rel=0.1)
    assert changer(mask=share)(source, 0).words.tolist() == source.words.tolist()


def test_nothing_is_masked_without_a_mask_token() -> None:
    change = make_changer(Augment(mask=0.9), None)
    assert change is not None
    source = make_input(20)
    assert all(change(source, key).ids.tolist() == source.ids.tolist() for key in range(20))


def test_nothing_is_changed_unless_asked_for() -> None:
    assert make_changer(Augment(), MASK) is None
