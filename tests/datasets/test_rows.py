"""Rows: ids that do not depend on sentences, and the ends of sentences and words of the text."""

from collections import Counter

import numpy as np
import pytest
from transformers import PreTrainedTokenizerBase

from llmkit.config.prepare import TokenizerSection
from llmkit.datasets.rows import TextCounts, can_mask, encode_rows
from llmkit.text.documents import Document
from llmkit.text.language.words import choose_segmenter
from llmkit.tokens.store import Row
from llmkit.tokens.training_tokenizers import train_tokenizer

ENGLISH = 'Mr. Holmes sat down. "Unbelievable!" he said; it was 3.14 miles.\n\nCHAPTER II\n\nThe next morning came.'
CHINESE = "却说曹操大怒。“快走！”众将说道：我军已败……玄德问曰：将军何往？"
JIEBA = choose_segmenter("auto")


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    # Few merges, so that English words come in pieces.
    return train_tokenizer(iter([ENGLISH, CHINESE]), TokenizerSection(kind="wordpiece", vocab_size=110))


def encode(tokenizer: PreTrainedTokenizerBase, text: str, segmenter: str | None) -> tuple[Row, Counter[str]]:
    counts = TextCounts(Counter())
    totals = counts.totals
    return next(encode_rows([Document(text, "x")], tokenizer, counts, segmenter)), totals


def sentences_of(row: Row, tokenizer: PreTrainedTokenizerBase) -> list[str]:
    assert row.sentence_ends is not None
    pieces = np.split(row.input_ids[:-1], row.sentence_ends[:-1])
    return [tokenizer.decode(piece.tolist()).replace(" ", "") for piece in pieces]


def words_of(row: Row, tokenizer: PreTrainedTokenizerBase) -> list[str]:
    assert row.continues_word is not None
    begins = np.flatnonzero(~row.continues_word[:-1])
    assert begins[0] == 0
    return [tokenizer.decode(piece.tolist()).replace(" ", "") for piece in np.split(row.input_ids[:-1], begins[1:])]


@pytest.mark.parametrize("text", [ENGLISH, CHINESE, "", "\x01", "one"])
def test_ids_are_the_same_with_and_without_sentences(tokenizer: PreTrainedTokenizerBase, text: str) -> None:
    plain, found = encode(tokenizer, text, None)[0], encode(tokenizer, text, JIEBA)[0]
    assert plain.input_ids.tolist() == found.input_ids.tolist()
    assert plain.sentence_ends is None
    assert found.continues_word is not None
    assert len(found.continues_word) == len(found.input_ids)


def test_english_sentences_end_where_the_text_has_them(tokenizer: PreTrainedTokenizerBase) -> None:
    row, totals = encode(tokenizer, ENGLISH, "characters")
    expected = ["Mr.Holmessatdown.", '"Unbelievable!"hesaid;itwas3.14miles.', "CHAPTERII", "Thenextmorningcame."]
    assert sentences_of(row, tokenizer) == expected
    assert totals["sentences"] == 4
    assert row.sentence_ends is not None
    assert row.sentence_ends[-1] == len(row.input_ids) - 1  # the end of text belongs to none


def test_chinese_sentences_end_where_the_text_has_them(tokenizer: PreTrainedTokenizerBase) -> None:
    row = encode(tokenizer, CHINESE, "characters")[0]
    assert sentences_of(row, tokenizer) == [
        "却说曹操大怒。",
        "“快走！”",
        "众将说道：我军已败……",
        "玄德问曰：将军何往？",
    ]


def test_tokens_of_an_english_word_continue_it(tokenizer: PreTrainedTokenizerBase) -> None:
    row = encode(tokenizer, "Unbelievable morning.", "characters")[0]
    assert len(row.input_ids) > 5
    assert words_of(row, tokenizer) == ["Unbelievable", "morning", "."]


