"""Ctrl-C and SIGTERM, delayed during a step of training.

An interrupted step leaves weights and optimiser in a state from which a checkpoint could not be
continued bit for bit.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Terminated(SystemExit):
    """SIGTERM without a handler of the process: ends Python with exit status 143."""

    def __init__(self) -> None:
        super().__init__(128 + signal.SIGTERM)


class Interrupts:
    """A context manager. Between `hold` and `release` the first signal is delayed; a second one is
    delivered at once. Otherwise signals are handled as before, except that SIGTERM raises
    Terminated if it would end the process.

    It does nothing outside the main thread, where Python delivers no signals.

    Attributes
    ----------
    came : whether there was a signal
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
                # not if it is ignored, or if Ctrl-C ends the process
                if callable(before) or (number, before) == (signal.SIGTERM, signal.SIG_DFL):
                    self._before[number] = before
                    signal.signal(number, self._came)
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)
        self._held = False
        if kind is None:
            self._deliver()

    def hold(self) -> None:
        """Delay signals from now on."""
        self._held = True

    def release(self) -> None:
        """Stop delaying: raises KeyboardInterrupt or Terminated for a delayed signal."""
        self._held = False
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
