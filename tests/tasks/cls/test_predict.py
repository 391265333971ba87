"""Labels for new rows: in their order, with all their columns, whole or not at all; and the same as eval gives."""

import json
from pathlib import Path
from typing import Any

import pytest
from tiny import assert_same_figures, make_messages, save_bert, write_table

from llmkit.config.loading import load_recipe
from llmkit.config.recipe import Recipe
from llmkit.core.errors import DataError, UsageError
from llmkit.evaluating.evaluate import evaluate
from llmkit.evaluating.predict import Format, predict
from llmkit.generating.generate import generate
from llmkit.preparing.prepare import prepare
from llmkit.runs.train import finetune, pretrain
from llmkit.tasks.cls import row_reading

TINY = (
    "train.max_steps=24", "train.global_batch_size=8", "train.precision=fp32", "optim.learning_rate=1e-2",
    "model.dropout=0", "cls.validation=0.25",
)  # fmt: skip


def recipe(*overrides: str) -> Recipe:
    return load_recipe(None, [*TINY, *overrides], task="cls")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """bert, messages.csv and the run that was trained on it."""
    folder = tmp_path_factory.mktemp("trained")
    model = save_bert(folder / "bert")
    data = write_table(folder / "messages.csv", make_messages(120))
    finetune(recipe("cls.test=0.1"), files={"train": data}, out=folder / "run", model=model)
    return folder


@pytest.fixture(scope="module")
def run(folder: Path) -> str:
    return str(folder / "run")


def label_rows(run: str, data: str, file_format: Format = "jsonl", **more: Any) -> str:
    pieces: list[str] = []
    predict(recipe(), model=run, data=data, out=None, write=pieces.append, file_format=file_format, **more)
    return "".join(pieces)


def read_lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize("rows_at_once", [7, 4096])
def test_labels_are_those_that_eval_counts_however_many_rows_go_at_once(
    run: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows_at_once: int
) -> None:
    monkeypatch.setattr(row_reading, "ROWS_AT_ONCE", rows_at_once)
    rows = [(text, label if n % 5 else "spam") for n, (text, label) in enumerate(make_messages(40, seed=9))]
    data = write_table(tmp_path / "new.csv", rows)
    guessed = read_lines(label_rows(run, data, all_probabilities=True))
    assert [(row["text"], row["label"]) for row in guessed] == rows
    metrics = evaluate(recipe(), model=run, data=[data])
    assert metrics["accuracy"] == pytest.approx(sum(row["prediction"] == row["label"] for row in guessed) / 40)
    assert 0.5 < metrics["accuracy"] < 1
    counts = {each["label"]: each["n_predicted"] for each in metrics["per_class"]}
    assert counts == {name: sum(row["prediction"] == name for row in guessed) for name in ("ham", "spam")}
    for row in guessed:
        assert row["p(ham)"] + row["p(spam)"] == pytest.approx(1, abs=2e-6)
        assert row["probability"] == row[f"p({row['prediction']})"] >= 0.5


def test_held_out_rows_of_a_run_are_found_again_and_score_the_same(run: str) -> None:
    before = json.loads((Path(run) / "metrics.json").read_text())
    for split, n_rows in (("validation", 30), ("test", 12)):
        # Another recipe than the run's: which rows are held out stays as it was.
        metrics = evaluate(recipe(f"evaluate.split={split}"), model=run)
        assert metrics["n_rows"] == n_rows
        wanted = {name: value for name, value in before[split].items() if name != "method"}
        assert_same_figures({name: metrics[name] for name in wanted}, wanted)  # batched in another way


def test_held_out_rows_of_a_changed_file_are_not_guessed(folder: Path, tmp_path: Path) -> None:
    data = write_table(tmp_path / "messages.csv", make_messages(60))
    finetune(recipe("train.max_steps=1"), files={"train": data}, out=tmp_path / "run", model=str(folder / "bert"))
    write_table(tmp_path / "messages.csv", make_messages(70))
    with pytest.raises(UsageError, match="have changed"):
        evaluate(recipe(), model=str(tmp_path / "run"))


