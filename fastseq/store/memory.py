"""Return freed memory to the operating system."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import pyarrow as pa

_lock = threading.Lock()
_entered = 0
_before: Any = None


@contextmanager
def system_allocator() -> Iterator[None]:
    """Let Arrow allocate from the system until the last such block of the process is left.

    Arrow's own pool keeps what it has freed: 40 MB more than the system's allocator where
    wiki_simple is read in slices of 64 KB. Other threads may use Arrow in the meantime.
    """
    global _entered, _before
    with _lock:
        if not _entered:
            _before = pa.default_memory_pool()
            pa.set_memory_pool(pa.system_memory_pool())
        _entered += 1
    try:
        yield
    finally:
        with _lock:
            _entered -= 1
            if not _entered and pa.default_memory_pool().backend_name == "system":
                pa.set_memory_pool(_before)


def release_memory() -> None:
    """Return freed memory to the system where the C library has malloc_trim: glibc keeps pages
    between blocks in use."""
    trim = _trim()
    if trim is not None:
        trim(0)


@cache
def _trim() -> Callable[[int], int] | None:
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # Windows: no library without a name
        return None
    trim.argtypes = [ctypes.c_size_t]
    return trim
