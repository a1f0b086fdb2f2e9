"""What searches of many queries have in common: their hits, and the tasks of their threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np

from fastseq.types import Float32, Int32

CACHED_SCRATCH = 16  # scratch buffers that are kept for later searches, at most

T = TypeVar("T")


def no_hits(n: int, k: int) -> tuple[Int32, Float32]:
    """(rows int32[n, k], scores float32[n, k]) of queries without hits."""
    return np.full((n, k), -1, np.int32), np.zeros((n, k), np.float32)


def run_tasks(
    work: Callable[[Iterator[T]], None], tasks: Sequence[T], threads: int, pool: ThreadPoolExecutor
) -> None:
    """Call `work`, in this thread and in others of a pool, with an iterator of which each takes one
    task after the other. An error in this thread, such as an interrupt, ends all of them: the tasks
    that have begun are done, the others are left out."""
    waiting = iter(tasks)  # next() on it is atomic
    others = [pool.submit(work, waiting) for _ in range(min(threads, len(tasks)) - 1)]
    try:
        work(waiting)
        for other in others:
            other.result()
    except BaseException:
        for _ in waiting:
            pass
        raise
