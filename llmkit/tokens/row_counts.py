"""Count what happens to the texts of a file while they are encoded: unknown characters, normalization, no tokens."""

from dataclasses import dataclass, field

from llmkit.tokens.unknown import UnknownCount


@dataclass
class RowCounts:
    """Counts of normalized texts and unknown characters of a file, collected during encoding."""

    unknown: UnknownCount = field(default_factory=UnknownCount)
    n_normalized: int = 0
    """Number of rows that the normalization of the model's training text changed."""
    normalization: str = ""
    """The normalization in words, such as `NFC, lower case`."""
    n_without_tokens: int = 0

    def describe(self, path: str, unit: str) -> list[str]:
        """Return notes on normalized rows and, if there are many, on unknown characters; `unit` is as in RowStream."""
        notes = self.unknown.describe_rows(path, unit)
        if self.n_normalized:
            of = f"{self.n_normalized:,} of {self.unknown.n_texts:,}"
            notes.append(f"{path}: rows normalized as the model's training text: {of} ({self.normalization})")
        if self.n_without_tokens:
            of = f"{self.n_without_tokens:,} of {self.unknown.n_texts:,} rows of {path}"
            notes.append(f"{of} have no text: the model reads only a special token")
        return notes
