"""Classifier commands on unusual files and models."""

import csv
import json
from pathlib import Path

import pytest
import torch
from four_kinds import read_log
from several import INTERRUPT, run_command
from tiny import make_messages, save_bert, save_gpt2, write_table
from transformers import AutoTokenizer, GPT2ForSequenceClassification, RobertaConfig

from llmkit.config.loading import load_recipe
from llmkit.core.errors import DataError, ModelError
from llmkit.evaluating.evaluate import evaluate
from llmkit.evaluating.predict import predict
from llmkit.models.classifier import count_positions
from llmkit.runs.train import finetune

QUICK = (
    "train.max_steps=6",
    "train.eval_steps=3",
    "train.log_steps=1",
    "train.global_batch_size=8",
    "train.precision=fp32",
)


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_bert(tmp_path_factory.mktemp("models") / "bert")


@pytest.fixture(scope="module")
def run(bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    table = write_table(folder / "t.csv", make_messages(60))
    finetune(load_recipe(None, QUICK, task="cls"), files={"train": str(table)}, out=folder / "run", model=str(bert))
    return folder / "run"


def label(run: Path, data: Path, out: Path, *overrides: str) -> None:
    predict(load_recipe(None, overrides, task="cls"), model=str(run), data=str(data), out=out, write=print)


def test_line_ends_and_quotes_in_cells_come_back_as_they_went_in(run: Path, tmp_path: Path) -> None:
    texts = ["line one\nline two", 'he said "no", twice', "a\rb", "comma, here"]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    label(run, tmp_path / "in.jsonl", tmp_path / "out.csv")
    with (tmp_path / "out.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert [row[0] for row in rows[1:]] == texts
    assert {len(row) for row in rows} == {3}


def test_lone_surrogate_in_json_does_not_stop_the_labelling(run: Path, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text('{"text": "call \\ud800 now"}\n{"text": "lunch"}\n')
    for name in ("out.csv", "out.jsonl"):
        label(run, tmp_path / "in.jsonl", tmp_path / name)
        assert "call ? now" in (tmp_path / name).read_text(encoding="utf-8")


def test_first_of_a_list_of_texts_is_no_header(run: Path, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("great film\nbad film\nlovely day\n")
    label(run, tmp_path / "in.csv", tmp_path / "out.jsonl", "cls.text='1'")
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 3


@pytest.mark.parametrize("lora", [0, 2])
def test_interrupted_fine_tuning_resumes_to_the_same_weights_and_log(tmp_path: Path, bert: Path, lora: int) -> None:
    table = write_table(tmp_path / "t.csv", make_messages(60))
    options = [each for pair in (*QUICK, f"cls.lora_rank={lora}") for each in ("-s", pair)]
    start = ["finetune-cls", "--model", str(bert), "--data", str(table), *options, "--out"]
    for name, fault, wanted in (("whole", None, 0), ("cut", INTERRUPT, 130)):
        code, _, err = run_command([*start, str(tmp_path / name)], tmp_path / "output", fault)
        assert code == wanted, err
    code, _, err = run_command(["finetune-cls", "--out", str(tmp_path / "cut"), "--resume"], tmp_path / "output")
    assert code == 0, err
    assert read_log(tmp_path / "whole") == read_log(tmp_path / "cut")
    weights = [(tmp_path / name / "model/model.safetensors").read_bytes() for name in ("whole", "cut")]
    assert weights[0] == weights[1]


def test_folds_leave_the_test_rows_alone(tmp_path: Path, bert: Path) -> None:
    table = write_table(tmp_path / "t.csv", make_messages(60))
    recipe = load_recipe(None, [*QUICK, "cls.test=0.2"], task="cls")
    for fold in (0, 1):
        metrics = finetune(
            recipe, files={"train": str(table)}, out=tmp_path / str(fold), model=str(bert), fold=(fold, 2)
        )
        assert (metrics["test"]["n_rows"], metrics["validation"]["n_rows"]) == (12, 24)
        assert metrics["validation"]["method"]["weights"] == "the best of the run on these rows"
        assert "weights" not in metrics["test"]["method"]


def test_validation_rows_that_are_trained_on_are_reported(
    tmp_path: Path, bert: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = str(write_table(tmp_path / "t.csv", make_messages(30)))
    files = {"train": table, "validation": table}
    finetune(load_recipe(None, QUICK, task="cls"), files=files, out=tmp_path / "run", model=str(bert))
    assert "30 of 30 rows" in capsys.readouterr().err


def test_training_and_eval_count_the_same_rows_of_a_test_file(tmp_path: Path, bert: Path) -> None:
    table = str(write_table(tmp_path / "t.csv", make_messages(40)))
    test = str(write_table(tmp_path / "test.csv", [*make_messages(9), ("", "ham"), ("call " * 200, "spam")]))
    recipe = load_recipe(None, QUICK, task="cls")
    metrics = finetune(recipe, files={"train": table, "test": test}, out=tmp_path / "run", model=str(bert))
    scored = evaluate(recipe, model=str(tmp_path / "run"), data=[test])
    assert scored["n_rows"] == metrics["test"]["n_rows"] == 11
    assert scored["accuracy"] == metrics["test"]["accuracy"]
    assert scored["n_truncated"] == metrics["test"]["n_truncated"] == 1


def test_numbers_that_are_all_the_same_are_refused(tmp_path: Path, bert: Path) -> None:
    table = str(write_table(tmp_path / "t.csv", [(text, "3.5") for text, _ in make_messages(20)]))
    recipe = load_recipe(None, [*QUICK, "cls.labels=regression"], task="cls")
    with pytest.raises(DataError, match=r"rows have the number 3\.5"):
        finetune(recipe, files={"train": table}, out=tmp_path / "run", model=str(bert))


def test_number_labels_can_have_weights(tmp_path: Path, bert: Path) -> None:
    rows = [(text, "1" if name == "spam" else "0") for text, name in make_messages(40)]
    recipe = load_recipe(None, [*QUICK, "cls.class_weights={0: 1, 1: 3}"], task="cls")
    files = {"train": str(write_table(tmp_path / "t.csv", rows))}
    assert finetune(recipe, files=files, out=tmp_path / "run", model=str(bert))["training"]["steps"] == 6


def test_positions_behind_the_padding_of_roberta_are_not_counted() -> None:
    config = RobertaConfig(
        vocab_size=50, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8,
        max_position_embeddings=66, pad_token_id=1,
    )  # fmt: skip
    assert count_positions(config) == 64


def test_columns_of_the_train_file_need_not_be_in_others(tmp_path: Path, bert: Path) -> None:
    table = write_table(tmp_path / "t.csv", make_messages(40))
    out = tmp_path / "run"
    recipe = load_recipe(None, [*QUICK, "cls.text=text", "cls.label=label"], task="cls")
    finetune(recipe, files={"train": str(table)}, out=out, model=str(bert))
    (tmp_path / "new.csv").write_text("message\ncall now\n")
    code, output, err = run_command(["predict", str(out), "--data", str(tmp_path / "new.csv")], tmp_path / "output")
    assert code == 0, err
    assert output.startswith("message,prediction,probability\ncall now,")


def test_classifier_without_a_pad_token_in_its_tokenizer_is_read(tmp_path: Path) -> None:
    folder = save_gpt2(tmp_path / "gpt2")
    torch.manual_seed(0)
    model = GPT2ForSequenceClassification.from_pretrained(folder, num_labels=2, pad_token_id=0)
    model.save_pretrained(tmp_path / "theirs")
    AutoTokenizer.from_pretrained(folder).save_pretrained(tmp_path / "theirs")
    (tmp_path / "new.csv").write_text("text,second\ncall now,lunch\nsee you,at noon or later\n")
    for pair in ([], ["cls.pair=second"]):  # nobody knows whether it was trained on pairs
        label(tmp_path / "theirs", tmp_path / "new.csv", tmp_path / f"{len(pair)}.csv", *pair)
    assert (tmp_path / "0.csv").read_text() != (tmp_path / "1.csv").read_text()


def test_classifier_with_a_larger_tokenizer_is_refused_before_training(tmp_path: Path) -> None:
    folder = Path(save_bert(tmp_path / "bert"))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens([f"new{number}" for number in range(500)])
    tokenizer.save_pretrained(folder)
    table = str(write_table(tmp_path / "t.csv", make_messages(20)))
    recipe = load_recipe(None, QUICK, task="cls")
    with pytest.raises(ModelError, match=r"tokenizer has \d+ entries, but the model's embedding has only \d+"):
        finetune(recipe, files={"train": table}, out=tmp_path / "run", model=str(folder))
    assert not (tmp_path / "run").exists()
    grown = load_recipe(None, [*QUICK, "model.resize_embeddings=true"], task="cls")
    finetune(grown, files={"train": table}, out=tmp_path / "run", model=str(folder))


def test_loss_breaks_ties_of_the_selection_metric(
    tmp_path: Path, bert: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = str(write_table(tmp_path / "t.csv", make_messages(60)))
    recipe = load_recipe(None, [*QUICK, "train.max_steps=30", "optim.learning_rate=3e-3"], task="cls")
    metrics = finetune(recipe, files={"train": table}, out=tmp_path / "run", model=str(bert))
    lines = (tmp_path / "run/log.jsonl").read_text().splitlines()
    scored = [record for line in lines if (record := json.loads(line))["kind"] == "eval"]
    best = max(record["f1_macro"] for record in scored)
    tied = [record for record in scored if record["f1_macro"] == best]
    assert len(tied) > 1
    assert metrics["training"]["best_step"] == min(tied, key=lambda record: record["loss"])["step"]
    kept = metrics["training"]["best_step"]
    assert (f"keeping the weights of step {kept}" in capsys.readouterr().err) == (kept != 30)


def test_decimal_numbers_as_labels_are_noted(tmp_path: Path, bert: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [(text, "1.5" if name == "spam" else "2") for text, name in make_messages(40)]
    files = {"train": str(write_table(tmp_path / "t.csv", rows))}
    finetune(load_recipe(None, QUICK, task="cls"), files=files, out=tmp_path / "run", model=str(bert))
    assert "cls.labels=regression" in capsys.readouterr().err
