"""Build a folder in stages, so a killed run loses only its current stage.

The staging directory of NAME is `.NAME.partial`. `request.json` describes the request, `folder/` becomes NAME, and
`finished/` has a file per finished stage with its facts and the size and SHA-256 of its files; other folders are
temporary. A stage is reused only if its files verify, so it stays correct after a power failure.
"""

import re
import shutil
import signal
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from llmkit.core import console
from llmkit.core.errors import EnvironmentFault, Interrupted, UsageError
from llmkit.core.files import (
    PARTIAL,
    describe_files,
    link_or_copy,
    read_json,
    replace_folder,
    sync_tree,
    verify_file,
    write_json,
)
from llmkit.preparing.existing import delete_prepared, refuse_foreign_files

FOLDER = "folder"
_FINISHED, _REQUEST = "finished", "request.json"
_SHARD = re.compile(r"-\d{5,}$")

Facts = dict[str, Any]
"""The result of a stage, as JSON."""


class WorkersLost(EnvironmentFault):
    """Workers failed repeatedly; finished stages are kept for the next run."""


@contextmanager
def staging_dir(path: Path, request: Facts | None) -> Iterator[Path]:
    """Open a staging directory; its `folder/` becomes `path` when the block succeeds.

    The caller holds the lock of `path`. Stages that an earlier process finished for the same request are reused;
    without a request nothing is kept.

    Raises:
        Interrupted: the signal that came, with a message that names the finished stages.
        UsageError: the replaced folder has files that llmkit did not write.
    """
    work = path.with_name(f".{path.name}{PARTIAL}")
    if request is None or _read(work / _REQUEST) != request:
        clear_staging_dir(path)
    elif names := _finished_stages(work):
        console.info(f"resuming from the finished stages of an earlier run: {', '.join(names)}")
    (work / _FINISHED).mkdir(parents=True, exist_ok=True)
    write_json(work / _REQUEST, request, indent=None)
    try:
        yield work
        sync_tree(work / FOLDER)
        refuse_foreign_files(path)  # check again: other files may have been added during the build
        replace_folder(work / FOLDER, path, delete_prepared)
    except BaseException as error:
        # Stages are kept after a signal, lost workers or foreign files, but not after errors such as a full disk.
        keeps_stages = not isinstance(error, Exception) or isinstance(error, WorkersLost | UsageError)
        names = [] if request is None or not keeps_stages else _finished_stages(work)
        if not names:
            clear_staging_dir(path)
        elif isinstance(error, Interrupted):
            stopped = f"stopped by {signal.Signals(error.signal_number).name}"
            what = f"{stopped}; the same command resumes from the finished stages: {', '.join(names)}"
            raise Interrupted(error.signal_number, what) from None
        raise
    clear_staging_dir(path)


def clear_staging_dir(path: Path) -> None:
    """Delete the staging directory of `path`."""
    shutil.rmtree(path.with_name(f".{path.name}{PARTIAL}"), ignore_errors=True)


def run_stage(work: Path, folder: Path, make: Callable[[Path], Facts]) -> Facts:
    """Return the facts of a stage.

    The facts are those of an earlier run if its files verify, otherwise those that `make` returns after it wrote the
    folder.
    """
    mark = work / _FINISHED / f"{folder.name}.json"
    if (kept := _read(mark)) is not None:
        faults = (
            f"{name} {fault}" for name, known in kept["files"].items() if (fault := verify_file(work / name, known))
        )
        if (first := next(faults, None)) is None:
            return dict(kept["facts"])
        console.info(f"{first}: repeating this stage")
        mark.unlink()
    shutil.rmtree(folder, ignore_errors=True)
    facts = make(folder)
    _mark_finished(work, folder, facts)
    return facts


def run_shard(work: Path, folder: Path, make: Callable[[Path], Facts]) -> Facts:
    """Like `run_stage`, for one shard `STAGE-00000` in a worker.

    An executor may assume that a running worker is dead and start its task again on another one, so each worker writes
    to its own folder and renames it.
    """

    def make_and_rename(folder: Path) -> Facts:
        own = folder.with_name(f".{folder.name}-{uuid.uuid4().hex}")
        try:
            facts = make(own)
            try:
                own.rename(folder)
            except OSError:  # the other worker was faster and wrote the same bytes
                if not folder.exists():
                    raise
        finally:
            shutil.rmtree(own, ignore_errors=True)
        return facts

    return run_stage(work, folder, make_and_rename)


def adopt_stage(work: Path, folder: Path, source: Path, facts: Facts) -> None:
    """Use the files of `source` as a finished stage, by hard links if the file system has them."""
    if (work / _FINISHED / f"{folder.name}.json").exists():
        return
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(source, folder, copy_function=link_or_copy)
    _mark_finished(work, folder, facts)


def finished_files(work: Path) -> dict[str, dict[str, Any]]:
    """Return size and SHA-256 of the files of all finished stages in `folder/`, by relative path, sorted."""
    files: dict[str, dict[str, Any]] = {}
    for mark in (work / _FINISHED).glob("*.json"):
        files |= read_json(mark)["files"]
    return {name.removeprefix(f"{FOLDER}/"): files[name] for name in sorted(files) if name.startswith(f"{FOLDER}/")}


def _mark_finished(work: Path, folder: Path, facts: Facts) -> None:
    mark = {"facts": facts, "files": describe_files(folder, work)}
    write_json(work / _FINISHED / f"{folder.name}.json", mark, indent=None)


def _finished_stages(work: Path) -> list[str]:
    """Return the names of finished stages in order; shards are named by stage and number."""
    marks = sorted((work / _FINISHED).glob("*.json"), key=lambda mark: mark.stat().st_mtime_ns)
    n_marks = Counter(_SHARD.sub("", mark.stem) for mark in marks)
    in_shards = {_SHARD.sub("", mark.stem) for mark in marks if _SHARD.search(mark.stem)}
    return [
        f"{stage} ({n} shard{'s' if n > 1 else ''})" if stage in in_shards else stage for stage, n in n_marks.items()
    ]


def _read(path: Path) -> Any:
    """Read a JSON file; returns None if it is missing or damaged."""
    try:
        return read_json(path)
    except (OSError, ValueError):
        return None
