"""compare.html: one file with the table, the curves and the notes."""

from pathlib import Path
from typing import Any

from llmkit.reporting.compare_page import PAGE, write_comparison

HOSTILE = "<script>alert(1)</script>"


def row(run: str, n_tokens: list[int], **more: Any) -> dict[str, Any]:
    figures = {"bits_per_byte": 1.5, "loss": 2.0, "perplexity": 7.389, "word_perplexity": None}
    facts = {"family": "gpt2", "n_parameters": 24_032, "n_training_tokens": 1000, "seconds": None}
    tokenizer = {"kind": "char", "vocab_size": 300, "fingerprint": "f" * 64}
    curve = {"n_tokens": n_tokens, "bits_per_byte": [2.0 for _ in n_tokens]}
    method = {"windows": "block-wise", "block_size": 32}
    counts = {"tokens_per_second": 10.0, "n_tokens": 400, "n_unknown_tokens": 0}
    scored = {"tokenizer": tokenizer, "curve": curve, "method": method, "intervals": {}, "settings": {}}
    return {"run": run, **facts, **figures, **counts, **scored, **more}


def write(folder: Path, *rows: dict[str, Any], notes: tuple[str, ...] = ()) -> str:
    facts = {"task": "clm", "by": "bits_per_byte", "split": "test", "held_out": "1,000 bytes", "best": "lowest"}
    facts |= {"tests": []}
    path = write_comparison({"runs": list(rows), "notes": list(notes), **facts}, folder)
    assert path == folder / PAGE
    return path.read_text(encoding="utf-8")


def test_page_has_every_run_its_basis_and_no_column_that_no_run_has(tmp_path: Path) -> None:
    page = write(tmp_path, row("first", [500, 1000]), row("second", [500, 1000], n_unknown_tokens=3))
    assert "2 runs compared" in page and "the test split, 1,000 bytes" in page
    assert "second *" in page and "first *" not in page
    assert "perplexity per token" in page and "perplexity per word" not in page and ">time<" not in page
    assert "block-wise, block size 32" in page and "f" * 12 in page and "f" * 13 not in page


def test_run_without_a_curve_is_named_under_the_others(tmp_path: Path) -> None:
    page = write(tmp_path, row("first", [500]), row("second", []))
    assert "Without a logged evaluation: second." in page
    assert "No run logged an evaluation" in write(tmp_path, row("first", []))


def test_names_and_notes_are_text_and_more_runs_than_colours_look_different(tmp_path: Path) -> None:
    page = write(tmp_path, *(row(f"{HOSTILE}{n}", [500, 1000]) for n in range(16)), notes=(HOSTILE,))
    assert HOSTILE not in page
    assert "Before you compare" in page and "Before you compare" not in write(tmp_path, row("a", []))
    assert page.count('class="blue dashed') >= 1
