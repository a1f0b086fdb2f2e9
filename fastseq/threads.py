"""Ordered results from a thread pool, re-entrant locks, and teams of threads."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import wraps
from itertools import chain, count, islice
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
Method = TypeVar("Method", bound=Callable[..., Any])


def in_order(
    pool: ThreadPoolExecutor, work: Callable[[Item], Result], items: Iterable[Item], ahead: int
) -> Iterator[tuple[Item, Result]]:
    """(item, work(item)) in the order of `items`, with at most `ahead` items started and not yet
    returned.

    `items` is advanced by the caller's thread only. An exception of `work` is raised here, and
    items that have not started are cancelled. A single item is worked on here, without a thread.
    """
    items = iter(items)
    begin = list(islice(items, min(ahead, 2)))
    if len(begin) == 1 and ahead > 1:
        yield begin[0], work(begin[0])
        return
    waiting: deque[tuple[Item, Future[Result]]] = deque()
    try:
        for item in chain(begin, items):
            waiting.append((item, pool.submit(work, item)))
            if len(waiting) >= ahead:
                first, future = waiting.popleft()
                yield first, future.result()
        while waiting:
            first, future = waiting.popleft()
            yield first, future.result()
    finally:
        for _, future in waiting:
            future.cancel()


def read_ahead(items: Iterator[Item], ahead: int) -> Iterator[Item]:
    """The items of an iterator, which another thread advances by up to `ahead` items before they
    are asked for. None ends them. The iterator must not wait for anything but local files: when
    this one is closed, it waits for the item being read."""
    with ThreadPoolExecutor(1, "fastseq-read") as pool:
        for _, item in in_order(pool, lambda _: next(items, None), count(), ahead):
            if item is None:
                break
            yield item


class Lock:
    """A re-entrant lock for objects that are copied or pickled: each copy has its own."""

    def __init__(self) -> None:
        self._lock = threading.RLock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *error: object) -> None:
        self._lock.release()

    def __reduce__(self) -> tuple[type[Lock], tuple[()]]:
        return Lock, ()


def locked(method: Method) -> Method:
    """Method decorator that holds the object's `lock` during a call."""

    @wraps(method)
    def run(self: Any, /, *args: Any, **named: Any) -> Any:
        with self.lock:
            return method(self, *args, **named)

    return run  # type: ignore[return-value]


class Team:
    """Threads that share the parts of one task, the caller among them.

    For parts that run kernels without the GIL for 50 µs or more. The threads are started by the
    first `run` and end with the team or the process.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._pool: ThreadPoolExecutor | None = None

    def __reduce__(self) -> tuple[type[Team], tuple[int]]:
        """A copy starts threads of its own."""
        return Team, (self.threads,)

    def run(self, work: Callable[[int], None], parts: int) -> None:
        """Call work(0), …, work(parts - 1) on at most `threads` threads.

        The parts must not depend on each other. An exception of any of them is raised here, after
        all started parts have finished.
        """
        if parts <= 1 or self.threads == 1:
            for part in range(parts):
                work(part)
            return
        with _starting:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self.threads - 1, "fastseq-team")
        turn = iter(range(parts))  # next() on it is atomic

        def share() -> None:
            for part in turn:
                work(part)

        helpers = [self._pool.submit(share) for _ in range(min(self.threads, parts) - 1)]
        try:
            share()
        finally:
            for helper in helpers:
                helper.cancel()
            errors = [helper.exception() for helper in helpers if not helper.cancelled()]
        for error in errors:
            if error is not None:
                raise error

    def split(self, n: int, least: int = 1, multiple: int = 1) -> list[tuple[int, int]]:
        """[0, n) in at most `threads` ranges of nearly equal length, none for n = 0. All but the
        last have at least `least` elements and end at a multiple of `multiple`."""
        parts = max(1, min(self.threads, n // max(1, least)))
        step = -(-n // parts)
        step = -(-step // multiple) * multiple
        return [(start, min(n, start + step)) for start in range(0, n, step)] if n else []


_starting = threading.Lock()
