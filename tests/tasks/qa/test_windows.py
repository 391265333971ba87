"""Windows are those of transformers, and tokens lead back to the characters of the given context."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny import save_bert, save_gpt2
from transformers import AutoTokenizer

from llmkit.core.errors import UsageError
from llmkit.datasets.labelled import set_template
from llmkit.tables.answers import Answer
from llmkit.tables.questions import Question
from llmkit.tasks.qa import windows as windows_module
from llmkit.tasks.qa.windows import Windows, WindowSettings, align_labels, encode_windows

TEXTS = [
    ("Who won?", "lunch at home. We meet at noon, later."),
    ("who", "win cash now " * 20 + "\n free prize"),
    ("what is it?", "x"),
    ("what [SEP] now", "a [SEP] b <|endoftext|> c  d"),
    ("who", "日本 é́ ½ ﬁsh — “quote” 🙂 end"),
    ("", "lunch"),
]
SETTINGS = WindowSettings(block_size=40, stride=8, max_question_length=16)


def load(family: str, folder: Path) -> Any:
    tokenizer = AutoTokenizer.from_pretrained((save_bert if family == "bert" else save_gpt2)(folder / family))
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    set_template(tokenizer)
    tokenizer.split_special_tokens = True
    return tokenizer


def make_questions(*answers: Answer) -> list[Question]:
    return [Question(question, context, answers, row) for row, (question, context) in enumerate(TEXTS)]


def encode(tokenizer: Any, questions: list[Question] | None = None, settings: WindowSettings = SETTINGS) -> Windows:
    return encode_windows(tokenizer, questions or make_questions(), settings)


@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_windows_have_the_ids_and_offsets_of_transformers(family: str, tmp_path: Path) -> None:
    tokenizer = load(family, tmp_path)
    found = encode(tokenizer)
    number = 0
    for row, (question, context) in enumerate(TEXTS):
        expected = tokenizer(
            question, context, truncation="only_second", max_length=40, stride=8, return_overflowing_tokens=True,
            return_offsets_mapping=True,
        )  # fmt: skip
        assert len(found.windows_of(row)) == len(expected["input_ids"])
        for part, ids in enumerate(expected["input_ids"]):
            [source] = found.read(number)
            assert source.ids.tolist() == ids and len(ids) == found.lengths[number]
            tokens = [token for token, side in enumerate(expected.sequence_ids(part)) if side == 1]
            assert tokens[0] == found.context_index[number]
            for place, token in enumerate(tokens):
                span = found.find_characters(row, *[int(found.begins[number]) + place] * 2)
                start, end = expected["offset_mapping"][part][token]
                assert context[slice(*span)] == context[start:end].strip()
            number += 1
    assert number == len(found) and found.lengths.max() <= 40


@pytest.mark.parametrize(("family", "null"), [("bert", 0), ("gpt2", -1)])
def test_no_answer_is_the_class_token_or_the_last_token(family: str, null: int, tmp_path: Path) -> None:
    found = encode(load(family, tmp_path))
    assert found.null_index == null
    assert found.null_position(0) == (0 if null == 0 else found.lengths[0] - 1)


@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_labels_cover_the_answer_in_each_window_that_holds_it_whole(family: str, tmp_path: Path) -> None:
    context = "win cash now " * 12 + "free prize" + " we meet at home" * 8
    start = context.index("free")
    questions = [
        Question("who", context, (Answer("free prize", start, start + 10),), 0),
        Question("who", context, (), 1),
        Question("who", context, (Answer("queen", -1, -1),), 2),
    ]
    found = encode(load(family, tmp_path), questions)
    labels, lost, lengths = align_labels(found, questions)
    assert lost == [2] and len(lengths) == 1
    n_found = 0
    for number in found.windows_of(0):
        first, last = labels[number] - found.context_index[number] + found.begins[number]
        if labels[number][0] != found.null_position(number):
            assert context[slice(*found.find_characters(0, first, last))] == "free prize"
            n_found += 1
    assert n_found >= 1
    for number in [*found.windows_of(1), *found.windows_of(2)]:
        assert labels[number].tolist() == [found.null_position(number)] * 2


def test_most_frequent_of_several_answers_is_trained_on(tmp_path: Path) -> None:
    tokenizer = load("bert", tmp_path)
    context = "lunch at home later"
    answers = (Answer("lunch", 0, 5), Answer("home later", 9, 19), Answer("home later", 9, 19))
    questions = [Question("what", context, answers, 0)]
    found = encode(tokenizer, questions)
    first, last = align_labels(found, questions)[0][0] - found.context_index[0]
    assert context[slice(*found.find_characters(0, int(first), int(last)))] == "home later"


def test_questions_are_cut_and_counted_and_contexts_are_encoded_once(tmp_path: Path) -> None:
    tokenizer = load("bert", tmp_path)
    questions = [Question("who " * 30, "lunch at home", (), 0), Question("what", "lunch at home", (), 1)]
    found = encode(tokenizer, questions)
    assert found.n_cut_questions == 1 and len(found.questions[0]) == 16
    assert len(found.texts) == 1 and found.context_of.tolist() == [0, 0]


def test_questions_can_be_taken_in_any_order(tmp_path: Path) -> None:
    found = encode(load("bert", tmp_path))
    taken = found.take(np.array([3, 1]))
    assert taken.n_questions == 2
    for row, old in enumerate((3, 1)):
        ids = [found.read(number)[0].ids.tolist() for number in found.windows_of(old)]
        assert [taken.read(number)[0].ids.tolist() for number in taken.windows_of(row)] == ids


def test_long_context_is_encoded_in_pieces_with_the_same_characters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = load("bert", tmp_path)
    context = "win cash now, we meet at home. " * 300
    whole = encode(tokenizer, [Question("who", context, (), 0)])
    monkeypatch.setattr(windows_module, "LONG_CHARACTERS", 2000)
    pieces = encode(tokenizer, [Question("who", context, (), 0)])
    assert np.array_equal(whole.contexts.values, pieces.contexts.values)
    assert np.array_equal(whole.starts.values, pieces.starts.values)
    assert np.array_equal(whole.ends.values, pieces.ends.values)


def test_settings_that_leave_no_room_are_refused_with_the_numbers(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no room for a question of 16") as caught:
        encode(load("bert", tmp_path), settings=WindowSettings(40, 30, 16))
    assert "qa.stride" in str(caught.value)


def test_answer_in_a_normalized_context_is_cut_from_the_given_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = load("bert", tmp_path)
    given = "soft\xadware at\r\nhome later"
    normalize = lambda _, texts: [text.replace("\xad", "").replace("\r\n", "\n") for text in texts]  # noqa: E731
    monkeypatch.setattr(windows_module, "normalize_texts", normalize)
    found = encode(tokenizer, [Question("who", given, (Answer("home", 13, 17),), 0)])
    span = found.find_tokens(0, Answer("home", 14, 18))
    assert span is not None and given[slice(*found.find_characters(0, *span))] == "home"
    assert found.n_normalized == 1
