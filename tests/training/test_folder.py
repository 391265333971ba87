"""Run folders: when they are refused, when they are replaced, and how their log is truncated.

A run finds its starting model and its data files again, also after they were moved together.
"""

import json
from pathlib import Path

import pytest

from llmkit.core.errors import EnvironmentFault, ModelError, UsageError
from llmkit.core.files import write_json
from llmkit.training.folder import (
    RunFolder,
    Series,
    check_run,
    create_run,
    describe_origin,
    is_finished,
    load_origin,
    open_run,
    origin_files,
    read_series,
    read_sizes,
    resolve_resume,
)


def start(path: Path) -> RunFolder:
    """A run that has written what a start writes."""
    run = create_run(path, overwrite=False)
    run.recipe.touch()
    run.manifest.write_text("{}")
    return run


def test_run_folder_in_use_is_refused_and_never_mixed(tmp_path: Path) -> None:
    run = start(tmp_path / "run")
    run.metrics.touch()
    with pytest.raises(UsageError, match="not empty") as caught:
        create_run(run.path, overwrite=False)
    assert "--resume" in str(caught.value)
    assert create_run(run.path, overwrite=True).path.is_dir()
    assert list(run.path.iterdir()) == []


def test_out_below_a_file_is_exit_code_4(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EnvironmentFault, match="cannot write") as caught:
        create_run(tmp_path / "file/run", overwrite=False)
    assert caught.value.exit_code == 4


def test_log_of_a_killed_run_is_cut_back_to_the_checkpoint(tmp_path: Path) -> None:
    run = create_run(tmp_path / "run", overwrite=False)
    run.append_log({"kind": "sample", "step": 1, "text": "a\u2028b"})
    for step in (1, 2, 3):
        run.append_log({"kind": "train", "step": step, "loss": float("nan") if step == 1 else 1.0})
    with run.log.open("a") as file:
        file.write('{"kind": "tr')
    run.truncate_log(2)
    assert run.log.read_text() == (
        '{"kind": "sample", "step": 1, "text": "a\u2028b"}\n'
        '{"kind": "train", "step": 1, "loss": null}\n{"kind": "train", "step": 2, "loss": 1.0}\n'
    )


@pytest.mark.parametrize(
    ("resume", "overwrite", "what"),
    [
        (True, True, "cannot be used together"),
        (True, False, "no run to resume"),
        (False, True, "it is not deleted"),
        (False, False, "is not empty"),
    ],
)
def test_folder_of_something_else_is_refused_and_left_alone(
    tmp_path: Path, resume: bool, overwrite: bool, what: str
) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(UsageError, match=what):
        check_run(tmp_path, resume=resume, overwrite=overwrite)
    if not resume:
        with pytest.raises(UsageError, match=what):
            create_run(tmp_path, overwrite=overwrite)
    assert [each.name for each in tmp_path.iterdir()] == ["thesis.tex"]


