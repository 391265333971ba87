"""Build, reuse, resume or repair a prepared folder of raw text. stages.py does the work."""

import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import llmkit
from llmkit.config.prepare import Prepare
from llmkit.core import console
from llmkit.core.errors import DataError, UsageError
from llmkit.core.files import hash_file, hash_small_file, restore_folder, write_json
from llmkit.core.lock import lock_output
from llmkit.core.machine import describe_versions
from llmkit.core.output_paths import check_writable
from llmkit.preparing.executors import LOCAL, check_executor, open_executor
from llmkit.preparing.executors.local import count_workers
from llmkit.preparing.existing import check_out, clear_old, find_existing, refuse_foreign_files
from llmkit.preparing.shards import SHARD_BYTES
from llmkit.preparing.stages import Inputs, build_prepared, planned_segmenter
from llmkit.preparing.staging_dir import FOLDER, Facts, adopt_stage, clear_staging_dir, staging_dir
from llmkit.text.inputs import Skipped, display_name, file_size, find_files, report_skipped
from llmkit.text.staging import STAGED_FORMAT
from llmkit.tokens.loading import load_tokenizer
from llmkit.tokens.normalization import adopt_normalization
from llmkit.tokens.prepared import FORMAT, Prepared, load_prepared
from llmkit.tokens.tokenizer import fingerprint_tokenizer

MIN_BYTES = 16_000_000
"""Minimum size of the input for which workers are started; a smaller input takes one or two seconds without them."""

MIN_BYTES_ONE_SHARD = 64_000_000
"""Like MIN_BYTES, for a text in one shard; one worker cleans it while the other workers wait for the later stages."""
LARGE_FILE = 1_000_000
"""Minimum bytes of a file that a thread hashes."""


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
    """Build `out` from `inputs`, or return it unchanged if it was built from the same inputs and settings.

    A folder that was built from other inputs or settings is replaced only with `overwrite`. A folder with files that
    llmkit did not write is never replaced.

    `validation` and `test` are files of the user's own splits, which replace held-out fractions. With `repair`, every
    file of `out` is checked against its SHA-256, and damaged or missing files are rebuilt. `engine` selects the
    executor; the result does not depend on it.

    Raises:
        UsageError: `out` cannot be replaced (see existing.py), or there is no such engine.
        DataError: unreadable input, no text after cleaning, or `out` cannot be repaired from this input.
        EnvironmentFault: `out` is not writable or locked, or the executor is not available.
        WorkersLost: workers died repeatedly; the same call resumes from the finished stages.
        Interrupted: a signal came; the same call resumes from the finished stages.
    """
    if repair and overwrite:
        raise UsageError("--repair and --overwrite cannot be used together", where="--repair", hint="give only one")
    given = [name for name in (*inputs, validation, test) if name]
    check_executor(engine, given)
    out = check_out(out, given, settings.tokenizer.path)
    check_writable(out)
    with lock_output(out):
        restore_folder(out, clear_old)
        user_splits = {name: file for name, file in (("validation", validation), ("test", test)) if file}
        if user_splits:
            settings = settings.with_updates(split=settings.split.with_updates(validation=0.0, test=0.0))
        skipped: Skipped = {}
        files = find_files(inputs, skipped)
        own_files = find_files(list(user_splits.values()), skipped)
        report_skipped(skipped)
        n_workers = _count_local([*files, *own_files])
        path = settings.tokenizer.path
        tokenizer = None if path is None else load_tokenizer(path)
        if tokenizer is not None:
            settings = settings.with_updates(clean=adopt_normalization(tokenizer, settings.clean))
        inputs_read = Inputs(files, user_splits, tokenizer, skipped)
        request = _describe_request(inputs_read, settings)
        if repair:
            return _repair(out, request, inputs_read, settings, engine, n_workers)
        if (found := find_existing(out, request, overwrite)) is not None:
            clear_staging_dir(out)
            return found
        started = time.perf_counter()
        with staging_dir(out, _resume_key(request)) as work, open_executor(engine, work, n_workers) as map_shards:
            manifest = build_prepared(inputs_read, settings, work, map_shards)
            write_json(work / FOLDER / "manifest.json", {"format": FORMAT, "request": request, **manifest})
        console.info(f"prepared in {time.perf_counter() - started:.1f} s")
        return load_prepared(out)


