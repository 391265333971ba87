"""The command line determines the processes, and the rank that fails first determines the exit code."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from torch.distributed import DistNetworkError
from torch.distributed.elastic.rendezvous import (
    RendezvousClosedError,
    RendezvousConnectionError,
    RendezvousTimeoutError,
)

from llmkit.cli.app import app
from llmkit.core.errors import EnvironmentFault, LlmkitError, UsageError
from llmkit.training.launch import _report_failure, count_processes, launch


@pytest.mark.parametrize(
    ("options", "what"),
    [
        (["--nproc", "0"], "--nproc is '0'"),
        (["--nproc", "aut"], "--nproc is 'aut'"),
        (["--nproc", "9" * 5000], "--nproc is '999"),
        (["--nproc", "²"], "--nproc is '²'"),
        (["--nnodes", "2"], "need --nproc"),
        (["--nproc", "2", "--nnodes", "2"], "need a rendezvous endpoint"),
    ],
)
def test_invalid_numbers_of_processes_are_refused(options: list[str], what: str, tmp_path: Path) -> None:
    with pytest.raises(LlmkitError, match=what):
        command = ["pretrain-clm", "--data", str(tmp_path), "--out", str(tmp_path / "run"), *options]
        app(command, standalone_mode=False)


def test_far_more_processes_than_cores_are_refused_before_any_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmkit.training.launch.count_cores", lambda: 6)
    assert [count_processes(n) for n in (1, 6, 24)] == [1, 6, 24]
    with pytest.raises(UsageError, match="25 processes are too many for the 6 cores of this machine") as caught:
        launch([], 25)
    assert caught.value.problems[0].hint.startswith("set --nproc to 6 or less")
    monkeypatch.setattr("llmkit.training.launch.count_cores", lambda: 1)
    assert count_processes(16) == 16


def test_series_of_runs_refuses_several_processes(tmp_path: Path) -> None:
    command = ["finetune-cls", "--data", "t.csv", "--model", "m", "--out", str(tmp_path / "r"), "--seeds", "2"]
    with pytest.raises(LlmkitError, match="one after the other"):
        app([*command, "--nproc", "2"], standalone_mode=False)


@pytest.mark.parametrize(
    ("ends", "code", "message"),
    [
        ({0: (5, 10), 1: (9, 10)}, 5, "rank 1 died: exit code 9"),  # 0 lost 1; both had ended when the launcher looked
        ({0: (5, 10), 1: (9, 11)}, 5, "rank 1 died: exit code 9"),
        ({0: (-9, 11), 1: (-9, 10)}, 5, "rank 1 died: SIGKILL"),
        ({0: (2, 11), 1: (3, 10)}, 3, ""),
        ({3: (143, 10)}, 143, ""),
    ],
)
def test_end_of_a_rank_is_the_end_of_the_job(
    ends: dict[int, tuple[int, int]], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    failures = {rank: SimpleNamespace(exitcode=code, timestamp=time, pid=7) for rank, (code, time) in ends.items()}
    assert _report_failure(SimpleNamespace(failures=failures)) == code  # type: ignore[arg-type]  # all that is read
    err = capsys.readouterr().err
    assert message in err if message else not err


def launch_that_raises(error: Exception, monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("llmkit.training.launch.elastic_launch", lambda *_: fail)
    monkeypatch.setattr("llmkit.training.launch.logging.disable", lambda: None)
    monkeypatch.setattr("llmkit.training.launch.os.environ", {})
    launch(["pretrain"], 1, *arguments)  # type: ignore[arg-type]  # as each test gives them


@pytest.mark.parametrize(
    ("error", "what", "hint"),
    [
        (
            RendezvousConnectionError("The connection to the C10d store has failed."),
            "could not connect: The conn",
            "port",
        ),
        (RendezvousTimeoutError(), "could not connect: RendezvousTimeoutError", "every machine"),
        (RendezvousClosedError(), "had ended on another machine", "repeat the command"),
    ],
)
def test_failed_rendezvous_is_an_error_of_three_lines(
    error: Exception, what: str, hint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(EnvironmentFault, match=what) as caught:
        launch_that_raises(error, monkeypatch, 2, "127.0.0.1:9")
    assert hint in caught.value.problems[0].hint and "127.0.0.1:9" in caught.value.problems[0].where


def test_error_on_a_single_machine_does_not_mention_other_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EnvironmentFault, match="the processes could not connect: cannot listen") as caught:
        launch_that_raises(DistNetworkError("cannot listen"), monkeypatch)
    assert "None" not in str(caught.value) and "machine" not in str(caught.value)
    with pytest.raises(RuntimeError, match="a bug"):
        launch_that_raises(RuntimeError("a bug"), monkeypatch)


def test_auto_is_one_process_without_a_gpu() -> None:
    assert count_processes(None) == 1 and count_processes(3) == 3
