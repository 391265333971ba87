"""Questions are read from SQuAD's form, from CMRC's and from tables, with their columns detected."""

import json
from pathlib import Path
from typing import Any

import pytest

from llmkit.config.prepare import Read
from llmkit.core.errors import DataError
from llmkit.tables.questions import Question, QuestionFile, open_questions
from llmkit.tables.rows import open_rows

CONTEXT = "The cook won. The king lost."


def read(
    path: Path, given: dict[str, str | None] | None = None, *, skip_bad: bool = False, need: bool = True
) -> list[Question]:
    return read_file(path, given, skip_bad=skip_bad, need=need)[1]


def read_file(
    path: Path, given: dict[str, str | None] | None = None, *, skip_bad: bool = False, need: bool = True
) -> tuple[QuestionFile, list[Question]]:
    with open_rows(
        str(path), Read(skip_bad=skip_bad), wanted=[name for name in (given or {}).values() if name]
    ) as rows:
        file = open_questions(rows, given or {}, need_answers=need)
        return file, list(file)


def write(path: Path, value: Any) -> Path:
    is_lines = path.suffix == ".jsonl"
    text = "".join(json.dumps(each, ensure_ascii=False) + "\n" for each in value) if is_lines else json.dumps(value)
    path.write_text(text)
    return path


def squad(*qas: dict[str, Any], context: str = CONTEXT, title: str = "Cooks") -> dict[str, Any]:
    return {"version": "v2.0", "data": [{"title": title, "paragraphs": [{"context": context, "qas": list(qas)}]}]}


ASKED = {"id": "q1", "question": "Who won?", "answers": [{"text": "The cook", "answer_start": 0}]}


def test_squad_file_is_read_with_articles_ids_and_unanswerable_questions(tmp_path: Path) -> None:
    impossible = {"id": "q2", "question": "Who ran?", "answers": [], "is_impossible": True, "plausible_answers": []}
    [first, second] = read(write(tmp_path / "a.json", squad(ASKED | {"is_impossible": False}, impossible)))
    assert (first.question, first.context, first.id, first.article) == ("Who won?", CONTEXT, "q1", "Cooks")
    assert first.references == ["The cook"] and second.answers == ()


def test_question_marked_impossible_with_answers_is_counted_and_has_none(tmp_path: Path) -> None:
    file, [question] = read_file(write(tmp_path / "a.json", squad(ASKED | {"is_impossible": True})))
    assert question.answers == () and "1 question marked as impossible" in file.counts.describe("a", "row")[0]


@pytest.mark.parametrize(
    "value",
    [
        [{"context_id": "c", "context_text": CONTEXT, "title": "t",
          "qas": [{"query_text": "Who won?", "query_id": "q1", "answers": ["The cook", "cook"]}]}],
        [{"context": CONTEXT, "qas": [{"question": "Who won?", "id": "q1", "answers": ["The cook"]}]}],
        {"data": [{"paragraphs": [{"id": "D", "context": CONTEXT, "qas": [ASKED]}]}]},
    ],
)  # fmt: skip
def test_relatives_of_squad_are_read(value: Any, tmp_path: Path) -> None:
    [question] = read(write(tmp_path / "a.json", value))
    assert (question.question, question.context, question.id) == ("Who won?", CONTEXT, "q1")
    assert question.references[0] == "The cook"


@pytest.mark.parametrize(
    "names", [("question", "context", "answers"), ("问题", "段落", "答案"), ("Query", "Passage", "Answer")]
)
def test_columns_are_detected_by_name(names: tuple[str, str, str], tmp_path: Path) -> None:
    rows = [dict(zip(names, ("Who won?", CONTEXT, "The cook"), strict=True))]
    file, [question] = read_file(write(tmp_path / "a.jsonl", rows))
    assert (question.question, question.context, question.references) == ("Who won?", CONTEXT, ["The cook"])
    assert all(repr(name) in file.columns.describe() for name in names)


def test_columns_are_detected_by_content_if_their_names_say_nothing(tmp_path: Path) -> None:
    rows = [{"x": "Who won?", "y": CONTEXT * 3, "z": "The cook", "w": "easy"}] * 4
    _, [question, *_] = read_file(write(tmp_path / "a.jsonl", rows))
    assert (question.question, question.references) == ("Who won?", ["The cook"])