def _repair(out: Path, request: Facts, inputs: Inputs, settings: Prepare, engine: str, n_workers: int) -> Prepared:
    """Rebuild the damaged parts of `out` and verify their recorded hashes."""
    damaged = load_prepared(out, check=False)
    known = damaged.manifest["files"]
    place = str(out / "manifest.json")
    rebuild = "to rebuild the whole folder from this input, use --overwrite instead"
    if changed := [name for name, value in request.items() if damaged.manifest["request"].get(name) != value]:
        what = f"the folder cannot be repaired: it was built with different {', '.join(changed)}"
        raise DataError(what, where=f"{place}, request", hint=f"use the recorded values; or {rebuild}")
    faults = damaged.find_faults(hashes=True)
    if not faults:
        console.info(f"all {len(known)} files of {out} are intact: nothing to do")
        return damaged
    refuse_foreign_files(out)
    for name, fault in faults.items():
        console.info(f"{name} {fault}")
    broken = {name.split("/")[0] for name in faults}
    with (
        staging_dir(out, _resume_key(request, repair=True)) as work,
        open_executor(engine, work, n_workers) as map_shards,
    ):
        for stage, facts in {"tokenizer": {}, **damaged.manifest["splits"]}.items():
            if stage not in broken:
                adopt_stage(work, work / FOLDER / stage, out / stage, facts)
        built = build_prepared(inputs, settings, work, map_shards)["files"]
        if others := [name for name in {**known, **built} if known.get(name) != built.get(name)]:
            what = f"the rebuilt {', '.join(others)} would differ from the original"
            hint = f"the input or a library changed (see `versions` in the manifest); {rebuild}"
            raise DataError(what, where=place, hint=hint)
        (work / FOLDER / "manifest.json").write_bytes((out / "manifest.json").read_bytes())
    console.info(f"rebuilt, with the recorded hashes: {', '.join(sorted(broken))}")
    return load_prepared(out)


def _describe_request(inputs: Inputs, settings: Prepare) -> Facts:
    """Return everything that determines the contents of a prepared folder."""
    return {
        "llmkit": llmkit.__version__,
        "settings": settings.model_dump(mode="json"),
        "inputs": _fingerprint_inputs(inputs.files),
        "own_splits": {name: _fingerprint_inputs(find_files([path], {})) for name, path in inputs.user_splits.items()},
        # The tokenizer's contents, as a folder of the same name may have changed.
        "tokenizer": None if inputs.tokenizer is None else fingerprint_tokenizer(inputs.tokenizer),
        "chinese_words": planned_segmenter(settings),
    }


def _count_local(files: Sequence[str]) -> int:
    """Return the number of `local` workers; 1, which means this process, if the inputs are small or not files."""
    sizes = [file_size(file) for file in files]
    least = MIN_BYTES if len(files) > 1 else MIN_BYTES_ONE_SHARD  # several files of that size are several shards
    return count_workers() if None not in sizes and sum(size or 0 for size in sizes) >= least else 1


def _resume_key(request: Facts, *, repair: bool = False) -> Facts | None:
    """Return the values that must be equal for a later run to reuse finished stages; None if none may be reused."""
    if None in (request["inputs"], *request["own_splits"].values()):  # stdin and the hub are always read again
        return None
    shards = {"shard_bytes": SHARD_BYTES, "staged_format": STAGED_FORMAT}
    return {"request": request, "versions": describe_versions(), "repair": repair, **shards}


def _hash_readable(file: str, result: Future[str] | None) -> str:
    """Return the hash of a file, or "" if the user may not read it; such a file is reported or skipped later."""
    try:
        return hash_small_file(file) if result is None else result.result()
    except PermissionError:
        return ""


def _fingerprint_inputs(files: Sequence[str]) -> list[dict[str, str]] | None:
    """Return path and SHA-256 of every file; None if an input is not a file."""
    sizes = [file_size(file) for file in files]
    if not all(size is not None or file.startswith("builtin:") for file, size in zip(files, sizes, strict=True)):
        return None
    threads = ThreadPoolExecutor(count_workers())
    try:
        # Threads are for large files; a small one is hashed faster than a thread starts.
        large = {
            file: threads.submit(hash_file, Path(file))
            for file, size in zip(files, sizes, strict=True)
            if size is not None and size >= LARGE_FILE
        }
        hashes = [
            _hash_readable(file, large.get(file)) if size is not None else file
            for file, size in zip(files, sizes, strict=True)
        ]
        return [{"path": display_name(file), "sha256": found} for file, found in zip(files, hashes, strict=True)]
    finally:
        threads.shutdown(wait=False, cancel_futures=True)  # do not wait after a signal
