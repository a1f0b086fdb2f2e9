"""A cache of limited size."""

from __future__ import annotations

import threading
from collections.abc import Hashable, Iterable
from typing import Any


class Recent:
    """Values by key. When they take more than `limit` bytes together, those go that were not used
    for the longest time. Thread-safe."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.nbytes = 0
        self._lock = threading.Lock()
        # in the order of their last use, with their bytes
        self._values: dict[Hashable, tuple[Any, int]] = {}

    def get(self, keys: Iterable[Hashable]) -> list[Any]:
        """The value of each key; None for an unknown one."""
        found = []
        with self._lock:
            for key in keys:
                known = self._values.pop(key, None)
                if known is not None:
                    self._values[key] = known
                found.append(None if known is None else known[0])
        return found

    def put(self, key: Hashable, value: Any, nbytes: int) -> None:
        """Keep a value that takes a number of bytes, unless these are more than the limit."""
        with self._lock:
            self.nbytes -= self._values.pop(key, (None, 0))[1]
            if nbytes > self.limit:
                return
            self.nbytes += nbytes
            self._values[key] = value, nbytes
            while self.nbytes > self.limit:
                oldest = next(iter(self._values))
                self.nbytes -= self._values.pop(oldest)[1]
