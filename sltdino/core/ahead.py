"""Work that a pool does in advance, in order, and never too much of it."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def ahead(pool: Executor | None, do: Callable[[T], R], items: Iterator[T], *, most: int) -> Iterator[R]:
    """`map` in the workers of a pool, in order, at most `most` results ahead; without a pool, each in its turn."""
    if pool is None:
        yield from map(do, items)
        return
    waiting: deque[Future[R]] = deque()
    for item in items:
        waiting.append(pool.submit(do, item))
        if len(waiting) > most:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
