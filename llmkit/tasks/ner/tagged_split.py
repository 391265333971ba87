"""One split of tagged rows, encoded for a model: inputs, labels of the words, and the rows themselves."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llmkit.datasets.tagged import TaggedInputs
from llmkit.tables.tagged import TaggedRow

Ids = NDArray[np.int64]


@dataclass(frozen=True)
class TaggedSplit:
    """Encoded rows and the ids of their tags (words,)."""

    tagged: TaggedInputs
    labels: Ids
    rows: list[TaggedRow]
    keys: NDArray[np.uint64]
    """Hash of each row's text, see `hash_row`."""
    path: str
    baseline: Ids | None = None
    """Ids of the tags that the word baseline predicts, (words,)."""

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, rows: NDArray[np.int64]) -> "TaggedSplit":
        """Return the rows at these indices, in this order."""
        words = [np.arange(slice_.start, slice_.stop) for slice_ in map(self.tagged.words_of, rows.tolist())]
        taken = np.concatenate([np.zeros(0, np.int64), *words])
        return TaggedSplit(
            self.tagged.take(rows), self.labels[taken], [self.rows[row] for row in rows], self.keys[rows], self.path,
            None if self.baseline is None else self.baseline[taken],
        )  # fmt: skip

    def take_evenly(self, n_rows: int) -> "TaggedSplit":
        """Return at most `n_rows` rows, evenly spaced."""
        return self if len(self) <= n_rows else self.take(np.arange(n_rows) * len(self) // n_rows)

    def take_fraction(self, share: float) -> "TaggedSplit":
        """Return a fraction of the rows, rounded up and evenly spaced."""
        return self.take_evenly(math.ceil(share * len(self)))

    def hash_rows(self, names: Sequence[str]) -> str:
        """Return the SHA-256, in hex, of the texts and tags, independent of the order of the rows."""
        digests = []
        for row, key in enumerate(self.keys.astype("<u8")):
            tags = "\n".join(names[label] for label in self.labels[self.tagged.words_of(row)])
            digests.append(hashlib.blake2b(key.tobytes() + tags.encode(), digest_size=16).digest())
        return hashlib.sha256(b"".join(sorted(digests))).hexdigest()
