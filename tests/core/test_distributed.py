"""Rank and world size of this process, and collective operations; the tests act as the other ranks."""

import os
import subprocess
from typing import Any

import pytest
import torch
from torch.distributed import DistNetworkError

from llmkit.core import distributed
from llmkit.core.errors import EnvironmentFault, UsageError


def test_failed_rendezvous_of_ranks_is_an_error_of_three_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    def never_meet(**_: object) -> None:
        raise DistNetworkError

    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr("accelerate.PartialState", never_meet)
    with pytest.raises(EnvironmentFault, match="the 2 ranks could not connect: DistNetworkError"):
        distributed.init_process_group("cpu", 1)


def test_settings_of_accelerate_launch_are_ignored_and_reported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = {"USE_CPU": "true", "USE_FSDP": "true", "GRADIENT_ACCUMULATION_STEPS": "4", "MIXED_PRECISION": "no"}
    for name, value in asked.items():
        monkeypatch.setenv(f"ACCELERATE_{name}", value)
    distributed.init_process_group("cpu", 1.0)
    output = capsys.readouterr().err
    assert "ignoring accelerate's use_cpu=true, use_fsdp=true, gradient_accumulation_steps=4" in output
    assert not [name for name in os.environ if name.removeprefix("ACCELERATE_") in asked]
    distributed.init_process_group("cpu", 1.0)
    assert capsys.readouterr().err == ""


