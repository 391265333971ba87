"""From raw text to a prepared folder: built, reused, resumed or repaired.

What the folder is made of, and the receipt, is in stages.py.
"""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import llmkit
from llmkit.config.prepare import Prepare
from llmkit.core import console
from llmkit.core.errors import DataError, UsageError
from llmkit.core.files import check_writable, hash_file, hash_small_file, read_json, restore_folder, write_json
from llmkit.core.lock import hold_folder
from llmkit.core.machine import describe_versions
from llmkit.preparing.executors import LOCAL, check_executor, open_executor
from llmkit.preparing.executors.local import count_workers
from llmkit.preparing.shards import SHARD_BYTES, cut_files
from llmkit.preparing.stages import Inputs, build_prepared, planned_word_cutter
from llmkit.preparing.staging_dir import FOLDER, Facts, adopt_stage, clear_staging_dir, staging_dir
from llmkit.text.sources import file_size, find_files
from llmkit.text.staging import STAGED_FORMAT
from llmkit.tokens.prepared import FORMAT, Prepared, load_prepared
from llmkit.tokens.tokenizer import fingerprint_tokenizer, load_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MIN_BYTES = 16_000_000
"""Of input files; less than a second or two of work is done as soon without workers."""

MIN_BYTES_ONE_SHARD = 64_000_000
"""As MIN_BYTES, of a text that one worker cleans while the others wait: they gain by what comes after it."""
LARGE_FILE = 1_000_000
"""Bytes."""


def prepare(
    inputs: Sequence[str],
    out: Path,
    settings: Prepare,
    *,
    validation: str | None = None,
    test: str | None = None,
    overwrite: bool = False,
    repair: bool = False,
    engine: str = LOCAL,
) -> Prepared:
    """Make `out` from `inputs`; where it was made from just the same already, leave it as it is.

    `validation` and `test` are files of the user's own splits, which then take the place of held-out shares. With
    `repair` every file of `out` is held against its SHA-256, and what is damaged or missing is made anew. The `engine`,
    an executor, decides where the work is done, and no byte of the result.

    Raises:
        UsageError: `out` is something else than a prepared folder, or there is no such engine.
        DataError: unreadable input, nothing left after cleaning, or `out` cannot be repaired from this input.
        EnvironmentFault: `out` cannot be written to, another process is at it, or the executor is not there.
        WorkersLost: the workers died again and again; the same call goes on from what is finished.
        Interrupted: a signal came; the same call goes on from what is finished.
    """
    if repair and overwrite:
        raise UsageError("--repair keeps what --overwrite replaces", where="--repair", hint="give one of the two")
    check_executor(engine, [name for name in (*inputs, validation, test) if name])
    check_writable(out)
    with hold_folder(out):
        restore_folder(out)
        own = {name: given for name, given in (("validation", validation), ("test", test)) if given}
        if own:
            shares = settings.split.with_updates(validation=0.0, test=0.0)
            settings = settings.with_updates(split=shares)
        files = find_files(inputs)
        n_workers = _count_local([*files, *(file for given in own.values() for file in find_files([given]))])
        path = settings.tokenizer.path
        given = None if path is None else load_tokenizer(path)
        request = _describe_request(files, own, settings, given)
        if repair:
            return _repair(out, request, Inputs(files, own, given), settings, engine, n_workers)
        if (found := _find_same(out, request, overwrite)) is not None:
            clear_staging_dir(out)
            console.info(f"{out} was made from the same input with the same settings: nothing to do")
            return found
        started = time.perf_counter()
        with staging_dir(out, _task(request)) as work, open_executor(engine, work, n_workers) as map_shards:
            manifest = build_prepared(Inputs(files, own, given), settings, work, map_shards)
            write_json(work / FOLDER / "manifest.json", {"format": FORMAT, "request": request, **manifest})
        console.info(f"prepared in {time.perf_counter() - started:.1f} s")
        return load_prepared(out)


