"""Validation and parsing of settings."""

from __future__ import annotations

import math
import operator
import os
import re
from collections.abc import Callable, Iterable, Mapping
from numbers import Real
from pathlib import Path
from typing import Any

from fastseq import machine
from fastseq.errors import SettingsError, quoted

UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}

_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?\s*", re.IGNORECASE)
_SURROGATE = re.compile("[\ud800-\udfff]")
_RANGE = re.compile(r"\s*(\d+)\s*(?:-\s*(\d+)\s*)?")


def parse_size(text: str | int) -> int:
    """The bytes of "256MB", "1GB", "1.5 GiB" or a plain number; units are powers of 1024. Raises
    SettingsError for anything else, and for less than one byte."""
    if isinstance(text, bool) or not isinstance(text, str | int):
        raise SettingsError(
            f"a size must be a number of bytes or text like 256MB, not {quoted(text)}"
        )
    found = _SIZE.fullmatch(str(text))
    if found is None:
        raise SettingsError(
            f"cannot read {quoted(str(text))} as a size; write it like 256MB or 1GB"
        )
    size = math.floor(float(found[1]) * UNITS[found[2].lower()])
    if size < 1:
        raise SettingsError(f"a size must be at least one byte, not {quoted(str(text))}")
    return size


def format_size(size: float) -> str:
    """A readable number of bytes: "812 B", "3.4 MB"; units are powers of 1024."""
    for unit in ("B", "KB", "MB", "GB"):
        if size < 1024:
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TB"


def thread_count(threads: int | None) -> int:
    """The number of threads; None for every core of this process. Raises SettingsError unless it is
    a whole number from 1 to 1,024."""
    return machine.core_count() if threads is None else whole("threads", threads, 1, 1025)


def whole(name: str, value: Any, least: int, below: int = 1 << 31) -> int:
    """The setting `name` as an int. Raises SettingsError unless it is a whole number,
    least <= value < below."""
    try:
        number = operator.index(value)
    except TypeError:
        number = least - 1
    if isinstance(value, bool) or number < least:
        raise SettingsError(
            f"{name} must be a whole number of at least {least}, not {quoted(value)}"
        )
    if number >= below:
        raise SettingsError(f"{name} must be a whole number below {below}, not {quoted(value)}")
    return number


def seed_number(value: Any) -> int:
    """A seed as an int. Raises SettingsError unless it is a whole number of 64 bits, from 0."""
    return whole("seed", value, 0, 1 << 64)


def file_path(name: str, value: Any) -> Path:
    """The path. Raises SettingsError unless it is a string or os.PathLike that can name a file."""
    try:
        path = Path(value)
        if b"\0" not in os.fsencode(path):
            return path
    except (TypeError, ValueError):  # a lone surrogate among them
        pass
    raise SettingsError(f"{name} must be a path, a string or os.PathLike, not {quoted(value)}")


def string(name: str, value: Any) -> str:
    """The string itself. Raises SettingsError unless it is a string of valid Unicode."""
    if not isinstance(value, str):
        raise SettingsError(f"{name} must be a string, not {quoted(value)}")
    _check_unicode(name, value)
    return value


def strings(name: str, value: Any) -> list[str]:
    """One or several strings as a list. Raises SettingsError for anything else."""
    several = isinstance(value, Iterable) and not isinstance(value, bytes | bytearray | Mapping)
    values = [value] if isinstance(value, str) or not several else list(value)
    if not all(isinstance(item, str) for item in values):
        raise SettingsError(f"{name} must be a string or a list of strings, not {quoted(value)}")
    for item in values:
        _check_unicode(name, item)
    return values


def _check_unicode(name: str, text: str) -> None:
    found = None if text.isascii() else _SURROGATE.search(text)
    if found is not None:
        where = f"a lone surrogate at character {found.start() + 1} of {quoted(text)}"
        raise SettingsError(f"{name} must be valid Unicode: {where}")


def function(name: str, value: Any) -> Any:
    """The value itself. Raises SettingsError unless it is a function or None."""
    if value is not None and not callable(value):
        raise SettingsError(f"{name} must be a function, not {quoted(value)}")
    return value


def flag(name: str, value: Any) -> bool:
    """The setting `name` itself. Raises SettingsError unless it is True or False."""
    if type(value).__name__ not in ("bool", "bool_"):  # NumPy's too
        raise SettingsError(f"{name} must be True or False, not {quoted(value)}")
    return bool(value)


def real(name: str, value: Any, holds: Callable[[float], bool], wanted: str) -> float:
    """The setting `name` as a float. Raises SettingsError, with what is `wanted`, unless it is a
    number for which `holds` is true."""
    try:
        number = float(value) if isinstance(value, Real) and not isinstance(value, bool) else None
    except OverflowError:
        number = None
    if number is None or not holds(number):
        raise SettingsError(f"{name} must be {wanted}, not {quoted(value)}")
    return number


def fraction(name: str, value: Any) -> float:
    """The setting `name` as a float. Raises SettingsError unless it is in 0 <= value < 1."""
    return real(name, value, lambda part: 0 <= part < 1, "at least 0 and below 1")


def one_of(name: str, value: Any, known: Iterable[str]) -> str:
    """The setting `name` itself. Raises SettingsError, with the known names, for another one."""
    names = list(known)
    if not isinstance(value, str) or value not in names:
        raise SettingsError(f"{name} is {quoted(value)}; expected one of {', '.join(names)}")
    return value


def named(name: str, value: Any) -> dict[str, Any]:
    """Settings by name, none for None. Raises SettingsError unless it is a mapping of names."""
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise SettingsError(f"{name} must be a dictionary of settings by name, not {quoted(value)}")
    return dict(value)


def parse_range(text: str, name: str) -> tuple[int, int]:
    """The two ends of "1-2", or of "2" for 2-2. Raises SettingsError, with the setting's `name`,
    unless both are at least 1 and ascending."""
    found = _RANGE.fullmatch(text)
    if found is None:
        raise SettingsError(f"cannot read {name} {quoted(text)}; write it like 1-2")
    low, high = int(found[1]), int(found[2] or found[1])
    if not 1 <= low <= high:
        raise SettingsError(f"{name} {quoted(text)} must ascend and start at 1 or more")
    return low, high
