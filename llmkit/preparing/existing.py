"""Decide whether an existing output folder is reused, replaced or refused.

Only files that the manifest of a prepared folder names are ever deleted. stages.py builds folders.
"""

import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from glob import has_magic
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from llmkit.config.prepare import Prepare
from llmkit.core import console
from llmkit.core.errors import UsageError
from llmkit.core.files import PARTIAL, PROCESS, read_json
from llmkit.core.output_paths import (
    IsOurs,
    delete_ours,
    expand_home,
    find_foreign,
    refuse_foreign,
    refuse_inputs_inside,
)
from llmkit.text.inputs import find_files
from llmkit.tokens.prepared import Prepared, load_prepared

MANIFEST = "manifest.json"
MAX_SHOWN = 3
_PROBE = re.compile(r"\.llmkit-probe-[0-9]+")
_WRITTEN = (MANIFEST, "tokenizer/tokenizer.json", "tokenizer/vocab.txt", "train/state.json", "train/dataset_info.json")
"""Files of a prepared folder that `prepare` would read if they matched an input pattern."""
_INPUT_KEYS = {
    "tokenizer": "the tokenizer's files at prepare.tokenizer.path",
    "chinese_words": "the Chinese word segmenter",
}


# ---- output path ----


def check_out(out: Path, inputs: Sequence[str], tokenizer: str | None) -> Path:
    """Check that `out` neither contains an input nor is in an input folder; returns `out`, a link resolved.

    Raises:
        UsageError: `out` is a file or not a valid folder name, an input is in `out`, or `out` is in an input folder.
    """
    if out.name in ("", ".."):
        hint = "give the name of a new folder, such as --out data/books"
        raise UsageError(f"{str(out)!r} is not a name for a prepared folder", where="--out", hint=hint)
    if out.is_symlink():
        out = out.resolve()  # otherwise the link would be renamed instead of its folder
    if out.exists() and not out.is_dir():
        raise UsageError(f"{str(out)!r} is a file", where="--out", hint="give the name of a new folder")
    refuse_inputs_inside(out, [*([tokenizer] if tokenizer else []), *map(_local_name, inputs)])
    for name in map(_local_name, inputs):
        path = expand_home(name)
        if not path.exists() and has_magic(name):
            # A pattern may have matches elsewhere too.
            refuse_inputs_inside(out, find_files([name], {}))
        if _would_read(path, out):
            what = f"the output folder {str(out)!r} is in the input {name!r}, so the next run would read it"
            raise UsageError(what, where="--out", hint="give an --out outside of the input")
        if path.is_dir():
            refuse_inputs_inside(out, find_files([name], {}))  # links in the folder
    return out


def _local_name(name: str) -> str:
    """Return the local path that `hf:PATH@split` may name."""
    return name.removeprefix("hf:").split("@")[0] if name.startswith("hf:") else name


def _would_read(path: Path, out: Path) -> bool:
    """Whether an input folder or pattern would match files of the future folder `out`."""
    folder = out.resolve()
    if path.is_dir():
        inner = folder.relative_to(path.resolve()).parts if folder.is_relative_to(path.resolve()) else None
        return inner is not None and not any(part.startswith(".") for part in inner)  # hidden ones are not read
    if path.exists() or not has_magic(str(path)):
        return False
    parts = path.absolute().parts
    n_fixed = next(n for n, part in enumerate(parts) if has_magic(part))
    root, pattern = Path(*parts[:n_fixed]).resolve(), parts[n_fixed:]
    if not folder.is_relative_to(root):
        return False
    inner = folder.relative_to(root).parts
    # If a pattern matches a folder, all files in the folder are read, as in find_files.
    is_folder_read = "**" not in pattern and any(_matches(inner[:n], pattern) for n in range(1, len(inner) + 1))
    return is_folder_read or any(_matches((*inner, *name.split("/")), pattern) for name in _WRITTEN)


