"""`llmkit compare` needs two runs; its table has few digits, no empty column, and no control characters."""

from pathlib import Path
from typing import Any

import pytest
from cli.test_app import run
from rich.cells import cell_len

from llmkit.cli.compare import make_table, show_count, show_large
from llmkit.cli.output import show_table


def row(run: str, **more: Any) -> dict[str, Any]:
    figures = {"bits_per_byte": 1.5, "loss": 2.0, "perplexity": 7.389, "word_perplexity": None}
    facts = {"family": "gpt2", "n_parameters": 24_032, "n_training_tokens": None, "seconds": 75.0}
    return {"run": run, **facts, **figures, "tokens_per_second": 1234.5, "n_unknown_tokens": 0, **more}


def show(capsys: pytest.CaptureFixture[str], *rows: dict[str, Any]) -> list[str]:
    show_table(make_table({"task": "clm", "runs": list(rows)}))
    return capsys.readouterr().out.splitlines()


def test_a_run_that_is_given_twice_is_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code, _, err = run(monkeypatch, capsys, "compare", str(tmp_path), f"{tmp_path}/.", "--out", str(tmp_path / "c"))
    assert code == 2
    assert "is shown once" in err
    assert "give two or more run folders" in err
    assert not (tmp_path / "c").exists()


def test_columns_are_aligned_in_any_script_and_columns_without_values_are_left_out(
    capsys: pytest.CaptureFixture[str],
) -> None:
    head, *lines = show(capsys, row("a", loss=None), row("红楼梦" * 4, bits_per_byte=10.25), row("b" * 9))
    assert head.split() == ["run", "family", "params", "time", "loss", "ppl/token", "bits/byte", "tokens/s"]
    assert len({cell_len(line) for line in [head, *lines]}) == 1, "the last column ends on the right"
    assert lines[0].split().count("–") == 1 and "–" not in lines[1]
    assert "10.2500" in lines[1] and "24.0k" in lines[1]


def test_run_name_has_a_star_if_unknown_tokens_improve_its_metrics(capsys: pytest.CaptureFixture[str]) -> None:
    assert show(capsys, row("a", n_unknown_tokens=3))[1].startswith("a *")


def test_name_of_a_run_commands_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    lines = show(capsys, row("\x1b[31ma\nb [bold]"))
    assert all(line.isprintable() for line in lines) and "[bold]" in lines[1]


@pytest.mark.parametrize(
    ("number", "shown"),
    [(0, "0"), (512, "512"), (999.4, "999"), (999.5, "1.00k"), (24_032, "24.0k"), (999_500, "1.00M"), (124.4e6, "124M"),
     (1.234e12, "1.23T")],
)  # fmt: skip
def test_count_has_three_digits(number: float, shown: str) -> None:
    assert show_count(number) == shown


def test_perplexity_that_is_huge_is_short() -> None:
    assert [show_large(value) for value in (7.389, 12_345.678, 1e7)] == ["7.39", "12,345.68", "1.00e+07"]
