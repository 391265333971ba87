"""The normalization of the training text is applied to prompts, eval, fine-tuning, predict and in transformers."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from tiny import write_table
from transformers import AutoTokenizer

import llmkit
from llmkit.tokens.normalization import KEY
from llmkit.tokens.prepared import load_prepared
from llmkit.tokens.tokenizer import encode_texts

LINES = [f"The café number {n} is open, said the COOK of the Island.\n" for n in range(60)]
TINY: dict[str, Any] = {
    "model__n_embd": 32, "model__n_layer": 1, "model__n_head": 2, "train__block_size": 32, "train__max_steps": 2,
    "train__global_batch_size": 2, "train__sample_prompt": None, "train__compile": "none",
}  # fmt: skip


class Made(NamedTuple):
    data: Path
    run: Path


def make(folder: Path, task: Any, kind: str, **clean: Any) -> Made:
    text = folder / "text.txt"
    text.write_text("".join(LINES), encoding="utf-8")
    keys = {f"prepare__clean__{name}": value for name, value in clean.items()}
    llmkit.prepare(
        text, folder / "data", prepare__tokenizer__kind=kind, prepare__tokenizer__vocab_size=300,
        prepare__split__validation=0.2, prepare__split__test=0, **keys,
    )  # fmt: skip
    more: dict[str, Any] = {"mlm__sentence_objective": "none"} if task == "mlm" else {}
    llmkit.pretrain(data=folder / "data", out=folder / "run", task=task, **TINY, **more)
    return Made(folder / "data", folder / "run")


@pytest.fixture(scope="module", params=["byte-bpe", "char"])
def causal(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make(tmp_path_factory.mktemp(request.param), "clm", request.param, lowercase=True)


@pytest.fixture(scope="module")
def masked(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make(tmp_path_factory.mktemp("masked"), "mlm", "wordpiece", lowercase=True)


def generate(made: Made, prompt: str) -> Any:
    (record,) = llmkit.generate(made.run, prompt, temperature=0, max_new_tokens=8)
    return record


def test_prompt_in_capitals_is_continued_as_the_one_in_lower_case(
    causal: Made, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = generate(causal, "the café")
    assert "is read as" not in capsys.readouterr().err
    given = generate(causal, "The CAFE\u0301")
    assert (given["text"], given["prompt"]) == (plain["text"], "The CAFE\u0301")
    assert "'The CAFE\u0301' is read as 'the café' (unicode NFC, lowercase)" in capsys.readouterr().err


def test_plain_transformers_normalizes_like_the_training_text(causal: Made) -> None:
    tokenizer = AutoTokenizer.from_pretrained(causal.run / "model")
    assert tokenizer("The CAFE\u0301")["input_ids"] == tokenizer("the café")["input_ids"]
    stored = load_prepared(causal.data).split("train").stream
    own = AutoTokenizer.from_pretrained(causal.data / "tokenizer")
    ids = stored.read(0, len(stored) - 1).tolist()
    assert encode_texts(tokenizer, [str(own.decode(ids))])[0].tolist() == ids


def test_record_is_in_manifest_model_and_card(causal: Made) -> None:
    record = {"unicode": "NFC", "lowercase": True, "strip_punctuation": False, "simplify_chinese": False}
    assert load_prepared(causal.data).manifest["normalization"] == record
    saved = json.loads((causal.run / "model" / "tokenizer_config.json").read_text())[KEY]
    assert record.items() <= saved.items()
    assert "does this itself: NFC, lower case" in (causal.run / "model" / "README.md").read_text()
    assert KEY not in (causal.data / "tokenizer" / "tokenizer_config.json").read_text()


def test_eval_reads_a_text_file_as_it_was_trained(
    causal: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    upper, lower = tmp_path / "upper.txt", tmp_path / "lower.txt"
    upper.write_bytes(b"The COOK is Open.\r\nThe Island.\r\n")
    lower.write_bytes(b"the cook is open.\nthe island.\n")
    one, other = llmkit.evaluate(causal.run, upper), llmkit.evaluate(causal.run, lower)
    assert one["loss"] == other["loss"]
    assert one["n_bytes"] == other["n_bytes"]
    output = "documents normalized like the model's training text: line ends in 1, lowercase in 1"
    assert output in capsys.readouterr().err


def test_eval_of_the_prepared_folder_knows_its_tokenizer(causal: Made) -> None:
    assert llmkit.evaluate(causal.run, causal.data)["loss"] == llmkit.evaluate(causal.run)["loss"]


def test_data_prepared_for_the_model_has_the_same_ids_and_trains_on(causal: Made, tmp_path: Path) -> None:
    text = causal.data.parent / "text.txt"
    shares: dict[str, Any] = {"prepare__split__validation": 0.2, "prepare__split__test": 0}
    manifest = llmkit.prepare(text, tmp_path / "d", prepare__tokenizer__path=str(causal.run / "model"), **shares)
    before = load_prepared(causal.data).manifest
    assert manifest["tokenizer"]["fingerprint"] == before["tokenizer"]["fingerprint"]
    assert manifest["splits"] == before["splits"]
    assert manifest["normalization"] == before["normalization"]
    llmkit.pretrain(data=tmp_path / "d", out=tmp_path / "r", task="clm", model=causal.run, **TINY)
    assert KEY in (tmp_path / "r" / "model" / "tokenizer_config.json").read_text()


def test_masked_prompt_is_filled_as_the_one_in_lower_case(masked: Made) -> None:
    (plain,), (given,) = (llmkit.generate(masked.run, text) for text in ("the [MASK] is", "THE [MASK] Is"))
    found = [[(fill["token_id"], fill["probability"]) for fill in each["masks"][0]] for each in (plain, given)]
    assert found[0] == found[1]
    assert given["masks"][0][0]["text"].startswith("THE ")


def test_classifier_on_the_model_reads_rows_as_the_model_does(
    masked: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [(f"THE COOK number {n}", "a") if n % 2 else (f"the Island number {n}", "b") for n in range(40)]
    lower = [(text.lower(), label) for text, label in rows]
    short: dict[str, Any] = {"train__max_steps": 2, "train__block_size": 16}
    metrics = []
    for name, given in (("upper", rows), ("lower", lower)):
        data = write_table(tmp_path / f"{name}.csv", given)
        metrics.append(llmkit.finetune(data=data, out=tmp_path / name, model=masked.run, **short))
    output = capsys.readouterr().err
    assert "rows normalized as the model's training text: 40 of 40 (NFC, lower case)" in output
    run = tmp_path / "upper"
    assert KEY in (run / "model" / "tokenizer_config.json").read_text()
    upper_row, lower_row = llmkit.predict(run, ["THE COOK", "the cook"])
    assert upper_row["probability"] == lower_row["probability"]


def test_rows_of_unknown_characters_are_reported_by_predict(
    masked: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [(f"the cook {n}", "a") if n % 2 else (f"the island {n}", "b") for n in range(40)]
    data = write_table(tmp_path / "rows.csv", rows)
    short: dict[str, Any] = {"train__max_steps": 2, "train__block_size": 16}
    llmkit.finetune(data=data, out=tmp_path / "run", model=masked.run, **short)
    assert "unknown to the tokenizer" not in capsys.readouterr().err
    llmkit.predict(tmp_path / "run", ["😀😀😀", "𠮷𠮷𠮷", "the cook"])
    output = capsys.readouterr().err
    assert "such as 😀😀😀, 𠮷;" in output
    assert "mostly unknown: 2 of 3 (rows 1, 2)" in output


def test_model_of_a_folder_without_a_record_is_as_before(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = make(tmp_path, "clm", "char")
    manifest = json.loads((made.data / "manifest.json").read_text())
    del manifest["normalization"]
    (made.data / "manifest.json").write_text(json.dumps(manifest))
    llmkit.pretrain(data=made.data, out=tmp_path / "old", task="clm", **TINY)
    capsys.readouterr()
    assert KEY not in (tmp_path / "old" / "model" / "tokenizer_config.json").read_text()
    assert llmkit.generate(tmp_path / "old", "Cafe\u0301", max_new_tokens=2)
    assert "is read as" not in capsys.readouterr().err
    assert json.loads((tmp_path / "old" / "model" / "tokenizer.json").read_text())["normalizer"] is None
