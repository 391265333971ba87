"""From raw text to a prepared folder: made anew, left as it is, gone on with, or repaired.

What it is made of, and the receipt, is in prepared_parts.py.
"""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import llmkit
from llmkit.config.prepare import Prepare
from llmkit.core.errors import DataError, UsageError, say
from llmkit.core.files import check_writable, hash_file, hash_small_file, read_json, restore_folder, write_json
from llmkit.core.lock import hold_folder
from llmkit.core.machine import describe_versions
from llmkit.preparing.engine_local import count_workers
from llmkit.preparing.engines import LOCAL, check_engine, open_engine
from llmkit.preparing.prepared_parts import Inputs, build_prepared, planned_word_cutter
from llmkit.preparing.prepared_pieces import BYTES_A_PIECE, cut_files
from llmkit.preparing.unfinished import FOLDER, Facts, adopt_part, clear_unfinished, unfinished_folder
from llmkit.text.sources import file_size, find_files
from llmkit.text.staging import STAGED_FORMAT
from llmkit.tokens.prepared import FORMAT, Prepared, load_prepared
from llmkit.tokens.tokenizer import fingerprint_tokenizer, load_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

FEWEST_BYTES = 16_000_000
"""Of input files; less than a second or two of work is done as soon without workers."""

FEWEST_BYTES_OF_ONE_PIECE = 64_000_000
"""As FEWEST_BYTES, of a text that one worker cleans while the others wait: they gain by what comes after it."""
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
    one of engines.py, decides where the work is done, and no byte of the result.

    Raises:
        UsageError: `out` is something else than a prepared folder, or there is no such engine.
        DataError: unreadable input, nothing left after cleaning, or `out` cannot be repaired from this input.
        EnvironmentFault: `out` cannot be written to, another process is at it, or the engine is not there.
        WorkersLost: the engine's workers died again and again; the same call goes on from what is finished.
        Interrupted: a signal came; the same call goes on from what is finished.
    """
    if repair and overwrite:
        raise UsageError("--repair keeps what --overwrite replaces", where="--repair", hint="give one of the two")
    check_engine(engine, [name for name in (*inputs, validation, test) if name])
    check_writable(out)
    with hold_folder(out):
        restore_folder(out)
        own = {name: given for name, given in (("validation", validation), ("test", test)) if given}
        if own:
            shares = settings.split.with_updates(validation=0.0, test=0.0)
            settings = settings.with_updates(split=shares)
        files = find_files(inputs)
        in_pieces = _in_pieces(engine, [*files, *(file for given in own.values() for file in find_files([given]))])
        path = settings.tokenizer.path
        given = None if path is None else load_tokenizer(path)
        request = _describe_request(files, own, settings, given)
        if repair:
            return _repair(out, request, Inputs(files, own, given), settings, engine, in_pieces)
        if (found := _find_same(out, request, overwrite)) is not None:
            clear_unfinished(out)
            say(f"{out} was made from the same input with the same settings: nothing to do")
            return found
        started = time.perf_counter()
        task = _task(request, in_pieces)
        with unfinished_folder(out, task) as work, open_engine(engine, work, in_pieces=in_pieces) as run:
            manifest = build_prepared(Inputs(files, own, given), settings, work, run)
            write_json(work / FOLDER / "manifest.json", {"format": FORMAT, "request": request, **manifest})
        say(f"prepared in {time.perf_counter() - started:.1f} s")
        return load_prepared(out)


def _repair(out: Path, request: Facts, inputs: Inputs, settings: Prepare, engine: str, in_pieces: bool) -> Prepared:
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
        say(f"all {len(known)} files of {out} are sound: nothing to do")
        return damaged
    for name, fault in faults.items():
        say(f"{name} {fault}")
    broken = {name.split("/")[0] for name in faults}
    task = _task(request, in_pieces, repair=True)
    with unfinished_folder(out, task) as work, open_engine(engine, work, in_pieces=in_pieces) as run:
        for part, facts in {"tokenizer": {}, **damaged.manifest["splits"]}.items():
            if part not in broken:
                adopt_part(work, work / FOLDER / part, out / part, facts)
        made = build_prepared(inputs, settings, work, run)["files"]
        if others := [name for name in {**known, **made} if known.get(name) != made.get(name)]:
            what = f"made anew, {', '.join(others)} would not be what it was"
            hint = f"the input or a library changed (see versions there); {anew}"
            raise DataError(what, where=place, hint=hint)
        (work / FOLDER / "manifest.json").write_bytes((out / "manifest.json").read_bytes())
    say(f"made anew, and equal to what it was: {', '.join(sorted(broken))}")
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


def _in_pieces(engine: str, files: Sequence[str]) -> bool:
    """Whether workers do the work, in pieces: those of an engine, or processes here where that is worth their start.

    Workers have no standard input, and what is no file is one piece.
    """
    if engine != LOCAL:
        return True
    if count_workers() == 1:
        return False
    sizes = [file_size(file) for file in files]
    least = FEWEST_BYTES if len(cut_files(files)) > 1 else FEWEST_BYTES_OF_ONE_PIECE
    return None not in sizes and sum(size or 0 for size in sizes) >= least


def _task(request: Facts, in_pieces: bool, *, repair: bool = False) -> Facts | None:
    """What must be the same for a later run to go on from what this one has finished; None: it never may.

    One engine goes on from another's pieces, but pieces are not what a single process makes on its way.
    """
    if not _is_known(request):
        return None
    size = BYTES_A_PIECE if in_pieces else None
    of_stage = {"bytes_a_piece": size, "staged_format": STAGED_FORMAT}
    return {"request": request, "versions": describe_versions(), "repair": repair, **of_stage}


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
        say(f"{out} was made from other input or with other settings: making it anew")
        return None
    return load_prepared(out)
