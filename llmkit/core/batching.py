"""Group items into batches of a minimum size."""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")


def batch_by_size(
    items: Iterable[Item], size: Callable[[Item], int], min_size: int, max_items: int | None = None
) -> Iterator[list[Item]]:
    """Yield batches of consecutive items with a total `size` of at least `min_size`, except the last batch.

    A batch with `max_items` items is complete whatever its size.
    """
    batch: list[Item] = []
    total = 0
    for item in items:
        batch.append(item)
        total += size(item)
        if total >= min_size or len(batch) == max_items:
            yield batch
            batch, total = [], 0
    if batch:
        yield batch