def test_hub_form_and_csv_are_read(tmp_path: Path) -> None:
    row = {"id": "1", "title": "t", "context": CONTEXT, "question": "Who won?"}
    [question] = read(write(tmp_path / "a.jsonl", [row | {"answers": {"text": ["The cook"], "answer_start": [0]}}]))
    assert question.answers[0].start == 0
    (tmp_path / "a.csv").write_text(
        f'question,context,answer,answer_start\nWho won?,{CONTEXT},king,18\nWho ran?,"{CONTEXT}",,\n'
    )
    [first, second] = read(tmp_path / "a.csv")
    assert first.answers[0][:2] == ("king", 18) and second.answers == ()


def test_columns_that_the_user_names_come_first(tmp_path: Path) -> None:
    rows = [{"question": "Not this?", "ask": "Who won?", "context": CONTEXT, "answers": ["The cook"]}]
    path = write(tmp_path / "a.jsonl", rows)
    [question] = read(path, {"question": "ask"})
    assert question.question == "Who won?"
    with pytest.raises(DataError, match="no column 'asked'"):
        read(path, {"question": "asked"})
    with pytest.raises(DataError, match="given twice"):
        read(path, {"question": "ask", "context": "ask"})
    with pytest.raises(DataError, match="not read from a file of SQuAD's form"):
        read(write(tmp_path / "b.json", squad(ASKED)), {"question": "ask"})


def test_questions_without_answers_can_be_predicted_but_not_trained_on(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [{"question": "Who won?", "context": CONTEXT}])
    assert len(read(path, need=False)) == 1
    with pytest.raises(DataError, match="no column holds the answers") as caught:
        read(path)
    assert "--answer NAME" in str(caught.value)
    nested = write(tmp_path / "b.json", squad({"id": "q", "question": "Who?"}))
    assert len(read(nested, need=False)) == 1
    with pytest.raises(DataError, match="no 'answers'"):
        read(nested)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"question": ["a"], "context": CONTEXT, "answers": ["a"]}, "'question' holds a list"),
        ({"question": "Who?", "context": {"a": 1}, "answers": ["a"]}, "'context' holds an object"),
        ({"question": "Who?", "answers": ["a"]}, "no 'context'"),
        ({"question": "Who?", "context": CONTEXT, "answers": {"a": 1}}, "no key 'text'"),
        (
            {"question": "Who?", "context": CONTEXT, "answers": ["a"], "is_impossible": "maybe"},
            "neither true nor false",
        ),
    ],
)
def test_bad_row_is_an_error_with_its_line_or_skipped_and_counted(row: Any, message: str, tmp_path: Path) -> None:
    good = {"question": "Who won?", "context": CONTEXT, "answers": ["The cook"], "is_impossible": "false"}
    path = write(tmp_path / "a.jsonl", [good, row, good])
    with pytest.raises(DataError, match=message) as caught:
        read(path)
    assert "a.jsonl:2" in str(caught.value)
    assert len(read(path, skip_bad=True)) == 2


@pytest.mark.parametrize(
    ("article", "message"),
    [
        ({"title": "t"}, "neither 'paragraphs' nor 'qas'"),
        ({"paragraphs": [{"qas": [ASKED]}]}, "no key 'context'"),
        ({"paragraphs": ["text"]}, "a paragraph is str"),
        ({"paragraphs": [{"context": CONTEXT, "qas": {"a": 1}}]}, "'qas' holds an object"),
    ],
)
def test_bad_article_is_an_error_with_its_row(article: Any, message: str, tmp_path: Path) -> None:
    value = squad(ASKED)
    value["data"].append(article)
    with pytest.raises(DataError, match=message) as caught:
        read(write(tmp_path / "a.json", value))
    assert "row 2" in str(caught.value)


def test_every_question_of_a_predicted_file_keeps_its_cells(tmp_path: Path) -> None:
    file, [question] = read_file(write(tmp_path / "a.json", squad(ASKED)), need=False)
    assert file.kept == ["id", "title", "question", "context"]
    assert question.cells == {"id": "q1", "title": "Cooks", "question": "Who won?", "context": CONTEXT}
    assert question.answers == ()