def _repair(out: Path, request: Facts, inputs: Inputs, settings: Prepare, engine: str, n_workers: int) -> Prepared:
    """Make the damaged parts of `out` anew and prove by their hashes that they are what they were."""
    damaged = load_prepared(out, check=False)
    known = damaged.manifest.get("files")
    place = str(out / "manifest.json")
    anew = "to make the whole folder anew from what you gave, use --overwrite instead"
    if known is None:
        raise DataError("the folder is older than the hashes that a repair goes by", where=place, hint=anew)
    if changed := [name for name, value in request.items() if damaged.manifest["request"].get(name) != value]:
        what = f"the folder cannot be repaired: it was made with other {', '.join(changed)}"
        raise DataError(what, where=f"{place}, request", hint=f"give what stands there; or {anew}")
    faults = damaged.find_faults(hashes=True)
    if not faults:
        console.info(f"all {len(known)} files of {out} are sound: nothing to do")
        return damaged
    for name, fault in faults.items():
        console.info(f"{name} {fault}")
    broken = {name.split("/")[0] for name in faults}
    task = _task(request, repair=True)
    with staging_dir(out, task) as work, open_executor(engine, work, n_workers) as map_shards:
        for stage, facts in {"tokenizer": {}, **damaged.manifest["splits"]}.items():
            if stage not in broken:
                adopt_stage(work, work / FOLDER / stage, out / stage, facts)
        made = build_prepared(inputs, settings, work, map_shards)["files"]
        if others := [name for name in {**known, **made} if known.get(name) != made.get(name)]:
            what = f"made anew, {', '.join(others)} would not be what it was"
            hint = f"the input or a library changed (see versions there); {anew}"
            raise DataError(what, where=place, hint=hint)
        (work / FOLDER / "manifest.json").write_bytes((out / "manifest.json").read_bytes())
    console.info(f"made anew, and equal to what it was: {', '.join(sorted(broken))}")
    return load_prepared(out)


def _describe_request(
    files: list[str], own: dict[str, str], settings: Prepare, given: "PreTrainedTokenizerBase | None"
) -> Facts:
    """All that decides what a prepared folder holds."""
    return {
        "llmkit": llmkit.__version__,
        "settings": settings.model_dump(mode="json"),
        "inputs": _fingerprint_inputs(files),
        "own_splits": {name: _fingerprint_inputs(find_files([given])) for name, given in own.items()},
        # What the user's tokenizer is now: a folder of the same name may have been written anew.
        "tokenizer": None if given is None else fingerprint_tokenizer(given),
        "chinese_words": planned_word_cutter(settings),
    }


def _is_known(request: Facts) -> bool:
    """Whether it can be told that an input is the same again; stdin and the hub are always read anew."""
    return None not in (request["inputs"], *request["own_splits"].values())


def _count_local(files: Sequence[str]) -> int:
    """How many workers `local` has: 1, this process, where others are not worth their start.

    Others have no standard input, and what is no file is one shard.
    """
    sizes = [file_size(file) for file in files]
    least = MIN_BYTES if len(cut_files(files)) > 1 else MIN_BYTES_ONE_SHARD
    return count_workers() if None not in sizes and sum(size or 0 for size in sizes) >= least else 1


def _task(request: Facts, *, repair: bool = False) -> Facts | None:
    """What must be the same for a later run to go on from what this one has finished; None: it never may."""
    if not _is_known(request):
        return None
    of_shards = {"shard_bytes": SHARD_BYTES, "staged_format": STAGED_FORMAT}
    return {"request": request, "versions": describe_versions(), "repair": repair, **of_shards}


def _fingerprint_inputs(files: Sequence[str]) -> list[dict[str, str]] | None:
    """Path and SHA-256 of every file; None where an input is no file, so that it is always read anew."""
    sizes = [file_size(file) for file in files]
    if not all(size is not None or file.startswith("builtin:") for file, size in zip(files, sizes, strict=True)):
        return None
    threads = ThreadPoolExecutor(count_workers())
    try:
        # Threads are for large files: the hash of a small one is there before another thread has begun.
        large = {
            file: threads.submit(hash_file, Path(file))
            for file, size in zip(files, sizes, strict=True)
            if size is not None and size >= LARGE_FILE
        }
        hashes = [
            large[file].result() if file in large else file if size is None else hash_small_file(file)
            for file, size in zip(files, sizes, strict=True)
        ]
        return [{"path": file, "sha256": found} for file, found in zip(files, hashes, strict=True)]
    finally:
        threads.shutdown(wait=False, cancel_futures=True)  # after a signal nobody waits for the rest


def _find_same(out: Path, request: dict[str, Any], overwrite: bool) -> Prepared | None:
    """The prepared folder that is there already, if it answers the same request."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return None
    try:
        manifest = read_json(out / "manifest.json")
    except (OSError, ValueError):
        manifest = {}
    if not str(manifest.get("format", "")).startswith("llmkit-prepared"):
        hint = "give --out a new folder, or one that `llmkit prepare` made"
        raise UsageError(f"{str(out)!r} exists and is not a prepared folder", where="--out", hint=hint)
    if overwrite or not _is_known(request) or manifest.get("request") != request:
        console.info(f"{out} was made from other input or with other settings: making it anew")
        return None
    return load_prepared(out)
