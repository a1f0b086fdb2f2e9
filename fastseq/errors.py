"""Errors that fastseq raises.

The command line prints the message on one line and exits 1, so a message says what is wrong, where
(which file, which row), and what was expected. A parameter that would help is written as
`overwrite=True` or `text_column=…`, which the command line shows as its option.
"""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_MOST_SHOWN = 80  # characters of an id or word in a message
_SURROGATE = re.compile("[\ud800-\udfff]")


def printable(text: str) -> str:
    """The text with an escape for each byte of a file name that is not UTF-8 (`caf\\xe9`)."""

    def escape(surrogate: re.Match[str]) -> str:
        code = ord(surrogate[0])
        return f"\\x{code & 0xFF:02x}" if 0xDC80 <= code <= 0xDCFF else f"\\u{code:04x}"

    return text if text.isascii() else _SURROGATE.sub(escape, text)


def quoted(value: Any) -> str:
    """An id or word for a message: its repr, with an ellipsis after 80 characters."""
    if isinstance(value, str | bytes):
        short = value[:_MOST_SHOWN]
        return repr(short) + ("" if len(short) == len(value) else "…")
    text = repr(value)
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}…"


class FastseqError(Exception):
    """Base of every error below."""

    def __str__(self) -> str:
        return printable(" ".join(super().__str__().splitlines()))


class SettingsError(FastseqError, ValueError):
    """A setting is outside its range, or two settings contradict each other."""


class DataError(FastseqError, ValueError):
    """Invalid input data: a missing column, a null id, a broken file."""


class RowError(DataError):
    """Invalid data in a row; callers that know the file add it with `located`.

    row      counted from 0 in the data passed
    problem  what is wrong with it
    """

    def __init__(self, row: int, problem: str) -> None:
        super().__init__(f"row {row} (from 0): {problem}")
        self.row = row
        self.problem = problem

    def __reduce__(self) -> Any:
        return RowError, (self.row, self.problem)


class InvalidIdError(RowError):
    """An id that a user gives cannot be one; `row` is its place among those given."""

    def __init__(self, row: int, problem: str) -> None:
        DataError.__init__(self, problem)
        self.row = row
        self.problem = problem

    def __reduce__(self) -> Any:
        return InvalidIdError, (self.row, self.problem)


class InvalidTextError(RowError):
    """A text is not UTF-8; `row` is its number."""

    def __init__(self, row: int) -> None:
        DataError.__init__(self, f"text {row} is not valid UTF-8")
        self.row = row
        self.problem = "its text is not valid UTF-8"

    def __reduce__(self) -> Any:
        return InvalidTextError, (self.row,)


@contextmanager
def located(where: Callable[[int], str], first: int = 0) -> Iterator[None]:
    """Add where(first + row) to a RowError in the block."""
    try:
        yield
    except RowError as error:
        raise DataError(f"{where(first + error.row)}: {error.problem}") from error


class FormatError(FastseqError):
    """A folder on disk is too old, too new, damaged, or of another kind."""


class TrainingError(FastseqError):
    """Training diverged: its loss or gradients are not finite."""


class DeviceError(FastseqError):
    """The device is not available, or does not support this model."""


class NotFittedError(FastseqError):
    """An estimator was used before `fit`."""


class MissingExtraError(FastseqError, ImportError):
    """An optional package is needed; the message has the `pip install` command."""


class FastseqWarning(UserWarning):
    """A notice about the input: the result may not be what was intended. The command line prints it
    on one line of stderr."""


def warn(message: str) -> None:
    """Warn the line that called into the package."""
    frame, level = sys._getframe(1), 2
    while frame.f_back and str(frame.f_globals.get("__name__")).partition(".")[0] == "fastseq":
        frame, level = frame.f_back, level + 1
    warnings.warn(message, FastseqWarning, stacklevel=level)
