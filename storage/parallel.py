"""A bounded, ordered map over threads: reading, decoding and writing overlap, and memory stays flat."""

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from typing import TypeVar

In = TypeVar("In")
Out = TypeVar("Out")


def ordered_map(
    do: Callable[[In], Out],
    items: Iterable[In],
    workers: int,
    weight: Callable[[In], float] = lambda _: 0.0,
    most: float = math.inf,
) -> Iterator[Out]:
    """`map(do, items)` in `workers` threads, in order, never more than 2·`workers` items ahead of the consumer.

    Nor more than weigh `most` together; an item that is heavier than that goes alone. Each runs in the context of the
    consumer, whose fences are its own (see `storage.fence`).
    """
    pending: deque[tuple[Future[Out], float]] = deque()
    load = 0.0
    with ThreadPoolExecutor(workers) as pool:
        try:
            for item in items:
                heavy = weight(item)
                while pending and (load + heavy > most or len(pending) == 2 * workers):
                    oldest, weighed = pending.popleft()
                    yield oldest.result()
                    load -= weighed
                pending.append((pool.submit(copy_context().run, do, item), heavy))
                load += heavy
            while pending:
                yield pending.popleft()[0].result()
        finally:
            for future, _ in pending:
                future.cancel()
