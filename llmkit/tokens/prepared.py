"""A prepared folder as the commands after `prepare` see it: manifest, tokenizer, splits."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmkit.errors import DataError
from llmkit.files import read_json
from llmkit.tokens.store import Split

FORMAT = "llmkit-prepared-1"


@dataclass(frozen=True, slots=True)
class Prepared:
    """What `llmkit prepare` wrote."""

    path: Path
    manifest: dict[str, Any]

    @property
    def tokenizer_path(self) -> Path:
        """A plain `AutoTokenizer` folder."""
        return self.path / "tokenizer"

    @property
    def fingerprint(self) -> dict[str, Any]:
        """What a resumed run must find again: the tokenizer, and of the train split documents, sentences and words."""
        return {
            "tokenizer": self.manifest["tokenizer"]["fingerprint"],
            "train_documents": self.manifest["splits"]["train"]["documents_hash"],
            "train_tokens": self.manifest["splits"]["train"]["tokens"],
            "train_sentences": self.manifest["splits"]["train"].get("sentences_hash"),
        }

    def has_split(self, name: str) -> bool:
        """Whether the split was set aside."""
        return name in self.manifest["splits"]

    def split(self, name: str) -> Split:
        """One split.

        Raises:
            DataError: the folder has no such split, or it does not hold the tokens that the manifest says.
        """
        if not self.has_split(name):
            hint = f"it has: {', '.join(self.manifest['splits'])}; prepare.split.{name} sets a share aside"
            raise DataError(f"the prepared folder has no {name} split", where=str(self.path), hint=hint)
        split = Split(self.path / name)
        expected, found = self.manifest["splits"][name]["tokens"], len(split.stream)
        if found != expected:
            what = f"the {name} split has {found} tokens, the manifest says {expected}"
            raise DataError(what, where=str(self.path / name), hint="run `llmkit prepare` again with --overwrite")
        return split


def load_prepared(path: Path) -> Prepared:
    """Open what `prepare` wrote.

    Raises:
        DataError: not a prepared folder, or one of another format.
    """
    manifest_path = path / "manifest.json"
    hint = f"make it with: llmkit prepare INPUT --out {path}"
    if not manifest_path.is_file():
        what = f"{str(path)!r} is not a prepared folder: it has no manifest.json"
        raise DataError(what, where=str(path), hint=hint)
    try:
        manifest = read_json(manifest_path)
    except ValueError as error:
        raise DataError(f"the manifest is damaged: {error}", where=str(manifest_path), hint=hint) from None
    if "format" not in manifest and (path / "recipe.yaml").is_file():
        hint = "give the folder that `llmkit prepare` made for it"
        raise DataError(f"{str(path)!r} is a run folder and no prepared one", where=str(path), hint=hint)
    if manifest.get("format") != FORMAT:
        what = f"the folder's format is {manifest.get('format')!r}, this llmkit reads {FORMAT!r}"
        raise DataError(what, where=str(manifest_path), hint=hint)
    return Prepared(path, manifest)
