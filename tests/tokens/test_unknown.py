"""Unknown characters are found, counted by characters, and shown."""

import numpy as np
import pytest
from tokenizers import Tokenizer, models
from transformers import GPT2Tokenizer, PreTrainedTokenizerFast

from llmkit.config.prepare import TokenizerSection
from llmkit.tokens.training_tokenizers import train_tokenizer
from llmkit.tokens.unknown import UnknownCount, UnknownPart, count_unknown_rows, find_unknown, unknown_id

TEXT = "the cat sat on the mat, and the dog too.\n" * 4


def tokenizer_of(kind: str) -> PreTrainedTokenizerFast:
    return train_tokenizer([TEXT], TokenizerSection(kind=kind, vocab_size=300))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "text", "n_unknown", "texts"),
    [
        ("char", "cat é火 火", 3, ("é", "火", "火")),
        ("wordpiece", "the zebra 😀😀 cat", 7, ("zebra", "😀😀")),
        ("word", "the zebra cat", 5, ("zebra",)),
        ("byte-bpe", "zebra 😀", 0, ()),
        ("char", " \n", 0, ()),
    ],
)
def test_unknown_texts_are_counted_by_characters(kind: str, text: str, n_unknown: int, texts: tuple[str, ...]) -> None:
    (part,) = find_unknown(tokenizer_of(kind), [text])
    assert part == UnknownPart(len("".join(text.split())), texts)
    assert part.n_unknown == n_unknown


def test_characters_that_a_tokenizer_drops_count_as_unknown() -> None:
    letters = {letter: n for n, letter in enumerate("ab c")}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE(vocab=letters, merges=[])))
    assert unknown_id(tokenizer) is None
    assert [part.texts for part in find_unknown(tokenizer, ["ab xyz c", "abc"])] == [("x", "y", "z"), ()]


def test_end_of_text_named_as_the_unknown_token_is_no_unknown_token() -> None:
    tokenizer = GPT2Tokenizer({"a": 0, "<|endoftext|>": 1}, [])
    assert tokenizer.unk_token_id == 1
    assert unknown_id(tokenizer) is None


def test_rows_are_counted_with_the_lines_of_the_mostly_unknown_ones() -> None:
    count, tokenizer = UnknownCount(), tokenizer_of("char")
    texts = ["the cat", "😀😀😀", "𠮷𠮷𠮷", "", "cat é", "😀" * 30]
    count_unknown_rows(tokenizer, texts, np.array([False, True, True, False, True, True]), list(range(2, 8)), count)
    assert (count.n_texts, count.n_mostly, count.numbers) == (6, 3, [3, 4, 7])
    (note,) = count.describe_rows("a.csv")
    assert "37 of 46 characters (80%) are unknown to the tokenizer, such as 😀, 𠮷, é" in note
    assert "mostly unknown: 3 of 6 (lines 3, 4, 7)" in note


def test_a_few_unknown_characters_are_no_note_on_a_file() -> None:
    count = UnknownCount()
    count.add(UnknownPart(1000, ("é", "é", "é")), 1)
    assert count.describe_rows("a.csv") == []
    assert "3 of 1,000 characters (0.30%)" in count.describe()
