"""Every call of the store that changes the disk.

Folders are written through these functions alone, so that tests can make any single one of them
fail, or end the process there, and lose what was not flushed.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any, BinaryIO


def create(path: Path) -> BinaryIO:
    """Create a file, unbuffered, for reading and writing. Raises FileExistsError where it
    exists."""
    return open(path, "x+b", buffering=0)  # type: ignore[return-value]


def write(file: BinaryIO, data: Any, at: int | None = None) -> None:
    """Write all bytes of a buffer at the current position, or `at` an offset."""
    if at is not None:
        file.seek(at)
    view = memoryview(data).cast("B")
    while len(view):
        view = view[file.write(view) :]


def read(file: BinaryIO, data: Any, at: int) -> None:
    """Fill a buffer with the bytes from an offset on, which were written."""
    file.seek(at)
    view = memoryview(data).cast("B")
    while len(view):
        count = file.readinto(view)  # type: ignore[attr-defined]
        if not count:
            raise OSError("the file ends early")
        view = view[count:]


def flush(path: Path) -> None:
    """fsync a file."""
    with open(path, "r+b") as file:
        os.fsync(file.fileno())


def flush_folder(path: Path) -> None:
    """fsync a folder, so that a new or renamed file in it survives a power cut. A no-op on
    Windows."""
    if os.name == "nt":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def rename(source: Path, target: Path) -> None:
    """`os.replace`, retried for a second on Windows, where an open `target` blocks it."""
    for _ in range(20 if sys.platform == "win32" else 0):
        try:
            os.replace(source, target)
            return
        except PermissionError:
            time.sleep(0.05)
    os.replace(source, target)


def link(source: Path, target: Path) -> None:
    """A hard link to a file on disk, or a copy where links are not supported."""
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
        flush(target)


def make_folder(path: Path) -> None:
    """Create a folder. Raises FileExistsError where it exists."""
    path.mkdir()


def remove(path: Path) -> None:
    """Remove a file."""
    path.unlink()


def remove_folder(path: Path) -> None:
    """Remove a folder with all of its files."""
    shutil.rmtree(path)
