"""Files of questions become splits without common articles."""

from pathlib import Path
from typing import Any

import pytest
from asked import make_articles, recipe, write_squad

from llmkit.core.errors import DataError, UsageError
from llmkit.runs.train import finetune
from llmkit.tasks.base import TrainingRequest
from llmkit.tasks.qa.training import open_reader_training


def test_held_out_questions_have_other_articles(bert: str, questions: str, tmp_path: Path) -> None:
    setup = open_reader_training(recipe(), TrainingRequest({"train": questions}, tmp_path / "x", bert))  # type: ignore[arg-type]
    task: Any = setup.task
    sides = {name: {each.article for each in split.questions} for name, split in task.questions.splits.items()}
    assert len(sides["validation"]) == 4 and not sides["train"] & sides["validation"]


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ("no answers", DataError, "no train question has an answer"),
        ("other words", DataError, "no answer is in its context"),
        ("long", UsageError, "no room for a question"),
    ],
)
def test_unusable_questions_and_settings_are_refused(
    change: str, kind: type[Exception], message: str, bert: str, tmp_path: Path
) -> None:
    articles = make_articles(3)
    for each in (asked for a in articles for p in a["paragraphs"] for asked in p["qas"]):
        if change == "no answers":
            each["answers"] = []
        elif change == "other words":
            each["answers"] = [{"text": "queen", "answer_start": 0}]
    asked = recipe("qa.stride=40") if change == "long" else recipe()
    with pytest.raises(kind, match=message):
        finetune(asked, files={"train": write_squad(tmp_path / "a.json", articles)}, out=tmp_path / "run", model=bert)


def test_counts_of_what_was_corrected_and_left_out_are_printed(
    bert: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    articles = make_articles(6)
    asked = [each for article in articles for part in article["paragraphs"] for each in part["qas"]]
    asked[0]["answers"][0]["answer_start"] += 1
    asked[1]["answers"][0]["text"] = "queen"
    asked[2]["question"] = " "
    path = write_squad(tmp_path / "a.json", articles)
    open_reader_training(recipe(), TrainingRequest({"train": path, "test": path}, tmp_path / "x", bert))
    said = capsys.readouterr().err
    assert "1 answer with a wrong start" in said and "1 answer not in the context" in said
    assert f"left out of {path}: 1 question without a text" in said
    assert f"left out of {path}: 1 question whose answers are not in their contexts, for example 'queen'" in said
    assert "test 24 (" in said and "24 of 24 test questions have a context that train questions have too" in said


def test_long_answers_raise_the_maximum_length(bert: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    context = "we meet at home later " * 12
    rows = [
        {
            "title": str(n),
            "paragraphs": [
                {
                    "context": f"{n} {context}",
                    "qas": [{"id": "q", "question": "who", "answers": [{"text": context.strip(), "answer_start": 2}]}],
                }
            ],
        }
        for n in range(4)
    ]
    path = write_squad(tmp_path / "a.json", rows)
    request = TrainingRequest({"train": path}, tmp_path / "x", bert)
    task: Any = open_reader_training(recipe("train.block_size=64"), request).task
    assert task.questions.format.max_answer_length == 60 and "99% of the train answers" in capsys.readouterr().err
    task = open_reader_training(recipe("train.block_size=64", "qa.max_answer_length=5"), request).task
    assert task.questions.format.max_answer_length == 5 and "cannot give them in full" in capsys.readouterr().err


def test_sample_of_train_questions_leaves_held_out_questions_alone(bert: str, questions: str, tmp_path: Path) -> None:
    request = TrainingRequest({"train": questions}, tmp_path / "x", bert)
    tasks: list[Any] = [open_reader_training(recipe(*more), request).task for more in ((), ("train.max_rows=10",))]
    whole, sampled = (task.questions.splits for task in tasks)
    assert len(sampled["train"]) == 10 and sampled["validation"].hash_rows() == whole["validation"].hash_rows()
