"""A bounded, ordered map over threads: reading, decoding and writing overlap, and memory stays flat."""

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextvars import copy_context
from queue import SimpleQueue
from threading import Thread
from typing import Any, Generic, Self, TypeVar

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

    Nor more than weigh `most` together; an item that is heavier than that goes alone. The threads are in the context
    of the consumer, whose fences and errand are their own (see `storage.stores.fence` and `storage.stores.errands`).
    """
    pending: deque[tuple[Future[Out], float]] = deque()
    load = 0.0
    with _Threads(do, workers) as pool:
        try:
            for item in items:
                heavy = weight(item)
                while pending and (load + heavy > most or len(pending) == 2 * workers):
                    oldest, weighed = pending.popleft()
                    yield oldest.result()
                    load -= weighed
                pending.append((pool.submit(item), heavy))
                load += heavy
            while pending:
                yield pending.popleft()[0].result()
        finally:
            for future, _ in pending:
                future.cancel()


class _Threads(Generic[In, Out]):
    """Threads in the context of who starts them. Unlike an executor's they do not keep a process from ending."""

    def __init__(self, do: Callable[[In], Out], most: int) -> None:
        self._do, self._most = do, most
        self._items: SimpleQueue[tuple[Future[Out], In] | None] = SimpleQueue()
        self._threads: list[Thread] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for _thread in self._threads:
            self._items.put(None)
        for thread in self._threads:
            thread.join()

    def submit(self, item: In) -> Future[Out]:
        future: Future[Out] = Future()
        self._items.put((future, item))
        if len(self._threads) < self._most:
            thread = Thread(target=copy_context().run, args=(self._work,), daemon=True)
            thread.start()
            self._threads.append(thread)
        return future

    def _work(self) -> None:
        while (given := self._items.get()) is not None:
            _fulfil(self._do, *given)
            del given  # or it would be kept until the next one comes


def _fulfil(do: Callable[[Any], Any], future: Future[Any], item: Any) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(do(item))
    except BaseException as error:
        future.set_exception(error)
