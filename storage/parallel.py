"""A bounded, ordered map over threads: reading, decoding and writing overlap, and memory stays flat."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

In = TypeVar("In")
Out = TypeVar("Out")


def ordered_map(do: Callable[[In], Out], items: Iterable[In], workers: int) -> Iterator[Out]:
    """`map(do, items)` in `workers` threads, in order, never more than 2·`workers` items ahead of the consumer."""
    pending: deque[Future[Out]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for item in items:
                pending.append(pool.submit(do, item))
                if len(pending) > 2 * workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()
