"""One split of labelled rows, encoded for a model: inputs, labels, and what identifies the rows."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmkit.datasets.labelled import Inputs, take_rows
from llmkit.tasks.cls.baseline import BaselineOutputs, Texts


@dataclass(frozen=True)
class LabelledSplit:
    """Encoded rows, their labels ((n,) ids, (n, labels) zeros and ones, or (n,) numbers), line numbers and hashes."""

    inputs: Inputs
    labels: NDArray[Any]
    lines: NDArray[np.int64]
    keys: NDArray[np.uint64]
    """Hash of each row's texts, see `hash_row`."""
    path: str
    texts: Texts | None = None
    """The beginning of each row's texts; None if they are not kept."""
    baseline: BaselineOutputs | None = None

    def __len__(self) -> int:
        return len(self.lines)

    def take(self, rows: NDArray[np.int64]) -> "LabelledSplit":
        """Return the rows at these indices, in this order."""
        return LabelledSplit(
            take_rows(self.inputs, rows), self.labels[rows], self.lines[rows], self.keys[rows], self.path,
            None if self.texts is None else [self.texts[row] for row in rows],
            None if self.baseline is None else self.baseline.take(rows),
        )  # fmt: skip

    def take_evenly(self, n_rows: int) -> "LabelledSplit":
        """Return at most `n_rows` rows, evenly spaced."""
        return self if len(self) <= n_rows else self.take(np.arange(n_rows) * len(self) // n_rows)

    def take_fraction(self, share: float) -> "LabelledSplit":
        """Return a fraction of the rows, rounded up and evenly spaced."""
        return self.take_evenly(math.ceil(share * len(self)))

    def hash_rows(self, names: Sequence[str]) -> str:
        """Return the SHA-256, in hex, of the texts and labels, independent of the order of rows and label ids.

        `names` are the label names by id.
        """
        labels, order = self.labels, np.argsort(np.array(names, object))
        if labels.ndim == 2:
            labels = labels[:, order]
        elif labels.dtype.kind != "f":
            labels = np.argsort(order)[labels]
        cells = labels.astype(np.int8) if labels.ndim == 2 else labels.astype("<f8")
        rows = sorted(
            hashlib.blake2b(key.tobytes() + cell.tobytes(), digest_size=16).digest()
            for key, cell in zip(self.keys.astype("<u8"), cells, strict=True)
        )
        named = repr(sorted(names)) if labels.dtype.kind != "f" else ""
        return hashlib.sha256(named.encode() + b"".join(rows)).hexdigest()
