"""Files that may be under gzip: known by their content when read, by their name when written."""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, cast

from fastseq.store.atomic import written_whole

_MAGIC = b"\x1f\x8b"
_LEVEL = 6  # gzip's own choice; Python's, 9, takes several times as long
_MOST = 1040  # bytes that one byte of deflate can stand for, rounded up


@contextmanager
def opened(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """The file, unpacked if it is under gzip, whatever its name."""
    with open(path, "rb") as file:
        if peek(file, 2) == _MAGIC:
            with gzip.open(file, "rb") as unpacked:
                yield cast(BinaryIO, unpacked)
        else:
            yield file


@contextmanager
def created(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A new file, under gzip if its name ends in .gz, and there only when the block ends well.

    The same content gives the same bytes. Raises as `written_whole`.
    """
    with written_whole(path) as temporary, open(temporary, "wb") as file:
        if os.fspath(path).lower().endswith(".gz"):
            with gzip.GzipFile("", "wb", _LEVEL, file, mtime=0) as packed:
                yield cast(BinaryIO, packed)
        else:
            yield file


def peek(file: BinaryIO, n: int) -> bytes:
    """The first bytes of a file that nothing was read from yet."""
    found = file.read(n)
    file.seek(0)
    return found


def bytes_left(file: BinaryIO) -> int:
    """Bytes to come in a file of `opened`: as many, or under gzip at most as many."""
    size = os.fstat(file.fileno()).st_size
    return size * _MOST if isinstance(file, gzip.GzipFile) else size - file.tell()
