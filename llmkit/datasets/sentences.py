"""Where the sentences of a split lie on its token stream: an index over its memory-mapped columns.

Only rows are held in memory (16 bytes each); the ends of sentences stay in the file. A row is a document or a part of
a long one, and no sentence goes over its end.

Knows nothing of pairs; see pairs.py.
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
    """The rows of a split by their place on the stream, and the sentences of each."""

    def __init__(self, split: Split) -> None:
        """Raises DataError where the split was prepared without sentences, or has none."""
        self.split = split
        if "sentence_ends" not in split.table.column_names:
            hint = "prepare it again with -s prepare.sentences=true"
            raise DataError("the data was prepared without sentences", where=str(split.folder), hint=hint)
        if not self.n_sentences.any():
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
    def n_sentences(self) -> NDArray[np.int32]:
        """Of each row."""
        lengths: NDArray[np.int32] = pc.list_value_length(self.split.table.column("sentence_ends")).to_numpy()
        return lengths

    @cached_property
    def n_documents(self) -> int:
        """How many documents of the split have a sentence."""
        return len(np.unique(self.documents[self.n_sentences > 0]))

    def share_with_two(self) -> float:
        """The share of tokens in rows that have two sentences, so that one can follow another."""
        lengths = np.diff(self.row_starts)
        return float(lengths[self.n_sentences >= 2].sum() / lengths.sum())

    def mean_window(self, room: int) -> float:
        """Tokens in a window of `room` tokens that stays in the row it begins in, on average over all tokens."""
        lengths = np.diff(self.row_starts)
        return float((lengths * np.minimum(lengths, room)).sum() / lengths.sum())

    def passage_at(self, place: int) -> "Passage":
        """The row of the token at `place`; where it has no sentence, the next one that has."""
        row = int(self.row_starts.searchsorted(place, side="right")) - 1
        return self.passage_from(row)

    def passage_from(self, row: int) -> "Passage":
        """The row, or the first one after it that has a sentence; after the last comes the first."""
        while True:
            chunk = int(self._chunk_rows.searchsorted(row, side="right")) - 1
            offsets, ends = self._chunks[chunk]
            inside = row - int(self._chunk_rows[chunk])
            begin, end = offsets[inside : inside + 2].tolist()
            if begin < end:
                return Passage(row, int(self.documents[row]), int(self.row_starts[row]), ends[begin:end])
            row = (row + 1) % len(self.documents)

    def range_of(self, document: int) -> tuple[int, int]:
        """First place and end of a document's tokens on the stream."""
        # In the index's own type: numpy would otherwise copy all of it into the wider one.
        first, last = self.documents.searchsorted(np.array([document, document + 1], np.int32))
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


@dataclass(frozen=True, slots=True)
class Passage:
    """A row that has sentences: a document, or a part of one. Places are those of the split's token stream."""

    row: int
    document: int
    start: int
    _ends: NDArray[np.int32]
    """How many of the row's tokens there are up to the end of each sentence."""

    def __len__(self) -> int:
        return len(self._ends)

    @property
    def end(self) -> int:
        """Where the last sentence ends."""
        return self.end_of(len(self._ends) - 1)

    def start_of(self, sentence: int) -> int:
        """Place of the sentence's first token."""
        return self.start + int(self._ends[sentence - 1]) if sentence else self.start

    def end_of(self, sentence: int) -> int:
        """Place behind the sentence's last token."""
        return self.start + int(self._ends[sentence])

    def sentence_at(self, place: int) -> int:
        """The sentence that holds the place: the first for what is before it, the last for what is behind."""
        return min(self._count_until(place), len(self._ends) - 1)

    def last_within(self, end: int) -> int:
        """The last sentence that ends at `end` or before; -1 for none."""
        return self._count_until(end) - 1

    def nearest_end(self, end: int) -> int:
        """The sentence whose end is nearest to `end`."""
        below = max(0, self.last_within(end))
        above = min(below + 1, len(self._ends) - 1)
        return below if abs(self.end_of(below) - end) <= abs(self.end_of(above) - end) else above

    def _count_until(self, place: int) -> int:
        """How many sentences have ended at `place`."""
        return int(self._ends.searchsorted(np.int32(max(-1, min(place - self.start, _INT32_MAX))), side="right"))

    def window_from(self, place: int, room: int) -> int:
        """The sentence where a window of `room` tokens begins, given any place of the row.

        Over all places the windows are even (see `spread`), and the last one takes all sentences up to the end.
        """
        begin = self.start + scale_offset(place - self.start, self.end - self.start, room)
        sentence = self.sentence_at(begin)
        cut_off = begin > self.start and begin >= self.end - room and self.start_of(sentence) < begin
        return min(sentence + cut_off, len(self._ends) - 1)


def scale_offset(offset: int, length: int, room: int) -> int:
    """Where in a text of `length` tokens a window of `room` begins for the token at `offset`.

    Even over all offsets, with both ends of the text held longer: else its first and last tokens, which few windows
    reach, would be seen less often than its middle, and windows at its end would be short.
    """
    held, last = min(room, length // 3), max(0, length - room)
    return min(last, max(0, (offset - held) * last // max(1, length - 2 * held)))
