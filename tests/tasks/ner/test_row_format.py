"""The format of rows is saved with the model, and settings that are given replace it."""

import pytest
from transformers import BertConfig

from llmkit.config.ner import Ner
from llmkit.tables.tagged import TagColumns, TaggedRow
from llmkit.tables.words import find_words
from llmkit.tasks.ner.row_format import TagFormat, WordCounts, choose_stride, encode_chunk, read_format, save_format
from llmkit.tokens.loading import load_tokenizer

FORMAT = TagFormat(TagColumns("w", "t"), "BIOES", "spaces", 32, 8, "constrained")


def test_format_comes_back_from_the_configuration() -> None:
    config = BertConfig()
    assert read_format(config, 99).words == "punctuation" and read_format(config, 99).block_size == 99
    save_format(config, FORMAT)
    assert read_format(BertConfig.from_dict(config.to_dict()), 99) == FORMAT


def test_only_given_settings_replace_the_format() -> None:
    assert FORMAT.with_settings(Ner(), None) == FORMAT
    changed = FORMAT.with_settings(Ner(stride=3, decoding="greedy", words="characters"), 16)
    assert (changed.stride, changed.decoding, changed.words, changed.block_size) == (3, "greedy", "characters", 16)


@pytest.mark.parametrize(("block_size", "stride"), [(512, 64), (64, 16), (8, 2)])
def test_stride_is_a_quarter_of_the_block_up_to_64(block_size: int, stride: int) -> None:
    assert choose_stride(None, block_size) == stride
    assert choose_stride(5, block_size) == 5


def test_words_keep_their_spaces_and_unknown_ones_are_counted(bert: str) -> None:
    counts, text = WordCounts(), "you win, 火火火火火火"
    row = TaggedRow(text, find_words(text, "spaces"), None, 7)
    tagged = encode_chunk([row], FORMAT, load_tokenizer(bert), counts)
    plain = load_tokenizer(bert)(text).input_ids
    assert tagged.inputs.ids.tolist() == plain
    assert "unknown to the tokenizer" in counts.describe("a", "line")[0] and counts.n_words == 3
