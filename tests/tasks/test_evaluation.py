"""The code that all evaluations share: block size, raw text and prepared data."""

import json
from pathlib import Path

import pytest
from tasks.clm.test_training import data, recipe, run  # noqa: F401
from tiny import make_gpt2, make_recurrent, save_bert
from transformers import AutoTokenizer

from llmkit.config.evaluate import Evaluate
from llmkit.config.prepare import Prepare, Read
from llmkit.core.errors import DataError, UsageError
from llmkit.evaluating.evaluate import evaluate
from llmkit.tasks.evaluation import choose_block_size, encode_files, read_raw_documents
from llmkit.tokens.tokenizer import ensure_special_tokens


def test_block_size_comes_from_settings_then_run_then_model_then_default() -> None:
    model = make_gpt2(n_positions=16)
    assert choose_block_size(model, Evaluate(block_size=4), 8, 99) == 4
    assert choose_block_size(model, Evaluate(), 8, 99) == 8
    assert choose_block_size(model, Evaluate(), None, 99) == 16
    assert choose_block_size(make_recurrent(), Evaluate(), None, 99) == 99


@pytest.mark.parametrize(("asked", "own"), [(17, None), (None, 17)])
def test_block_size_beyond_the_positions_is_refused(asked: int | None, own: int | None) -> None:
    with pytest.raises(UsageError, match="block_size 17 does not fit the model's 16 positions") as caught:
        choose_block_size(make_gpt2(n_positions=16), Evaluate(block_size=asked), own, 99)
    assert "16 or less" in caught.value.problems[0].hint


def test_raw_documents_are_uncleaned_except_for_lone_surrogates(tmp_path: Path) -> None:
    text = "  clichÃ© \u3000 e\u0301\n\n\n\n"
    (tmp_path / "a.txt").write_text(text)
    (tmp_path / "b.jsonl").write_text(json.dumps({"text": "lone \ud800 half"}) + "\n")
    found = [document.text for document in read_raw_documents([str(tmp_path)], Read())]
    assert found == [text, "lone ? half"]


def test_cleaning_of_prepare_that_a_text_to_score_does_not_get_is_reported(
    run: Path,  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(run / "model")
    for name, text in (("a.txt", "　　却说曹操\n\n\n\n\n　　玄德曰\n"), ("b.txt", "却说曹操\n\n玄德曰\n")):
        (tmp_path / name).write_text(text, encoding="utf-8")
    texts = [document.text for document in read_raw_documents([str(tmp_path)], Read(max_doc_chars=1000), tokenizer)]
    assert texts == [(tmp_path / name).read_text(encoding="utf-8") for name in ("a.txt", "b.txt")]
    output = capsys.readouterr().err
    assert "documents scored without the cleaning that prepare does by default: whitespace in 1;" in output
    list(read_raw_documents([str(tmp_path / "b.txt")], Read(), tokenizer))
    assert "scored without the cleaning" not in capsys.readouterr().err


@pytest.mark.parametrize(("text", "sentences"), [("", False), (" \n\n", True)])
def test_files_without_text_are_refused(text: str, sentences: bool, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(text)
    tokenizer = AutoTokenizer.from_pretrained(save_bert(tmp_path / "model"))
    ensure_special_tokens(tokenizer)
    with (
        pytest.raises(DataError, match="no text to score"),
        encode_files([str(tmp_path / "a.txt")], Prepare(), tokenizer, sentences=sentences),
    ):
        pytest.fail("there is nothing to score")


def test_raw_text_has_the_same_metrics_as_its_prepared_split(run: Path, data: Path, tmp_path: Path) -> None:  # noqa: F811
    tokenizer = AutoTokenizer.from_pretrained(run / "model")
    import datasets

    rows = datasets.load_from_disk(str(data / "validation"))["input_ids"]
    (tmp_path / "held.txt").write_text(tokenizer.decode(rows[0][:-1]), encoding="utf-8")
    from_text = evaluate(recipe("evaluate.block_size=16"), model=str(run), data=[str(tmp_path / "held.txt")])
    from_store = evaluate(recipe(), model=str(run))
    assert from_text["n_tokens"] == from_store["n_tokens"]
    assert from_text["bits_per_byte"] == pytest.approx(from_store["bits_per_byte"], rel=1e-6)


def test_lone_surrogate_in_a_text_to_score_is_left_out_as_prepare_does(run: Path, tmp_path: Path) -> None:  # noqa: F811
    (tmp_path / "rows.jsonl").write_text('{"text": "a\\ud800b"}\n')
    assert evaluate(recipe(), model=str(run), data=[str(tmp_path / "rows.jsonl")])["n_characters"] == 2
