"""The disk where runs are written, and the Hugging Face hub and its cache.

No file remains: the test file has no name, so the operating system frees it even after SIGKILL.
"""

import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from shutil import disk_usage

from llmkit.core.console import redact, show_size
from llmkit.core.errors import EnvironmentFault
from llmkit.core.lock import lock_output
from llmkit.core.output_paths import check_writable
from llmkit.doctor.finding import Finding, fault, ok, warn

MIN_FREE_BYTES, LOW_FREE_BYTES = 200e6, 5e9
"""Free space below the first value is a fault, below the second a warning: three checkpoints of GPT-2 124M with AdamW
take 4.5 GB."""
CHUNK, TIMED_BYTES, TIMED_SECONDS = 4 << 20, 64 << 20, 2.0
"""Writing stops after TIMED_BYTES or TIMED_SECONDS, whichever comes first."""
MIN_WRITE_RATE = 50e6
"""Bytes per second; a checkpoint of GPT-2 124M (1.5 GB) takes half a minute at this rate."""
HUB_SECONDS = 3.0


def nearest_folder(path: Path) -> Path:
    """Return the folder, or its first existing parent; doctor does not create folders."""
    path = path.absolute()
    return next(each for each in (path, *path.parents) if each.is_dir())


def check_space(folder: Path) -> Finding:
    """Check the free space for runs."""
    usage = disk_usage(folder)
    value = f"{show_size(usage.free)} of {show_size(usage.total)} free in {str(folder)!r}"
    advice = "free space there, or use another --out; three checkpoints of GPT-2 124M take 4.5 GB"
    figures = {"free_bytes": usage.free, "total_bytes": usage.total}
    if usage.free < LOW_FREE_BYTES:
        return (fault if usage.free < MIN_FREE_BYTES else warn)("disk space", value, advice, **figures)
    return ok("disk space", value, **figures)


def check_disk(folder: Path) -> Iterator[Finding]:
    """Check permissions, write speed and file locks."""
    try:
        check_writable(folder / "run")
    except EnvironmentFault as error:
        yield fault("disk", error.problems[0].what, error.problems[0].hint)
        return
    yield check_disk_speed(folder)
    yield check_locks(folder)


def check_disk_speed(folder: Path) -> Finding:
    """Measure the speed of writing and flushing random bytes, as for a checkpoint; zeros could be compressed."""
    chunk = os.urandom(CHUNK)
    try:
        with tempfile.TemporaryFile(dir=folder, prefix=".llmkit-doctor-", buffering=0) as file:
            started = time.perf_counter()
            n_bytes = 0
            while n_bytes < TIMED_BYTES and time.perf_counter() - started < TIMED_SECONDS:
                n_bytes += file.write(chunk)
            os.fsync(file.fileno())
            rate = n_bytes / (time.perf_counter() - started)
    except OSError as error:
        return fault("disk speed", f"{folder}: {error.strerror or error}", "free space there, or use another --out")
    value = f"writes {show_size(rate)}/s"
    if rate < MIN_WRITE_RATE:
        advice = "use an --out on a faster (local) disk, or save less often: train.save_steps"
        return warn("disk speed", value, advice, write_bytes_per_second=rate)
    return ok("disk speed", value, write_bytes_per_second=rate)


def check_locks(folder: Path) -> Finding:
    """Check that a second run in the same folder is detected; some network file systems have no locks."""
    probe = folder / f".llmkit-doctor-{os.getpid()}"
    with lock_output(probe):
        try:
            with lock_output(probe):
                pass
        except EnvironmentFault:
            return ok("file locks", "a second run in the same folder is detected", work=True)
    advice = "never start two runs with the same --out there; on NFS, mount it without nolock"
    return warn("file locks", "this file system has no locks", advice, work=False)


def check_cache(folder: Path) -> Finding:
    """Check the folder that stores models and data sets of the hub."""
    parent = nearest_folder(folder)
    free = disk_usage(parent).free
    value = f"{folder}, {show_size(free)} free"
    try:
        check_writable(parent / "probe")
    except EnvironmentFault as error:
        value = f"{value}; {error.problems[0].what}"
        return warn("hub cache", value, "export HF_HOME=FOLDER, with a folder that you can write to", free_bytes=free)
    if free < LOW_FREE_BYTES:
        return warn("hub cache", value, "run `hf cache prune`, or export HF_HOME to a larger disk", free_bytes=free)
    return ok("hub cache", value, free_bytes=free)


def check_hub(endpoint: str, ask: Callable[[str], int], offline: bool) -> Finding:
    """Check that the hub answers. `ask` returns the HTTP status of an address, or raises.

    The request runs in a thread, because a name lookup has no timeout.
    """
    address = redact(endpoint)
    if offline:
        return ok("hub", f"{address} not checked: HF_HUB_OFFLINE or --offline", reached=None)
    answers: list[int | Exception] = []

    def work() -> None:
        try:
            answers.append(ask(endpoint))
        except Exception as error:  # the types of the HTTP library differ between versions of huggingface_hub
            answers.append(error)

    started = time.perf_counter()
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(HUB_SECONDS)
    seconds = round(time.perf_counter() - started, 3)
    answer = answers[0] if answers else TimeoutError(f"no answer in {HUB_SECONDS:g} s")
    if isinstance(answer, int) and answer < 500 and answer != 407:
        return ok("hub", f"{address} answers in {seconds * 1000:.0f} ms", reached=True, seconds=seconds)
    reason = f"HTTP {answer}" if isinstance(answer, int) else redact((str(answer).splitlines() or [""])[0][:200])
    advice = "check HTTPS_PROXY, or set HF_ENDPOINT to a mirror; for local folders only: export HF_HUB_OFFLINE=1"
    return warn("hub", f"{address} cannot be reached: {reason}", advice, reached=False, seconds=seconds)


def ask_hub(address: str) -> int:
    """Return the HTTP status of an address, using the proxy and certificates of downloads."""
    from huggingface_hub import get_session

    return int(get_session().head(address, timeout=HUB_SECONDS).status_code)
