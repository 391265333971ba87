"""A folder made in parts, so that a run that was killed or stopped loses no more than the part it was at.

Beside the folder to be, NAME, stands `.NAME.partial`: `request.json` says what is being made, `folder/` becomes NAME,
`finished/` has a mark for each finished part, with its facts and the size and SHA-256 of its files; other folders only
help on the way. A part is believed if its mark and its files agree, so that even a power cut can do no harm.

Knows nothing of what the parts are.
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

from llmkit.core.errors import EnvironmentFault, Interrupted, say
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
_PIECE = re.compile(r"-\d{5,}$")

Facts = dict[str, Any]
"""What a part says of itself; JSON must give it back as it is."""


class WorkersLost(EnvironmentFault):
    """The machines that did the work failed it for good; what they have finished is kept for the next run."""


@contextmanager
def unfinished_folder(path: Path, request: Facts | None) -> Iterator[Path]:
    """A place to work in, whose `folder/` becomes `path` when the block ends well; the caller holds its lock.

    What a killed or stopped process finished for the same request is there again; without a request nothing is kept.

    Raises:
        Interrupted: as it came, but it says what the next run takes over.
    """
    work = path.with_name(f".{path.name}{PARTIAL}")
    if request is None or _read(work / _REQUEST) != request:
        clear_unfinished(path)
    elif names := _finished_parts(work):
        say(f"going on from what a stopped run has finished: {', '.join(names)}")
    (work / _FINISHED).mkdir(parents=True, exist_ok=True)
    write_json(work / _REQUEST, request, indent=None)
    try:
        yield work
        sync_tree(work / FOLDER)
        replace_folder(work / FOLDER, path)
    except BaseException as error:
        # A signal and lost workers keep the parts: after another error, such as a full disk, they would be in the way.
        in_the_way = isinstance(error, Exception) and not isinstance(error, WorkersLost)
        names = [] if request is None or in_the_way else _finished_parts(work)
        if not names:
            clear_unfinished(path)
        elif isinstance(error, Interrupted):
            stopped = f"stopped by {signal.Signals(error.signal_number).name}"
            what = f"{stopped}; run it again: it goes on from what is finished: {', '.join(names)}"
            raise Interrupted(error.signal_number, what) from None
        raise
    clear_unfinished(path)


def clear_unfinished(path: Path) -> None:
    """Delete what a killed or stopped process left of `path`."""
    shutil.rmtree(path.with_name(f".{path.name}{PARTIAL}"), ignore_errors=True)


def finish_part(work: Path, part: Path, make: Callable[[Path], Facts]) -> Facts:
    """The facts of a part: of a former run if it finished that part, else what `make` says after writing the folder."""
    mark = work / _FINISHED / f"{part.name}.json"
    if (kept := _read(mark)) is not None:
        faults = (
            f"{name} {fault}" for name, known in kept["files"].items() if (fault := find_fault(work / name, known))
        )
        if (first := next(faults, None)) is None:
            return dict(kept["facts"])
        say(f"{first}: making it anew")
        mark.unlink()
    shutil.rmtree(part, ignore_errors=True)
    facts = make(part)
    _mark_finished(work, part, facts, describe_files(part, work))
    return facts


def finish_piece(work: Path, piece: Path, make: Callable[[Path], Facts]) -> Facts:
    """As `finish_part`, for one of many of a kind, `KIND-00000`, that workers make: two may be at the same one.

    An engine that takes a worker for dead starts its task elsewhere, so each writes aside and renames.
    """

    def make_aside(folder: Path) -> Facts:
        aside = folder.with_name(f".{folder.name}-{uuid.uuid4().hex}")
        facts = make(aside)
        try:
            aside.rename(folder)
        except OSError:
            if not folder.exists():
                raise
            shutil.rmtree(aside, ignore_errors=True)  # the other was quicker, and wrote the same bytes
        return facts

    return finish_part(work, piece, make_aside)


def adopt_part(work: Path, part: Path, sound: Path, facts: Facts) -> None:
    """Take the files of `sound` over as a finished part, without copying where the file system can."""
    if (work / _FINISHED / f"{part.name}.json").exists():
        return
    shutil.rmtree(part, ignore_errors=True)
    shutil.copytree(sound, part, copy_function=_link_or_copy)
    _mark_finished(work, part, facts, describe_files(part, work))


def finished_files(work: Path) -> dict[str, dict[str, Any]]:
    """Size and SHA-256 of the files of all finished parts in `folder/`, by their path there, sorted."""
    files: dict[str, dict[str, Any]] = {}
    for mark in (work / _FINISHED).glob("*.json"):
        files |= read_json(mark)["files"]
    return {name.removeprefix(f"{FOLDER}/"): files[name] for name in sorted(files) if name.startswith(f"{FOLDER}/")}


def _mark_finished(work: Path, part: Path, facts: Facts, files: dict[str, dict[str, Any]]) -> None:
    write_json(work / _FINISHED / f"{part.name}.json", {"facts": facts, "files": files}, indent=None)


def _finished_parts(work: Path) -> list[str]:
    """Their names in the order of finishing; of pieces the kind and how many."""
    marks = sorted((work / _FINISHED).glob("*.json"), key=lambda mark: mark.stat().st_mtime_ns)
    kinds = Counter(_PIECE.sub("", mark.stem) for mark in marks)
    pieces = {_PIECE.sub("", mark.stem) for mark in marks if _PIECE.search(mark.stem)}
    return [f"{kind} ({n} pieces)" if kind in pieces else kind for kind, n in kinds.items()]


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
