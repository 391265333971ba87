"""A comparison in lines: columns under each other in any script, nothing that no run has, harmless names."""

from typing import Any
from unicodedata import east_asian_width

import pytest

from llmkit.cli.compare_output import _show_count, _show_perplexity, describe_comparison


def row(run: str, **more: Any) -> dict[str, Any]:
    figures = {"bits_per_byte": 1.5, "loss": 2.0, "perplexity": 7.389, "word_perplexity": None}
    facts = {"family": "gpt2", "n_parameters": 24_032, "n_training_tokens": None, "seconds": 75.0}
    return {"run": run, **facts, **figures, "tokens_per_second": 1234.5, "n_unknown_tokens": 0, **more}


def describe(*rows: dict[str, Any], notes: tuple[str, ...] = ()) -> list[str]:
    comparison = {"task": "clm", "runs": list(rows), "by": "bits_per_byte", "split": "test", "n_bytes": 1000}
    return describe_comparison(comparison | {"best": "lowest", "notes": list(notes)})


def width(text: str) -> int:
    return sum(2 if east_asian_width(character) in "WF" else 1 for character in text)


def test_columns_stand_under_each_other_and_columns_that_no_run_has_are_left_out() -> None:
    first, _, head, *lines = describe(row("a", loss=None), row("红楼梦" * 4, bits_per_byte=10.25), row("b" * 9))
    assert first == "test split, 1,000 bytes; the lowest bits/byte first"
    assert head.split() == ["run", "family", "params", "time", "loss", "ppl/token", "bits/byte", "tokens/s"]
    assert len({width(line) for line in [head, *lines]}) == 1, "the last column ends on the right"
    assert lines[0].split().count("–") == 1 and "–" not in lines[1]
    assert "10.2500" in lines[1] and "24.0k" in lines[1]


def test_notes_follow_and_a_run_that_is_flattered_has_a_star() -> None:
    lines = describe(row("a", n_unknown_tokens=3), notes=("trained on different text",))
    assert lines[3].startswith("a *")
    assert lines[-2:] == ["", "note: trained on different text"]
    assert "" not in describe(row("a"))[3:]


def test_name_of_a_run_commands_no_terminal() -> None:
    lines = describe(row("\x1b[31ma\nb"), notes=("\x1b[2J",))
    assert all(line.isprintable() for line in lines)


@pytest.mark.parametrize(
    ("number", "shown"),
    [(0, "0"), (512, "512"), (999.4, "999"), (999.5, "1.00k"), (24_032, "24.0k"), (999_500, "1.00M"), (124.4e6, "124M"),
     (1.234e12, "1.23T")],
)  # fmt: skip
def test_count_has_three_digits(number: float, shown: str) -> None:
    assert _show_count(number) == shown


def test_perplexity_that_is_huge_is_short() -> None:
    assert [_show_perplexity(value) for value in (7.389, 12_345.678, 1e7)] == ["7.39", "12,345.68", "1.00e+07"]
