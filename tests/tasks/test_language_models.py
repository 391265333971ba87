"""Language models are scored on prepared folders and on text."""

# ruff: noqa: F811 - fixtures of another file are used under their names

from pathlib import Path

import pytest
from tasks.clm.test_training import data, recipe, run  # noqa: F401
from transformers import AutoTokenizer

from llmkit.evaluating.evaluate import evaluate


def test_raw_text_scores_as_the_prepared_split_of_it(run: Path, data: Path, tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(run / "model")
    import datasets

    rows = datasets.load_from_disk(str(data / "validation"))["input_ids"]
    (tmp_path / "held.txt").write_text(tokenizer.decode(rows[0][:-1]), encoding="utf-8")
    from_text = evaluate(recipe("evaluate.block_size=16"), model=str(run), data=[str(tmp_path / "held.txt")])
    from_store = evaluate(recipe(), model=str(run))
    assert from_text["n_tokens"] == from_store["n_tokens"]
    assert from_text["bits_per_byte"] == pytest.approx(from_store["bits_per_byte"], rel=1e-6)


def test_lone_surrogate_in_a_text_to_score_is_no_crash(run: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"text": "a\\ud800b"}\n')
    assert evaluate(recipe(), model=str(run), data=[str(tmp_path / "rows.jsonl")])["n_characters"] == 3
