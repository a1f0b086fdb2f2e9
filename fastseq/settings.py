"""Settings that many rooms share, read from what a user wrote and checked once."""

from __future__ import annotations

import math
import re

from fastseq import machine
from fastseq.errors import SettingsError

UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}

_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?\s*", re.IGNORECASE)
_RANGE = re.compile(r"\s*(\d+)\s*(?:-\s*(\d+)\s*)?")


def parse_size(text: str | int) -> int:
    """Bytes of "256MB", "1GB", "1.5 GiB" or a plain number; units are powers of 1024.

    Raises SettingsError for anything else, and for less than one byte.
    """
    if isinstance(text, bool) or not isinstance(text, str | int):
        raise SettingsError(f"a size must be a number of bytes or text like 256MB, not {text!r}")
    found = _SIZE.fullmatch(str(text))
    if found is None:
        raise SettingsError(f"cannot read {str(text)!r} as a size; write it like 256MB or 1GB")
    size = math.floor(float(found[1]) * UNITS[found[2].lower()])
    if size < 1:
        raise SettingsError(f"a size must be at least one byte, not {str(text)!r}")
    return size


def format_size(size: float) -> str:
    """A number of bytes for people: "812 B", "3.4 MB"; units are powers of 1024."""
    for unit in ("B", "KB", "MB", "GB"):
        if size < 1024:
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TB"


def thread_count(threads: int | None) -> int:
    """Threads to work with: every core this process may use when None.

    Raises SettingsError when `threads` is not a whole number of at least 1.
    """
    if threads is None:
        return machine.core_count()
    if isinstance(threads, bool) or not hasattr(threads, "__index__"):
        raise SettingsError(f"threads must be a whole number, not {threads!r}")
    if threads < 1:
        raise SettingsError(f"threads must be at least 1, not {threads}")
    return int(threads)


def parse_range(text: str, name: str) -> tuple[int, int]:
    """The two ends of "1-2", or of "2" for 2-2, both at least 1 and ascending.

    `name` is the setting's, for the SettingsError raised otherwise.
    """
    found = _RANGE.fullmatch(text)
    if found is None:
        raise SettingsError(f"cannot read {name} {text!r}; write it like 1-2")
    low, high = int(found[1]), int(found[2] or found[1])
    if not 1 <= low <= high:
        raise SettingsError(f"{name} {text!r} must ascend and start at 1 or more")
    return low, high
