"""Encoding a corpus on several threads, with the term ids of a single one."""

from __future__ import annotations

import math
import threading
from collections import defaultdict
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from typing import TypeVar

from fastseq.errors import InvalidTextError, RowError
from fastseq.text.lexicon import Lexicon
from fastseq.threads import in_order
from fastseq.types import Texts, Tokens

Slice = TypeVar("Slice")
Result = TypeVar("Result")


class TicketLock:
    """Ticket lock: slices enter the critical section of each level in corpus order.

    Slices must be started in order, so that a waiting slice waits for one already in progress.
    """

    def __init__(self) -> None:
        self._next: dict[int, int] = defaultdict(int)
        self._changed = threading.Condition()
        self._failed = math.inf

    def ticket(self, number: int) -> Callable[[int], AbstractContextManager[None]]:
        """The `ticket` argument of `Lexicon.encode_levels` for slice `number`."""

        @contextmanager
        def enter(level: int) -> Iterator[None]:
            with self._changed:
                self._changed.wait_for(lambda: self._failed < number or self._next[level] == number)
                if self._failed < number:
                    raise AbortedError
            yield
            with self._changed:
                self._next[level] += 1
                self._changed.notify_all()

        return enter

    def abort(self, number: int = -1) -> None:
        """Slice `number` has failed: wake the slices after it (by default all) with AbortedError.

        The slices before it continue, so that the first failure in the corpus is reported.
        """
        with self._changed:
            self._failed = min(self._failed, number)
            self._changed.notify_all()


class AbortedError(Exception):
    """Raised in the thread of a slice when an earlier one failed; never reaches a caller."""


def encode_slices(
    lexicon: Lexicon,
    slices: Iterable[Slice],
    finish: Callable[[int, list[Tokens]], Result],
    threads: int,
    texts_of: Callable[[Slice], Texts] | None = None,
) -> Iterator[tuple[Slice, Result]]:
    """Encode the slices of a corpus on several threads; yield (slice, result) in corpus order.

    Parameters
    ----------
    slices : advanced on the calling thread
    finish : result of a slice, computed on its thread from its first row in the corpus and its
        tokens by n-gram level (see `Lexicon.encode_levels`)
    texts_of : the texts of a slice; None: slices are Texts

    Raises RowError, with the row in the corpus, for a text that is not UTF-8.
    """
    lock = TicketLock()

    def numbered() -> Iterator[tuple[int, int, Texts, Slice]]:
        row = 0
        for number, one in enumerate(slices):
            texts = one if texts_of is None else texts_of(one)
            assert isinstance(texts, Texts)
            yield number, row, texts, one
            row += len(texts)

    def encode(job: tuple[int, int, Texts, Slice]) -> Result:
        number, first_row, texts, _ = job
        try:
            return finish(first_row, lexicon.encode_levels(texts, lock.ticket(number)))
        except BaseException as error:
            lock.abort(number)
            if not isinstance(error, RowError):
                raise
            problem = error.problem
            if isinstance(error, InvalidTextError):
                problem += ' (an analyzer with on_invalid="replace" reads it as U+FFFD)'
            raise RowError(first_row + error.row, problem) from None

    with ThreadPoolExecutor(threads, "fastseq-encode") as pool:
        try:
            for (_, _, _, one), result in in_order(pool, encode, numbered(), threads + 1):
                yield one, result
        except BaseException:
            lock.abort()
            if isinstance(slices, Generator):
                slices.close()
            raise
