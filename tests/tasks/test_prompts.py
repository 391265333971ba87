"""Notes on prompts that the model reads differently from what was typed."""

import pytest
from transformers import PreTrainedTokenizerFast

from llmkit.config.generate import Generate
from llmkit.config.prepare import TokenizerSection
from llmkit.core.errors import UsageError
from llmkit.tasks.prompts import (
    check_total,
    describe_prompts,
    describe_starts,
    ends_between_words,
    name_prompts,
    read_prompts,
)
from llmkit.tokens.normalization import set_normalization
from llmkit.tokens.training_tokenizers import train_tokenizer

TEXT = "the cat sat on the mat, and to the cat the mat was a thing to sit on.\n" * 9


def tokenizer_of(kind: str) -> PreTrainedTokenizerFast:
    return train_tokenizer([TEXT], TokenizerSection(kind=kind, vocab_size=400))  # type: ignore[arg-type]


def notes(tokenizer: PreTrainedTokenizerFast, *prompts: str, mask: str | None = None) -> list[str]:
    return describe_prompts(tokenizer, prompts, read_prompts(tokenizer, prompts, mask), mask)


def test_unknown_characters_of_a_prompt_are_reported_with_their_share() -> None:
    (note,) = notes(tokenizer_of("char"), "cat é 火")
    assert note == "the prompt: 2 of 5 characters (40%) are unknown to the tokenizer, such as é, 火"


def test_prompt_of_only_unknown_characters_is_reported_as_without_effect() -> None:
    (note,) = notes(tokenizer_of("char"), "the cat", "火火", "水")
    assert note.startswith("prompt 2 and 1 more of 3: all 3 characters are unknown to the tokenizer, such as 火, 水")
    assert note.endswith("the output does not depend on their content")


def test_prompt_of_known_characters_or_bytes_gets_no_note() -> None:
    assert notes(tokenizer_of("byte-bpe"), "café 火", "") == []
    assert notes(tokenizer_of("char"), "the cat", "") == []
    assert notes(tokenizer_of("wordpiece"), "the [MASK] sat", mask="[MASK]") == []


def test_prompt_is_shown_before_and_after_it_was_normalized() -> None:
    tokenizer = tokenizer_of("char")
    set_normalization(tokenizer, {"unicode": "NFC", "lowercase": True})
    (note,) = notes(tokenizer, "the", "The\r\nCat")
    assert note == "prompt 2 of 2: 'The⏎Cat' is read as 'the⏎cat' (line ends, lowercase)"


def test_mask_stays_in_a_prompt_that_is_normalized() -> None:
    tokenizer = tokenizer_of("wordpiece")
    set_normalization(tokenizer, {"lowercase": True, "strip_punctuation": True})
    assert read_prompts(tokenizer, ["The [MASK] Sat"], "[MASK]") == ["the [MASK] sat"]


def test_special_token_that_is_spelled_out_is_reported_to_be_text() -> None:
    (note,) = notes(tokenizer_of("byte-bpe"), "the <|endoftext|>")
    assert note.startswith("the prompt: <|endoftext|> is read as ordinary text")
    assert not any("read as ordinary text" in note for note in notes(tokenizer_of("word"), "the <unk> cat"))


@pytest.mark.parametrize(
    ("kind", "prompt", "is_said"),
    [("byte-bpe", "the ", True), ("byte-bpe", "the", False), ("char", "the ", False), ("wordpiece", "the ", False),
     ("word", "the ", False), ("byte-bpe", "the\n", False), ("byte-bpe", " ", False)],
)  # fmt: skip
def test_space_at_the_end_is_reported_where_words_begin_with_theirs(kind: str, prompt: str, is_said: bool) -> None:
    tokenizer = tokenizer_of(kind)
    assert ends_between_words(tokenizer, prompt) is is_said
    assert any("ends with white space" in note for note in describe_starts(tokenizer, [prompt])) is is_said


def test_prompt_without_tokens_is_reported_with_the_token_that_it_starts_from() -> None:
    assert describe_starts(tokenizer_of("char"), ["a", "", ""]) == [
        "prompt 2 and 1 more of 3 are empty: generation starts from the token <|endoftext|>"
    ]
    (note,) = describe_starts(tokenizer_of("wordpiece"), ["  "])
    assert note.startswith("the prompt is empty to the tokenizer: generation starts from the token ")


def test_lone_surrogate_is_an_error_that_names_the_prompt() -> None:
    with pytest.raises(UsageError, match="not valid Unicode") as caught:
        read_prompts(tokenizer_of("char"), ["a", "caf\udce9"])
    assert caught.value.problems[0].where == "prompt 2: caf?"


def test_too_many_tokens_to_generate_are_refused() -> None:
    check_total(Generate(), 1000)
    with pytest.raises(UsageError, match="the maximum is 100,000,000"):
        check_total(Generate(num_samples=10_000, max_new_tokens=1_000_000), 1)
    with pytest.raises(UsageError, match="1,000,000 prompts"):
        check_total(Generate(), 1_000_000)


def test_prompts_are_named_by_the_first_of_them() -> None:
    assert [name_prompts([1], 1), name_prompts([3], 9), name_prompts([3, 4, 9], 9)] == [
        "the prompt", "prompt 3 of 9", "prompt 3 and 2 more of 9",
    ]  # fmt: skip
