"""What stands on the command line and in the environment decides which processes there are."""

import os
import subprocess
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
from llmkit.cli.several import strip_options
from llmkit.core import ranks
from llmkit.core.errors import EnvironmentFault, LlmkitError
from llmkit.training.launch import _explain, _find_cause, count_processes, launch


@pytest.mark.parametrize(
    "typed",
    [
        ["pretrain-clm", "--nproc", "2", "--data", "d", "--nnodes=2", "--rdzv-endpoint", "a:1", "--out", "r"],
        ["pretrain-clm", "--data", "d", "--rdzv-endpoint=a:1", "--out", "r", "--nnodes", "2", "--nproc=auto"],
    ],
)
def test_processes_get_the_command_without_what_is_the_launchers(typed: list[str]) -> None:
    assert strip_options(typed) == ["pretrain-clm", "--data", "d", "--out", "r"]


@pytest.mark.parametrize(
    ("options", "what"),
    [
        (["--nproc", "0"], "--nproc is '0'"),
        (["--nproc", "aut"], "--nproc is 'aut'"),
        (["--nnodes", "2"], "how many processes"),
        (["--nproc", "2", "--nnodes", "2"], "must know where to meet"),
    ],
)
def test_request_that_makes_no_job_is_refused(options: list[str], what: str, tmp_path: Path) -> None:
    with pytest.raises(LlmkitError, match=what):
        command = ["pretrain-clm", "--data", str(tmp_path), "--out", str(tmp_path / "run"), *options]
        app(command, standalone_mode=False)


def test_series_of_runs_is_not_put_on_several_processes(tmp_path: Path) -> None:
    command = ["finetune-cls", "--data", "t.csv", "--model", "m", "--out", str(tmp_path / "r"), "--seeds", "2"]
    with pytest.raises(LlmkitError, match="one after the other"):
        app([*command, "--nproc", "2"], standalone_mode=False)


@pytest.mark.parametrize(
    ("ends", "cause"),
    [
        ({0: (5, 10), 1: (9, 10)}, 1),  # 0 lost 1, and both had ended when the launcher looked
        ({0: (5, 10), 1: (9, 11)}, 1),
        ({0: (-9, 11), 1: (-9, 10)}, 1),
        ({0: (2, 11), 1: (2, 10)}, 1),
    ],
)
def test_cause_is_who_died_without_a_word_and_else_who_was_first(ends: dict[int, tuple[int, int]], cause: int) -> None:
    failures = {rank: SimpleNamespace(exitcode=code, timestamp=time) for rank, (code, time) in ends.items()}
    assert _find_cause(SimpleNamespace(failures=failures))[0] == cause  # type: ignore[arg-type]  # all that is read


@pytest.mark.parametrize(
    ("exit_code", "code", "said"),
    [(-9, 5, "rank 3 died: SIGKILL"), (9, 5, "rank 3 died: exit code 9"), (2, 2, ""), (143, 143, "")],
)
def test_end_of_a_rank_is_the_end_of_the_job(
    exit_code: int, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _explain(3, SimpleNamespace(exitcode=exit_code, pid=7)) == code  # type: ignore[arg-type]  # all that is read
    assert said in capsys.readouterr().err


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
        (RendezvousConnectionError("The connection to the C10d store has failed."), "did not meet: The conn", "port"),
        (RendezvousTimeoutError(), "did not meet: RendezvousTimeoutError", "every machine"),
        (RendezvousClosedError(), "had ended on another machine", "again"),
    ],
)
def test_machines_that_do_not_meet_are_three_lines(
    error: Exception, what: str, hint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(EnvironmentFault, match=what) as caught:
        launch_that_raises(error, monkeypatch, 2, "127.0.0.1:9")
    assert hint in caught.value.problems[0].hint and "127.0.0.1:9" in caught.value.problems[0].where


def test_one_machine_is_not_told_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EnvironmentFault, match="the processes did not meet: cannot listen") as caught:
        launch_that_raises(DistNetworkError("cannot listen"), monkeypatch)
    assert "None" not in str(caught.value) and "machine" not in str(caught.value)
    with pytest.raises(RuntimeError, match="a bug"):
        launch_that_raises(RuntimeError("a bug"), monkeypatch)


def test_ranks_that_do_not_meet_are_three_lines_though_torch_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def never_meet(**_: object) -> None:
        raise DistNetworkError

    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr("accelerate.PartialState", never_meet)
    with pytest.raises(EnvironmentFault, match="the 2 ranks did not meet: DistNetworkError"):
        ranks.join("cpu", 1)


def test_without_a_gpu_auto_is_one_process() -> None:
    assert count_processes(None) == 1 and count_processes(3) == 3


def test_what_accelerate_launch_was_asked_for_is_left_out_and_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = {"USE_CPU": "true", "USE_FSDP": "true", "GRADIENT_ACCUMULATION_STEPS": "4", "MIXED_PRECISION": "no"}
    for name, value in asked.items():
        monkeypatch.setenv(f"ACCELERATE_{name}", value)
    ranks.join("cpu", 1.0)
    said = capsys.readouterr().err
    assert "use_cpu=true, use_fsdp=true, gradient_accumulation_steps=4: left out" in said
    assert not [name for name in os.environ if name.removeprefix("ACCELERATE_") in asked]
    ranks.join("cpu", 1.0)
    assert capsys.readouterr().err == ""


def test_slurm_s_own_names_are_read_where_nothing_else_says_the_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    monkeypatch.setattr(ranks.os, "environ", environ := {"SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "3"})
    environ |= {"SLURM_LOCALID": "1", "SLURM_STEP_NODELIST": "node[1-2]"}
    listed = subprocess.CompletedProcess([], 0, stdout="node1\nnode2\n")
    monkeypatch.setattr(ranks.subprocess, "run", lambda *_, **__: listed)
    ranks.take_place()
    assert [environ[name] for name in names] == ["3", "1", "4", "node1", str(ranks.PORT)]
    environ |= {"RANK": "0"}
    ranks.take_place()
    assert environ["RANK"] == "0", "a launcher's word beats SLURM's"


def test_only_process_of_a_launcher_is_no_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranks.os, "environ", environ := {"WORLD_SIZE": "1", "RANK": "0", "LOCAL_RANK": "0"})
    ranks.take_place()
    assert environ == {}


def test_shell_of_a_batch_job_is_no_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranks.os, "environ", environ := {"SLURM_NTASKS": "4", "SLURM_PROCID": "0"})
    ranks.take_place()
    assert "RANK" not in environ


@pytest.mark.parametrize("n_items", [0, 1, 5, 8])
def test_items_are_shared_out_once_and_every_rank_works_equally_often(
    n_items: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranks, "world_size", lambda: 4)
    shares = []
    for own in range(4):
        monkeypatch.setattr(ranks, "rank", lambda own=own: own)
        shares.append(list(ranks.share_out(range(n_items))))
    assert len({len(share) for share in shares}) == 1
    assert sorted(item for share in shares for item, counts in share if counts) == list(range(n_items))