def _matches(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether a path matches a glob pattern, both given as parts."""
    if not pattern or not parts:
        return not parts and all(part == "**" for part in pattern)
    if pattern[0] == "**":
        return _matches(parts, pattern[1:]) or (not parts[0].startswith(".") and _matches(parts[1:], pattern))
    is_hidden = parts[0].startswith(".") and not pattern[0].startswith(".")
    return not is_hidden and fnmatchcase(parts[0], pattern[0]) and _matches(parts[1:], pattern[1:])


# ---- files ----


def read_manifest(out: Path) -> dict[str, Any]:
    """Return the manifest of a prepared folder; empty if `out` is not one."""
    try:
        manifest = read_json(out / MANIFEST)
    except (OSError, ValueError):
        return {}
    is_prepared = isinstance(manifest, dict) and str(manifest.get("format", "")).startswith("llmkit-prepared")
    return manifest if is_prepared else {}


def refuse_foreign_files(out: Path) -> None:
    """Check that the manifest of `out` names all files in it.

    Raises:
        UsageError: there are other files; the error names the first three.
    """
    refuse_foreign(out, _is_ours(out))


def delete_prepared(folder: Path) -> None:
    """Delete the files of a replaced prepared folder; keeps other files and logs their names."""
    is_ours = _is_ours(folder)
    delete_ours(folder, is_ours, last=[MANIFEST])  # the manifest says what may be deleted
    if foreign := find_foreign(folder, is_ours):
        console.info(f"{folder} is kept: it has files that llmkit did not write: {', '.join(foreign[:MAX_SHOWN])}")


def clear_old(folder: Path) -> None:
    """Delete the replaced folder that a killed process left behind.

    Raises:
        UsageError: the folder has files that llmkit did not write.
    """
    if folder.is_dir():
        refuse_foreign(folder, _is_ours(folder))
    delete_prepared(folder)


def _is_ours(folder: Path) -> IsOurs:
    manifest = read_manifest(folder)
    files = manifest.get("files")
    known = {MANIFEST, *(files if isinstance(files, dict) else ())} if manifest else set()
    known |= {(Path(name).parent / f".{Path(name).name}{PARTIAL}").as_posix() for name in (MANIFEST, *known)}
    known |= {f"{parent.as_posix()}/" for name in list(known) for parent in Path(name).parents}
    return lambda name: PROCESS.sub("", name) in known or _PROBE.fullmatch(name) is not None


# ---- request ----


def find_existing(out: Path, request: Mapping[str, Any], overwrite: bool) -> Prepared | None:
    """Return the existing prepared folder if it was built for the same request; None if a new one must be built.

    A folder of another version of llmkit is reused if everything else is equal.

    Raises:
        UsageError: `out` is not a prepared folder, has files that llmkit did not write, or was built for another
            request without `overwrite`.
    """
    if not out.exists() or not find_foreign(out, lambda name: _PROBE.fullmatch(name) is not None):
        return None
    manifest = read_manifest(out)
    if not manifest:
        hint = "choose a new folder for --out, or one that `llmkit prepare` wrote"
        raise UsageError(f"{str(out)!r} exists and is not a prepared folder", where="--out", hint=hint)
    known = manifest.get("request")
    known = known if isinstance(known, dict) else {}
    changes = describe_changes(known, request)
    if overwrite:
        refuse_foreign_files(out)
        reason = f"was built with different values: {'; '.join(changes)}" if changes else "exists"
        console.info(f"{out} {reason}: rebuilding it")
        return None
    if changes:
        shown = "; ".join(changes[:MAX_SHOWN])
        more = f"; and {len(changes) - MAX_SHOWN} more" if len(changes) > MAX_SHOWN else ""
        what = f"{str(out)!r} was built with different input or settings: {shown}{more}"
        raise UsageError(what, where="--out", hint="--overwrite replaces the folder; or give another --out")
    prepared = load_prepared(out)
    if known.get("llmkit") == request["llmkit"]:
        console.info(f"{out} was built from the same input with the same settings: nothing to do")
    else:
        version = f"llmkit {known.get('llmkit')}"
        console.info(f"{out} was built by {version} from the same input with the same settings: it is reused")
    return prepared


def describe_changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """List the differences between two requests, except the version of llmkit."""
    before, now = _flatten(_complete(old.get("settings"))), _flatten(new["settings"])
    changes = [
        f"prepare.{key} was {before.get(key)}, is {now.get(key)}"
        for key in {**now, **before}
        if before.get(key) != now.get(key)
    ]
    changes += _describe_inputs("input", old.get("inputs"), new["inputs"])
    splits = old.get("own_splits") or {}
    for name in sorted({*splits, *new["own_splits"]}):
        if (name in splits) != (name in new["own_splits"]):
            changes.append(f"--{name} was {'given' if name in splits else 'not given'}")
        else:
            changes += _describe_inputs(f"--{name}", splits[name], new["own_splits"][name])
    return changes + [what for key, what in _INPUT_KEYS.items() if old.get(key) != new[key]]


def _describe_inputs(kind: str, old: Any, new: Any) -> list[str]:
    if old is None or new is None:
        return [f"{kind} from stdin or the hub cannot be compared with that of an earlier run"]
    if old == new:
        return []
    if sorted(file["sha256"] for file in old) == sorted(file["sha256"] for file in new):
        return [f"the same {kind} files under other paths or in another order ({_paths(old)}; now {_paths(new)})"]
    if [file["path"] for file in old] == [file["path"] for file in new]:
        changed = [file for file, known in zip(new, old, strict=True) if file != known]
        return [f"other contents of the {kind} files {_paths(changed)}"]
    return [f"other {kind} files ({_paths(old)}; now {_paths(new)})"]


def _paths(files: Sequence[Mapping[str, str]]) -> str:
    return console.list_some([file["path"] for file in files], MAX_SHOWN)


def _complete(settings: Any) -> dict[str, Any]:
    """Add defaults for new keys to settings of an earlier version."""
    try:
        return Prepare.model_validate(settings).model_dump(mode="json")
    except ValidationError:  # including removed keys
        return settings if isinstance(settings, dict) else {}


def _flatten(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        flat |= _flatten(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat
