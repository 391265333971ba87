"""Fine-tuning on tiny files through the functions of the commands, and the defaults of its recipe."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from several import INTERRUPT, run_command
from tiny import SUM_ORDER, make_messages, save_bert, save_gpt2, write_table
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

from llmkit.config.loading import load_recipe
from llmkit.config.recipe import Recipe
from llmkit.core.errors import DataError, EnvironmentFault, UsageError
from llmkit.core.files import write_json
from llmkit.evaluating.evaluate import evaluate
from llmkit.evaluating.predict import predict
from llmkit.runs.train import finetune
from llmkit.tasks.base import TrainingRequest
from llmkit.tasks.cls.training import open_classifier_training
from llmkit.training.folder import RunFolder, describe_origin, load_origin

TINY = (
    "train.max_steps=24", "train.global_batch_size=8", "train.log_steps=1", "train.precision=fp32",
    "optim.learning_rate=1e-2", "model.dropout=0", "cls.validation=0.25",
)  # fmt: skip
SHORT = ("train.max_steps=2", "cls.validation=0")


def recipe(*overrides: str) -> Recipe:
    return load_recipe(None, [*TINY, *overrides], task="cls")


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_bert(tmp_path_factory.mktemp("models") / "bert")


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_gpt2(tmp_path_factory.mktemp("models") / "gpt2")


@pytest.fixture(scope="module")
def messages(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_table(tmp_path_factory.mktemp("data") / "messages.csv", make_messages(120))


@pytest.fixture(scope="module")
def run(bert: str, messages: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    finetune(recipe(), files={"train": messages}, out=out, model=bert)
    return out


@pytest.fixture(scope="module")
def gpt2_run(gpt2: str, messages: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "gpt2"
    finetune(recipe(), files={"train": messages}, out=out, model=gpt2)
    return out


def read_config(run: Path) -> dict[str, Any]:
    return dict(json.loads((run / "model/config.json").read_text()))


def read_metrics(run: Path, split: str = "validation") -> dict[str, Any]:
    return dict(json.loads((run / "metrics.json").read_text())[split])


def read_log(run: Path, kind: str = "train") -> list[dict[str, Any]]:
    records = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [record for record in records if record["kind"] == kind]


def label_rows(run: Path, data: str) -> list[dict[str, Any]]:
    lines: list[str] = []
    predict(load_recipe(run / "recipe.yaml"), model=str(run), data=data, out=None, write=lines.append,
            file_format="jsonl")  # fmt: skip
    return [json.loads(line) for line in lines]


# ---- what is learned ----


def test_bert_learns_two_labels_and_reports_a_baseline(run: Path) -> None:
    metrics = read_metrics(run)
    assert metrics["accuracy"] > 0.9
    assert metrics["n_rows"] == 30
    assert metrics["baseline_accuracy"] == 0.5
    page = (run / "report.html").read_text()
    assert "spam" in page


def test_ngram_baseline_is_scored_on_the_held_out_rows_and_stays_when_the_run_is_scored_again(
    run: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(run, tmp_path / "run")
    before = read_metrics(copy)
    assert before["ngram_baseline"]["n_train_rows"] == 90
    assert before["ngram_baseline_accuracy"] > 0.9
    assert "n-gram baseline" in (copy / "report.html").read_text()
    evaluate(load_recipe(copy / "recipe.yaml"), model=str(copy))
    assert read_metrics(copy) == before


def test_baseline_that_is_better_is_reported_with_advice_and_can_be_turned_off(
    bert: str, messages: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    poor = ("optim.learning_rate=1e-9", "train.max_steps=1")
    metrics = finetune(recipe(*poor), files={"train": messages}, out=tmp_path / "poor", model=bert)["validation"]
    assert metrics["accuracy"] < metrics["ngram_baseline_accuracy"]
    expected = "the n-gram baseline is better: accuracy"
    assert expected in capfd.readouterr().err
    assert any(expected in note["text"] for note in read_log(tmp_path / "poor", "note"))
    off = recipe(*poor, "cls.baseline=false")
    metrics = finetune(off, files={"train": messages}, out=tmp_path / "off", model=bert)["validation"]
    assert not [key for key in metrics if key.startswith("ngram")]
    assert expected not in capfd.readouterr().err


def test_threshold_of_the_positive_label_is_tuned_saved_and_used_by_predict(
    bert: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    rows = make_messages(240)
    spam = [row for row in rows if row[1] == "spam"][:24]
    data = write_table(tmp_path / "few.csv", [*spam, *(row for row in rows if row[1] != "spam")])
    asked = recipe("cls.positive_label=spam", "train.max_steps=6", "optim.learning_rate=2e-3")
    result = finetune(asked, files={"train": data}, out=tmp_path / "run", model=bert)["validation"]
    saved = read_config(tmp_path / "run")["llmkit"]
    names = list(read_config(tmp_path / "run")["label2id"])
    threshold = saved["thresholds"][names.index("spam")]
    assert saved["positive_label"] == "spam" and threshold != 0.5
    assert result["method"]["threshold"] == threshold and result["f1_positive"] > 0
    assert result["intervals"]["f1_positive"][0] < 1
    lines: list[str] = []
    predict(asked, model=str(tmp_path / "run"), data=data, out=None, write=lines.append, file_format="jsonl",
            all_probabilities=True)  # fmt: skip
    for row in map(json.loads, lines):
        if abs(row["p(spam)"] - threshold) > 1e-5:
            assert (row["prediction"] == "spam") is (row["p(spam)"] > threshold)
    again = evaluate(load_recipe(tmp_path / "run" / "recipe.yaml"), model=str(tmp_path / "run"))
    assert again["f1_positive"] == result["f1_positive"]
    assert "at least their threshold" in (tmp_path / "run" / "model" / "README.md").read_text()


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (("cls.positive_label=Spam",), "there is no label 'Spam'"),
        (("cls.positive_label=spam", "cls.labels=multi_label"), "one label per row, not several"),
    ],
)
def test_positive_label_that_cannot_be_is_refused(
    bert: str, messages: str, tmp_path: Path, overrides: tuple[str, ...], expected: str
) -> None:
    with pytest.raises(UsageError, match=expected):
        finetune(recipe(*overrides), files={"train": messages}, out=tmp_path / "run", model=bert)


def test_errors_show_the_text_of_the_file_and_not_the_decoded_input(bert: str, tmp_path: Path) -> None:
    rows = [(f"WIN Cash,  PLEASE {number}!", "ab"[number % 2]) for number in range(40)]
    data = write_table(tmp_path / "cased.csv", rows)
    asked = recipe("train.max_steps=1")
    finetune(asked, files={"train": data}, out=tmp_path / "run", model=bert, show_samples=True)
    errors = read_metrics(tmp_path / "run")["mistakes"]
    assert errors and all(rows[error["line"] - 2][0] == error["text"] for error in errors)
    errors = evaluate(asked, model=str(tmp_path / "run"), data=[data], show_samples=True)["mistakes"]
    assert errors and all(rows[error["line"] - 2][0] == error["text"] for error in errors)


def test_gpt2_learns_with_a_pad_token_that_is_not_eos(gpt2_run: Path) -> None:
    assert read_metrics(gpt2_run)["accuracy"] > 0.9
    config, tokenizer = read_config(gpt2_run), AutoTokenizer.from_pretrained(gpt2_run / "model")
    assert config["pad_token_id"] == tokenizer.pad_token_id == config["vocab_size"] - 1
    assert tokenizer.pad_token_id != tokenizer.eos_token_id
    assert tokenizer("win")["input_ids"][-1] == tokenizer.eos_token_id


@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_labels_that_depend_on_both_texts_are_learned(
    request: pytest.FixtureRequest, tmp_path: Path, family: str
) -> None:
    rows = [(a[0], b[0], a[1]) for a, b in zip(make_messages(120), make_messages(120, 1), strict=True)]
    data = write_table(tmp_path / "pairs.csv", rows, ("sentence1", "sentence2", "label"))
    model = request.getfixturevalue(family)
    metrics = finetune(recipe(), files={"train": data}, out=tmp_path / "run", model=model)
    assert metrics["validation"]["accuracy"] > 0.9
    kept = read_config(tmp_path / "run")["llmkit"]
    assert (kept["text"], kept["pair"], kept["label"]) == ("sentence1", "sentence2", "label")
    alone = write_table(tmp_path / "alone.csv", [("win cash",)], ("sentence1",))
    with pytest.raises(DataError, match="pair"):
        label_rows(tmp_path / "run", alone)


@pytest.mark.parametrize("form", ["separator", "list"])
def test_multi_label_rows_are_learned_and_use_tuned_thresholds(bert: str, tmp_path: Path, form: str) -> None:
    rows = []
    for number, (text, _) in enumerate(make_messages(120)):
        labels = (["money"] if number % 2 else []) + (["long"] if "please" in text else [])
        rows.append((text, labels))
    if form == "separator":
        data = write_table(tmp_path / "tags.csv", [(text, "|".join(labels)) for text, labels in rows])
        asked = recipe("cls.separator=|")
    else:
        data = str(tmp_path / "tags.jsonl")
        Path(data).write_text("".join(json.dumps({"text": t, "label": labels}) + "\n" for t, labels in rows))
        asked = recipe()
    metrics = finetune(asked, files={"train": data}, out=tmp_path / "run", model=bert)["validation"]
    config = read_config(tmp_path / "run")
    assert config["problem_type"] == "multi_label_classification"
    assert metrics["f1_micro"] > metrics["baseline_f1_micro"]
    thresholds = config["llmkit"]["thresholds"]
    assert len(thresholds) == 2
    assert [row["threshold"] for row in metrics["per_class"]] == thresholds
    lines: list[str] = []
    predict(asked, model=str(tmp_path / "run"), data=data, out=None, write=lines.append, file_format="jsonl",
            all_probabilities=True)  # fmt: skip
    names = [config["id2label"][str(number)] for number in range(2)]
    for line in lines:
        row = json.loads(line)
        for name, threshold in zip(names, thresholds, strict=True):
            if abs(row[f"p({name})"] - threshold) > 1e-6:
                assert (name in row["prediction"]) == (row[f"p({name})"] > threshold)


def test_regression_predicts_in_the_unit_of_its_file(bert: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = [(text, 1000 + 20 * (label == "spam") + rng.normal()) for text, label in make_messages(120)]
    data = write_table(tmp_path / "prices.csv", rows, ("text", "score"))
    asked = recipe("cls.labels=regression", "train.max_steps=40", "optim.learning_rate=3e-3")
    metrics = finetune(asked, files={"train": data}, out=tmp_path / "run", model=bert)["validation"]
    assert metrics["pearson"] > 0.95
    assert metrics["mse"] < 40
    predictions = [row["prediction"] for row in label_rows(tmp_path / "run", data)]
    assert 990 < min(predictions) < 1005
    assert 1015 < max(predictions) < 1030
    again = evaluate(asked, model=str(tmp_path / "run"), data=[data])
    truth = [value for _, value in rows]
    assert again["mse"] == pytest.approx(np.square(np.subtract(predictions, truth)).mean(), rel=1e-4)


def test_numbers_and_na_are_ordinary_labels_and_texts(bert: str, tmp_path: Path) -> None:
    rows = [(text if n % 10 else ("NA", "null", "None")[n % 3], ("NA", "10", "9")[n % 3]) for n, (text, _) in
            enumerate(make_messages(60))]  # fmt: skip
    out = tmp_path / "run"
    finetune(recipe(*SHORT), files={"train": write_table(tmp_path / "t.csv", rows)}, out=out, model=bert)
    assert read_config(out)["id2label"] == {"0": "9", "1": "10", "2": "NA"}
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["data"]["splits"]["train"]["rows"] == 60


def test_label_map_is_independent_of_row_order_and_used_by_eval_and_predict(
    run: Path, bert: str, tmp_path: Path
) -> None:
    rows = make_messages(120)
    backwards = write_table(tmp_path / "backwards.csv", rows[::-1])
    out = tmp_path / "run"
    finetune(recipe(*SHORT), files={"train": backwards}, out=out, model=bert)
    assert read_config(out)["label2id"] == read_config(run)["label2id"] == {"ham": 0, "spam": 1}
    only_spam = write_table(tmp_path / "spam.csv", [row for row in rows if row[1] == "spam"])
    metrics = evaluate(recipe(), model=str(run), data=[only_spam])
    assert metrics["accuracy"] > 0.9
    assert {row["prediction"] for row in label_rows(run, only_spam)} <= {"ham", "spam"}


def test_training_from_a_classifier_keeps_its_label_map(run: Path, messages: str, tmp_path: Path) -> None:
    shutil.copytree(run / "model", tmp_path / "model")
    config = read_config(run)
    config |= {"label2id": {"spam": 0, "ham": 1}, "id2label": {"0": "spam", "1": "ham"}}
    (tmp_path / "model/config.json").write_text(json.dumps(config))
    finetune(recipe(*SHORT), files={"train": messages}, out=tmp_path / "run", model=str(tmp_path / "model"))
    assert read_config(tmp_path / "run")["label2id"] == {"spam": 0, "ham": 1}


def test_file_without_header_and_suffix_is_read(bert: str, tmp_path: Path) -> None:
    lines = [f'{label}\tA "{text}, said' for text, label in make_messages(60)]
    (tmp_path / "SMSSpamCollection").write_text("\n".join(lines) + "\n")
    files = {"train": str(tmp_path / "SMSSpamCollection")}
    finetune(recipe(*SHORT), files=files, out=tmp_path / "run", model=bert)
    manifest = json.loads((tmp_path / "run/manifest.json").read_text())
    assert manifest["data"]["columns"] == {"text": "2", "pair": None, "label": "1"}
    assert manifest["data"]["splits"]["train"]["rows"] == 60


# ---- what is refused, before any model is loaded ----


@pytest.fixture
def no_model_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def explode(*_: object, **__: object) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(AutoModelForSequenceClassification, "from_pretrained", explode)


@pytest.mark.usefixtures("no_model_is_loaded")
@pytest.mark.parametrize(
    ("rows", "overrides", "words", "place"),
    [
        ([("hello", "ham")] * 20, (), "all .* rows have the label 'ham'", "t.csv"),
        ([*make_messages(20), ("hello", ""), ("you", " ")], (), "2 of 22 rows have no 'label'", "lines 22, 23"),
        ([*make_messages(20), ("a", "b", "c")], (), "3 cells", "t.csv:22"),
        (make_messages(20), ("cls.labels=regression",), "no finite number", "lines 2, 3, 4, 5, 6 and 15 more"),
        (make_messages(20), ("cls.label=lable",), "no column 'lable'", "t.csv"),
        (make_messages(20), ("cls.metric=acuracy",), "there is no metric 'acuracy'", "cls.metric"),
        (make_messages(20), ("train.block_size=1000",), "64 positions", "train.block_size"),
        (make_messages(20), ("train.block_size=512",), "64 positions", "train.block_size"),
        (make_messages(20), ("model.n_positions=512",), "512 differs from the model's: 64", "model.n_positions"),
        (make_messages(20), ("train.early_stopping=1", "cls.validation=0"), "needs a validation", "early_stopping"),
    ],
)  # fmt: skip
def test_unusable_rows_and_settings_are_refused_with_their_location(
    bert: str, tmp_path: Path, rows: list[tuple[str, ...]], overrides: tuple[str, ...], words: str, place: str
) -> None:
    data = write_table(tmp_path / "t.csv", rows)
    with pytest.raises((DataError, UsageError), match=words) as caught:
        finetune(recipe(*overrides), files={"train": data}, out=tmp_path / "run", model=bert)
    assert place in str(caught.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("no_model_is_loaded")
def test_mask_augmentation_needs_a_mask_token(gpt2: str, messages: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has no mask token"):
        finetune(recipe("cls.augment.mask=0.1"), files={"train": messages}, out=tmp_path / "run", model=gpt2)


@pytest.mark.usefixtures("no_model_is_loaded")
def test_output_folder_is_checked_before_the_data_is_read(bert: str, messages: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EnvironmentFault, match="cannot write"):
        finetune(recipe(), files={"train": "nowhere.csv"}, out=tmp_path / "file/run", model=bert)
    (tmp_path / "notes.txt").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(UsageError):
            finetune(recipe(), files={"train": messages}, out=tmp_path, model=bert, overwrite=overwrite)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_bad_rows_are_skipped_and_counted_if_the_recipe_says_so(
    bert: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [*make_messages(40), ("a", "b", "c"), ("no label", ""), ("", "ham")]
    data = write_table(tmp_path / "t.csv", rows)
    asked = recipe(*SHORT, "prepare.read.skip_bad=true")
    finetune(asked, files={"train": data}, out=tmp_path / "run", model=bert)
    output = capsys.readouterr().err
    assert "2 rows that cannot be read" in output
    assert "1 row without a text" in output
    manifest = json.loads((tmp_path / "run/manifest.json").read_text())
    assert manifest["data"]["splits"]["train"]["rows"] == 40
    assert len(manifest["data"]["notes"]) == 4


@pytest.mark.parametrize("split", ["validation", "test"])
def test_label_only_in_a_held_out_file_is_refused_or_skipped(
    bert: str, messages: str, tmp_path: Path, split: str
) -> None:
    other = write_table(tmp_path / "other.csv", [*make_messages(10), ("new", "eggs"), ("newer", "eggs")])
    files = {"train": messages, split: other}
    with pytest.raises(DataError, match="'eggs'") as caught:
        finetune(recipe(), files=files, out=tmp_path / "run", model=bert)
    assert "lines 12, 13" in str(caught.value)
    asked = recipe("train.max_steps=2", "cls.unseen_labels=ignore")
    metrics = finetune(asked, files=files, out=tmp_path / "run", model=bert)
    assert metrics[split]["n_rows"] == 10


# ---- the same whatever the machine does ----


@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_losses_and_gradients_do_not_depend_on_accumulation(
    request: pytest.FixtureRequest, messages: str, tmp_path: Path, family: str
) -> None:
    logs = []
    for micro in (8, 4, 2):
        out = tmp_path / f"run-{micro}"
        asked = recipe(f"train.micro_batch_size={micro}", "train.max_steps=5", "optim.learning_rate=1e-3")
        finetune(asked, files={"train": messages}, out=out, model=request.getfixturevalue(family))
        logs.append(read_log(out))
    for other in logs[1:]:
        assert [r["loss"] for r in other] == pytest.approx([r["loss"] for r in logs[0]], rel=1e-5)
        assert [r["grad_norm"] for r in other] == pytest.approx([r["grad_norm"] for r in logs[0]], rel=1e-5)


@pytest.mark.parametrize(
    ("family", "workers", "more"),
    [("bert", 0, ("train.micro_batch_size=3", "model.dropout=0.1")), ("gpt2", 2, ("cls.augment.swap=0.2",))],
)
def test_interrupted_run_resumes_by_itself_to_the_same_weights(
    request: pytest.FixtureRequest, messages: str, tmp_path: Path, family: str, workers: int, more: tuple[str, ...]
) -> None:
    model, out = request.getfixturevalue(family), tmp_path / "run"
    asked = ("train.max_steps=6", "train.eval_steps=2", f"train.num_workers={workers}", *more)
    finetune(recipe(*asked), files={"train": messages}, out=tmp_path / "whole", model=model)
    command = ["finetune-cls", "--data", messages, "--model", model]
    command += ["--out", str(out), *(part for override in (*TINY, *asked) for part in ("-s", override))]
    code, _, err = run_command(command, tmp_path / "output", INTERRUPT)
    assert code == 130, err
    assert "--resume" in err
    assert not (out / "model").exists()
    finetune(load_recipe(out / "recipe.yaml"), files={}, out=out, resume=True)
    for file in ("model.safetensors", "config.json"):
        assert (out / "model" / file).read_bytes() == (tmp_path / "whole/model" / file).read_bytes()
    assert [record["loss"] for record in read_log(out)] == [r["loss"] for r in read_log(tmp_path / "whole")]
    assert read_metrics(out) == read_metrics(tmp_path / "whole")


def test_resuming_with_changed_data_is_refused(run: Path, bert: str, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    rows = make_messages(120)
    changed = write_table(tmp_path / "changed.csv", [*rows[:-1], (rows[-1][0], "ham")])
    with pytest.raises(UsageError, match="data: "):
        files = {"train": changed}
        finetune(load_recipe(run / "recipe.yaml"), files=files, out=tmp_path / "run", model=bert, resume=True)


def test_early_stopping_keeps_the_best_weights_by_the_chosen_metric(bert: str, messages: str, tmp_path: Path) -> None:
    asked = recipe("train.early_stopping=2", "train.eval_steps=2", "train.max_steps=200", "cls.metric=log_loss")
    metrics = finetune(asked, files={"train": messages}, out=tmp_path / "run", model=bert)
    evals = read_log(tmp_path / "run", "eval")
    assert metrics["training"]["steps"] == evals[-1]["step"] < 200
    best = min(evals, key=lambda record: record["log_loss"])
    assert metrics["training"]["best_step"] == best["step"] == evals[-3]["step"]
    assert metrics["validation"]["log_loss"] == pytest.approx(best["log_loss"], rel=1e-6)


# ---- ways to train, and what is handed on ----


@pytest.mark.parametrize(
    ("family", "overrides"),
    [
        ("bert", ("cls.focal_gamma=2", "cls.label_smoothing=0.1", "cls.class_weights=balanced")),
        ("bert", ("cls.class_weights={spam: 3}", "optim.layer_decay=0.5", "cls.freeze=1")),
        ("bert", ("cls.augment.delete=0.1", "cls.augment.swap=0.1", "cls.augment.mask=0.1")),
        ("bert", ("cls.lora_rank=4", "optim.learning_rate=3e-2")),
        ("gpt2", ("cls.lora_rank=4", "optim.learning_rate=3e-2", "train.max_steps=40")),
        ("gpt2", ("cls.augment.delete=0.1", "optim.layer_decay=0.8", "cls.freeze=embeddings", "train.max_steps=40")),
        ("bert", ("optim.name=muon",)),
        ("bert", ("cls.from_scratch=true", "train.max_steps=40")),
    ],
)
def test_every_training_mode_exports_a_model_that_transformers_reads(
    request: pytest.FixtureRequest, messages: str, tmp_path: Path, family: str, overrides: tuple[str, ...]
) -> None:
    model, out = request.getfixturevalue(family), tmp_path / "run"
    metrics = finetune(recipe(*overrides), files={"train": messages}, out=out, model=model)
    assert metrics["validation"]["accuracy"] > 0.8
    _, info = AutoModelForSequenceClassification.from_pretrained(out / "model", output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    texts = [text for text, _ in make_messages(40, seed=5)]
    data = write_table(tmp_path / "new.csv", [(text,) for text in texts], ("text",))
    theirs: Any = pipeline("text-classification", model=str(out / "model"))(texts)
    ours = label_rows(out, data)
    assert [row["prediction"] for row in ours] == [row["label"] for row in theirs]
    assert [row["probability"] for row in ours] == pytest.approx([row["score"] for row in theirs], **SUM_ORDER)


@pytest.mark.parametrize(("what", "moved"), [("encoder", {"classifier"}), ("embeddings", {"classifier", "bert"})])
def test_frozen_weights_stay_as_they_were(bert: str, messages: str, tmp_path: Path, what: str, moved: set[str]) -> None:
    from safetensors.torch import load_file

    asked = recipe(*SHORT, f"cls.freeze={what}")
    finetune(asked, files={"train": messages}, out=tmp_path / "run", model=bert)
    before, after = load_file(Path(bert) / "model.safetensors"), load_file(tmp_path / "run/model/model.safetensors")
    changed = {name for name, weight in before.items() if name in after and not torch.equal(weight, after[name])}
    assert not any("embeddings" in name for name in changed)
    assert bool(changed) == ("bert" in moved)


def test_long_texts_are_truncated_with_a_note_or_read_in_windows(
    bert: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The decisive words are at the end of the text, after the tokens that fit one block."""
    rows = [("the day is good time " * 6 + text, label) for text, label in make_messages(80)]
    data = write_table(tmp_path / "long.csv", rows)
    asked = ("train.block_size=24", "train.max_steps=40", "cls.stride=8")
    cut = finetune(recipe(*asked), files={"train": data}, out=tmp_path / "cut", model=bert)
    output = capsys.readouterr().err
    assert "80 of 80 rows" in output
    assert "too long for 24 tokens" in output
    whole = finetune(recipe(*asked, "cls.long_texts=windows"), files={"train": data}, out=tmp_path / "w", model=bert)
    assert "too long" not in capsys.readouterr().err
    assert cut["validation"]["accuracy"] < 0.8 < whole["validation"]["accuracy"]
    result = evaluate(recipe(), model=str(tmp_path / "cut"), data=[data])
    assert result["n_truncated"] == 80


def test_texts_are_in_the_report_only_with_show_samples_and_escaped(bert: str, tmp_path: Path) -> None:
    rows = [(f"{text} <script>alert(1)</script>", f"<script>{label}") for text, label in make_messages(40)]
    data = write_table(tmp_path / "t.csv", rows)
    for shown in (False, True):
        out = tmp_path / f"run-{shown}"
        asked = recipe("train.max_steps=1", "cls.validation=0.5")
        finetune(asked, files={"train": data}, out=out, model=bert, show_samples=shown)
        page = (out / "report.html").read_text()
        assert "<script>ham" not in page
        assert "&lt;script&gt;ham" in page
        assert "<script>alert" not in page.replace(" ", "")
        kept = "".join(path.read_text() for path in out.glob("*.*") if path.is_file())
        assert ("alert" in kept) == shown


def test_hostile_labels_and_texts_do_not_reach_the_terminal(
    bert: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from llmkit.cli.output import show_metrics

    rows = [(f"\x1b[31m{text}", f"\x1b[2J{label}") for text, label in make_messages(40)]
    data = write_table(tmp_path / "t.csv", rows, ("te\x1bxt", "label"))
    asked = recipe("train.max_steps=1")
    show_metrics(finetune(asked, files={"train": data}, out=tmp_path / "run", model=bert)["validation"])
    other = write_table(tmp_path / "o.csv", [("win", "\x1b[2Jeggs")], ("te\x1bxt", "label"))
    with pytest.raises(DataError) as caught:
        evaluate(asked, model=str(tmp_path / "run"), data=[other])
    with pytest.raises(UsageError) as unknown:
        weights = recipe("cls.class_weights={eggs: 2}")
        finetune(weights, files={"train": data}, out=tmp_path / "other", model=bert)
    printed = capsys.readouterr()
    assert "\x1b" not in printed.out + printed.err + str(caught.value) + str(unknown.value)


# ---- minutes ----

TIMED = ("train.max_steps=null", "train.max_minutes=0.04")


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("single_label", ()),
        ("multi_label", ("cls.separator=;",)),
        ("regression", ("cls.labels=regression",)),
        ("single_label", ("cls.lora_rank=2",)),
    ],
)
def test_max_minutes_holds_for_every_label_type(
    bert: str, tmp_path: Path, kind: str, settings: tuple[str, ...]
) -> None:
    labels = {"single_label": ("spam", "ham"), "multi_label": ("spam;short", "ham"), "regression": ("1.5", "-2")}[kind]
    rows = [(text, labels[label == "ham"]) for text, label in make_messages(120)]
    files = {name: write_table(tmp_path / f"{name}.csv", rows) for name in ("train", "test")}
    metrics = finetune(recipe(*TIMED, *settings), files=files, out=tmp_path / "run", model=bert)
    plan = json.loads((tmp_path / "run/manifest.json").read_text())["plan"]
    assert plan["calibration_step"] is None
    assert metrics["training"]["steps"] == plan["n_steps"] > 1
    assert metrics["test"]["n_rows"] <= 120
    assert set(metrics) >= {"training", "validation", "test"}


