"""Find the input files: files, folders, globs, standard input and names of data sets.

A folder means its readable files, sorted, without hidden ones. Skipped files and folders are counted by reason, such as
`.doc file` or `hidden folder`. Links to folders are followed; each folder is read once, so cyclic links end. A file
that the user names is always read, as plain text if its suffix is unknown and its bytes have no signature. A name that
does not exist is bad input (exit code 3), not bad usage, because recipes and scripts name inputs too.

Pipes, sockets and devices are never opened, except standard input (`-`) and pipes that are open already, such as
`/dev/fd/63` of a shell's `<(...)`.
"""

import fnmatch
import glob
import logging
import os
import stat
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from llmkit.core.errors import DataError, EnvironmentFault, did_you_mean
from llmkit.text.formats.signatures import HEAD_BYTES, detect_compression, detect_format
from llmkit.text.formats.streams import unpack_head

log = logging.getLogger(__name__)

FORMATS = (
    *(".txt", ".md", ".html", ".htm", ".xhtml", ".epub", ".jsonl", ".json", ".csv", ".tsv", ".parquet", ".xlsx"),
    *(".docx", ".odt", ".pdf", ".rtf", ".srt", ".vtt", ".mbox", ".eml", ".warc", ".wet", ".wat", ".xml"),
)
COMPRESSIONS = (".gz", ".zst", ".bz2", ".xz")
ARCHIVES = (".zip", ".tar")
_SHORT = {".tgz": ".tar.gz", ".tbz": ".tar.bz2", ".tbz2": ".tar.bz2", ".txz": ".tar.xz", ".tzst": ".tar.zst"}
_SAME = {".mht": ".eml", ".mhtml": ".eml", ".ndjson": ".jsonl"}
SPECIAL = ("hf:", "builtin:")

Skipped = dict[str, Counter[str]]
"""For each folder or pattern, the number of skipped files by reason."""


def find_files(inputs: Sequence[str], skipped: Skipped | None = None) -> list[str]:
    """Return the files of the inputs: files, folders (recursive), globs, `-`, `hf:NAME` and `builtin:NAME`.

    Files are in the order of the inputs, and sorted within a folder or glob; a file named twice is read once. Skipped
    files are added to `skipped`, or logged if `skipped` is None.
    """
    found: dict[str, None] = {}
    counts: Skipped = {} if skipped is None else skipped
    for name in inputs:
        if name == "-" or name.startswith(SPECIAL):
            found[name] = None
            continue
        path = _expand_home(name)
        if path.is_dir():
            found.update(dict.fromkeys(_find_in_folder(path, counts)))
        elif path.exists() or path.is_symlink():
            _require_file(path)
            found[str(path)] = None
        elif glob.has_magic(name):
            found.update(dict.fromkeys(_find_by_glob(str(path), counts)))
        else:
            raise _not_found(path)
    if skipped is None:
        report_skipped(counts)
    return list(found)


def report_skipped(skipped: Mapping[str, Mapping[str, int]]) -> None:
    """Log the skipped files of each folder."""
    for where, counts in skipped.items():
        log.warning("skipped in %s: %s; %s", where, list_counts(counts), _ALWAYS_READ)


_ALWAYS_READ = "a file named explicitly is always read, as plain text if its format is unknown"
MAX_LISTED = 20


def list_counts(counts: Mapping[str, int]) -> str:
    """Return the most frequent reasons and the number of other files, such as `3 .doc file, 1 hidden file`."""
    common = Counter(counts).most_common(MAX_LISTED)
    listed = [f"{n:,} {reason}" for reason, n in common]
    if n_others := sum(counts.values()) - sum(n for _, n in common):
        listed.append(f"{n_others:,} for other reasons")
    return ", ".join(listed)


def split_endings(name: str) -> tuple[str, str]:
    """Return (format, compression) from a name's suffixes; either may be empty: "x.jsonl.gz" -> (".jsonl", ".gz")."""
    rest = name.lower()
    packing = ""
    short = _suffix(rest)
    rest = rest.removesuffix(short) + _SHORT.get(short, short)
    if rest.endswith(COMPRESSIONS):
        packing = _suffix(rest)
        rest = rest.removesuffix(packing)
    ending = _suffix(rest)
    ending = _SAME.get(ending, ending)
    if ending == ".zip" and packing:
        return "", packing
    return (ending if ending in (*FORMATS, *ARCHIVES) else ""), packing


def _suffix(name: str) -> str:
    """Return `Path(name).suffix` without pathlib, which takes longer than reading a small file."""
    base = os.path.basename(name)  # noqa: PTH119
    dot = base.rfind(".")
    return base[dot:] if 0 < dot < len(base) - 1 else ""