def test_partial_files_of_a_killed_process_do_not_make_a_run(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/.recipe.yaml.partial").touch()
    assert create_run(tmp_path / "run", overwrite=False).path.is_dir()


def test_output_path_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").touch()
    with pytest.raises(UsageError, match="is a file"):
        check_run(tmp_path / "run", resume=False, overwrite=False)


def test_auto_resumes_from_a_checkpoint_and_else_restarts_a_run_without_one(tmp_path: Path) -> None:
    assert resolve_resume(tmp_path / "new", "auto", False) == (False, False)
    run = start(tmp_path / "run")
    assert resolve_resume(run.path, "auto", False) == (False, True)
    (run.checkpoints / "step-5").mkdir(parents=True)
    assert resolve_resume(run.path, "auto", False) == (True, False)
    with pytest.raises(UsageError, match="cannot be used together"):
        resolve_resume(run.path, "auto", True)
    for given in ((True, False), (False, True), (False, False)):
        assert resolve_resume(run.path, *given) == given


def test_run_that_was_killed_between_its_first_two_files_or_while_it_was_deleted_starts_over(tmp_path: Path) -> None:
    run = start(tmp_path / "run")
    run.manifest.write_text(json.dumps({"task": "clm", "plan": {}}))
    run.recipe.unlink()
    run.log.touch()
    assert resolve_resume(run.path, "auto", False) == (False, True)
    assert create_run(run.path, overwrite=True).path.is_dir() and not run.manifest.exists()


@pytest.mark.parametrize("name", ["model", "metrics.json", "thesis.tex", "seed-0"])
def test_auto_overwrites_no_run_that_has_results(tmp_path: Path, name: str) -> None:
    run = start(tmp_path / "run")
    (run.path / name).mkdir()
    assert resolve_resume(run.path, "auto", False) == (False, False)


def test_auto_deletes_no_series_of_runs(tmp_path: Path) -> None:
    run = start(tmp_path / "run")
    assert read_series(run.path) == Series()
    write_json(run.manifest, {"series": {"folds": 5, "seeds": 2}})
    assert read_series(run.path) == Series(5, 2)
    write_json(run.manifest, {"series": Series(None, 1, (10, None)).describe()})
    assert read_series(run.path) == Series(None, 1, (10, None))
    assert resolve_resume(run.path, "auto", False) == (False, False)


def test_run_is_finished_when_its_figures_and_its_report_are_there(tmp_path: Path) -> None:
    run = start(tmp_path / "run")
    run.add_metrics("validation", {"loss": 1.0})
    assert not is_finished(run.path)
    (run.path / "report.html").touch()
    assert is_finished(run.path)
    run.metrics.unlink()
    assert not is_finished(run.path)


def test_figures_of_one_split_leave_the_others(tmp_path: Path) -> None:
    run = start(tmp_path / "run")
    run.add_metrics("validation", {"loss": 1.0})
    run.add_metrics("test", {"loss": 2.0})
    run.add_metrics("validation", {"loss": 3.0})
    assert json.loads(run.metrics.read_text()) == {"validation": {"loss": 3.0}, "test": {"loss": 2.0}}


def test_log_is_read_by_kind_with_the_line_ends_that_a_sample_may_hold(tmp_path: Path) -> None:
    run = start(tmp_path / "run")
    records = [{"kind": "sample", "step": 1, "text": "a\u2028b\x85c\n"}, {"kind": "eval", "step": 1, "loss": None}]
    for record in records:
        run.append_log(record)
    assert run.read_log("sample") + run.read_log("eval") == records


def test_prepared_folder_is_found_after_both_were_moved(tmp_path: Path) -> None:
    run = start(tmp_path / "here/run")
    write_json(run.manifest, {"data_path": "../../data"})
    assert run.data_path == tmp_path / "data"
    (tmp_path / "here").rename(tmp_path / "there")
    assert RunFolder(tmp_path / "there/run").data_path == tmp_path / "data"


def test_folder_without_a_recipe_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is not a run folder"):
        open_run(tmp_path)
    assert open_run(start(tmp_path / "run").path).path == tmp_path / "run"


def test_files_are_found_again_after_they_were_moved_with_their_run(tmp_path: Path) -> None:
    files = {"train": str(tmp_path / "data/a.csv"), "test": "hf:imdb@test"}
    relative = describe_origin("hub/model", files, tmp_path / "runs/one")["files"]
    assert relative == {"train": "../../data/a.csv", "test": "hf:imdb@test"}
    moved = origin_files(tmp_path / "elsewhere/runs/one", {"files": relative})
    assert moved == {"train": str(tmp_path / "elsewhere/data/a.csv"), "test": "hf:imdb@test"}
    assert origin_files(tmp_path, {}) == {}


def test_given_model_and_files_override_those_of_the_first_start(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    assert load_origin(run, "model", {"train": "a.csv"}) == ("model", {"train": "a.csv"})
    run.path.mkdir()
    (tmp_path / "bert").mkdir()
    origin = describe_origin(str(tmp_path / "bert"), {"train": str(tmp_path / "a.csv")}, run.path)
    run.manifest.write_text(json.dumps({"origin": origin}))
    model, files = load_origin(run, None, {})
    assert model is not None
    assert (Path(model).resolve(), files) == (tmp_path / "bert", {"train": str(tmp_path / "a.csv")})
    assert load_origin(run, "other", {"train": "b.csv"}) == ("other", {"train": "b.csv"})


@pytest.mark.parametrize("text", ["", "{", "[]", '{"data_path": '])
def test_damaged_manifest_is_an_error_of_three_lines(text: str, tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.manifest.write_text(text)
    with pytest.raises(ModelError, match="manifest is damaged") as caught:
        _ = run.data_path
    assert caught.value.problems[0].where == str(run.manifest)


@pytest.mark.parametrize(
    ("text", "sizes"),
    [
        (None, ()),
        ("10", (10,)),
        ("1000, 10,100,10", (10, 100, 1000)),
        ("all,50", (50, None)),
        ("10，100、all", (10, 100, None)),
    ],
)
def test_sizes_of_a_learning_curve_are_ascending(text: str | None, sizes: tuple[int | None, ...]) -> None:
    assert read_sizes(text) == sizes


@pytest.mark.parametrize("text", ["", "10,", "1k", "0,10", "-5", "0.1", "ten", "10 100"])
def test_a_size_that_is_no_number_is_refused_by_name(text: str) -> None:
    with pytest.raises(UsageError, match="is not a number of rows"):
        read_sizes(text)
