"""Open the folder that `prepare` wrote: manifest, tokenizer, splits."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmkit.core import console
from llmkit.core.errors import DataError, Problem
from llmkit.core.files import read_json, verify_file
from llmkit.tokens.store import Split

FORMAT = "llmkit-prepared-1"
MIN_BYTES_TO_REPORT = 2_000_000_000
"""Hashing of more bytes is logged, as it takes several seconds."""
MAX_PROBLEMS_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Prepared:
    """A folder that `llmkit prepare` wrote."""

    path: Path
    manifest: dict[str, Any]

    @property
    def tokenizer_path(self) -> Path:
        """Return the folder that `AutoTokenizer` loads."""
        return self.path / "tokenizer"

    @property
    def fingerprint(self) -> dict[str, Any]:
        """Return values that must be the same on resume: tokenizer, and documents and sentences of the train split."""
        return {
            "tokenizer": self.manifest["tokenizer"]["fingerprint"],
            "train_documents": self.manifest["splits"]["train"]["documents_hash"],
            "train_tokens": self.manifest["splits"]["train"]["tokens"],
            "train_sentences": self.manifest["splits"]["train"].get("sentences_hash"),
        }

    def has_split(self, name: str) -> bool:
        """Whether the folder has the split."""
        return name in self.manifest["splits"]

    def split(self, name: str) -> Split:
        """Open a split.

        Raises:
            DataError: there is no such split, or its number of tokens differs from the manifest's.
        """
        if not self.has_split(name):
            hint = f"its splits: {', '.join(self.manifest['splits'])}; prepare.split.{name} sets the fraction of {name}"
            raise DataError(f"the prepared folder has no {name} split", where=str(self.path), hint=hint)
        self._check(name, hashes=False)
        split = Split(self.path / name)
        expected, found = self.manifest["splits"][name]["tokens"], len(split.stream)
        if found != expected:
            what = f"the {name} split has {found} tokens, but {expected} in the manifest"
            raise DataError(what, where=str(self.path / name), hint="run `llmkit prepare` again with --overwrite")
        return split

    def verify(self, *parts: str) -> None:
        """Check every file of `parts` (`tokenizer`, or splits that the folder has) against its SHA-256.

        Raises:
            DataError: lists the damaged and missing files.
        """
        n_bytes = sum(known["bytes"] for known in self._files(parts).values())
        if n_bytes > MIN_BYTES_TO_REPORT:
            console.info(f"verifying {n_bytes / 1e9:.1f} GB of {self.path}")
        self._check(*parts, hashes=True)

    def find_faults(self, *parts: str, hashes: bool) -> dict[str, str]:
        """Return the faults of files in `parts` (default: all parts), by file name.

        Without `hashes` only missing and truncated files are found.
        """
        found = {
            name: verify_file(self.path / name, known, hashes=hashes) for name, known in self._files(parts).items()
        }
        return {name: fault for name, fault in found.items() if fault is not None}

    def _files(self, parts: tuple[str, ...]) -> dict[str, dict[str, Any]]:
        files = self.manifest.get("files", {})
        return {name: known for name, known in files.items() if not parts or name.split("/")[0] in parts}

    def _check(self, *parts: str, hashes: bool) -> None:
        faults = self.find_faults(*parts, hashes=hashes)
        hint = f"repair the folder with the command that made it: llmkit prepare INPUT... --out {self.path} --repair"
        problems = [Problem(f"{name} {fault}", str(self.path / name), hint) for name, fault in faults.items()]
        if problems:
            raise DataError.from_problems(problems[:MAX_PROBLEMS_SHOWN])


def load_prepared(path: Path, *, check: bool = True) -> Prepared:
    """Open a prepared folder; with `check`, all files must exist and have the right sizes.

    Raises:
        DataError: not a prepared folder, one of another format, or one with missing or truncated files.
    """
    manifest_path = path / "manifest.json"
    hint = f"make a prepared folder with: llmkit prepare INPUT --out {path}"
    if not manifest_path.is_file():
        what = f"{str(path)!r} is not a prepared folder: it has no manifest.json"
        if not path.exists():
            what = f"there is no folder {str(path)!r}"
        raise DataError(what, where=str(path), hint=hint)
    try:
        manifest = read_json(manifest_path)
    except ValueError as error:
        raise DataError(f"the manifest is damaged: {error}", where=str(manifest_path), hint=hint) from None
    if "format" not in manifest and (path / "recipe.yaml").is_file():
        hint = "give the folder that `llmkit prepare` made for the run"
        raise DataError(f"{str(path)!r} is a run folder, not a prepared one", where=str(path), hint=hint)
    if manifest.get("format") != FORMAT:
        what = f"the folder's format is {manifest.get('format')!r}, this version of llmkit reads {FORMAT!r}"
        raise DataError(what, where=str(manifest_path), hint=hint)
    prepared = Prepared(path, manifest)
    if check:
        prepared._check(hashes=False)
    return prepared
