"""The options that put a command on several processes."""

import pytest
import typer

from llmkit.cli.distributed_options import DistributedOptions, strip_options
from llmkit.core.errors import UsageError


@pytest.mark.parametrize(
    "typed",
    [
        ["pretrain-clm", "--nproc", "2", "--data", "d", "--nnodes=2", "--rdzv-endpoint", "a:1", "--out", "r"],
        ["pretrain-clm", "--data", "d", "--rdzv-endpoint=a:1", "--out", "r", "--nnodes", "2", "--nproc=auto"],
    ],
)
def test_processes_get_the_command_without_what_is_the_launchers(typed: list[str]) -> None:
    assert strip_options(typed) == ["pretrain-clm", "--data", "d", "--out", "r"]


def test_values_of_other_options_are_kept_though_they_look_like_the_launchers() -> None:
    typed = ["pretrain", "-s", "train.sample_prompt=--nproc", "--nproc=2", "--out", "--nnodes-run"]
    assert strip_options(typed) == ["pretrain", "-s", "train.sample_prompt=--nproc", "--out", "--nnodes-run"]


def test_engine_is_said_as_set_would_say_it() -> None:
    assert DistributedOptions(engine="zero3").overrides == ["train.engine=zero3"]
    assert DistributedOptions().overrides == []


@pytest.mark.parametrize("nproc", ["0", "-1", "aut", "2.5", "", "٣x"])
def test_number_of_processes_that_is_none_is_refused(nproc: str) -> None:
    with pytest.raises(UsageError, match="--nproc is"):
        DistributedOptions(nproc=nproc).launch()


def test_machines_without_a_number_of_processes_are_refused_and_one_process_launches_nothing() -> None:
    DistributedOptions().launch()
    for several in (DistributedOptions(nnodes=2), DistributedOptions(rdzv_endpoint="a:1")):
        with pytest.raises(UsageError, match="how many processes"):
            several.launch()


def test_command_line_and_numbers_reach_the_launcher_and_its_exit_code_is_the_commands(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[object] = []
    monkeypatch.setattr("sys.argv", ["llmkit", "pretrain", "--nproc", "3", "--out", "r"])
    monkeypatch.setattr("llmkit.training.launch.launch", lambda *what: asked.extend(what) or 143)
    with pytest.raises(typer.Exit) as ended:
        DistributedOptions(nproc="3", nnodes=2, rdzv_endpoint="a:1").launch()
    assert ended.value.exit_code == 143
    assert asked == [["pretrain", "--out", "r"], 3, 2, "a:1"]


def test_what_is_for_one_process_is_refused_on_several_however_they_came(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    DistributedOptions().refuse("folds", "--folds")
    with pytest.raises(UsageError, match="folds"):
        DistributedOptions(nproc="2").refuse("folds", "--folds")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="folds"):
        DistributedOptions().refuse("folds", "--folds")
