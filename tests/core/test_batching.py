"""Batches have a minimum size, and lose no item."""

from llmkit.core.batching import batch_by_size


def test_batch_ends_with_the_item_that_reaches_the_size_or_the_number_of_items() -> None:
    words = ["aaa", "bb", "cccccc", "d", "e", "f", "g"]
    assert list(batch_by_size(words, len, 5)) == [["aaa", "bb"], ["cccccc"], ["d", "e", "f", "g"]]
    assert list(batch_by_size(words, len, 5, max_items=3)) == [["aaa", "bb"], ["cccccc"], ["d", "e", "f"], ["g"]]
    assert list(batch_by_size([], len, 5)) == []
