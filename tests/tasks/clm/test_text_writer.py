import random

import pytest
from transformers import PreTrainedTokenizerFast

from llmkit.config.prepare import TokenizerSection
from llmkit.tasks.clm.text_writer import TextWriter
from llmkit.tokens.tokenizer import encode_texts
from llmkit.tokens.training_tokenizers import train_tokenizer

TEXT = "却说曹操大喜,👨‍👩‍👧 said: é e\u0301 ❤️ ok \ufffd end\n  龘🇨🇳"


@pytest.fixture(scope="module")
def bytes_only() -> PreTrainedTokenizerFast:
    """No merges: every Chinese character is cut into three tokens, every emoji into four or more."""
    return train_tokenizer([], TokenizerSection(kind="byte-bpe", vocab_size=258))


def ids_of(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    ids: list[int] = encode_texts(tokenizer, [text])[0].tolist()
    return ids


def pieces_of(writer: TextWriter, ids: list[int]) -> list[str]:
    return [*map(writer.write, ids), writer.finish()]


def test_no_piece_ever_holds_half_a_character(bytes_only: PreTrainedTokenizerFast) -> None:
    text = TEXT.replace("\ufffd", "")
    pieces = pieces_of(TextWriter(bytes_only, [], []), ids_of(bytes_only, text))
    assert [piece for piece in pieces if piece] == list(text)


@pytest.mark.parametrize("prompt", ["", "却", "a very long prompt before it"])
def test_pieces_put_together_are_the_text(bytes_only: PreTrainedTokenizerFast, prompt: str) -> None:
    writer = TextWriter(bytes_only, ids_of(bytes_only, prompt), [])
    assert "".join(pieces_of(writer, ids_of(bytes_only, TEXT))) == TEXT == writer.text


def test_bytes_that_are_no_text_come_out_once_and_as_decode_shows_them(bytes_only: PreTrainedTokenizerFast) -> None:
    rng = random.Random(0)
    for _ in range(50):
        ids = rng.choices(range(2, 258), k=40)
        assert "".join(pieces_of(TextWriter(bytes_only, [], []), ids)) == bytes_only.decode(ids)


def test_text_ends_before_the_first_stop_string(bytes_only: PreTrainedTokenizerFast) -> None:
    writer = TextWriter(bytes_only, [], ["曹操", "大喜", "never"])
    pieces = pieces_of(writer, ids_of(bytes_only, TEXT))
    assert writer.stopped
    assert "".join(pieces) == writer.text == "却说"


def test_start_of_a_stop_string_is_held_back_and_given_when_it_was_none(bytes_only: PreTrainedTokenizerFast) -> None:
    writer = TextWriter(bytes_only, [], ["\n\n", "abcd"])
    pieces = pieces_of(writer, ids_of(bytes_only, "x\ny abab\n"))
    assert pieces == ["x", "", "\ny", " ", "", "", "ab", "", "ab", "\n"]
    assert not writer.stopped


def test_stop_string_inside_one_token_cuts_that_token() -> None:
    tokenizer = train_tokenizer(["the cat " * 50], TokenizerSection(kind="byte-bpe", vocab_size=300))
    ids = ids_of(tokenizer, "the cat the cat")
    assert len(ids) < 8
    writer = TextWriter(tokenizer, [], ["at"])
    assert "".join(pieces_of(writer, ids)) == "the c"


def test_space_between_prompt_and_text_is_kept_where_a_tokenizer_marks_words() -> None:
    tokenizer = train_tokenizer(["the cat sat on the mat"], TokenizerSection(kind="word", min_frequency=1))
    writer = TextWriter(tokenizer, ids_of(tokenizer, "the cat"), [])
    assert "".join(pieces_of(writer, ids_of(tokenizer, "sat on"))) == " sat on"


@pytest.mark.parametrize("kind", ["byte-bpe", "wordpiece", "word", "char"])
def test_tokens_written_together_are_the_text_of_tokens_one_by_one(kind: str) -> None:
    text = "the cat, said 却说 é👨‍👩‍👧:\n\n'is it on the mat?' It was n't \ufffd.\n"
    section = {"kind": kind} if kind in ("char", "word") else {"kind": kind, "vocab_size": 300}
    tokenizer = train_tokenizer([text] * 3, TokenizerSection(min_frequency=1, **section))
    ids, rng = ids_of(tokenizer, text), random.Random(1)
    prompt = ids_of(tokenizer, "the cat")
    for n in range(40):
        some = ids if n == 0 else rng.choices(range(len(tokenizer)), k=60)
        together = TextWriter(tokenizer, prompt, [])
        pieces = [together.write(*some), together.finish()]
        assert "".join(pieces) == "".join(pieces_of(TextWriter(tokenizer, prompt, []), some))