@pytest.mark.parametrize("name", ["prediction", "probability"])
def test_column_that_is_called_as_a_new_one_is_refused(run: str, tmp_path: Path, name: str) -> None:
    data = write_table(tmp_path / "new.csv", make_messages(4), ("text", name))
    with pytest.raises(DataError, match=f"a column '{name}' already"):
        predict(recipe(), model=run, data=data, out=tmp_path / "out.csv", write=print)
    assert not (tmp_path / "out.csv").exists()


def test_bad_rows_are_an_error_with_their_line_or_left_out_and_counted(run: str, tmp_path: Path) -> None:
    data = write_table(tmp_path / "new.csv", [*make_messages(4), ("a", "b", "c"), ("win", "spam")])
    with pytest.raises(DataError, match="3 cells") as caught:
        predict(recipe(), model=run, data=data, out=tmp_path / "out.csv", write=print)
    assert "new.csv:6" in str(caught.value)
    skipping = recipe("prepare.read.skip_bad=true")
    assert predict(skipping, model=run, data=data, out=tmp_path / "out.csv", write=print)["n_skipped"] == 1
    assert len((tmp_path / "out.csv").read_text().splitlines()) == 6


def test_model_that_labels_nothing_is_refused_and_a_classifier_elsewhere(folder: Path, run: str) -> None:
    data = str(folder / "messages.csv")
    with pytest.raises(UsageError, match="masked language model") as caught:
        predict(recipe(), model=str(folder / "bert"), data=data, out=None, write=print)
    assert "finetune-cls" in str(caught.value)
    with pytest.raises(UsageError, match="is a classifier") as caught:
        generate(recipe().generate, model=run, prompts=["hi"])
    assert "predict" in str(caught.value)


def test_classifier_is_no_start_for_a_causal_model_and_an_encoder_without_its_head_for_a_masked_one(
    run: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "book.txt").write_text("win cash at home. free dinner soon.\n" * 60)
    asked = (f"prepare.tokenizer.path={run}/model", "mlm.sentence_objective=none", "train.block_size=32")
    prepare([str(tmp_path / "book.txt")], tmp_path / "data", load_recipe(None, asked, "mlm").prepare)
    options: dict[str, Any] = {"data": tmp_path / "data", "out": tmp_path / "out", "model": run, "dry_run": True}
    with pytest.raises(UsageError, match="is a classifier"):
        pretrain(load_recipe(None, ["train.block_size=32"], "clm"), **options)
    pretrain(load_recipe(None, asked, "mlm"), **options)
    said = capsys.readouterr().err
    assert "not used from the model: classifier" in said
    assert "new, not in the model" in said


def test_unseen_labels_are_refused_with_their_lines_or_left_out(
    run: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_table(tmp_path / "new.csv", [*make_messages(10), ("new", "eggs")])
    with pytest.raises(DataError, match="'eggs'") as caught:
        evaluate(recipe(), model=run, data=[data])
    assert "line 12" in str(caught.value)
    metrics = evaluate(recipe("cls.unseen_labels=ignore"), model=run, data=[data])
    assert metrics["n_rows"] == 10
    assert "1 row" in capsys.readouterr().err


def test_figures_of_a_run_survive_an_eval_of_other_rows(run: str, tmp_path: Path) -> None:
    """A file may be called what an entry of metrics.json is called."""
    before = json.loads((Path(run) / "metrics.json").read_text())
    for name in ("training", "validation", "other"):
        data = write_table(tmp_path / f"{name}.csv", make_messages(6))
        evaluate(recipe(), model=run, data=[data], show_samples=True)
    after = json.loads((Path(run) / "metrics.json").read_text())
    assert {name: after[name] for name in before} == before


def test_a_column_of_labels_is_a_cell_like_others_even_where_it_is_empty(run: str, tmp_path: Path) -> None:
    data = write_table(tmp_path / "new.csv", [("win cash now", ""), ("dinner at home", "no such label")])
    rows = read_lines(label_rows(run, data))
    assert [row["label"] for row in rows] == ["", "no such label"]
    assert {row["prediction"] for row in rows} <= {"ham", "spam"}
