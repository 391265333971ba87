"""Choose the tokens that a masked language model predicts, and their replacements.

As in Devlin et al. 2018, section 3.1, and its create_pretraining_data.py: words are chosen in random order until a
fixed fraction of the tokens is reached; 80 % of the chosen tokens become the mask token, 10 % a random token, 10 % stay
unchanged. A word that would exceed the fraction is skipped.

Independent of the source of the sequences.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from llmkit.tokens.tokenizer import count_ids

TokenIds = NDArray[np.int64]

MASK_SHARE_OF_CHOSEN = 0.8
RANDOM_SHARE_OF_CHOSEN = 0.1


@dataclass(frozen=True, slots=True)
class MaskVocabulary:
    """Token ids that masking needs."""

    mask_id: int
    ordinary: TokenIds
    """Ids of ordinary tokens: only these are predicted, and only these replace others at random."""
    is_special: NDArray[np.bool_]
    """For each id, whether it is a special token."""

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase) -> "MaskVocabulary":
        is_special = np.zeros(count_ids(tokenizer), bool)
        is_special[tokenizer.all_special_ids] = True
        return cls(int(tokenizer.mask_token_id), np.flatnonzero(~is_special), is_special)


def choose_masked(
    maskable: NDArray[np.bool_], continues_word: NDArray[np.bool_], share: float, draws: NDArray[np.floating[Any]]
) -> NDArray[np.int64]:
    """Return sorted positions of the tokens to predict: complete words, `share` of the maskable tokens, at least one.

    A word is a maskable token and the maskable tokens that continue it. `draws` has one number in [0, 1) per token;
    they define the order of the words.
    """
    places = maskable.nonzero()[0]
    if not len(places):
        return places
    starts = ~continues_word[places]
    starts[0] = True
    starts[1:] |= places[1:] != places[:-1] + 1
    firsts = starts.nonzero()[0].tolist()
    ends = [*firsts[1:], len(places)]
    left = max(1, round(share * len(places)))
    is_chosen = np.zeros(len(places), bool)
    for word in draws[: len(firsts)].argsort(kind="stable").tolist():
        length = ends[word] - firsts[word]
        if length <= left:
            is_chosen[firsts[word] : ends[word]] = True
            left -= length
            if not left:
                break
    return places[is_chosen]


def corrupt(
    ids: TokenIds, masked: NDArray[np.int64], vocabulary: MaskVocabulary, draws: NDArray[np.floating[Any]]
) -> TokenIds:
    """Return the ids with the masked positions replaced; `draws` has two numbers in [0, 1) per masked position."""
    kind, which = draws[: len(masked)], draws[len(masked) : 2 * len(masked)]
    random_ids = vocabulary.ordinary[(which * len(vocabulary.ordinary)).astype(np.int64)]
    seen = np.where(kind < MASK_SHARE_OF_CHOSEN + RANDOM_SHARE_OF_CHOSEN, random_ids, ids[masked])
    seen[kind < MASK_SHARE_OF_CHOSEN] = vocabulary.mask_id
    out = ids.copy()
    out[masked] = seen
    return out
