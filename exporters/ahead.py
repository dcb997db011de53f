"""Reading while what was read before is written."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")


def ahead(items: Iterator[Item]) -> Iterator[Item]:
    """Yield items in order; the next one is made by a thread while one is used.

    Both are in memory then. What making an item raises is raised where it would have been yielded.

    Examples
    --------
    >>> list(ahead(iter("abc")))
    ['a', 'b', 'c']
    """
    with ThreadPoolExecutor(1, thread_name_prefix="ahead") as maker:
        coming = maker.submit(_next, items)
        while item := coming.result():
            coming = maker.submit(_next, items)
            yield item[0]


def _next(items: Iterator[Item]) -> tuple[Item] | None:
    # A future cannot carry StopIteration into a generator.
    for item in items:
        return (item,)
    return None
