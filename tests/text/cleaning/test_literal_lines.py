"""Lines of code and tables are recognized; prose is not."""

import pytest

from llmkit.text.cleaning.literal_lines import LiteralLines


@pytest.mark.parametrize(
    "text",
    [
        "x = compute(alpha)\ny = compute(beta)\nprint(x, y)",
        "def read(path):\n    return path\n",
        "int main() {\n  return 0;\n}",
        "$ pip install llmkit\n$ llmkit prepare books",
        "SELECT name\nFROM boats\nWHERE id = 3;\nSELECT 1;\nSELECT x;",
        "const f = (a) => a + 1\nlet y = f(2)",
        "Name   Age\nAnna   12",
        "Name\tAge\nAnna\t12",
    ],
)
def test_most_lines_of_code_and_tables_are_literal(text: str) -> None:
    lines = text.split("\n")
    assert sum(LiteralLines().find(lines)) >= len([line for line in lines if line.strip()]) - 2


@pytest.mark.parametrize(
    "text",
    [
        "The ferry left at dawn (nobody saw it), and the man\nwho kept it went home;\nnobody knew why: it was cold.",
        "Return to the river, for the boat is there;\nif you wait, it will come",
        "Il répondit : « oui » ;\nelle ne dit rien",
        "他说：“船在哪里；我不知道。”\n没有人知道。",
        "",
    ],
)
def test_prose_is_not_literal(text: str) -> None:
    assert not any(LiteralLines().find(text.split("\n")))


def test_code_fence_stays_open_across_parts() -> None:
    literal = LiteralLines()
    assert literal.find(["words", "", "```", "one", ""]) == [False, False, True, True, True]
    assert literal.find(["two", "```", "words"]) == [True, True, False]
