"""Series of fine-tuning runs: every row is held out once, finished runs are not repeated, and the summary is right."""

import gc
import json
import sys
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from tiny import SUM_ORDER, make_messages, save_bert, write_table
from transformers import PreTrainedModel

import llmkit.runs.train
from llmkit.cli import app
from llmkit.config.loading import dump_recipe, load_recipe
from llmkit.config.recipe import Recipe
from llmkit.core.errors import DataError, Interrupted, UsageError
from llmkit.evaluating.evaluate import evaluate
from llmkit.runs import repeat
from llmkit.runs.repeat import finetune_repeatedly
from llmkit.runs.train import finetune
from llmkit.tasks.cls.data import load_labelled
from llmkit.tokens.loading import load_tokenizer
from llmkit.training.folder import Series

TINY = (
    "train.max_steps=2", "train.global_batch_size=8", "train.precision=fp32", "optim.learning_rate=1e-2",
    "model.dropout=0", "train.seed=3",
)  # fmt: skip


def recipe(*overrides: str) -> Recipe:
    return load_recipe(None, [*TINY, *overrides], task="cls")


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_bert(tmp_path_factory.mktemp("models") / "bert")


@pytest.fixture(scope="module")
def messages(tmp_path_factory: pytest.TempPathFactory) -> str:
    """40 rows; each fourth one has a copy in capitals."""
    rows = make_messages(40)
    rows += [(text.upper(), label) for text, label in rows[::4]]
    return write_table(tmp_path_factory.mktemp("data") / "messages.csv", rows)


