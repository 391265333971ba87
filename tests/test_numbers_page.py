"""docs/numbers.md runs: each figure is computed by the line that shows it, or by llmkit."""

import ast
import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import TemperatureLogitsWarper

from llmkit.tasks.clm.evaluation import to_metrics
from llmkit.text.language.words import count_words, valid_word_count

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/numbers.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.S | re.M)
CODE = re.sub(r"^#.*$", "", "".join(BLOCKS), flags=re.M)
PROSE = "\n".join([re.sub(r"^```.*?^```$", "", PAGE, flags=re.S | re.M), *re.findall(r"^#.*$", "".join(BLOCKS), re.M)])
FIGURE = r"-?\d[\d,]*(?:\.\d+)?"
SHOWN = re.compile(rf"  # ((?:{FIGURE})(?: {FIGURE})*)(?![\w.])")
"""The figures a comment begins with; what follows them is for the reader."""


def figures_of(value: Any) -> list[float]:
    """The numbers in a number, a tensor, or a list or tuple of them."""
    if isinstance(value, torch.Tensor):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [figure for item in value for figure in figures_of(item)]
    return [float(value)]


def run_page() -> tuple[dict[str, Any], list[tuple[str, list[str], list[str]]]]:
    """What the blocks leave behind, and of each line with figures: itself, what it shows, what comes out."""
    names: dict[str, Any] = {}
    checked = []
    for block in BLOCKS:
        lines = block.splitlines()
        for statement in ast.parse(block).body:
            line = lines[(statement.end_lineno or 0) - 1]
            source = ast.unparse(statement)
            if isinstance(statement, ast.Expr):
                value = eval(source, names)
            else:
                exec(source, names)
                value = names.get(source.split(" = ")[0])
            if shown := SHOWN.search(line):
                figures = shown[1].split()
                digits = [len(figure.partition(".")[2]) for figure in figures]
                found = figures_of(value)
                assert len(found) == len(figures), line
                checked.append((line, figures, [f"{f:.{n}f}" for f, n in zip(found, digits, strict=True)]))
    return names, checked


with torch.random.fork_rng():
    torch.manual_seed(0)
    NAMES, CHECKED = run_page()


@pytest.mark.parametrize(("line", "shown", "computed"), CHECKED, ids=[line for line, _, _ in CHECKED])
def test_line_of_the_page_gives_the_figures_beside_it(line: str, shown: list[str], computed: list[str]) -> None:
    assert [figure.replace(",", "") for figure in shown] == computed


def test_no_result_on_the_page_is_left_unchecked() -> None:
    statements = [statement for block in BLOCKS for statement in ast.parse(block).body]
    assert len(CHECKED) >= sum(isinstance(statement, ast.Expr) for statement in statements) > 0
    with_figures = [line for block in BLOCKS for line in block.splitlines() if re.search(r"\S  # ?-?\d", line)]
    assert with_figures == [line for line, _, _ in CHECKED]


def test_every_number_in_the_prose_stands_in_the_code_too() -> None:
    in_code = {number.replace("_", "") for number in re.findall(r"\d[\d_]*(?:\.\d+)?", CODE)}
    in_prose = {number.replace(",", "") for number in re.findall(r"(?<![\w-])\d+(?:,\d{3})*(?:\.\d+)?", PROSE)}
    assert in_prose
    assert in_prose <= in_code, in_prose - in_code


def test_page_imports_torch_and_math_only() -> None:
    imports = re.findall(r"^(?:import|from) (\w+)", "".join(BLOCKS), re.M)
    assert set(imports) == {"math", "torch"}


def test_page_stays_short() -> None:
    assert len(PAGE.splitlines()) <= 120


def test_commands_compute_the_figures_as_the_page_says() -> None:
    sums = {"nats": NAMES["letters"], "n_correct": 2, "n_tokens": 3}
    metrics = to_metrics(sums, {"tokens": 3, "bytes": NAMES["n_bytes"], "characters": 3, "words": 1})
    bits = NAMES["word"] / math.log(2)
    expected = {
        "loss": NAMES["letters"] / 3,
        "perplexity": math.exp(NAMES["letters"] / 3),
        "word_perplexity": math.exp(NAMES["word"] / 1),
        "bits_per_byte": bits / 3,
        "bits_per_character": bits / 3,
        "accuracy": 2 / 3,
    }
    assert re.findall(r"^\| `(\w+)` \|", PAGE, re.M) == list(expected)
    assert {name: metrics[name] for name in expected} == pytest.approx(expected)


def test_words_are_counted_as_the_page_says() -> None:
    assert count_words("the cat\nsat", ends_document=True)["words"] == 3 + 1 + 1
    chinese = "学而时习之"
    assert valid_word_count(count_words(chinese, ends_document=True) | {"characters": len(chinese)}) is None


def test_temperature_has_the_same_effect_as_in_generate() -> None:
    for temperature in (0.5, 2.0):
        warped = TemperatureLogitsWarper(temperature)(torch.zeros(1, 0, dtype=torch.long), NAMES["logits"][None])
        torch.testing.assert_close(warped[0].softmax(-1), (NAMES["logits"] / temperature).softmax(-1))
