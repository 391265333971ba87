"""Index the sentences of a split by their positions in its token stream.

Only rows are in memory (16 bytes each); the ends of sentences stay in the memory-mapped file. A row is a document or a
part of a long document; no sentence crosses the end of a row.

pairs.py makes pairs from this index.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from llmkit.core.errors import DataError
from llmkit.tokens.store import Split

_INT32_MAX = 2**31 - 1


class Sentences:
    """Index of a split: the start of each row in the token stream, and the sentences of each row."""

    def __init__(self, split: Split) -> None:
        """Raises DataError if the split was prepared without sentences or has none."""
        self.split = split
        if "sentence_ends" not in split.table.column_names:
            hint = "prepare the data again with -s prepare.sentences=true"
            raise DataError("the data was prepared without sentences", where=str(split.folder), hint=hint)
        if not self.n_sentences.any():
            raise DataError("the data has no sentences", where=str(split.folder), hint="give more text")

    @cached_property
    def row_starts(self) -> NDArray[np.int64]:
        """Position of the first token of each row, and the end of the last row."""
        lengths = pc.list_value_length(self.split.table.column("input_ids"))
        return np.concatenate([[0], np.cumsum(lengths.to_numpy(), dtype=np.int64)])

    @cached_property
    def documents(self) -> NDArray[np.int32]:
        """Document number of each row; the parts of a document share it."""
        parts = self.split.table.column("part").to_numpy()
        return np.cumsum(parts == 0, dtype=np.int32) - np.int32(parts[:1].tolist() == [0])

    @cached_property
    def n_sentences(self) -> NDArray[np.int32]:
        """Number of sentences of each row."""
        lengths: NDArray[np.int32] = pc.list_value_length(self.split.table.column("sentence_ends")).to_numpy()
        return lengths

    @cached_property
    def n_documents(self) -> int:
        """Number of documents with a sentence."""
        return len(np.unique(self.documents[self.n_sentences > 0]))

    def pair_fraction(self) -> float:
        """Return the fraction of tokens in rows with at least two sentences."""
        lengths = np.diff(self.row_starts)
        return float(lengths[self.n_sentences >= 2].sum() / lengths.sum())

    def mean_window(self, room: int) -> float:
        """Return the mean length of a window of up to `room` tokens within its row, over all start tokens."""
        lengths = np.diff(self.row_starts)
        return float((lengths * np.minimum(lengths, room)).sum() / lengths.sum())

    def passage_at(self, position: int) -> "Passage":
        """Return the row of the token at `position`; if it has no sentence, the next row that has one."""
        row = int(self.row_starts.searchsorted(position, side="right")) - 1
        return self.passage_from(row)

    def passage_from(self, row: int) -> "Passage":
        """Return this row; if it has no sentence, the next row that has one, wrapping around."""
        while True:
            chunk = int(self._chunk_rows.searchsorted(row, side="right")) - 1
            offsets, ends = self._chunks[chunk]
            inside = row - int(self._chunk_rows[chunk])
            begin, end = offsets[inside : inside + 2].tolist()
            if begin < end:
                return Passage(row, int(self.documents[row]), int(self.row_starts[row]), ends[begin:end])
            row = (row + 1) % len(self.documents)

    def range_of(self, document: int) -> tuple[int, int]:
        """Return start and end of a document in the token stream."""
        # int32 as the index: numpy would otherwise copy all of it to int64.
        first, last = self.documents.searchsorted(np.array([document, document + 1], np.int32))
        return int(self.row_starts[first]), int(self.row_starts[last])

    @cached_property
    def _chunks(self) -> list[tuple[NDArray[np.int32], NDArray[np.int32]]]:
        chunks: list[pa.ListArray] = self.split.table.column("sentence_ends").chunks
        return [(chunk.offsets.to_numpy(), chunk.values.to_numpy()) for chunk in chunks]

    @cached_property
    def _chunk_rows(self) -> NDArray[np.int64]:
        """First row of each chunk of the column, and the end of the last chunk."""
        chunks = self.split.table.column("sentence_ends").chunks
        return np.cumsum([0, *map(len, chunks)], dtype=np.int64)

    def __reduce__(self) -> tuple[type["Sentences"], tuple[Split]]:
        return Sentences, (self.split,)


@dataclass(frozen=True, slots=True)
class Passage:
    """A row with sentences: a document or a part of one. Positions refer to the token stream of the split."""

    row: int
    document: int
    start: int
    _ends: NDArray[np.int32]
    """End of each sentence, relative to the row."""

    def __len__(self) -> int:
        return len(self._ends)

    @property
    def end(self) -> int:
        """End of the last sentence."""
        return self.end_of(len(self._ends) - 1)

    def start_of(self, sentence: int) -> int:
        """Return the position of the first token of the sentence."""
        return self.start + int(self._ends[sentence - 1]) if sentence else self.start

    def end_of(self, sentence: int) -> int:
        """Return the position after the last token of the sentence."""
        return self.start + int(self._ends[sentence])

    def sentence_at(self, position: int) -> int:
        """Return the sentence at `position`, clamped to the first and the last sentence."""
        return min(self._count_until(position), len(self._ends) - 1)

    def last_within(self, end: int) -> int:
        """Return the last sentence that ends at or before `end`; -1 if there is none."""
        return self._count_until(end) - 1

    def nearest_end(self, end: int) -> int:
        """Return the sentence whose end is nearest to `end`."""
        below = max(0, self.last_within(end))
        above = min(below + 1, len(self._ends) - 1)
        return below if abs(self.end_of(below) - end) <= abs(self.end_of(above) - end) else above

    def _count_until(self, position: int) -> int:
        """Return the number of sentences that end at or before `position`."""
        return int(self._ends.searchsorted(np.int32(max(-1, min(position - self.start, _INT32_MAX))), side="right"))

    def window_from(self, position: int, room: int) -> int:
        """Return the first sentence of the window of `room` tokens that `position` selects.

        Windows begin at a sentence, evenly distributed over the text (`scale_offset` maps more positions to both ends).
        The last window includes all sentences up to the end.
        """
        begin = self.start + scale_offset(position - self.start, self.end - self.start, room)
        sentence = self.sentence_at(begin)
        cut_off = begin > self.start and begin >= self.end - room and self.start_of(sentence) < begin
        return min(sentence + cut_off, len(self._ends) - 1)


def scale_offset(offset: int, length: int, room: int) -> int:
    """Return the start of a window of `room` tokens in a text of `length` tokens, for the token at `offset`.

    Starts are uniform over all offsets, but more offsets map to the two ends of the text. Otherwise few windows would
    cover the first and last tokens, and windows at the end would be short.
    """
    held, last = min(room, length // 3), max(0, length - room)
    return min(last, max(0, (offset - held) * last // max(1, length - 2 * held)))
