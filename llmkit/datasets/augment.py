"""Change a training text a little: leave words out, swap neighbours, put words behind the mask token.

After Wei and Zou, "EDA", 2019, section 2, without what needs a thesaurus. Words are those of encode_inputs, whole
ones in English and Chinese; what the template put there never moves, and a text keeps at least one word.
"""

from functools import partial

import numpy as np

from llmkit.config.cls import Augment
from llmkit.datasets.examples import Changer
from llmkit.datasets.labelled import NO_WORD, Input
from llmkit.datasets.randomness import draw_uniforms


def make_changer(section: Augment, mask_id: int | None) -> Changer | None:
    """What changes an input; None where nothing is to be changed."""
    if not (section.delete or section.swap or section.mask):
        return None
    return partial(change_words, section, mask_id)


def change_words(section: Augment, mask_id: int | None, source: Input, key: int) -> Input:
    """The input with some words changed, as `key` has it."""
    assert source.words is not None
    ids = source.ids.copy()
    # Runs of one number are words; each of the template's tokens stands for itself.
    begins = np.flatnonzero((np.diff(source.words, prepend=NO_WORD - 1) != 0) | (source.words == NO_WORD))
    ends = np.append(begins[1:], len(ids))
    is_word = source.words[begins] != NO_WORD
    is_second = begins >= source.n_first
    # Texts are apart where the template has a token, or where the type changes; RoBERTa has one type for both.
    texts = np.cumsum(~is_word | np.diff(is_second, prepend=is_second[:1]))
    chances = draw_uniforms(key, 3 * len(begins)).reshape(3, -1)
    if mask_id is not None:
        for number in np.flatnonzero(is_word & (chances[0] < section.mask)):
            ids[begins[number] : ends[number]] = mask_id
    order = list(range(len(begins)))
    for place in range(len(order) - 1):
        here, there = order[place], order[place + 1]
        # A word moves at most one place on; it neither leaves its text nor passes a token of the template.
        together = is_word[here] and is_word[there] and texts[here] == texts[there]
        if together and here == place and chances[1][place] < section.swap:
            order[place], order[place + 1] = there, here
    left_out = is_word & (chances[2] < section.delete)
    for text in np.unique(texts[is_word]):
        own = is_word & (texts == text)
        if left_out[own].all():
            left_out[np.flatnonzero(own)[int(np.argmax(chances[2][own]))]] = False
    kept = [number for number in order if not left_out[number]]
    pieces = [slice(begins[number], ends[number]) for number in kept]
    n_first = sum(piece.stop - piece.start for piece, number in zip(pieces, kept, strict=True) if not is_second[number])
    return Input(
        np.concatenate([ids[piece] for piece in pieces]),
        int(n_first),
        np.concatenate([source.words[piece] for piece in pieces]),
    )