@pytest.fixture(scope="module")
def series(bert: str, messages: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("series") / "out"
    return out, finetune_repeatedly(recipe(), Series(3, 2), files={"train": messages}, out=out, model=bert)


def test_every_row_is_held_out_by_one_fold_and_copies_by_the_same(bert: str, messages: str) -> None:
    tokenizer, section = load_tokenizer(bert), recipe()
    held_out: list[set[int]] = []
    for number in range(3):
        data = load_labelled(section.cls, section.prepare.read, {"train": messages}, tokenizer, 64, fold=(number, 3))
        held_out.append(set(data.splits["validation"].lines.tolist()))
        assert held_out[-1] | set(data.splits["train"].lines.tolist()) == set(range(2, 52))
    assert sorted(line for lines in held_out for line in lines) == list(range(2, 52))
    for first, copy in zip(range(2, 42, 4), range(42, 52), strict=True):
        assert all((first in lines) == (copy in lines) for lines in held_out)


def test_summary_equals_numpys_statistics(series: tuple[Path, dict[str, Any]]) -> None:
    out, result = series
    assert list(result["runs"]) == [f"fold-{fold}-seed-{seed}" for fold in range(3) for seed in (3, 4)]
    for name in ("accuracy", "log_loss", "f1_macro", "ngram_baseline_accuracy"):
        values = [run["validation"][name] for run in result["runs"].values()]
        figures = result["summary"]["validation"][name]
        assert figures["mean"] == pytest.approx(np.mean(values))
        assert figures["std"] == pytest.approx(np.std(values, ddof=1))
        assert (figures["min"], figures["max"]) == (min(values), max(values))
        if figures["std"]:
            expected = stats.t.interval(0.95, 5, np.mean(values), stats.sem(values))
            assert figures["interval"] == pytest.approx(expected)
    assert json.loads((out / "metrics.json").read_text()) == result
    baselines = {name: run["validation"]["ngram_baseline_log_loss"] for name, run in result["runs"].items()}
    assert all(baselines[f"fold-{fold}-seed-3"] == baselines[f"fold-{fold}-seed-4"] for fold in range(3))
    assert len(set(baselines.values())) == 3, "each fold has its own"


def test_runs_of_a_series_differ_only_in_fold_and_seed(series: tuple[Path, dict[str, Any]]) -> None:
    out, result = series
    losses = [run["validation"]["log_loss"] for run in result["runs"].values()]
    assert len(set(losses)) == 6
    manifests = [json.loads((out / name / "manifest.json").read_text()) for name in result["runs"]]
    assert [manifest["origin"]["fold"] for manifest in manifests] == [[f, 3] for f in range(3) for _ in range(2)]
    seeds = [load_recipe(out / name / "recipe.yaml").train.seed for name in result["runs"]]
    assert seeds == [3, 4] * 3


def test_eval_of_a_run_in_a_series_uses_its_own_fold(series: tuple[Path, dict[str, Any]]) -> None:
    out, result = series
    again = evaluate(recipe(), model=str(out / "fold-1-seed-3"))
    written = result["runs"]["fold-1-seed-3"]["validation"]
    assert again["log_loss"] == pytest.approx(written["log_loss"], **SUM_ORDER)


def test_resumed_series_repeats_no_finished_run(
    series: tuple[Path, dict[str, Any]], bert: str, messages: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, done = tmp_path / "out", []

    def count(*arguments: Any, **options: Any) -> Any:
        if len(done) == 3:
            raise Interrupted(2, "saved at step 1 of 2; continue with: --resume")
        done.append(options["out"].name)
        return finetune(*arguments, **options)

    monkeypatch.setattr(repeat, "finetune", count)
    with pytest.raises(Interrupted, match="fold-1-seed-4 was interrupted") as caught:
        finetune_repeatedly(recipe(), Series(3, 2), files={"train": messages}, out=out, model=bert)
    assert caught.value.exit_code == 130
    assert not (out / "metrics.json").exists()
    with pytest.raises(UsageError, match="was started with"):
        finetune_repeatedly(recipe(), Series(4, 2), files={"train": messages}, out=out, model=bert, resume=True)
    done.append("stop no more")
    result = finetune_repeatedly(recipe(), Series(3, 2), files={"train": messages}, out=out, model=bert, resume=True)
    assert done == [f"fold-{f}-seed-{s}" for f, s in ((0, 3), (0, 4), (1, 3))] + ["stop no more"] + [
        f"fold-{f}-seed-{s}" for f, s in ((1, 4), (2, 3), (2, 4))
    ]
    assert result["summary"] == series[1]["summary"]


def test_folds_exclude_a_validation_file_and_need_as_many_rows(bert: str, messages: str, tmp_path: Path) -> None:
    options: dict[str, Any] = {"out": tmp_path / "out", "model": bert}
    with pytest.raises(UsageError, match="cannot be used together"):
        finetune_repeatedly(recipe(), Series(2), files={"train": messages, "validation": messages}, **options)
    with pytest.raises(DataError, match="cannot be split into 99 folds"):
        finetune_repeatedly(recipe(), Series(99), files={"train": messages}, **options)


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["llmkit", *arguments])
    monkeypatch.setattr(app.signal, "signal", lambda *_: None)
    with pytest.raises(SystemExit) as caught:
        app.main()
    return int(caught.value.code or 0)


def test_dry_run_of_a_series_trains_nothing_and_resume_needs_only_its_folder(
    bert: str, messages: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    command = ["finetune-cls", "--data", messages, "--model", bert, "--out", str(out), "--folds", "2"]
    command += [part for override in TINY for part in ("-s", override)]
    assert call(monkeypatch, *command, "--dry-run") == 0
    assert "task: cls" in capsys.readouterr().out
    assert not out.exists()

    def stop(*_: Any, **options: Any) -> Any:
        raise Interrupted(2, "saved")

    with monkeypatch.context() as patched:
        patched.setattr(repeat, "finetune", stop)
        assert call(patched, *command) == 130
    assert call(monkeypatch, "finetune-cls", "--out", str(out), "--resume") == 0
    assert "validation rows, 2 runs" in capsys.readouterr().out


def test_model_of_the_previous_run_is_freed(
    bert: str, messages: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the garbage collector, which would come at any time: nothing holds a model but what trains it."""
    ended: list[weakref.ref[PreTrainedModel]] = []
    alive: list[int] = []
    train_run = llmkit.runs.train.train_run

    def recorded(recipe: Any, task: Any, network: PreTrainedModel, **more: Any) -> Any:
        alive.append(sum(model() is not None for model in ended))
        ended.append(weakref.ref(network))
        return train_run(recipe, task, network, **more)

    monkeypatch.setattr(llmkit.runs.train, "train_run", recorded)
    gc.disable()
    try:
        finetune_repeatedly(recipe(), Series(seeds=3), files={"train": messages}, out=tmp_path / "out", model=bert)
    finally:
        gc.enable()
    assert alive == [0, 0, 0]


def curve_of(bert: str, messages: str, out: Path, sizes: tuple[int | None, ...], **more: Any) -> dict[str, Any]:
    series = Series(more.pop("folds", None), more.pop("seeds", 1), sizes)
    return finetune_repeatedly(recipe(), series, files={"train": messages}, out=out, model=bert, **more)


def test_learning_curve_has_one_run_per_size_on_the_same_held_out_rows(
    bert: str, messages: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    result = curve_of(bert, messages, out, (4, 12, 1000, 5000, None), seeds=2)
    sizes = [(entry["max_rows"], entry["n_train_rows"], entry["n_runs"]) for entry in result["learning_curve"]]
    n_all = sizes[-1][1]
    assert sizes == [(4, 4, 2), (12, 12, 2), (1000, n_all, 2)] and 40 < n_all < 50
    assert list(result["runs"]) == [f"rows-{size}-seed-{seed}" for size in (4, 12, 1000) for seed in (3, 4)]
    output = capsys.readouterr().err
    assert (
        f"rows-1000-seed-3: there are only {n_all} train rows, and all of them are used; larger sizes are skipped"
        in output
    )
    for entry, names in zip(result["learning_curve"], ([f"rows-{n}-seed-{s}" for s in (3, 4)] for n in (4, 12, 1000)),
                            strict=True):  # fmt: skip
        for name in ("accuracy", "ngram_baseline_accuracy"):
            values = [result["runs"][run]["validation"][name] for run in names]
            assert entry["validation"][name]["mean"] == pytest.approx(np.mean(values))
    assert len({run["validation"]["n_rows"] for run in result["runs"].values()}) == 1
    assert json.loads((out / "metrics.json").read_text()) == result and "summary" not in result
    assert load_recipe(out / "rows-12-seed-4/recipe.yaml").train.max_rows == 12
    assert "Learning curve on validation rows" in (out / "report.html").read_text()


def test_learning_curve_resumes_from_its_folder_and_refuses_other_sizes(
    bert: str, messages: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, done = tmp_path / "out", []

    def count(*arguments: Any, **options: Any) -> Any:
        if len(done) == 1:
            raise Interrupted(2, "saved at step 1 of 2; continue with: --resume")
        done.append(options["out"].name)
        return finetune(*arguments, **options)

    monkeypatch.setattr(repeat, "finetune", count)
    with pytest.raises(Interrupted, match="rows-8 was interrupted"):
        curve_of(bert, messages, out, (4, 8, None))
    with pytest.raises(UsageError, match="was started with"):
        curve_of(bert, messages, out, (4, 9, None), resume=True)
    done.append("stop no more")
    result = curve_of(bert, messages, out, (4, 8, None), resume=True)
    assert done == ["rows-4", "stop no more", "rows-8", "rows-all"]
    assert (
        result["learning_curve"][0]["validation"]["accuracy"]["interval"]
        == (result["runs"]["rows-4"]["validation"]["intervals"]["accuracy"])
    )
    again = curve_of(bert, messages, out, (4, 8, None), overwrite=True)
    assert again["runs"].keys() == result["runs"].keys(), "its own files may be replaced"


def test_learning_curve_over_folds_leaves_out_sizes_per_fold_and_max_rows_is_refused(
    bert: str, messages: str, tmp_path: Path
) -> None:
    result = curve_of(bert, messages, tmp_path / "out", (6, 99, None), folds=2)
    assert list(result["runs"]) == ["rows-6-fold-0", "rows-6-fold-1", "rows-99-fold-0", "rows-99-fold-1"]
    with pytest.raises(UsageError, match="cannot be used together"):
        finetune_repeatedly(
            recipe("train.max_rows=5"), Series(sizes=(2,)), files={"train": messages}, out=tmp_path / "b", model=bert
        )


def test_label_without_a_train_row_is_reported_for_its_size(
    bert: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = write_table(tmp_path / "a.csv", [(f"text {n}", f"label {n % 4}") for n in range(48)])
    curve_of(bert, rows, tmp_path / "out", (2, 20))
    output = capsys.readouterr().err
    assert "rows-2: 2 labels without train rows, for example 'label " in output and "rows-20: " not in output


def test_series_has_a_report_and_keeps_no_checkpoints_unless_asked(
    series: tuple[Path, dict[str, Any]], bert: str, messages: str, tmp_path: Path
) -> None:
    out, result = series
    page = (out / "report.html").read_text()
    assert all(name in page for name in result["runs"]) and "3 folds × 2 seeds" in page
    assert all((out / name / "model/model.safetensors").is_file() for name in result["runs"])
    assert not list(out.glob("*/checkpoints"))
    config = recipe("train.keep_checkpoints=true")
    finetune_repeatedly(config, Series(seeds=2), files={"train": messages}, out=tmp_path / "kept", model=bert)
    assert len(list((tmp_path / "kept").glob("*/checkpoints/step-2"))) == 2


def test_single_run_keeps_its_checkpoints_unless_told_not_to(bert: str, messages: str, tmp_path: Path) -> None:
    finetune(recipe(), files={"train": messages}, out=tmp_path / "kept", model=bert)
    assert (tmp_path / "kept/checkpoints/step-2").is_dir()
    config = recipe("train.keep_checkpoints=false")
    finetune(config, files={"train": messages}, out=tmp_path / "gone", model=bert)
    assert not (tmp_path / "gone/checkpoints").exists() and (tmp_path / "gone/report.html").is_file()


def test_single_run_is_not_resumed_as_a_series(bert: str, messages: str, tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(dump_recipe(recipe()))
    (tmp_path / "manifest.json").write_text('{"task": "cls"}')
    with pytest.raises(UsageError, match="holds a single run, not a series"):
        finetune_repeatedly(recipe(), Series(3), files={"train": messages}, out=tmp_path, model=bert, resume=True)
