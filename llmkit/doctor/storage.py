"""The disk where runs will be written, and the way to the Hugging Face hub.

Nothing is left behind: the file that is timed has no name as soon as it is open, so that even SIGKILL frees it. The
hub is asked for at most HUB_SECONDS, and never decides whether llmkit works.
"""

import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from shutil import disk_usage

from llmkit.core.console import redact
from llmkit.core.errors import EnvironmentFault
from llmkit.core.files import check_writable, show_size
from llmkit.core.lock import lock_folder
from llmkit.doctor.finding import Finding, fault, ok, warn

FREE_BYTES = 5e9
"""Three checkpoints of GPT-2 124M with AdamW's moments, 12 bytes a weight, are 4.5 GB."""

MIN_FREE_BYTES = 200e6
"""Not even a tiny model's checkpoints fit safely."""

CHUNK = 4 << 20
TIMED_BYTES = 64 << 20
TIMED_SECONDS = 2.0
"""Writing stops at whichever comes first, so that a slow disk costs two seconds and not a minute."""

SLOW_DISK = 50e6
"""Bytes a second; a checkpoint of GPT-2 124M, 1.5 GB, takes half a minute at this rate."""

HUB_SECONDS = 3.0


def nearest_folder(path: Path) -> Path:
    """The folder itself or the first one above it that exists: the doctor makes none."""
    path = path.absolute()
    return next(each for each in (path, *path.parents) if each.is_dir())


def check_space(folder: Path) -> Finding:
    """Free space, and entries where the file system counts them."""
    state = disk_usage(folder)
    entries = os.statvfs(folder) if hasattr(os, "statvfs") else None
    value = f"{show_size(state.free)} of {show_size(state.total)} free in {str(folder)!r}"
    advice = "make space there, or give another --out"
    figures = {"free_bytes": state.free, "total_bytes": state.total}
    if state.free < MIN_FREE_BYTES:
        return fault("disk space", value, advice, **figures)
    if entries is not None and entries.f_files and entries.f_favail < 1000:
        value = f"{value}, but room for only {entries.f_favail:,} more files"
        return fault("disk space", value, "remove small files there, or give another --out", **figures)
    if state.free < FREE_BYTES:
        return warn("disk space", value, f"{advice}; three checkpoints of GPT-2 124M take 4.5 GB", **figures)
    return ok("disk space", value, **figures)


def check_disk(folder: Path) -> Iterator[Finding]:
    """Rights, speed and locks of the place."""
    try:
        check_writable(folder / "run")
    except EnvironmentFault as error:
        (problem,) = error.problems
        yield fault("disk", problem.what, problem.hint)
        return
    yield check_disk_speed(folder)
    yield check_locks(folder)


def check_disk_speed(folder: Path) -> Finding:
    """Write what a checkpoint writes, flush it to the disk, and read it back past the system's cache."""
    chunk = os.urandom(CHUNK)  # zeros would be compressed away, or not be written at all
    try:
        with tempfile.TemporaryFile(dir=folder, prefix=".llmkit-doctor-", buffering=0) as file:
            started = time.perf_counter()
            n_bytes = 0
            while n_bytes < TIMED_BYTES and time.perf_counter() - started < TIMED_SECONDS:
                n_bytes += file.write(chunk)
            os.fsync(file.fileno())
            writes = n_bytes / (time.perf_counter() - started)
            reads = _read_back(file.fileno())
    except OSError as error:
        return fault("disk speed", f"{folder}: {error.strerror or error}", "make space there, or give another --out")
    value = f"writes {show_size(writes)}/s" + ("" if reads is None else f", reads {show_size(reads)}/s")
    figures = {"write_bytes_per_second": writes, "read_bytes_per_second": reads}
    if writes < SLOW_DISK or (reads is not None and reads < SLOW_DISK):
        advice = "give an --out on a faster (local) disk, or save less often: train.save_steps"
        return warn("disk speed", value, advice, **figures)
    return ok("disk speed", value, **figures)


def _read_back(file: int) -> float | None:
    """Bytes a second; None where the system cannot be told to forget what it has in memory."""
    if not hasattr(os, "posix_fadvise"):
        return None
    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
    os.lseek(file, 0, os.SEEK_SET)
    started = time.perf_counter()
    n_bytes = 0
    while (n_read := len(os.read(file, CHUNK))) and time.perf_counter() - started < TIMED_SECONDS:
        n_bytes += n_read
    return n_bytes / (time.perf_counter() - started)


def check_locks(folder: Path) -> Finding:
    """Would a second run in the same folder be noticed? Some network file systems have no locks."""
    probe = folder / f".llmkit-doctor-{os.getpid()}"
    with lock_folder(probe):
        try:
            with lock_folder(probe):
                pass
        except EnvironmentFault:
            return ok("file locks", "a second run in one folder would be noticed", work=True)
    advice = "start no two runs with the same --out there; on NFS: mount it without nolock"
    return warn("file locks", "this file system has none", advice, work=False)


def check_cache(folder: Path) -> Finding:
    """Where models and data sets of the hub are kept: HF_HOME, HF_HUB_CACHE."""
    place = nearest_folder(folder)
    free = disk_usage(place).free
    value = f"{folder}, {show_size(free)} free"
    try:
        check_writable(place / "probe")
    except EnvironmentFault as error:
        advice = "export HF_HOME to a folder of yours that can be written"
        return warn("hub cache", f"{value}; {error.problems[0].what}", advice, free_bytes=free)
    if free < FREE_BYTES:
        return warn("hub cache", value, "hf cache prune, or export HF_HOME to a larger disk", free_bytes=free)
    return ok("hub cache", value, free_bytes=free)


def check_hub(endpoint: str, ask: Callable[[str], int], offline: bool) -> Finding:
    """Whether the hub answers. `ask` gives the HTTP status of an address, or raises.

    It is asked in a thread, because looking a name up has no time limit of its own.
    """
    place = redact(endpoint)
    if offline:
        return ok("hub", f"{place} not asked: HF_HUB_OFFLINE or --offline", reached=None)
    answers: list[int | Exception] = []

    def work() -> None:
        try:
            answers.append(ask(endpoint))
        except Exception as error:  # the HTTP library's own types, which differ between versions of huggingface_hub
            answers.append(error)

    started = time.perf_counter()
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(HUB_SECONDS)
    seconds = round(time.perf_counter() - started, 3)
    answer = answers[0] if answers else TimeoutError(f"no answer in {HUB_SECONDS:g} s")
    if isinstance(answer, int) and answer < 500 and answer != 407:
        return ok("hub", f"{place} answers in {seconds * 1000:.0f} ms", reached=True, seconds=seconds)
    said = f"HTTP {answer}" if isinstance(answer, int) else redact((str(answer).splitlines() or [""])[0][:200])
    advice = (
        "local folders work without it: export HF_HUB_OFFLINE=1 to spare the attempts; "
        "else check HTTPS_PROXY, or HF_ENDPOINT for a mirror"
    )
    return warn("hub", f"{place} cannot be reached: {said}", advice, reached=False, seconds=seconds)


def ask_hub(address: str) -> int:
    """The HTTP status of an address, by the way that downloads take: same proxy, same certificates."""
    from huggingface_hub import get_session

    return int(get_session().head(address, timeout=HUB_SECONDS).status_code)
