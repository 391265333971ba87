"""The sample of train rows that `train.max_rows` selects: stratified by label, and fixed by rows and seed.

Held-out rows and the label map do not depend on it, so runs with different samples are comparable.
"""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from llmkit.config.train import Train
from llmkit.core.console import clean_line, count
from llmkit.tables.label_splits import TEST, TRAIN, rarest_label_strata, sample_rows

UNUSED = TEST + 1
"""The split number of train rows outside of the sample."""
_LABELS_SHOWN = 3


class TrainSample(NamedTuple):
    """Size and seed of the sample."""

    max_rows: int
    seed: int

    def leave_out(
        self, sides: NDArray[np.int8], keys: NDArray[np.uint64], names: Sequence[tuple[str, ...]]
    ) -> list[str]:
        """Set the split number in `sides` to UNUSED for train rows outside of the sample; returns a note with counts.

        All arguments have one entry per row. An entry of `names` has the labels of the row, none for regression.
        """
        train = np.flatnonzero(sides == TRAIN)
        if self.max_rows >= len(train):
            return [f"train.max_rows {self.max_rows:,}: all {len(train):,} train rows are used"]
        sets = [names[int(row)] for row in train]
        counts = Counter(name for each in sets for name in each)
        kept = sample_rows(keys[train], rarest_label_strata(sets, counts), self.max_rows, self.seed)
        sides[train] = UNUSED
        sides[train[kept]] = TRAIN
        by_label = "stratified by label, " if counts else ""
        note = f"train.max_rows: {self.max_rows:,} of {len(train):,} train rows, {by_label}seed {self.seed}"
        if without := sorted(set(counts) - {name for row in kept for name in sets[row]}):
            note += f"; {len(without):,} of {count(len(counts), 'label')} without a row, for example "
            note += ", ".join(map(repr, without[:_LABELS_SHOWN]))
        return [clean_line(note)]


def sample_of(train: Train) -> TrainSample | None:
    """Return the sample that the recipe asks for; None for all rows."""
    return None if train.max_rows is None else TrainSample(train.max_rows, train.seed)
