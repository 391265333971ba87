"""A plain text that has the form of another format gets a note with the setting; ordinary texts do not."""

import json
import random
import shlex

import pytest

from llmkit.config.loading import load_recipe
from llmkit.text.boundaries import split_documents
from llmkit.text.shapes import watch_shape
from llmkit.text.sources import Source

TITLES = ["The Old Ferry", "Lamps at Night", "A Boat in the Storm", "Winter", "How We Left", "Nobody Knew", "On Rivers"]
QUERIES = [
    "how to boil an egg",
    "boats near me",
    "what is a ferry",
    "cheap lamps",
    "old harbour",
    "why is the sea salt",
]
SENTENCE = "the lamps burned all night and nobody knew where the boat was, until a ferry came "


def note(text: str, size: int = 1 << 20) -> str:
    source = Source("a.txt")
    pieces = [text[start : start + size] for start in range(0, len(text), size)]
    assert "".join(watch_shape(pieces, source)) == text
    return "; ".join(f"{what}; {example}" for what, example in source.notes.items())


def wrap(text: str, width: int) -> str:
    words, lines = text.split(), [""]
    for word in words:
        if len(lines[-1]) + len(word) > width:
            lines.append("")
        lines[-1] += word + " "
    return "\n".join(line.strip() for line in lines) + "\n"


@pytest.mark.parametrize("size", [1, 1 << 20])
def test_form_feeds_are_counted_and_the_setting_reported(size: int) -> None:
    found = note("A page ends.\n\fThe next begins.\n" * 3, size)
    assert "-s 'prepare.read.separator=\\f'; number: 3" in found


@pytest.mark.parametrize("size", [1, 7, 1 << 20])
@pytest.mark.parametrize("mark", ["<|endoftext|>", "<|end_of_text|>", "</s>"])
def test_marks_between_documents_are_counted_and_the_setting_reported(mark: str, size: int) -> None:
    found = note("".join(f"Story {n} is short.\n{mark}\n" for n in range(200)), size)
    assert "200 times" in found
    assert "prepare.read.documents=separator" in found
    assert ("prepare.read.separator=" in found) == (mark != "<|endoftext|>")


@pytest.mark.parametrize("lines", [TITLES, QUERIES, ["王老五的故事", "河边", "山中的灯", "渡船", "夜", "三个兄弟"]])
def test_a_title_in_each_line_is_reported(lines: list[str]) -> None:
    assert "prepare.read.documents=line" in note("\n".join(lines * 2) + "\n")


@pytest.mark.parametrize(
    "text",
    [
        wrap(SENTENCE * 30, 70),
        wrap(SENTENCE.capitalize() * 30, 40),
        "\n\n".join(wrap(SENTENCE * 3, 60) for _ in range(10)),
        "Shall I compare thee to a summer’s day?\nThou art more lovely and more temperate:\n" * 20,
        "从前有一座山，山上有一座庙。\n庙里有一个老和尚。\n" * 20,
        "def f(x):\n    if x:\n        return 1\n    return 2\n" * 10,
        "* * *\n".join(wrap(SENTENCE * 3, 60) for _ in range(20)),
        "# Title\n\nSome words about lamps.\n\n- one\n- two\n" * 10,
        "One line alone.",
        "",
        "\n\n\n",
    ],
)
def test_ordinary_texts_get_no_note(text: str) -> None:
    assert note(text) == ""


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("text，label\n很好，甲\n", "a table (.csv)"),
        ("__label__pos a good king\n__label__neg a bad knight\n", "fastText"),
        ('{"text": "a"}\n{"text": "b"}\n', ".jsonl"),
        (json.dumps([{"text": "a"}], indent=1), ".json"),
        ("1\ta b\n2\tc d\n3\te f\n", ".tsv"),
        ("id,text\n1,a b\n", ".csv"),
        ("one tale\n%\nanother tale\n%\n" * 10, "=^%$'"),
        ("one tale\n=====\n" * 10, "=^={5,}$'"),
        ("### Instruction:\nName a lamp.\n\n### Response:\nAda.\n\n" * 10, r"=\n(?=### Instruction)'"),
        ("Human: who came?\nAssistant: the cook.\n" * 10, r"=\n(?=Human:)'"),
        ("问：谁来了？\n答：厨师。\n" * 10, r"=\n(?=问：)'"),
        ("[INST] Name a lamp. [/INST] Ada.\n" * 10, r"=\n(?=\[INST\])'"),
    ],
)
def test_tables_labels_and_rules_are_reported(text: str, what: str) -> None:
    assert what in note(text)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\n\n", "  \n"])
@pytest.mark.parametrize(
    "mark",
    [
        *["---", "***", "===", "* * *", "###", "[SEP]", "<SEP>", "</s>", "<eos>", "<|im_end|>", "<|end|>", "[END]"],
        *["</doc>", "—", "⁂", "＊＊＊", "・・・", "◇◇◇", "### END ###", "=====", "  ***", "<end_of_turn>"],
    ],
)
def test_the_setting_for_a_mark_on_its_own_line_splits_the_documents_there(mark: str, end: str) -> None:
    text = f"The ferry left at dawn, quietly.{end}{mark}{end}" * 200
    settings = dict(part.split("=", 1) for part in shlex.split(note(text)) if part.startswith("prepare."))
    recipe = load_recipe(None, [f"{key}={value.rstrip(';')}" for key, value in settings.items()])
    documents = split_documents([text], recipe.prepare.read, Source("a.txt"))
    assert {d.text.strip() for d in documents} == {"The ferry left at dawn, quietly."}


@pytest.mark.parametrize(
    "text",
    [
        "<p>\nWords of the page.\n</p>\n<div>\n<br>\n</div>\n" * 40,
        "Chapter\n-------\n\nWords of the book.\n\nTitle\n=====\n\nWords.\n\n" * 8,
        "***\n".join(wrap(SENTENCE * 3, 60) for _ in range(20)),
        "int f() {\n}\n#\n" * 100,
    ],
)
def test_a_few_rules_and_markup_are_no_marks_between_documents(text: str) -> None:
    assert "separate" not in note(text)


def test_setting_for_instructions_makes_each_of_them_a_document() -> None:
    record = "### Instruction:\nName a lamp.\n\n### Response:\nAda.\n\n"
    settings = [part.rstrip(";") for part in shlex.split(note(record * 20)) if part.startswith("prepare.")]
    read = load_recipe(None, settings).prepare.read
    documents = list(split_documents([record * 20], read, Source("a.txt")))
    assert [document.text.strip() for document in documents] == [record.strip()] * 20


@pytest.mark.parametrize(
    "line", ["Q: who came?\n", "Answer: nobody knows the answer.\n", "Romeo: what light?\nJuliet: ay me.\n"]
)
def test_lines_of_one_speaker_or_of_a_play_are_no_instructions(line: str) -> None:
    assert "instructions" not in note(line * 20)


def test_any_text_is_passed_through_as_it_is() -> None:
    draw = random.Random(0)
    for _ in range(200):
        text = "".join(draw.choices('a {}[]"\n\t,<|>%=字\u2028\udc80', k=draw.randint(0, 60)))
        note(text, draw.randint(1, 20))
