"""Scores of many rows at once against each row alone, and probabilities of any logits."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import assert_same_figures, make_bert, make_gpt2, make_messages, save_bert, save_gpt2, write_table
from transformers import BertForSequenceClassification, GPT2Config, GPT2ForSequenceClassification, PreTrainedModel

from llmkit.config.cls import Cls
from llmkit.config.evaluate import Evaluate
from llmkit.config.loading import load_recipe
from llmkit.config.recipe import Recipe
from llmkit.core.errors import DataError, ModelError, UsageError
from llmkit.datasets.labelled import Inputs
from llmkit.evaluating.evaluate import evaluate
from llmkit.evaluating.predict import Format, predict
from llmkit.generating.generate import generate
from llmkit.preparing.prepare import prepare
from llmkit.runs.train import finetune, pretrain
from llmkit.tables.labelled import LabelledRow
from llmkit.tasks.cls import row_format
from llmkit.tasks.cls.label_types import LABEL_TYPES, get_label_type
from llmkit.tasks.cls.prediction import RowScorer, describe_method, open_scorer, score_rows
from llmkit.tokens.loading import load_tokenizer


def make_classifier(family: str) -> PreTrainedModel:
    config = {"num_labels": 3}
    if family == "bert":
        model = make_bert(BertForSequenceClassification, **config)
    else:
        gpt2 = make_gpt2().config
        gpt2.num_labels = 3
        model = GPT2ForSequenceClassification(gpt2)
    for weight in model.parameters():
        if weight.ndim > 1:
            weight.data.mul_(3)
    return model.eval()


def make_inputs(n_rows: int, most_windows: int = 3) -> Inputs:
    rng = np.random.default_rng(0)
    n_windows = rng.integers(1, most_windows + 1, n_rows)
    lengths = rng.integers(3, 17, n_windows.sum())
    ids = rng.integers(5, 50, lengths.sum()).astype(np.uint8)
    return Inputs(ids, np.cumsum(lengths), (lengths // 2).astype(np.int32), np.cumsum(n_windows), None, 0)


@pytest.mark.parametrize("family", ["bert", "gpt2"])
@pytest.mark.parametrize("tokens_at_once", [1, 100, 10_000])
def test_each_row_has_in_its_place_the_score_that_it_has_alone(family: str, tokens_at_once: int) -> None:
    model, inputs = make_classifier(family), make_inputs(30)
    found = score_rows(model, inputs, token_types=family == "bert", tokens_at_once=tokens_at_once)
    assert found.dtype == np.float32
    for row in range(30):
        logits = []
        for each in inputs.read(row):
            types = torch.tensor([[0] * each.n_first + [1] * (len(each.ids) - each.n_first)])
            more: dict[str, Any] = {"token_type_ids": types} if family == "bert" else {}
            with torch.no_grad():
                logits.append(model(input_ids=torch.tensor(each.ids[None].astype(np.int64)), **more).logits[0])
        assert found[row] == pytest.approx(torch.stack(logits).mean(0).numpy(), rel=1e-4, abs=1e-5)
    assert len(np.unique(found[:, 0])) == 30


def test_no_more_tokens_at_once_than_asked_for_but_with_one_row() -> None:
    model, inputs = make_classifier("bert"), make_inputs(60, most_windows=1)
    shapes: list[tuple[int, int]] = []
    model.register_forward_pre_hook(
        lambda module, args, kwargs: shapes.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    score_rows(model, inputs, token_types=True, tokens_at_once=64)
    assert sum(n_rows for n_rows, _ in shapes) == 60
    assert all(n_rows * longest <= 64 for n_rows, longest in shapes)
    assert sum(n_rows * longest for n_rows, longest in shapes) < 1.1 * len(inputs.ids)  # alike in length
    shapes.clear()
    score_rows(model, inputs, token_types=True, tokens_at_once=2)
    assert [n_rows for n_rows, _ in shapes] == [1] * 60


def test_no_rows_have_no_scores() -> None:
    empty = Inputs(np.zeros(0, np.uint8), *(np.zeros(0, np.int64) for _ in range(3)), None, 0)
    assert score_rows(make_classifier("bert"), empty, token_types=True, tokens_at_once=8).shape == (0, 3)


HUGE = np.array([[1e4, -1e4, 0], [-1e4, -1e4, -1e4], [3e38, 0, -3e38]], np.float32)


def test_probabilities_of_huge_logits_are_probabilities() -> None:
    single = LABEL_TYPES["single_label"].to_outputs(HUGE, {})
    assert single == pytest.approx(np.array([[1, 0, 0], [1 / 3, 1 / 3, 1 / 3], [1, 0, 0]]))
    multiple = LABEL_TYPES["multi_label"].to_outputs(HUGE, {})
    assert multiple == pytest.approx(np.array([[1, 0, 0.5], [0, 0, 0], [1, 0.5, 0]]))


def test_probabilities_are_those_of_torch() -> None:
    scores = np.random.default_rng(0).normal(scale=8, size=(50, 3)).astype(np.float32)
    wide = torch.from_numpy(scores).double()
    assert LABEL_TYPES["single_label"].to_outputs(scores, {}) == pytest.approx(wide.softmax(-1).numpy(), rel=1e-12)
    assert LABEL_TYPES["multi_label"].to_outputs(scores, {}) == pytest.approx(wide.sigmoid().numpy(), rel=1e-12)


def test_numbers_come_back_in_the_unit_of_the_train_file() -> None:
    scores = np.array([[-1.0], [0.5]], np.float32)
    assert LABEL_TYPES["regression"].to_outputs(scores, {"target_mean": 10.0, "target_std": 4.0}).tolist() == [
        6.0,
        12.0,
    ]
    assert LABEL_TYPES["regression"].to_outputs(scores, {}).tolist() == [-1.0, 0.5]


def save(folder: Path, kind: type, save_model: Any, n_labels: int = 3, **config: Any) -> str:
    """Somebody else's classifier, whose head was never trained."""
    path = save_model(folder)
    torch.manual_seed(1)
    model = kind.from_pretrained(path, num_labels=n_labels, **config)
    model.score.weight.data.mul_(30) if hasattr(model, "score") else model.classifier.weight.data.mul_(30)
    model.save_pretrained(path)
    return path