def display_name(name: str) -> str:
    r"""Return a name as text; bytes that are not UTF-8, which Linux allows in names, become escapes such as `\xe9`."""
    try:
        name.encode()
        return name
    except UnicodeEncodeError:
        return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def file_size(name: str) -> int | None:
    """Return the size in bytes; None if there is no regular file of that name."""
    try:
        found = os.stat(name)  # noqa: PTH116 - Path is slower than the call
    except (OSError, ValueError):
        return None
    return found.st_size if stat.S_ISREG(found.st_mode) else None


def is_readable(name: str) -> bool:
    """Whether llmkit reads files with this suffix."""
    return bool(split_endings(name)[0])


def is_lock_file(name: str) -> bool:
    """Whether this is a lock file of Word or LibreOffice: `~$doc.docx`, `.~lock.doc.odt#`."""
    base = os.path.basename(name)  # noqa: PTH119
    return base.startswith(("~$", ".~lock."))


def is_hidden(name: str) -> bool:
    """Whether a member of an archive is hidden or a copy that macOS made; `./a.txt` and `../a.txt` are not."""
    pieces = name.replace("\\", "/").split("/")
    return any(piece.startswith((".", "__MACOSX")) and piece not in (".", "..") for piece in pieces)


def is_stream(name: str) -> bool:
    """Whether the bytes can be read only once: standard input, or a pipe."""
    return name == "-" or (file_size(name) is None and os.path.exists(name))  # noqa: PTH110


def _expand_home(name: str) -> Path:
    if not name.strip() or "\0" in name:
        what = f"the name of an input {'contains a NUL character' if name.strip() else 'is empty'}"
        raise DataError(what, where="the inputs", hint="name a file or a folder; . is the current folder")
    try:
        path = Path(name).expanduser()
    except RuntimeError:  # "~$doc.txt" is not the home of a user
        path = Path(name)
    if os.path.dirname(real := os.path.realpath(path)) == real:  # noqa: PTH120 - Path.resolve raises for looped links
        what = "this is the root of the file system"
        raise DataError(what, where=name, hint="name the folder that holds the text")
    return path


_OPEN_PIPES = ("/dev/fd/", "/proc/self/fd/", "/dev/stdin")


