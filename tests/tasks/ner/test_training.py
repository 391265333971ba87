"""Taggers learn on tiny files, from every start; what training has works for them too."""

import json
from itertools import chain
from pathlib import Path

import pytest
import torch
from tasks.ner.conftest import TINY, train
from tiny import make_tagged, write_conll
from transformers import AutoModelForTokenClassification

from llmkit.config.loading import load_recipe
from llmkit.core.errors import DataError, UsageError
from llmkit.reporting.compare import compare
from llmkit.runs.repeat import finetune_repeatedly
from llmkit.runs.train import finetune
from llmkit.training.folder import Series


def test_tagger_learns_and_reports_a_baseline(run: Path, gpt2_run: Path) -> None:
    for out in (run, gpt2_run):
        figures = json.loads((out / "metrics.json").read_text())["validation"]
        assert figures["entity_f1"] > 0.9
        assert figures["word_baseline_entity_f1"] > 0.5
        assert figures["n_rows"] == 40


def test_saved_model_opens_in_plain_transformers_with_its_tags(run: Path) -> None:
    model = AutoModelForTokenClassification.from_pretrained(run / "model")
    assert [model.config.id2label[number] for number in range(5)] == ["O", "B-PLAN", "I-PLAN", "B-PRIZE", "I-PRIZE"]


def test_head_of_a_tagger_is_reused_by_the_names_of_its_tags(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_conll(tmp_path / "a.conll", make_tagged(40, 1))
    train(tmp_path / "out", str(run), data, "train.max_steps=1", "optim.learning_rate=1e-9")
    figures = json.loads((tmp_path / "out/metrics.json").read_text())["validation"]
    assert figures["entity_f1"] > 0.9
    assert "kept: it has the same labels" in capsys.readouterr().err


@pytest.mark.parametrize("overrides", [("ner.class_weights=balanced",), ("ner.class_weights={PLAN: 5, O: 0.5}",)])
def test_class_weights_have_mean_one_and_change_the_weights(
    bert: str, words: str, tmp_path: Path, overrides: tuple[str, ...]
) -> None:
    short = ("train.max_steps=2", *overrides)
    train(tmp_path / "weighted", bert, words, *short)
    train(tmp_path / "plain", bert, words, "train.max_steps=2")
    models = [AutoModelForTokenClassification.from_pretrained(tmp_path / n / "model") for n in ("weighted", "plain")]
    assert not torch.equal(models[0].classifier.weight, models[1].classifier.weight)


@pytest.mark.parametrize(
    ("override", "words_of_error"),
    [
        ("ner.class_weights={PLANS: 5}", "no type 'PLANS'"),
        ("ner.metric=f1", "no metric 'f1'"),
        ("ner.stride=62", "cannot overlap"),
        ("train.block_size=99", "does not fit the model's 64 positions"),
    ],
)
def test_settings_that_do_not_fit_the_data_are_refused(
    bert: str, tmp_path: Path, override: str, words_of_error: str
) -> None:
    data = write_conll(tmp_path / "a.conll", [(row[0] * 15, row[1] * 15) for row in make_tagged(8)])
    with pytest.raises(UsageError, match=words_of_error):
        train(tmp_path / "out", bert, data, override, "train.max_steps=1")


def test_accumulation_does_not_change_the_losses(bert: str, words: str, tmp_path: Path) -> None:
    losses = []
    for size in (8, 2):
        out = tmp_path / str(size)
        train(out, bert, words, f"train.micro_batch_size={size}", "train.max_steps=4", "train.log_steps=1")
        records = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
        losses.append([record["loss"] for record in records if record["kind"] == "train"])
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


def test_long_rows_are_trained_and_scored_in_windows(bert: str, tmp_path: Path) -> None:
    rows = make_tagged(160)
    parts = [zip(*rows[number : number + 20], strict=True) for number in range(0, 160, 20)]
    long = [tuple(list(chain.from_iterable(each)) for each in part) for part in parts]
    data = write_conll(tmp_path / "a.conll", long * 4)
    train(tmp_path / "out", bert, data, "train.block_size=24", "ner.stride=8", "ner.decoding=constrained")
    figures = json.loads((tmp_path / "out/metrics.json").read_text())["validation"]
    assert figures["n_long"] == figures["n_rows"] and figures["entity_f1"] > 0.6


@pytest.mark.parametrize("override", ["ner.lora_rank=2", "ner.freeze=encoder", "ner.from_scratch=true"])
def test_other_starts_train(bert: str, words: str, tmp_path: Path, override: str) -> None:
    pytest.importorskip("peft")
    train(tmp_path / "out", bert, words, override, "train.max_steps=2")
    assert (tmp_path / "out/report.html").is_file()


def test_folds_and_sizes_are_a_series_and_runs_compare_on_the_same_rows(
    bert: str, words: str, run: Path, tmp_path: Path
) -> None:
    recipe = load_recipe(None, [*TINY, "train.max_steps=2"], task="ner")
    series = finetune_repeatedly(recipe, Series(2, 1, ()), files={"train": words}, out=tmp_path / "s", model=bert)
    assert set(series["runs"]) == {"fold-0", "fold-1"} and "entity_f1" in series["summary"]["validation"]
    assert sum(each["validation"]["n_rows"] for each in series["runs"].values()) == 160
    train(tmp_path / "short", bert, words, "train.max_steps=2", "train.max_rows=20")
    result = compare([run, tmp_path / "short"], by=None, out=tmp_path / "page")
    assert "randomization test" in json.dumps(result, default=str)


def test_file_without_entities_and_changed_data_are_refused(bert: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no entity to learn"):
        train(tmp_path / "out", bert, write_conll(tmp_path / "a.conll", [(["a", "b"], ["O", "O"])] * 5))


def test_dry_run_writes_nothing(bert: str, words: str, tmp_path: Path) -> None:
    recipe = load_recipe(None, TINY, task="ner")
    result = finetune(recipe, files={"train": words}, out=tmp_path / "out", model=bert, dry_run=True)
    assert result["samples_per_epoch"] == 120 and not (tmp_path / "out").exists()
