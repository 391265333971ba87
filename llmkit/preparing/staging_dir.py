"""A folder made in stages, so that a run that was killed or stopped loses no more than the stage it was at.

Beside the folder to be, NAME, stands `.NAME.partial`: `request.json` says what is being made, `folder/` becomes NAME,
`finished/` has a mark for each finished stage, with its facts and the size and SHA-256 of its files; other folders only
help on the way. A stage is believed if its mark and its files agree, so that even a power cut can do no harm.

Knows nothing of what the stages are.
"""

import os
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
from llmkit.core.errors import EnvironmentFault, Interrupted
from llmkit.core.files import (
    PARTIAL,
    describe_files,
    find_fault,
    read_json,
    replace_folder,
    sync_tree,
    write_json,
)

FOLDER = "folder"
_FINISHED, _REQUEST = "finished", "request.json"
_SHARD = re.compile(r"-\d{5,}$")

Facts = dict[str, Any]
"""What a stage says of itself; JSON must give it back as it is."""


class WorkersLost(EnvironmentFault):
    """The machines that did the work failed it for good; what they have finished is kept for the next run."""


@contextmanager
def staging_dir(path: Path, request: Facts | None) -> Iterator[Path]:
    """A place to work in, whose `folder/` becomes `path` when the block ends well; the caller holds its lock.

    What a killed or stopped process finished for the same request is there again; without a request nothing is kept.

    Raises:
        Interrupted: as it came, but it says what the next run takes over.
    """
    work = path.with_name(f".{path.name}{PARTIAL}")
    if request is None or _read(work / _REQUEST) != request:
        clear_staging_dir(path)
    elif names := _finished_stages(work):
        console.info(f"going on from what a stopped run has finished: {', '.join(names)}")
    (work / _FINISHED).mkdir(parents=True, exist_ok=True)
    write_json(work / _REQUEST, request, indent=None)
    try:
        yield work
        sync_tree(work / FOLDER)
        replace_folder(work / FOLDER, path)
    except BaseException as error:
        # A signal and lost workers keep the stages: after another error, such as a full disk, they would be in the way.
        in_the_way = isinstance(error, Exception) and not isinstance(error, WorkersLost)
        names = [] if request is None or in_the_way else _finished_stages(work)
        if not names:
            clear_staging_dir(path)
        elif isinstance(error, Interrupted):
            stopped = f"stopped by {signal.Signals(error.signal_number).name}"
            what = f"{stopped}; run it again: it goes on from what is finished: {', '.join(names)}"
            raise Interrupted(error.signal_number, what) from None
        raise
    clear_staging_dir(path)


def clear_staging_dir(path: Path) -> None:
    """Delete what a killed or stopped process left of `path`."""
    shutil.rmtree(path.with_name(f".{path.name}{PARTIAL}"), ignore_errors=True)


def run_stage(work: Path, folder: Path, make: Callable[[Path], Facts]) -> Facts:
    """The facts of a stage: of a former run if it finished that, else what `make` says after writing the folder."""
    mark = work / _FINISHED / f"{folder.name}.json"
    if (kept := _read(mark)) is not None:
        faults = (
            f"{name} {fault}" for name, known in kept["files"].items() if (fault := find_fault(work / name, known))
        )
        if (first := next(faults, None)) is None:
            return dict(kept["facts"])
        console.info(f"{first}: making it anew")
        mark.unlink()
    shutil.rmtree(folder, ignore_errors=True)
    facts = make(folder)
    _mark_finished(work, folder, facts)
    return facts


def run_shard(work: Path, folder: Path, make: Callable[[Path], Facts]) -> Facts:
    """As `run_stage`, for one shard of many, `STAGE-00000`, that workers make: two may be at the same one.

    An executor that takes a worker for dead starts its task elsewhere, so each writes aside and renames.
    """

    def make_aside(folder: Path) -> Facts:
        aside = folder.with_name(f".{folder.name}-{uuid.uuid4().hex}")
        try:
            facts = make(aside)
            try:
                aside.rename(folder)
            except OSError:  # the other worker was quicker, and wrote the same bytes
                if not folder.exists():
                    raise
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        return facts

    return run_stage(work, folder, make_aside)


def adopt_stage(work: Path, folder: Path, sound: Path, facts: Facts) -> None:
    """Take the files of `sound` over as a finished stage, without copying where the file system can."""
    if (work / _FINISHED / f"{folder.name}.json").exists():
        return
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(sound, folder, copy_function=_link_or_copy)
    _mark_finished(work, folder, facts)


def finished_files(work: Path) -> dict[str, dict[str, Any]]:
    """Size and SHA-256 of the files of all finished stages in `folder/`, by their path there, sorted."""
    files: dict[str, dict[str, Any]] = {}
    for mark in (work / _FINISHED).glob("*.json"):
        files |= read_json(mark)["files"]
    return {name.removeprefix(f"{FOLDER}/"): files[name] for name in sorted(files) if name.startswith(f"{FOLDER}/")}


def _mark_finished(work: Path, folder: Path, facts: Facts) -> None:
    mark = {"facts": facts, "files": describe_files(folder, work)}
    write_json(work / _FINISHED / f"{folder.name}.json", mark, indent=None)


def _finished_stages(work: Path) -> list[str]:
    """Their names in the order of finishing; of shards the stage and how many."""
    marks = sorted((work / _FINISHED).glob("*.json"), key=lambda mark: mark.stat().st_mtime_ns)
    n_marks = Counter(_SHARD.sub("", mark.stem) for mark in marks)
    in_shards = {_SHARD.sub("", mark.stem) for mark in marks if _SHARD.search(mark.stem)}
    return [
        f"{stage} ({n} shard{'s' if n > 1 else ''})" if stage in in_shards else stage for stage, n in n_marks.items()
    ]


def _read(path: Path) -> Any:
    """A file of ours; None where there is none, or none that is whole."""
    try:
        return read_json(path)
    except (OSError, ValueError):
        return None


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without links
        shutil.copy2(source, target)
