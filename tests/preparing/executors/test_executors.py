"""All executors: their requirements, how a worker calls a function, and the executor of one process."""

import subprocess
from pathlib import Path

import pytest
from books import settings

from llmkit.core.errors import EnvironmentFault, UsageError
from llmkit.core.progress import ProgressBar
from llmkit.preparing.executors import LOCAL, Attempt, describe_packages, open_executor
from llmkit.preparing.prepare import prepare


def test_one_worker_is_this_process_which_starts_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "Popen", None)
    asked: list[int] = []
    with open_executor(LOCAL, tmp_path, 1) as map_shards:
        results = map_shards(asked.append, [1, 2, 3])
        next(results)
        assert asked == [1], "a shard is worked on when its result is asked for"


def test_meter_of_a_worker_is_hidden_and_that_of_this_process_is_not(tmp_path: Path) -> None:
    assert Attempt(lambda _: ProgressBar.is_hidden, tmp_path, Path.cwd(), describe_packages())(0).value is True
    assert not ProgressBar.is_hidden


def test_worker_with_another_version_or_without_the_folder_is_refused(tmp_path: Path) -> None:
    versions = describe_packages()
    same = Attempt(str, tmp_path, Path.cwd(), versions)(5)
    assert (same.value, same.error) == ("5", None)
    other = Attempt(str, tmp_path, Path.cwd(), versions | {"ftfy": "0.1"})(5)
    with pytest.raises(EnvironmentFault, match=f"a worker has different versions: ftfy {versions['ftfy']}, here 0.1"):
        other.take()
    with pytest.raises(EnvironmentFault, match="a worker cannot find"):
        Attempt(str, tmp_path / "elsewhere", Path.cwd(), versions)(5).take()


def test_wrong_engine_and_missing_library_are_reported_before_anything_is_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="did you mean 'slurm'"):
        prepare(["nothing"], tmp_path / "data", settings(), engine="slrum")
    monkeypatch.setattr("llmkit.preparing.executors.ray.find_spec", lambda name: None)
    with pytest.raises(EnvironmentFault, match=r"pip install 'llmkit\[ray\]'"):
        prepare(["nothing"], tmp_path / "data", settings(), engine="ray")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EnvironmentFault, match="sbatch is not on the PATH"):
        prepare(["nothing"], tmp_path / "data", settings(), engine="slurm")
    monkeypatch.setattr("llmkit.preparing.executors.ray.find_spec", lambda name: name == "ray")
    with pytest.raises(UsageError, match="cannot read standard input"):
        prepare(["-"], tmp_path / "data", settings(), engine="ray")
    assert list(tmp_path.iterdir()) == []