def test_slurm_variables_are_read_if_no_launcher_set_the_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    monkeypatch.setattr(distributed.os, "environ", environ := {"SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "3"})
    environ |= {"SLURM_LOCALID": "1", "SLURM_STEP_NODELIST": "node[1-2]"}
    listed = subprocess.CompletedProcess([], 0, stdout="node1\nnode2\n")
    monkeypatch.setattr(distributed.subprocess, "run", lambda *_, **__: listed)
    distributed.init_from_env()
    assert [environ[name] for name in names] == ["3", "1", "4", "node1", str(distributed.PORT)]
    environ |= {"RANK": "0"}
    distributed.init_from_env()
    assert environ["RANK"] == "0", "a launcher's word beats SLURM's"


def test_single_process_of_a_launcher_has_no_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed.os, "environ", environ := {"WORLD_SIZE": "1", "RANK": "0", "LOCAL_RANK": "0"})
    distributed.init_from_env()
    assert environ == {}


def test_shell_of_a_batch_job_has_no_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed.os, "environ", environ := {"SLURM_NTASKS": "4", "SLURM_PROCID": "0"})
    distributed.init_from_env()
    assert "RANK" not in environ


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("RANK=1", "running one process: ignoring RANK=1, because WORLD_SIZE is not set"),
        ("LOCAL_RANK=1", "running one process: ignoring LOCAL_RANK=1, because RANK is not set"),
        ("WORLD_SIZE=abc LOCAL_RANK=0", "WORLD_SIZE=abc, LOCAL_RANK=0, because RANK is not set"),
    ],
)
def test_half_of_the_variables_of_a_rank_is_ignored_and_named(
    given: str, expected: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    environ = dict(word.split("=") for word in given.split())
    monkeypatch.setattr(distributed.os, "environ", environ)
    distributed.init_from_env()
    assert expected in capsys.readouterr().err and environ == {}


def test_empty_variable_is_none(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(distributed.os, "environ", environ := {"RANK": "", "WORLD_SIZE": "", "LOCAL_RANK": ""})
    distributed.init_from_env()
    assert environ == {} and capsys.readouterr().err == ""


@pytest.mark.parametrize("name", distributed.MPI_SIZES)
def test_processes_of_mpirun_are_refused_unless_they_are_one_or_have_ranks(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distributed.os, "environ", environ := {name: "2"})
    with pytest.raises(UsageError, match=f"{name} is 2 in the environment") as caught:
        distributed.init_from_env()
    assert "--nproc, torchrun or srun" in caught.value.problems[0].hint
    environ |= {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "h", "MASTER_PORT": "1"}
    distributed.init_from_env()
    environ.clear()
    environ[name] = "1"
    distributed.init_from_env()


def test_launcher_does_not_take_the_rank_of_another_job(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(distributed.os, "environ", environ := {"RANK": "1", "WORLD_SIZE": "4"})
    monkeypatch.setattr(distributed.sys, "argv", ["llmkit", "pretrain", "--nproc", "2"])
    distributed.init_from_env()
    assert "ignoring RANK=1, WORLD_SIZE=4 from the environment" in capsys.readouterr().err and environ == {}


@pytest.mark.parametrize(
    ("given", "what", "where"),
    [
        ("RANK=0 WORLD_SIZE=2", "MASTER_ADDR is not", "MASTER_ADDR"),
        ("RANK=0 WORLD_SIZE=2 MASTER_ADDR=h", "MASTER_PORT is not", "MASTER_PORT"),
        ("RANK=x WORLD_SIZE=2 MASTER_ADDR=h MASTER_PORT=1", "RANK is 'x'", "RANK"),
        ("RANK=0 WORLD_SIZE=-2 MASTER_ADDR=h MASTER_PORT=1", "WORLD_SIZE is '-2'", "WORLD_SIZE"),
        ("RANK=2 WORLD_SIZE=2 MASTER_ADDR=h MASTER_PORT=1", "ranks are numbered from 0", "RANK"),
        ("RANK=0 WORLD_SIZE=2 MASTER_ADDR=h MASTER_PORT=70000", "MASTER_PORT is '70000'", "MASTER_PORT"),
        ("RANK=0 WORLD_SIZE=2 LOCAL_RANK=1e9 MASTER_ADDR=h MASTER_PORT=1", "LOCAL_RANK is '1e9'", "LOCAL_RANK"),
        ("SLURM_STEP_NUM_TASKS=4", "SLURM_PROCID is not", "SLURM_PROCID"),
        ("SLURM_STEP_NUM_TASKS=4 SLURM_PROCID=0", "SLURM_LOCALID is not", "SLURM_LOCALID"),
        ("SLURM_STEP_NUM_TASKS=4 SLURM_PROCID=5 SLURM_LOCALID=0", "numbered from 0", "SLURM_PROCID"),
        ("SLURM_STEP_NUM_TASKS=four SLURM_PROCID=5 SLURM_LOCALID=0", "is 'four'", "SLURM_STEP_NUM_TASKS"),
    ],
)
def test_variables_of_a_rank_that_cannot_be_are_refused_by_name(
    given: str, what: str, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distributed.os, "environ", dict(word.split("=") for word in given.split()))
    with pytest.raises(UsageError, match=what) as caught:
        distributed.init_from_env()
    assert caught.value.problems[0].where == where


def test_two_jobs_of_slurm_on_one_machine_have_their_own_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    ports = []
    for job in ("7", "7", "8"):
        environ = {"SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "MASTER_ADDR": "h"}
        environ |= {"SLURM_JOB_ID": job, "SLURM_STEP_ID": "0"}
        monkeypatch.setattr(distributed.os, "environ", environ)
        distributed.init_from_env()
        ports.append(environ["MASTER_PORT"])
    assert ports[0] == ports[1] != ports[2]


@pytest.mark.parametrize("n_items", [0, 1, 5, 8])
def test_each_item_counts_once_and_all_ranks_get_equally_many(n_items: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "world_size", lambda: 4)
    shares = []
    for own in range(4):
        monkeypatch.setattr(distributed, "rank", lambda own=own: own)
        shares.append(list(distributed.shard(range(n_items))))
    assert len({len(share) for share in shares}) == 1
    assert sorted(item for share in shares for item, counts in share if counts) == list(range(n_items))


@pytest.fixture
def broadcasts(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Two ranks; this list holds the values that rank 0 has broadcast to rank 1."""
    kept: list[Any] = []

    def broadcast(values: list[Any], src: int) -> None:
        if distributed.rank() == src:
            kept[:] = values
        values[:] = kept

    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    monkeypatch.setattr("torch.distributed.broadcast_object_list", broadcast)
    return kept


def test_rank_0_decides_once_for_all_ranks(broadcasts: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "0")
    assert distributed.broadcast_from_main(lambda: {"steps": 7}) == {"steps": 7}
    monkeypatch.setenv("RANK", "1")
    assert distributed.broadcast_from_main(lambda: pytest.fail("rank 1 decided too")) == {"steps": 7}


@pytest.mark.parametrize(
    ("error", "exit_code"),
    [
        (UsageError("a", where="b", hint="c"), 2),
        (FileNotFoundError("a"), 4),
        (MemoryError(), 4),
        (ZeroDivisionError(), 1),
    ],
    ids=lambda value: type(value).__name__,
)
def test_other_ranks_end_with_the_exit_code_of_rank_0(
    broadcasts: list[Any], monkeypatch: pytest.MonkeyPatch, error: Exception, exit_code: int
) -> None:
    def refuse() -> None:
        raise error

    monkeypatch.setenv("RANK", "0")
    with pytest.raises(type(error)) as own:
        distributed.broadcast_from_main(refuse)
    assert own.value is error
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(distributed.MainProcessFailed) as parted:
        distributed.broadcast_from_main(lambda: None)
    assert parted.value.exit_code == exit_code


def test_sums_over_ranks_are_exact_and_integers_stay_integers(monkeypatch: pytest.MonkeyPatch) -> None:
    own = {"n": 2**53, "loss": 0.5, "counts": torch.tensor([1, 2])}
    other = {"n": 1, "loss": 0.25, "counts": torch.tensor([10, 20])}
    monkeypatch.setattr(distributed, "gather", lambda sums: [sums, other])
    found = distributed.all_reduce_sum(own)
    assert (found["n"], found["loss"], found["counts"].tolist()) == (2**53 + 1, 0.75, [11, 22])
    assert type(found["n"]) is int
    assert own["counts"].tolist() == [1, 2], "a rank's own sums are left alone"


def test_single_process_needs_no_torch_distributed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("torch.distributed.all_gather_object", lambda *_: pytest.fail("it asked others"))
    monkeypatch.setenv("RANK", "3")  # of a launcher whose ranks have not joined
    assert (distributed.world_size(), distributed.rank()) == (1, 0)
    assert distributed.gather("own") == ["own"]
    assert list(distributed.shard("ab")) == [("a", True), ("b", True)]
    with distributed.main_process_first():
        assert distributed.all_reduce_sum({"n": 1}) == {"n": 1}


@pytest.mark.parametrize(
    ("error", "is_loss"),
    [
        (DistNetworkError("refused"), True),
        (RuntimeError("[../third_party/gloo/gloo/transport/tcp/pair.cc:534] Connection closed by peer"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
    ],
)
def test_error_of_a_lost_rank_is_recognized(monkeypatch: pytest.MonkeyPatch, error: Exception, is_loss: bool) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert distributed.is_loss_of_others(error) is is_loss
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert not distributed.is_loss_of_others(error), "one process has no others"
