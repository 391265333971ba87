"""Notes on a file's texts say what was changed or is missing, and nothing if nothing was."""

from llmkit.tokens.row_counts import RowCounts
from llmkit.tokens.unknown import UnknownCount


def test_notes_count_normalized_texts_and_texts_without_tokens() -> None:
    assert RowCounts().describe("a.csv", "line") == []
    counts = RowCounts(UnknownCount(n_texts=9), n_normalized=2, normalization="lower case", n_without_tokens=1)
    normalized, empty = counts.describe("a.csv", "line")
    assert normalized == "a.csv: rows normalized as the model's training text: 2 of 9 (lower case)"
    assert empty.startswith("1 of 9 rows of a.csv have no text")