@pytest.fixture
def bert(tmp_path: Path) -> str:
    return save(tmp_path / "bert", BertForSequenceClassification, save_bert)


ROWS = [LabelledRow(text, None, None, n) for n, (text, _) in enumerate(make_messages(11))]


def score(scorer: RowScorer) -> np.ndarray:
    return np.concatenate([outputs for _, _, outputs in scorer.score(ROWS)])


def test_probabilities_are_those_of_transformers_row_by_row(bert: str) -> None:
    found = score(open_scorer(bert, Evaluate()))
    model, tokenizer = BertForSequenceClassification.from_pretrained(bert).eval(), load_tokenizer(bert)
    for row, outputs in zip(ROWS, found, strict=True):
        with torch.no_grad():
            expected = model(**tokenizer(row.text, return_tensors="pt")).logits.double().softmax(-1)[0]
        assert outputs == pytest.approx(expected.numpy(), abs=1e-5)


@pytest.mark.parametrize("batch_size", [1, 4])
def test_outputs_do_not_depend_on_how_many_rows_go_at_once(
    bert: str, monkeypatch: pytest.MonkeyPatch, batch_size: int
) -> None:
    whole = score(open_scorer(bert, Evaluate()))
    monkeypatch.setattr(row_format, "ROWS_AT_ONCE", 3)
    assert score(open_scorer(bert, Evaluate(batch_size=batch_size))) == pytest.approx(whole, abs=1e-6)


def test_model_without_a_pad_token_is_scored_behind_any_token(tmp_path: Path) -> None:
    path = save(tmp_path / "gpt2", GPT2ForSequenceClassification, save_gpt2)
    scorer = open_scorer(path, Evaluate())
    assert scorer.network.config.pad_token_id is not None
    found = score(scorer)
    alone = [np.concatenate([out for _, _, out in scorer.score([row])]) for row in ROWS]
    assert found == pytest.approx(np.concatenate(alone), abs=1e-5)


def test_context_is_bounded_by_the_model_the_settings_and_the_tokenizer(bert: str) -> None:
    assert open_scorer(bert, Evaluate()).format.block_size == 64
    assert open_scorer(bert, Evaluate(block_size=16)).format.block_size == 16
    scorer = open_scorer(bert, Evaluate())
    assert scorer.thresholds.tolist() == [0.5] * 3
    assert scorer.names == ["LABEL_0", "LABEL_1", "LABEL_2"]
    assert scorer.label_type.predict(np.array([[0.1, 0.7, 0.2]]), scorer.thresholds).tolist() == [1]


def test_metrics_on_rows_that_selected_the_weights_say_so() -> None:
    single, multiple = get_label_type("single_label"), get_label_type("multi_label")
    assert describe_method("a.csv", Evaluate(), single, False, {}) == {"data": "a.csv", "precision": "fp32"}
    assert "weights" in describe_method("a.csv", Evaluate(), single, True, {})
    assert "thresholds" not in describe_method("a.csv", Evaluate(), single, True, {})
    assert "thresholds" in describe_method("a.csv", Evaluate(), multiple, True, {"method": {"n_resamples": 5}})


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
    monkeypatch.setattr(row_format, "ROWS_AT_ONCE", rows_at_once)
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
    with pytest.raises(DataError, match=f"already has a column '{name}'"):
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


def test_predict_refuses_language_models_and_generate_refuses_classifiers(folder: Path, run: str) -> None:
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
    output = capsys.readouterr().err
    assert "not used from the model: classifier" in output
    assert "new, not in the model" in output


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


