"""Inputs of a classifier: equal to the tokenizer's own, overlapping windows, numbered words."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from transformers import AutoTokenizer, GPT2Tokenizer, PreTrainedTokenizerBase

from llmkit.config.prepare import TokenizerSection
from llmkit.core.errors import UsageError
from llmkit.datasets import labelled
from llmkit.datasets.labelled import (
    NO_WORD,
    Input,
    Inputs,
    Windows,
    encode_inputs,
    join_inputs,
    set_template,
    take_rows,
)
from llmkit.text.language.words import choose_segmenter
from llmkit.tokens.loading import load_tokenizer
from llmkit.tokens.training_tokenizers import train_tokenizer

ENGLISH = "Unbelievable: the next morning came, and Holmes said it was 3.14 miles. "
CHINESE = "却说曹操大怒。玄德问曰：将军何往？"
KINDS = ["wordpiece", "byte-bpe", "gpt2", "saved wordpiece", "saved byte-bpe", "saved gpt2"]
Tokenizers = dict[str, PreTrainedTokenizerBase]


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> Tokenizers:
    # Few merges, so that English words come in pieces.
    made: Tokenizers = {
        kind: train_tokenizer(iter([ENGLISH, CHINESE]), TokenizerSection(kind=kind, vocab_size=size))
        for kind, size in (("wordpiece", 110), ("byte-bpe", 290))
    }
    byte_bpe = made["byte-bpe"].backend_tokenizer
    merges = [tuple(merge) for merge in _state(byte_bpe)["model"]["merges"]]
    end = "<|endoftext|>"  # transformers has a class for GPT-2 alone, which builds its own backend
    made["gpt2"] = GPT2Tokenizer(vocab=byte_bpe.get_vocab(), merges=merges, eos_token=end, pad_token="<|pad|>")
    for kind, tokenizer in list(made.items()):
        set_template(tokenizer)
        folder = tmp_path_factory.mktemp(kind)
        tokenizer.save_pretrained(folder)
        made[f"saved {kind}"] = AutoTokenizer.from_pretrained(folder)
    return made


def _state(backend: Tokenizer) -> dict[str, Any]:
    return json.loads(backend.to_str())


def bare(tokenizer: PreTrainedTokenizerBase, input_: Input) -> list[int]:
    """The ids of one text without its template."""
    ids = input_.ids.tolist()
    return ids[1:-1] if tokenizer.cls_token_id is not None else ids[:-1]


def read_all(inputs: Inputs) -> list[list[int]]:
    return [each.ids.tolist() for row in range(len(inputs)) for each in inputs.read(row)]


TEXTS = [ENGLISH, CHINESE, ENGLISH * 4, "a", "", " ", CHINESE + ENGLISH, "\n\x00\t"]
PAIRS = ["a", ENGLISH * 3, CHINESE, "", "", ENGLISH, "b", CHINESE]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("block_size", [512, 40, 7])
@pytest.mark.parametrize("with_words", [False, True])
def test_inputs_equal_those_of_the_tokenizers_call(
    tokenizers: Tokenizers, kind: str, block_size: int, with_words: bool
) -> None:
    tokenizer = tokenizers[kind]
    cutter = "characters" if with_words else None
    for pairs in (None, PAIRS):
        inputs = encode_inputs(tokenizer, TEXTS, pairs, block_size=block_size, segmenter=cutter)
        expected = tokenizer(
            TEXTS, pairs, truncation=True, max_length=block_size, return_token_type_ids=True, padding=False
        )
        assert read_all(inputs) == expected.input_ids
        assert inputs.n_first.tolist() == [types.count(0) for types in expected.token_type_ids]
        longer = tokenizer(TEXTS, pairs, padding=False).input_ids
        assert inputs.n_cut == sum(len(ids) > block_size for ids in longer)


@pytest.mark.parametrize("kind", KINDS)
def test_empty_text_has_only_special_tokens(tokenizers: Tokenizers, kind: str) -> None:
    tokenizer = tokenizers[kind]
    start = [] if tokenizer.cls_token_id is None else [tokenizer.cls_token_id]
    end = [tokenizer.eos_token_id]
    inputs = encode_inputs(tokenizer, ["", "a"], None, block_size=9)
    assert read_all(inputs)[0] == start + end
    assert read_all(inputs)[1][-1:] == end
    [pair] = read_all(encode_inputs(tokenizer, [""], [""], block_size=9))
    assert pair == start + end + end


def test_template_of_a_tokenizer_is_not_replaced(tokenizers: Tokenizers) -> None:
    before = _state(tokenizers["wordpiece"].backend_tokenizer)
    set_template(tokenizers["wordpiece"])
    assert _state(tokenizers["wordpiece"].backend_tokenizer) == before


@pytest.mark.parametrize("kind", KINDS)
def test_special_tokens_in_a_text_are_ordinary_text(tokenizers: Tokenizers, kind: str) -> None:
    tokenizer = tokenizers[kind]
    text = "hear [SEP] me [CLS] <|endoftext|> speak <|pad|> [MASK]"
    unknown = {tokenizer.unk_token_id} - {tokenizer.eos_token_id}  # GPT-2's one token is both
    specials = set(tokenizer.all_special_ids) - unknown
    assert len(specials & set(tokenizer(text).input_ids)) > 1  # the tokenizer itself takes it for one
    for with_words in (None, "characters"):
        for pairs in (None, [text]):
            inputs = encode_inputs(tokenizer, [text], pairs, block_size=512, segmenter=with_words)
            [[ids]] = [read_all(inputs)]
            n_template = tokenizer.backend_tokenizer.num_special_tokens_to_add(pairs is not None)
            assert sum(token in specials for token in ids) == n_template
    assert tokenizer.backend_tokenizer.truncation is None
    assert len(specials & set(tokenizer(text).input_ids)) > 1  # and does so afterwards


@settings(deadline=None, max_examples=60)
@given(
    kind=st.sampled_from(KINDS[:3]),
    n_words=st.integers(0, 120),
    block_size=st.integers(6, 40),
    share=st.floats(0, 0.99),
)
def test_windows_share_stride_tokens_and_cover_the_whole_text(
    tokenizers: Tokenizers, kind: str, n_words: int, block_size: int, share: float
) -> None:
    tokenizer = tokenizers[kind]
    room = block_size - tokenizer.backend_tokenizer.num_special_tokens_to_add(False)
    overlap = int(share * room)
    text = " ".join("the next morning came miles"[k % 20 :] for k in range(n_words))
    inputs = encode_inputs(tokenizer, ["a", text, "b"], None, block_size=block_size, windows=Windows(overlap, 10_000))
    pieces = [bare(tokenizer, each) for each in inputs.read(1)]
    [whole] = [bare(tokenizer, each) for each in encode_inputs(tokenizer, [text], None, block_size=100_000).read(0)]
    assert pieces[0] + [token for piece in pieces[1:] for token in piece[overlap:]] == whole
    for before, after in pairwise(pieces):
        assert len(before) == room
        assert before[room - overlap :] == after[:overlap]
        assert len(after) > overlap  # each has something of its own
    assert inputs.n_cut == 0
    assert len(inputs.read(0)) == len(inputs.read(2)) == 1


def test_row_truncated_after_its_last_window_is_counted_once(tokenizers: Tokenizers) -> None:
    texts = [ENGLISH * 4, "a", ENGLISH * 4, ENGLISH]
    whole = encode_inputs(tokenizers["wordpiece"], texts, None, block_size=40, windows=Windows(4, 999))
    n_windows = [len(whole.read(row)) for row in range(4)]
    assert min(n_windows[0], n_windows[2]) > n_windows[3] > 1
    cut = encode_inputs(tokenizers["wordpiece"], texts, None, block_size=40, windows=Windows(4, n_windows[3]))
    assert (whole.n_cut, cut.n_cut) == (0, 2)
    assert [len(cut.read(row)) for row in range(4)] == [n_windows[3], 1, n_windows[3], n_windows[3]]
    assert cut.read(0)[-1].ids.tolist() == whole.read(0)[n_windows[3] - 1].ids.tolist()


@pytest.mark.parametrize("kind", ["wordpiece", "byte-bpe"])
def test_first_window_of_a_pair_equals_the_truncated_pair(tokenizers: Tokenizers, kind: str) -> None:
    arguments = (tokenizers[kind], [ENGLISH * 2, "a"], [ENGLISH, ENGLISH * 3])
    windows = encode_inputs(*arguments, block_size=30, windows=Windows(5, 4))
    cut = encode_inputs(*arguments, block_size=30)
    for row in (0, 1):
        assert len(windows.read(row)) == 4
        assert windows.read(row)[0].ids.tolist() == cut.read(row)[0].ids.tolist()


def test_too_small_blocks_and_too_large_strides_are_refused(tokenizers: Tokenizers) -> None:
    wordpiece = tokenizers["wordpiece"]
    with pytest.raises(UsageError, match="block_size 4 is too small"):
        encode_inputs(wordpiece, ["a"], ["b"], block_size=4)
    encode_inputs(wordpiece, ["a"], ["b"], block_size=5)
    with pytest.raises(UsageError, match="windows of 10 tokens cannot overlap by 10"):
        encode_inputs(wordpiece, ["a"], None, block_size=12, windows=Windows(10, 3))
    # A panic of the tokenizers library would pass by every `except Exception`.
    with pytest.raises(UsageError, match="windows of 4 tokens cannot overlap by 4"):
        encode_inputs(wordpiece, [ENGLISH], [ENGLISH], block_size=12, windows=Windows(4, 3))
    for texts in ([ENGLISH, ENGLISH], ["a", ENGLISH], [ENGLISH, "a"]):
        encode_inputs(wordpiece, texts[:1], texts[1:], block_size=12, windows=Windows(3, 3))


# Words


def words_of(tokenizer: PreTrainedTokenizerBase, each: Input) -> list[str]:
    assert each.words is not None
    numbers = sorted({int(number) for number in each.words if number != NO_WORD})
    assert numbers == list(range(len(numbers)))
    return [tokenizer.decode(each.ids[each.words == number].tolist()).replace(" ", "") for number in numbers]


MIXED = "Holmes问曰the morning曹操said"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("text", "cutter", "expected"),
    [
        ("Unbelievable morning", "characters", ["Unbelievable", "morning"]),
        ("曹操大怒", "characters", list("曹操大怒")),
        ("曹操大怒", "jieba", ["曹操", "大怒"]),
        (MIXED, "characters", ["Holmes", "问", "曰", "the", "morning", "曹", "操", "said"]),
        (MIXED, "jieba", ["Holmes", "问", "曰", "the", "morning", "曹操", "said"]),
        ("", "characters", []),
    ],
)
def test_tokens_of_one_word_have_one_number(
    tokenizers: Tokenizers, kind: str, text: str, cutter: str, expected: list[str]
) -> None:
    if cutter == "jieba":
        pytest.importorskip("jieba")
        cutter = choose_segmenter("jieba")
    tokenizer = tokenizers[kind]
    [[each]] = [encode_inputs(tokenizer, [text], None, block_size=99, segmenter=cutter).read(0)]
    assert words_of(tokenizer, each) == expected


@pytest.mark.parametrize("kind", KINDS)
def test_word_numbers_continue_in_the_second_text_and_skip_special_tokens(tokenizers: Tokenizers, kind: str) -> None:
    tokenizer = tokenizers[kind]
    [each] = encode_inputs(tokenizer, ["曹操 said"], ["said曹"], block_size=99, segmenter="characters").read(0)
    assert words_of(tokenizer, each) == ["曹", "操", "said", "said", "曹"]
    assert each.words is not None
    template = [tokenizer.cls_token_id, tokenizer.eos_token_id]
    assert [int(token) in template for token in each.ids] == (each.words == NO_WORD).tolist()
    second = each.words[each.n_first :]
    assert second[second != NO_WORD].min() == 3


@pytest.mark.parametrize("kind", ["wordpiece", "byte-bpe"])
@pytest.mark.parametrize("cutter", ["characters", "jieba"])
def test_each_window_numbers_its_own_words_from_zero(tokenizers: Tokenizers, kind: str, cutter: str) -> None:
    if cutter == "jieba":
        pytest.importorskip("jieba")
        cutter = choose_segmenter("jieba")
    text = (ENGLISH + CHINESE + "曹操大怒") * 2
    n_template = tokenizers[kind].backend_tokenizer.num_special_tokens_to_add(False)
    encoded = encode_inputs(tokenizers[kind], [text], None, block_size=10, windows=Windows(5, 999), segmenter=cutter)
    windows = encoded.read(0)
    assert len(windows) > 5
    for each in windows:
        assert each.words is not None
        numbers = each.words[each.words != NO_WORD]
        assert len(numbers) == len(each.ids) - n_template  # also where a window begins in the middle of a word
        assert numbers[0] == 0
        assert set(np.diff(numbers)) <= {0, 1}


# Many rows


@pytest.mark.parametrize("cutter", [None, "characters"])
def test_joined_and_taken_rows_equal_the_original_rows(tokenizers: Tokenizers, cutter: str | None) -> None:
    def encode(texts: list[str]) -> Inputs:
        return encode_inputs(
            tokenizers["byte-bpe"], texts, None, block_size=20, windows=Windows(3, 4), segmenter=cutter
        )

    whole = encode(TEXTS)
    joined = join_inputs([encode(TEXTS[:3]), encode(TEXTS[3:4]), encode(TEXTS[4:])])
    for name in Inputs.__slots__:
        left, right = getattr(whole, name), getattr(joined, name)
        assert np.array_equal(left, right) if isinstance(left, np.ndarray) else left == right, name
    rows = np.array([5, 0, 2, 2])
    taken = take_rows(whole, rows)
    assert len(taken) == 4
    for place, row in enumerate(rows):
        expected = whole.read(int(row))
        assert [each.ids.tolist() for each in taken.read(place)] == [each.ids.tolist() for each in expected]
        assert taken.lengths[place] == sum(len(each.ids) for each in expected) == whole.lengths[row]
        assert taken.read(place)[0].n_first == expected[0].n_first
        if cutter is not None:
            assert taken.read(place)[-1].words.tolist() == expected[-1].words.tolist()
    assert len(take_rows(whole, rows[:0])) == 0


def test_template_is_saved_with_the_tokenizer(tokenizers: Tokenizers, tmp_path: Path) -> None:
    tokenizers["byte-bpe"].save_pretrained(tmp_path)
    assert load_tokenizer(str(tmp_path))("a").input_ids == tokenizers["byte-bpe"]("a").input_ids


@pytest.mark.parametrize("windows", [None, Windows(stride=2, max_windows=3)])
@pytest.mark.parametrize("kind", ["wordpiece", "byte-bpe"])
def test_very_long_texts_give_the_inputs_of_their_whole_text_from_their_start(
    tokenizers: Tokenizers, kind: str, windows: Windows | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [ENGLISH * 400, " " * 30_000 + ENGLISH, CHINESE * 3000, "short", ENGLISH * 3]

    def encode(pairs: bool) -> Inputs:
        seconds = list(reversed(texts)) if pairs else None
        return encode_inputs(tokenizers[kind], texts, seconds, block_size=32, windows=windows)

    whole = [encode(pairs) for pairs in (False, True)]
    encoded: list[int] = []
    read = labelled._encode
    monkeypatch.setattr(labelled, "LONG_CHARACTERS", 6_000)
    monkeypatch.setattr(labelled, "_MARGIN_TOKENS", 50)
    monkeypatch.setattr(labelled, "_encode", lambda *given: encoded.extend(map(len, given[1])) or read(*given))
    for before, pairs in zip(whole, (False, True), strict=True):
        after = encode(pairs)
        assert after.ids.tolist() == before.ids.tolist() and after.ends.tolist() == before.ends.tolist()
        assert after.is_cut.tolist() == before.is_cut.tolist()
    assert encoded[0] == 6_000 < len(texts[0]), "only its start was encoded"
    assert max(encoded) <= len(texts[1])
