"""Ctrl-C and SIGTERM, held back while a step of training is under way.

A step that is broken off in the middle leaves weights and optimiser in a state that no other run
ever has; a checkpoint of it could not be continued bit for bit.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Terminated(SystemExit):
    """SIGTERM, where the process does not handle it: ends Python with exit status 143."""

    def __init__(self) -> None:
        super().__init__(128 + signal.SIGTERM)


class Interrupts:
    """A context manager. Between `hold` and `release` the first signal waits; a second one comes
    through at once. Outside, and after the block, signals are what they were before, but that
    SIGTERM raises Terminated where it would end the process outright.

    Off the main thread, where Python delivers no signals, it does nothing.

    Attributes
    ----------
    came : whether a signal came
    """

    def __init__(self) -> None:
        self.came = False
        self._held = False
        self._waiting: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                before = signal.getsignal(number)
                # not where it is ignored, or Ctrl-C ends the process outright
                if callable(before) or (number, before) == (signal.SIGTERM, signal.SIG_DFL):
                    self._before[number] = before
                    signal.signal(number, self._came)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)
        self._held = False
        if kind is None:
            self._deliver()

    def hold(self) -> None:
        """From now on, let a signal wait."""
        self._held = True

    def release(self) -> None:
        """Let it come: raises KeyboardInterrupt or Terminated when one waits."""
        self._held = False
        if self._waiting is not None:
            self._deliver()

    def _came(self, number: int, frame: FrameType | None) -> None:
        self.came = True
        if self._held and self._waiting is None:
            self._waiting = number
        else:
            self._waiting = None
            self._handle(number, frame)

    def _deliver(self) -> None:
        if self._waiting is not None:
            number, self._waiting = self._waiting, None
            self._handle(number, None)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        before = self._before[number]
        if not callable(before):
            raise Terminated
        before(number, frame)
