"""Ctrl-C, held back while a step of training is under way.

A step that is broken off in the middle leaves weights and optimiser in a state that no other run
ever has; a checkpoint of it could not be continued bit for bit.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType


class Interrupts:
    """A context manager. Between `hold` and `release` the first Ctrl-C waits; a second one comes
    through at once. Outside, and after the block, Ctrl-C is what it was before.

    Off the main thread, where Python delivers no signals, it does nothing.
    """

    def __init__(self) -> None:
        self._held = False
        self._waiting = False
        self._before: object = None

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            before = signal.getsignal(signal.SIGINT)
            if callable(before):  # not where Ctrl-C is ignored or ends the process outright
                self._before = before
                signal.signal(signal.SIGINT, self._came)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if callable(self._before):
            signal.signal(signal.SIGINT, self._before)
        self._held = False
        if kind is None:
            self._deliver()

    def hold(self) -> None:
        """From now on, let a Ctrl-C wait."""
        self._held = True

    def release(self) -> None:
        """Let it come: raises KeyboardInterrupt when one waits."""
        self._held = False
        if self._waiting:
            self._deliver()

    def _came(self, number: int, frame: FrameType | None) -> None:
        if self._held and not self._waiting:
            self._waiting = True
        elif callable(self._before):
            self._before(number, frame)

    def _deliver(self) -> None:
        if self._waiting and callable(self._before):
            self._waiting = False
            self._before(signal.SIGINT, None)
