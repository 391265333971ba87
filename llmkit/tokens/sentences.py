"""Where the sentences of a split lie on its token stream: an index over its memory-mapped columns.

Only rows are held in memory (12 bytes each); the ends of sentences stay in the file. A row is a document or a part of
a long one, and no sentence goes over its end.

Knows nothing of pairs; see pairs.py.
"""

from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from llmkit.errors import DataError
from llmkit.tokens.store import Split


class Sentences:
    """The rows of a split by their place on the stream, and the sentences of each."""

    def __init__(self, split: Split) -> None:
        """Raises DataError where the split was prepared without sentences, or has none."""
        self.split = split
        if "sentence_ends" not in split.table.column_names:
            hint = "prepare it again with -s prepare.tokenizer.kind=wordpiece, or with a BERT's own tokenizer"
            raise DataError("the data was prepared without sentences", where=str(split.folder), hint=hint)
        if not any(len(chunk.values) for chunk in split.table.column("sentence_ends").chunks):
            raise DataError("the data has no sentence", where=str(split.folder), hint="give more text")

    @cached_property
    def row_starts(self) -> NDArray[np.int64]:
        """Place of each row's first token, and of the end of all."""
        lengths = pc.list_value_length(self.split.table.column("input_ids"))
        return np.concatenate([[0], np.cumsum(lengths.to_numpy(), dtype=np.int64)])

    @cached_property
    def documents(self) -> NDArray[np.int32]:
        """The number of each row's document: the parts of one have the same."""
        parts = self.split.table.column("part").to_numpy()
        return np.cumsum(parts == 0, dtype=np.int32) - np.int32(parts[:1].tolist() == [0])

    @cached_property
    def n_documents(self) -> int:
        """How many documents of the split have a sentence."""
        lengths = pc.list_value_length(self.split.table.column("sentence_ends")).to_numpy()
        return len(np.unique(self.documents[lengths > 0]))

    def row_at(self, place: int) -> int:
        """The row of the token at `place`; where it has no sentence, the next one that has."""
        row = int(np.searchsorted(self.row_starts, place, side="right")) - 1
        while not len(self.ends_of(row)):
            row = (row + 1) % len(self.documents)
        return row

    def ends_of(self, row: int) -> NDArray[np.int32]:
        """How many of the row's tokens there are up to the end of each of its sentences."""
        chunk = int(np.searchsorted(self._chunk_rows, row, side="right")) - 1
        offsets, ends = self._chunks[chunk]
        row -= int(self._chunk_rows[chunk])
        return ends[offsets[row] : offsets[row + 1]]

    def range_of(self, document: int) -> tuple[int, int]:
        """First place and end of a document's tokens on the stream."""
        first, last = np.searchsorted(self.documents, [document, document + 1])
        return int(self.row_starts[first]), int(self.row_starts[last])

    @cached_property
    def _chunks(self) -> list[tuple[NDArray[np.int32], NDArray[np.int32]]]:
        chunks: list[pa.ListArray] = self.split.table.column("sentence_ends").chunks
        return [(chunk.offsets.to_numpy(), chunk.values.to_numpy()) for chunk in chunks]

    @cached_property
    def _chunk_rows(self) -> NDArray[np.int64]:
        """The first row of each chunk of the column, and the end of all."""
        chunks = self.split.table.column("sentence_ends").chunks
        return np.cumsum([0, *map(len, chunks)], dtype=np.int64)

    def __reduce__(self) -> tuple[type["Sentences"], tuple[Split]]:
        return Sentences, (self.split,)
