"""The index of the sentences of a split against a plain pass over its rows."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from tiny import make_documents, make_sentence_split, make_split

from llmkit.core.errors import DataError
from llmkit.datasets.sentences import Passage, Sentences, scale_offset

DOCUMENTS = [
    *make_documents(4, 2, 5),
    [[[7, 8]], [], [[9, 10, 11], [12]]],
    [[]],
    *make_documents(1, 1, 3, seed=1),
    [[]],
]
"""One has a part without a sentence in its middle, and two, of which one is the last, have none at all."""


@pytest.fixture
def sentences(tmp_path: Path) -> Sentences:
    return Sentences(make_sentence_split(tmp_path / "train", DOCUMENTS))


def list_rows() -> list[tuple[int, int, list[int]]]:
    """Document, first position and the sentences' ends on the stream, of each row."""
    rows, position = [], 0
    for number, parts in enumerate(DOCUMENTS):
        for part, texts in enumerate(parts):
            ends = (position + np.cumsum([len(each) for each in texts], dtype=int)).tolist()
            rows.append((number, position, ends))
            position += sum(map(len, texts)) + (part == len(parts) - 1)
    return rows


def test_passage_at_a_position_is_its_row_or_the_next_with_sentences(
    sentences: Sentences,
) -> None:
    rows = list_rows()
    starts = [start for _, start, _ in rows]
    n_tokens = len(sentences.split.stream)
    for position in range(n_tokens):
        row = max(number for number, start in enumerate(starts) if start <= position)
        while not rows[row][2]:
            row = (row + 1) % len(rows)
        document, start, ends = rows[row]
        found = sentences.passage_at(position)
        assert (found.row, found.document, found.start, found.end) == (row, document, start, ends[-1])
        assert [found.end_of(number) for number in range(len(found))] == ends
        assert [found.start_of(number) for number in range(len(found))] == [start, *ends[:-1]]
    assert sentences.row_starts.tolist() == [*starts, n_tokens]
    assert sentences.n_documents == len(DOCUMENTS) - 2, "two have no sentence"


def test_range_of_a_document_covers_all_its_parts_and_no_others(sentences: Sentences) -> None:
    for document in range(len(DOCUMENTS)):
        start, end = sentences.range_of(document)
        ids = [token for part in DOCUMENTS[document] for text in part for token in text] + [3]
        assert sentences.split.stream.read(start, end - start).tolist() == ids


def test_sentence_at_a_position_contains_it(sentences: Sentences) -> None:
    passage = sentences.passage_from(0)
    for position in range(passage.start - 2, passage.end + 3):
        holding = [n for n in range(len(passage)) if passage.start_of(n) <= position < passage.end_of(n)]
        expected = holding[0] if holding else 0 if position < passage.start else len(passage) - 1
        assert passage.sentence_at(position) == expected
        ended = [n for n in range(len(passage)) if passage.end_of(n) <= position]
        assert passage.last_within(position) == (ended[-1] if ended else -1)
        distances = [abs(passage.end_of(n) - position) for n in range(len(passage))]
        assert passage.nearest_end(position) == distances.index(min(distances))


@pytest.mark.parametrize(("length", "room"), [(100, 20), (37, 36), (10, 50), (300, 7), (1, 1)])
def test_windows_cover_a_text_evenly_up_to_both_ends(length: int, room: int) -> None:
    begins = [scale_offset(offset, length, room) for offset in range(length)]
    last = max(0, length - room)
    assert begins == sorted(begins)
    assert (begins[0], begins[-1]) == (0, last) and set(begins) <= set(range(last + 1))
    if last:
        inner = np.bincount(begins, minlength=last + 1)[1:-1]
        assert not len(inner) or inner.max() - inner.min() <= 1, "no position in the middle is favoured"


def test_window_begins_at_a_sentence_of_the_row(sentences: Sentences) -> None:
    passage = sentences.passage_from(0)
    found = {passage.window_from(position, 20) for position in range(passage.start, passage.end)}
    assert found <= set(range(len(passage)))
    assert 0 in found
    assert passage.end - passage.start_of(max(found)) <= 20, "the last window takes all up to the end"


def test_shares_and_means_equal_those_of_the_rows(sentences: Sentences) -> None:
    rows = list_rows()
    lengths = np.diff(sentences.row_starts)
    many = sum(n for n, (_, _, ends) in zip(lengths, rows, strict=True) if len(ends) >= 2)
    assert sentences.pair_fraction() == pytest.approx(many / lengths.sum())
    assert sentences.mean_window(30) == pytest.approx(sum(n * min(n, 30) for n in lengths) / lengths.sum())


def test_split_without_sentences_is_refused_with_a_hint(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="prepared without sentences") as caught:
        Sentences(make_split(tmp_path / "plain", n_documents=2, length=5))
    assert "prepare.sentences=true" in caught.value.problems[0].hint
    with pytest.raises(DataError, match="has no sentence"):
        Sentences(make_sentence_split(tmp_path / "empty", [[[]], [[]]]))


def test_index_is_pickled_as_its_folder(sentences: Sentences) -> None:
    _ = sentences.documents
    data = pickle.dumps(sentences)
    assert len(data) < 1000
    found = pickle.loads(data).passage_at(30)
    assert isinstance(found, Passage) and found.row == sentences.passage_at(30).row
