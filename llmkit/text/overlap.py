"""Look for held-out text that is also in the train split."""

from collections.abc import Iterable
from dataclasses import dataclass

from llmkit.text.documents import Document


@dataclass(frozen=True, slots=True)
class Overlap:
    """How much of the held-out text is in train too."""

    share: float
    """Of the held-out windows, those that are in train."""
    n_windows: int
    """Held-out windows looked at (a fixed sample where there are very many)."""
    n_found: int
    window_bytes: int


def find_overlap(train: Iterable[Document], held_out: Iterable[Document]) -> Overlap:
    """Share of the held-out text's 50-byte windows (letters and digits only, case folded) that train has too."""
    raise NotImplementedError
