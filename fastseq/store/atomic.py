"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import secrets
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fastseq.errors import FastseqError, SettingsError


def reason(error: BaseException) -> str:
    """What an exception of the system or of a library says, on one line."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    # pyarrow says in a second argument which column it was
    text = "; ".join(map(str, error.args)) if len(error.args) > 1 else str(error)
    lines = text.strip().splitlines()
    return lines[0].strip() if lines else type(error).__name__


@contextmanager
def written_whole(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path beside `path`; when the block ends well, it becomes `path`.

    When the block raises, the temporary file is removed and a file that stood at `path` before
    still stands. What is at `path` but is no regular file (a pipe, a terminal) is written to
    directly.

    Raises
    ------
    SettingsError
        `path` is a folder, or lies in a folder that does not exist.
    FastseqError
        The system refuses to write (disk full, no permission).
    """
    target = Path(path)
    if target.is_dir():
        raise SettingsError(f"cannot write {target}: it is a folder, expected a file name")
    if not target.parent.is_dir():
        raise SettingsError(f"cannot write {target}: no such folder: {target.parent}")
    if target.exists() and not target.is_file():
        yield target
        return
    # a link stays a link: the file it points to is replaced
    target = target.resolve()
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        yield temporary
        flush_to_disk(temporary)
        replace(temporary, target)
        flush_folder(target.parent)
    except OSError as error:
        raise FastseqError(f"cannot write {path}: {reason(error)}") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def replace(source: Path, target: Path) -> None:
    """`os.replace`, tried for a second on Windows, where a reader of `target` is in its way."""
    for _ in range(20 if sys.platform == "win32" else 0):
        try:
            os.replace(source, target)
            return
        except PermissionError:
            time.sleep(0.05)
    os.replace(source, target)


def flush_to_disk(path: Path) -> None:
    """fsync a file that is closed."""
    with open(path, "r+b") as file:
        os.fsync(file.fileno())


def flush_folder(path: Path) -> None:
    """fsync a folder, so that a rename in it outlives a power cut. Windows has no such call."""
    if os.name == "nt":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