def test_label_map_renames_the_labels_of_a_model_without_names_and_of_the_file(tmp_path: Path) -> None:
    path = save_bert(tmp_path / "bert")
    BertForSequenceClassification.from_pretrained(path, num_labels=2).save_pretrained(path)
    assert open_scorer(path, Evaluate()).names == ["LABEL_0", "LABEL_1"]
    assert open_scorer(path, Evaluate(), Cls(label_map={"0": "ham", "1": "spam"})).names == ["ham", "spam"]
    assert open_scorer(path, Evaluate(), Cls(label_map={"LABEL_1": "spam"})).names == ["LABEL_0", "spam"]
    with pytest.raises(UsageError, match="two labels of the model would be called 'x'"):
        open_scorer(path, Evaluate(), Cls(label_map={"0": "x", "1": "x"}))
    rows = write_table(tmp_path / "a.csv", make_messages(12))
    recipe = load_recipe(None, ["cls.label_map=0=ham,1=spam"], "cls")
    numbered = write_table(tmp_path / "b.csv", [(text, str(int(label == "spam"))) for text, label in make_messages(12)])
    named, by_number = (evaluate(recipe, model=path, data=[data]) for data in (rows, numbered))
    assert named["n_rows"] == 12
    assert_same_figures({**named, "method": None}, {**by_number, "method": None})


def test_labels_without_names_lead_to_the_label_map(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = save_bert(tmp_path / "bert")
    BertForSequenceClassification.from_pretrained(path, num_labels=2).save_pretrained(path)
    open_scorer(path, Evaluate())
    assert "the model's 2 labels have no names; --label-map 0=NAME" in capsys.readouterr().err
    open_scorer(path, Evaluate(), Cls(label_map={"0": "ham", "1": "spam"}))
    assert "no names" not in capsys.readouterr().err
    rows = write_table(tmp_path / "a.csv", make_messages(12))
    with pytest.raises(DataError, match="'ham', 'spam'") as caught:
        evaluate(load_recipe(None, [], "cls"), model=path, data=[rows])
    assert "--label-map 0=ham,1=spam" in caught.value.problems[0].hint


def test_joined_columns_are_read_by_the_saved_model_and_left_out_of_the_result(tmp_path: Path) -> None:
    rows = tmp_path / "a.csv"
    body = [(text.partition(" "), int(label == "spam")) for text, label in make_messages(40)]
    lines = [f"{first},{rest},{spam},{1 - spam}" for (first, _, rest), spam in body]
    rows.write_text("\n".join(["title,body,spam,ham", *lines, ""]), encoding="utf-8")
    overrides = ["cls.text=title,body", "cls.label=spam,ham", "train.max_steps=2", "train.block_size=32"]
    recipe = load_recipe(None, overrides, "cls")
    finetune(recipe, files={"train": str(rows)}, out=tmp_path / "run", model=save_bert(tmp_path / "bert"))
    scorer = open_scorer(str(tmp_path / "run" / "model"), Evaluate())
    assert (scorer.format.text, scorer.format.label, scorer.names) == ("title,body", "spam,ham", ["ham", "spam"])
    assert evaluate(load_recipe(None, [], "cls"), model=str(tmp_path / "run"), data=[str(rows)])["n_rows"] == 40
    written: list[str] = []
    predict(load_recipe(None, [], "cls"), model=str(tmp_path / "run"), data=str(rows), out=None, write=written.append)
    assert written[0] == "title,body,spam,ham,prediction\n"
    assert len(written) == 41


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_scores_that_are_not_finite_are_a_fault_of_the_model(value: float) -> None:
    model, inputs = make_classifier("bert"), make_inputs(6)
    model.get_input_embeddings().weight.data[int(inputs.read(0)[0].ids[0])] = value
    with pytest.raises(ModelError, match="not finite numbers"):
        score_rows(model, inputs, token_types=True, tokens_at_once=100)


def test_settings_of_long_texts_are_read_and_other_types_of_labels_refused(bert: str) -> None:
    section = Cls(long_texts="windows", stride=4)
    asked = open_scorer(bert, Evaluate(block_size=16), section).format
    assert (asked.long_texts, asked.stride, asked.max_windows, asked.block_size) == ("windows", 4, 1, 16)
    assert open_scorer(bert, Evaluate(), Cls()).format == open_scorer(bert, Evaluate()).format
    with pytest.raises(UsageError, match="of type single_label, not multi_label"):
        open_scorer(bert, Evaluate(), Cls(labels="multi_label"))
    with pytest.raises(UsageError, match="does not fit the model's 64 positions"):
        open_scorer(bert, Evaluate(block_size=65))


def test_texts_without_tokens_are_read_as_a_start_token_and_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = save_gpt2(tmp_path / "base")
    config = GPT2Config.from_pretrained(path, num_labels=2)
    GPT2ForSequenceClassification(config).save_pretrained(tmp_path / "model")
    load_tokenizer(path).save_pretrained(tmp_path / "model")
    data, lines = write_table(tmp_path / "t.csv", [("",), ("win cash",), ("",)], ("text",)), list[str]()
    result = predict(
        load_recipe(None, task="cls"), model=str(tmp_path / "model"), data=data, out=None, write=lines.append
    )
    assert result["n_rows"] == 3 and len(lines) == 4
    assert lines[1] == lines[3]
    assert "2 of 3 rows" in capsys.readouterr().err