@pytest.mark.parametrize(
    ("files", "model", "where", "words"),
    [
        ({}, "m", "--data", "no training data is given"),
        ({"train": "-"}, "m", "--data", "cannot read from stdin"),
        ({"train": "PREPARED"}, "m", "--data", "is a prepared folder"),
        ({"train": "a.csv"}, None, "--model", "no model to fine-tune"),
    ],
)
def test_incomplete_request_is_refused_before_anything_is_opened(
    tmp_path: Path, files: dict[str, str], model: str | None, where: str, words: str
) -> None:
    (tmp_path / "manifest.json").touch()
    files = {name: path.replace("PREPARED", str(tmp_path)) for name, path in files.items()}
    recipe: Any = load_recipe(None, task="cls")
    with pytest.raises(UsageError, match=words) as caught:
        open_classifier_training(recipe, TrainingRequest(files, tmp_path / "run", model, None))
    assert caught.value.problems[0].where == where


def test_moved_run_finds_its_model_and_files(tmp_path: Path) -> None:
    (tmp_path / "here/bert").mkdir(parents=True)
    run = RunFolder(tmp_path / "here/run")
    run.path.mkdir()
    assert load_origin(run, None, {}) == (None, {})
    files = {"train": str(tmp_path / "here/a.csv")}
    write_json(run.manifest, {"origin": describe_origin(str(tmp_path / "here/bert"), files, run.path)})
    (tmp_path / "here").rename(tmp_path / "there")
    moved = RunFolder(tmp_path / "there/run")
    model, found = load_origin(moved, None, {})
    assert Path(str(model)).resolve() == tmp_path / "there/bert"
    assert found == {"train": str(tmp_path / "there/a.csv")}
    assert load_origin(moved, "other", {"train": "b.csv"}) == ("other", {"train": "b.csv"})
    assert describe_origin("who/what", {}, run.path)["start"] == "who/what"
