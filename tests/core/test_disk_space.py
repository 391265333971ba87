"""A disk without enough space is refused before a run, and a full disk is reported with its sizes."""

import errno
from pathlib import Path

import pytest

from llmkit.core.disk_space import explain_full_disk, measure_folder, require_space
from llmkit.core.errors import EnvironmentFault


def test_disk_that_is_too_small_is_refused_with_both_sizes(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault, match=r"this run needs about 1,000 TB, .* is free"):
        require_space(tmp_path, 10**15, "this run")


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "No space left on device"),
        RuntimeError("[enforce fail at inline_container.cc:664] . unexpected pos 64 vs 0"),
        RuntimeError("I/O error: No space left on device (os error 28)"),
    ],
)
def test_full_disk_is_distinguished_from_other_failures(tmp_path: Path, error: Exception) -> None:
    with (
        pytest.raises(EnvironmentFault, match="disk is full: a checkpoint needs about 5 MB") as full,
        explain_full_disk(tmp_path, "a checkpoint", 5_000_000),
    ):
        raise error
    assert full.value.exit_code == 4
    with pytest.raises(ValueError, match="ours"), explain_full_disk(tmp_path, "a checkpoint", 1):
        raise ValueError("ours")


def test_full_disk_is_found_in_the_cause_of_another_error(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault, match="disk is full"), explain_full_disk(tmp_path, "the model", 1):
        try:
            raise OSError(errno.EDQUOT, "Disk quota exceeded")
        except OSError as error:
            raise RuntimeError("the file could not be serialized") from error


def test_folder_that_fits_is_not_refused_and_is_measured_to_the_byte(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/one").write_bytes(b"x" * 1000)
    (tmp_path / "a/b/two").write_bytes(b"x" * 234)
    assert measure_folder(tmp_path / "a") == 1234
    require_space(tmp_path, 1, "this run")
