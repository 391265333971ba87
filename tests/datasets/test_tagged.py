"""Each word is scored at its first token, in the window with the most context, with every kind of tokenizer."""

from typing import Any

import numpy as np
import pytest
from tiny import save_bert, save_gpt2
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from llmkit.core.errors import UsageError
from llmkit.datasets.tagged import NO_TOKEN, TaggedInputs, TokenLabels, WordRow, cut_windows, encode_words, join_tagged
from llmkit.tokens.loading import load_tokenizer

WORDS = ["please", "claim", "you", "r5", "prize", "!"]


@pytest.fixture(scope="module", params=["bert", "gpt2"])
def tokenizer(request: Any, tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerBase:
    save = {"bert": save_bert, "gpt2": save_gpt2}[request.param]
    return load_tokenizer(save(tmp_path_factory.mktemp("model") / "model"))


def encode(tokenizer: PreTrainedTokenizerBase, *rows: list[str], block_size: int = 64, stride: int = 0) -> TaggedInputs:
    words = [WordRow(row, [number > 0 for number in range(len(row))]) for row in rows]
    return encode_words(tokenizer, words, block_size=block_size, stride=stride)


def first_tokens(tokenizer: PreTrainedTokenizerBase, tagged: TaggedInputs) -> list[str]:
    return [tokenizer.convert_ids_to_tokens(int(tagged.inputs.ids[token])) for token in tagged.tokens]


def test_place_of_each_word_is_its_first_token(tokenizer: PreTrainedTokenizerBase) -> None:
    tagged = encode(tokenizer, WORDS, ["win"])
    whole = tokenizer(" ".join(WORDS)).input_ids
    assert tagged.inputs.read(0)[0].ids.tolist() == whole, "the text as plain transformers encodes it"
    starts = [tokenizer.convert_tokens_to_string([token]).strip() for token in first_tokens(tokenizer, tagged)]
    assert all(word.startswith(start) for word, start in zip([*WORDS, "win"], starts, strict=True))
    assert len(set(tagged.tokens)) == 7


def test_windows_give_each_word_the_most_context(tokenizer: PreTrainedTokenizerBase) -> None:
    words = ["win", "free", "cash"] * 20
    tagged = encode(tokenizer, words, ["now"], block_size=16, stride=8)
    alone = encode(tokenizer, words, ["now"])
    assert len(tagged.inputs.ends) > 4
    assert first_tokens(tokenizer, tagged) == first_tokens(tokenizer, alone)
    starts = np.append(0, tagged.inputs.ends)
    window = np.searchsorted(tagged.inputs.ends, tagged.tokens, side="right")[:60]
    inside = np.minimum(tagged.tokens[:60] - starts[window], starts[window + 1] - 1 - tagged.tokens[:60])
    edge = (window > 0) & (window < window.max())
    assert inside[edge].min() >= 3, "half of the shared tokens"


def test_windows_cover_all_tokens_and_share_the_stride() -> None:
    windows = cut_windows(25, 10, 4)
    assert [(w.start, w.stop) for w in windows] == [(0, 10), (6, 16), (12, 22), (18, 25)]
    assert cut_windows(10, 10, 4) == [slice(0, 10)]
    with pytest.raises(UsageError, match="cannot overlap by 10"):
        cut_windows(11, 10, 10)


def test_labels_are_at_the_words_and_counted_once_over_windows(tokenizer: PreTrainedTokenizerBase) -> None:
    words = ["win", "free", "cash"] * 10
    tagged = encode(tokenizer, words, block_size=16, stride=8)
    labels = TokenLabels(tagged, np.arange(30), -100)
    found = np.concatenate([labels[window] for window in range(len(labels))])
    assert sorted(found[found >= 0]) == list(range(30))
    assert [len(labels[window]) for window in range(len(labels))] == np.diff(tagged.inputs.ends, prepend=0).tolist()


def test_rows_can_be_joined_taken_and_be_empty(tokenizer: PreTrainedTokenizerBase) -> None:
    rows = [WORDS, [], ["now"]]
    whole = encode(tokenizer, *rows)
    joined = join_tagged([encode(tokenizer, row) for row in rows])
    taken = whole.take(np.array([2, 0]))
    assert np.array_equal(whole.tokens, joined.tokens) and np.array_equal(whole.inputs.ids, joined.inputs.ids)
    assert len(whole.inputs.read(1)[0].ids) > 0 and whole.words_of(1) == slice(6, 6)
    assert taken.places.tolist() == [*whole.places[6:], *whole.places[:6]]


def test_words_are_aligned_without_offsets_if_the_tokenizer_drops_characters() -> None:
    backend = Tokenizer(models.BPE({"a": 0, "b": 1, "c": 2}, []))  # without an unknown token, x is dropped
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="c")
    tagged = encode(tokenizer, ["xa", "x", "b", "xb"])
    assert tagged.tokens.tolist() == [0, NO_TOKEN, 1, 2]


def test_long_text_is_encoded_in_parts_with_the_same_tokens(
    tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = encode(tokenizer, WORDS * 3)
    monkeypatch.setattr("llmkit.datasets.tagged._CHARACTERS_AT_ONCE", 20)
    parts = encode(tokenizer, WORDS * 3)
    assert np.array_equal(whole.inputs.ids, parts.inputs.ids) and np.array_equal(whole.tokens, parts.tokens)