@pytest.mark.skipif(not JIEBA.startswith("jieba"), reason="jieba is an extra")
def test_chinese_words_equal_those_of_the_dictionary(tokenizer: PreTrainedTokenizerBase) -> None:
    row = encode(tokenizer, CHINESE, JIEBA)[0]
    words = words_of(row, tokenizer)
    assert {"曹操", "大怒", "将军"} <= set(words)
    assert "".join(words) == CHINESE.replace(" ", "")
    assert "。“" not in "".join(f" {word} " for word in words)


def test_without_a_dictionary_each_chinese_character_is_a_word(tokenizer: PreTrainedTokenizerBase) -> None:
    assert words_of(encode(tokenizer, "曹操大怒。", "characters")[0], tokenizer) == list("曹操大怒。")


def test_only_a_tokenizer_with_a_mask_token_can_mask(tokenizer: PreTrainedTokenizerBase) -> None:
    assert can_mask(tokenizer)
    assert not can_mask(train_tokenizer(iter([ENGLISH]), TokenizerSection(kind="byte-bpe", vocab_size=300)))


def test_number_of_words_equals_the_tokens_of_the_word_tokenizer() -> None:
    rng = np.random.default_rng(0)
    pieces = [
        "late",
        "<unk>",
        "naïve",
        " ",
        "  ",
        "\t",
        "\n",
        "\n\n",
        "\r\n",
        "\u3000",
        "\xa0",
        "\u2028",
        "\x1f",
        "—",
        "曹操",
    ]
    documents = [
        Document("".join(rng.choice(pieces, size)), "made up", index, part, last)
        for index, size in enumerate(rng.integers(0, 200, 30))
        for part, last in ((0, False), (1, True))
    ]
    for lowercase in (False, True):
        section = TokenizerSection(kind="word", min_frequency=300, lowercase=lowercase)
        tokenizer = train_tokenizer((document.text for document in documents), section)
        counts = TextCounts(Counter())
        totals = counts.totals
        n_tokens = sum(len(row.input_ids) for row in encode_rows(documents, tokenizer, counts))
        assert totals["words"] == totals["tokens"] == n_tokens > 1000
        assert totals["unknown_tokens"] > 100


def test_number_of_words_is_independent_of_the_tokenizer_and_absent_in_chinese() -> None:
    words = set()
    for kind in ("byte-bpe", "char", "word", "wordpiece"):
        tokenizer = train_tokenizer([ENGLISH, CHINESE], TokenizerSection(kind=kind, vocab_size=300))
        english, chinese = TextCounts(Counter()), TextCounts(Counter())
        list(encode_rows([Document(ENGLISH, "x"), Document(ENGLISH, "x", 1)], tokenizer, english))
        list(encode_rows([Document(CHINESE, "x")], tokenizer, chinese))
        words.add(english.totals["words"])
        assert "words" not in chinese.totals
    assert words == {2 * (17 + 4 + 1)}  # words, line ends, the document's end


@pytest.mark.parametrize("kind", ["wordpiece", "word", "char"])
def test_unknown_tokens_are_counted_by_tokens_and_by_characters_with_examples(kind: str) -> None:
    tokenizer = train_tokenizer(["the cat sat on the mat\n" * 9], TokenizerSection(kind=kind, vocab_size=60))
    counts = TextCounts(Counter())
    list(encode_rows([Document("the 火火 sat on 火火 \n", "x"), Document("the ж", "x", 1)], tokenizer, counts))
    n_tokens = {"wordpiece": 5, "word": 3, "char": 5}[kind]
    assert (counts.totals["unknown_tokens"], counts.totals["unknown_characters"]) == (n_tokens, 5)
    assert counts.unknown_examples() == {"word": ["火火", "ж"]}.get(kind, ["火", "ж"])


def test_chinese_clause_of_one_tokenizer_word_is_cut_into_words() -> None:
    tokenizer = train_tokenizer(iter([ENGLISH, CHINESE]), TokenizerSection(kind="byte-bpe", vocab_size=300))
    tokenizer.add_special_tokens({"cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"})
    row = encode(tokenizer, "曹操大怒 sat down。", "characters")[0]
    assert len(row.input_ids) > 12  # characters in pieces of bytes
    assert words_of(row, tokenizer) == [*"曹操大怒", "sat", "down", "。"]