def _require_file(path: Path) -> None:
    """Raise DataError for a lock file, and for a pipe, socket or device, which might block."""
    if is_lock_file(path.name):
        what = f"{path.name} is the lock file of an office program, not a document"
        raise DataError(what, where=display_name(str(path)), hint="name the document itself, or its folder")
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return  # a broken link, which is refused or skipped when it is read
    except OSError as error:
        raise DataError(
            f"cannot be opened: {error.strerror}", where=display_name(str(path)), hint="is it a link to itself?"
        ) from None
    if stat.S_ISREG(mode) or (stat.S_ISFIFO(mode) and str(path).startswith(_OPEN_PIPES)):
        return
    kinds = {stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket"}
    what = f"this is {kinds.get(stat.S_IFMT(mode), 'a device')}, not a file"
    raise DataError(what, where=display_name(str(path)), hint="name a file or folder, or use - to read stdin")


def _find_in_folder(folder: Path, skipped: Skipped) -> list[str]:
    counts = Counter[str]()
    return _keep_readable(sorted(_walk_links(str(folder), counts)), str(folder), counts, skipped)


def _walk_links(folder: str, counts: Counter[str]) -> list[str]:
    """Return the files below a folder, including linked folders; each folder is read once.

    Links are followed after all real folders, so a file is listed under its real path if that is below the folder.
    Skipped files and folders are added to `counts`.
    """
    names: list[str] = []
    seen: set[tuple[int, int]] = set()
    above = {_identify(str(parent)) for parent in Path(os.path.realpath(folder)).parents}
    waiting = [folder]
    while waiting:
        links: list[str] = []
        for top in waiting:
            if _identify(top) in seen | above:
                counts["link to a folder that is read already"] += 1
            else:
                names += _walk(top, seen, links, counts)
        waiting = sorted(links)
    return names


def _walk(top: str, seen: set[tuple[int, int]], links: list[str], counts: Counter[str]) -> Iterator[str]:
    """Yield the files below a folder; adds the folders to `seen`, links to folders to `links`, hidden names to
    `counts`.
    """

    def refuse(error: OSError) -> None:
        raise EnvironmentFault(
            f"cannot list {error.filename}: {error.strerror}",
            where=display_name(str(error.filename)),
            hint="check its permissions, or name the files instead of the folder",
        ) from None

    for parent, folders, files in os.walk(top, onerror=refuse):
        seen.add(_identify(parent))
        shown = sorted(name for name in folders if not name.startswith("."))
        counts["hidden folder"] += len(folders) - len(shown)
        folders[:] = shown
        prefix = "" if parent == "." else parent
        paths = [os.path.join(prefix, name) for name in folders]  # noqa: PTH118
        links += [path for path in paths if os.path.islink(path)]  # noqa: PTH114
        for name in files:
            if name.startswith(".") and not is_lock_file(name):
                counts["hidden file"] += 1
            else:
                yield os.path.join(prefix, name)  # noqa: PTH118


def _identify(folder: str) -> tuple[int, int]:
    found = os.stat(folder)  # noqa: PTH116
    return found.st_dev, found.st_ino


def _find_by_glob(pattern: str, skipped: Skipped) -> list[str]:
    names: list[str] = []
    if "**" in Path(pattern).parts:
        names = _match_deep(pattern)
    else:
        for name in sorted(glob.glob(pattern)):  # noqa: PTH207 - Path.glob takes no absolute pattern
            names += _find_in_folder(Path(name), skipped) if Path(name).is_dir() else [name]
    if not names:
        raise DataError(
            f"nothing matches {pattern}", where=pattern, hint="quote the pattern; ** also matches subfolders"
        )
    return _keep_readable(names, pattern, Counter(), skipped)


def _match_deep(pattern: str) -> list[str]:
    """Return the files that match a pattern with `**`; glob would follow cyclic links forever."""
    pieces = Path(pattern).parts
    n_plain = next(number for number, piece in enumerate(pieces) if glob.has_magic(piece))
    top = str(Path(*pieces[:n_plain]))
    if not Path(top).is_dir():
        return []
    names = _walk_links(top, Counter())  # hidden files, which no pattern matches, are not counted
    return sorted(name for name in names if _matches(Path(name).parts[n_plain:], pieces[n_plain:]))


def _matches(parts: tuple[str, ...], pieces: tuple[str, ...]) -> bool:
    if not pieces:
        return not parts
    if pieces[0] == "**":
        # At the end of a pattern, `**` matches all files below.
        return not pieces[1:] or any(_matches(parts[start:], pieces[1:]) for start in range(len(parts) + 1))
    return bool(parts) and fnmatch.fnmatch(parts[0], pieces[0]) and _matches(parts[1:], pieces[1:])


def _keep_readable(names: list[str], where: str, counts: Counter[str], skipped: Skipped) -> list[str]:
    """Return the files that llmkit reads; counts the others in `counts`, and stores `counts` in `skipped`."""
    reasons = {name: _reason_to_skip(name) for name in names}
    kept = [name for name in names if not reasons[name]]
    counts.update(filter(None, reasons.values()))
    counts += Counter()  # drops zeros
    if not kept:
        raise DataError(
            f"no readable file: {list_counts(counts) or 'the folder is empty'}",
            where=display_name(where),
            hint=f"llmkit reads {' '.join(FORMATS)}, also in {' '.join((*COMPRESSIONS, *ARCHIVES))}; "
            "a file that is named explicitly is always read, as plain text if its format is unknown",
        )
    if counts:
        skipped[display_name(where)] = counts
    return kept


def _reason_to_skip(name: str) -> str:
    """Return why a file of a folder is not read; empty for files that are read."""
    if is_lock_file(name):
        return LOCK_FILE
    # A broken link is kept: reading it raises an error, or skips and counts it with --skip-bad.
    if file_size(name) is None and os.path.exists(name):  # noqa: PTH110
        return "pipe, socket or device"
    ending, _ = split_endings(name)
    return "" if ending and (ending != ".xml" or _is_dump(name)) else describe_suffix(name)


def _is_dump(name: str) -> bool:
    """Whether an .xml file is a MediaWiki dump; other .xml files are not read."""
    try:
        with Path(name).open("rb") as file:
            head = file.read(1 << 20)
    except OSError:
        return True  # reading the file reports the error
    if packing := detect_compression(head):
        head = unpack_head(head, packing, HEAD_BYTES)
    found = detect_format(head[:HEAD_BYTES])
    return found is not None and found.ending != ""


LOCK_FILE = "lock file of an office program"
_MAX_SUFFIX = 12


def describe_suffix(name: str) -> str:
    """Describe a file that is not read because of its suffix, such as `.doc file`."""
    suffix = display_name(_suffix(name).lower())
    return f"{suffix} file" if 0 < len(suffix) <= _MAX_SUFFIX and " " not in suffix else "file without a known suffix"


def _not_found(path: Path) -> DataError:
    parent = path.parent
    while not parent.is_dir() and parent != parent.parent:
        path, parent = parent, parent.parent
    names = sorted(entry.name for entry in parent.iterdir() if not entry.name.startswith("."))[:200]
    hint = did_you_mean(path.name, map(display_name, names)) if names else f"{parent} is empty"
    if len(hint) > 300:
        hint = hint[:300] + " ..."
    return DataError(f"no such file or folder: {display_name(str(path))}", where=display_name(str(parent)), hint=hint)
