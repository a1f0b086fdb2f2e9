"""Letting the slices of a corpus through a narrow place in their order."""

from __future__ import annotations

import math
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from fastseq.errors import InvalidTextError, RowError
from fastseq.text.lexicon import Lexicon
from fastseq.types import Texts, Tokens


class Turns:
    """Slice n enters a level only after slice n - 1 has left it.

    Slices must be started in order, so that whoever waits is waiting for work already begun.
    """

    def __init__(self) -> None:
        self._next: dict[int, int] = defaultdict(int)
        self._changed = threading.Condition()
        self._failed = math.inf

    def of(self, number: int) -> Callable[[int], AbstractContextManager[None]]:
        """The `turn` argument of `Lexicon.encode_levels` for slice `number`."""

        @contextmanager
        def turn(level: int) -> Iterator[None]:
            with self._changed:
                self._changed.wait_for(lambda: self._failed < number or self._next[level] == number)
                if self._failed < number:
                    raise AbortedError
            yield
            with self._changed:
                self._next[level] += 1
                self._changed.notify_all()

        return turn

    def abort(self, number: int = -1) -> None:
        """Slice `number` has failed: wake the slices after it (all, by default) with AbortedError.

        Those before it go on, so that of several failures the first in the corpus is reported.
        """
        with self._changed:
            self._failed = min(self._failed, number)
            self._changed.notify_all()


class AbortedError(Exception):
    """Raised in a slice's thread when another slice failed first; never seen by a caller."""


def encode_in_turn(
    lexicon: Lexicon, turns: Turns, number: int, first_row: int, texts: Texts
) -> list[Tokens]:
    """The tokens of slice `number`, whose first text is row `first_row` of the collection.

    When it fails, the slices after it are woken. Raises RowError, which counts the collection's
    rows, for a text that is not UTF-8.
    """
    try:
        return lexicon.encode_levels(texts, turns.of(number))
    except BaseException as error:
        turns.abort(number)
        if not isinstance(error, RowError):
            raise
        problem = error.problem
        if isinstance(error, InvalidTextError):
            problem += ' (an analyzer with on_invalid="replace" reads it as U+FFFD)'
        raise RowError(first_row + error.row, problem) from None
