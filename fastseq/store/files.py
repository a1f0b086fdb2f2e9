"""Atomic file writes, gzip and zstd, and arrays that spill to a temporary file.

array = SpillArray(np.int32, memory=1 << 30)
array.append(values)
whole = array.finish()          # in memory, or a mapped file that is removed with the array
"""

from __future__ import annotations

import gzip
import io
import mmap
import os
import secrets
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, BinaryIO, Protocol, TypeAlias, cast

import numpy as np
import numpy.typing as npt

from fastseq.errors import FastseqError, SettingsError
from fastseq.store import disk

MEMORY = 1 << 30  # default of SpillArray, bytes
_GZIP_LEVEL = 6  # gzip's own default; Python's, 9, takes several times as long
_GZIP_RATIO = 1040  # an upper bound of the bytes that one byte of deflate expands to


def reason(error: BaseException) -> str:
    """The message of an exception of the system or of a library, on one line."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    # the second argument of a pyarrow exception names the column
    text = "; ".join(map(str, error.args)) if len(error.args) > 1 else str(error)
    lines = text.strip().splitlines()
    return lines[0].strip() if lines else type(error).__name__


@contextmanager
def writing(place: object) -> Iterator[None]:
    """Turn the system's errors into FastseqError, which names the place."""
    try:
        yield
    except OSError as error:
        raise FastseqError(f"cannot write {place}: {reason(error)}") from error


@contextmanager
def written_whole(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path next to `path` that replaces `path` when the block succeeds.

    When the block raises, the temporary file is removed and an existing file at `path` remains
    unchanged. Anything but a regular file (a pipe, a terminal) is written to directly.

    Raises SettingsError: `path` is a folder, or its folder does not exist; FastseqError: the system
    refuses to write (disk full, no permission).
    """
    target = Path(path)
    if target.is_dir():
        raise SettingsError(f"cannot write {target}: it is a folder, expected a file name")
    if not target.parent.is_dir():
        raise SettingsError(f"cannot write {target}: no such folder: {target.parent}")
    if target.exists() and not target.is_file():
        yield target
        return
    # a symbolic link is preserved: the file it points to is replaced
    target = target.resolve()
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        yield temporary
        disk.flush(temporary)
        disk.rename(temporary, target)
        disk.flush_folder(target.parent)
    except OSError as error:
        raise FastseqError(f"cannot write {path}: {reason(error)}") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


# ---- gzip and zstd: detected by content when reading, by the file name when writing

COMPRESSIONS = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}  # by the first bytes


def compression_of(head: bytes) -> str | None:
    """The compression of a file by its first four bytes; None for none."""
    return next((name for start, name in COMPRESSIONS.items() if head.startswith(start)), None)


class Content(Protocol):
    """The content of a pipe or of standard input, as an Arrow buffer; `str` gives its name."""

    @property
    def data(self) -> Any: ...


Readable: TypeAlias = str | os.PathLike[str] | Content


def _raw(source: Readable, buffering: int = -1) -> BinaryIO:
    if isinstance(source, str | os.PathLike):
        return open(source, "rb", buffering)
    import pyarrow as pa  # for such sources only

    return cast(BinaryIO, pa.BufferReader(source.data))


@contextmanager
def opened(path: Readable) -> Iterator[BinaryIO]:
    """Open a file for reading; a gzip or zstd file is decompressed, whatever its name. Damage
    raises OSError, EOFError or zlib.error."""
    with _raw(path) as file:
        found = compression_of(peek(file, 4))
        if found == "gzip":
            with gzip.open(file, "rb") as unpacked:
                yield cast(BinaryIO, unpacked)
        elif found == "zstd":
            with io.BufferedReader(_ZstdReader(path)) as unpacked_zstd:
                yield cast(BinaryIO, unpacked_zstd)
        else:
            yield file


@contextmanager
def created(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Write a file atomically, compressed if its name ends in .gz or .zst; the same content gives
    the same bytes. Raises as `written_whole`."""
    name = os.fspath(path).lower()
    with written_whole(path) as temporary, open(temporary, "wb") as file:
        if name.endswith(".gz"):
            with gzip.GzipFile("", "wb", _GZIP_LEVEL, file, mtime=0) as packed:
                yield cast(BinaryIO, packed)
        elif name.endswith(".zst"):
            import pyarrow as pa  # for such files only

            with pa.CompressedOutputStream(pa.PythonFile(file, "w"), "zstd") as packed_zstd:
                yield cast(BinaryIO, packed_zstd)
        else:
            yield file


class _ZstdReader(io.RawIOBase):
    """The decompressed content of a zstd file; a position before the present one is reached from
    the start."""

    def __init__(self, path: Readable) -> None:
        self._path = path
        self._rewind()

    def _rewind(self) -> None:
        import pyarrow as pa  # for such files only

        file = _raw(self._path, buffering=0)  # closed with the stream
        self._stream = pa.CompressedInputStream(pa.PythonFile(file, "r"), "zstd")
        self._position = 0

    def close(self) -> None:
        self._stream.close()
        super().close()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any) -> int:
        data = self._stream.read(len(buffer))
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if whence == os.SEEK_END:
            raise io.UnsupportedOperation("the end of a zstd file is unknown")
        target = offset + (self._position if whence == os.SEEK_CUR else 0)
        if target < self._position:
            self._stream.close()
            self._rewind()
        while self._position < target:
            skipped = len(self._stream.read(min(target - self._position, 1 << 20)))
            if not skipped:
                break
            self._position += skipped
        return self._position


def private_map(file: BinaryIO, size: int) -> mmap.mmap | bytearray:
    """The first `size` bytes of a file as a private mapping that may be written to."""
    if size == 0:
        return bytearray()
    if hasattr(mmap, "MAP_NORESERVE"):
        # a private writable mapping counts as committed memory: without this flag the system
        # refuses a file larger than the machine's memory
        flags = mmap.MAP_PRIVATE | mmap.MAP_NORESERVE
        access = mmap.PROT_READ | mmap.PROT_WRITE
        return mmap.mmap(file.fileno(), size, flags=flags, prot=access)
    return mmap.mmap(file.fileno(), size, access=mmap.ACCESS_COPY)


def peek(file: BinaryIO, n: int) -> bytes:
    """The first bytes of a file, whose position is reset to the start."""
    found = file.read(n)
    file.seek(0)
    return found


def bytes_left(file: BinaryIO) -> int:
    """Remaining bytes of a file of `opened`: exact, or for gzip and zstd an upper bound."""
    if isinstance(file, io.BufferedReader) and isinstance(file.raw, _ZstdReader):
        return sys.maxsize  # zstd has none
    size = os.fstat(file.fileno()).st_size
    return size * _GZIP_RATIO if isinstance(file, gzip.GzipFile) else size - file.tell()


# ---- spilling


class SpillArray:
    """An append-only array of one dtype, in memory up to `memory` bytes and in a file beyond.

    The file is anonymous, so a killed process leaves nothing. All methods raise FastseqError where
    the system refuses to write.
    """

    def __init__(self, dtype: npt.DTypeLike, memory: int = MEMORY) -> None:
        self._dtype = np.dtype(dtype)
        self._memory = memory
        self._parts: list[npt.NDArray[Any]] = []
        self._held = 0
        self._file: IO[bytes] | None = None
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def append(self, values: npt.NDArray[Any]) -> None:
        """Add elements at the end. The array must not be changed afterwards."""
        if not len(values):
            return
        part = np.ascontiguousarray(values, self._dtype)
        self._parts.append(part)
        self._held += part.nbytes
        self._size += len(part)
        if self._held > self._memory:
            self._spill()

    def finish(self) -> npt.NDArray[Any]:
        """All elements as one writable array. Afterwards the SpillArray is empty."""
        size, self._size = self._size, 0
        if self._file is None:
            parts, self._parts, self._held = self._parts, [], 0
            return np.concatenate(parts) if parts else np.empty(0, self._dtype)
        self._spill()
        file, self._file = self._file, None
        try:
            with file:  # the mapping keeps the file open
                mapped = np.memmap(file, self._dtype, "r+", shape=(size,))
        except OSError as error:
            raise FastseqError(f"cannot map a temporary file: {error.strerror}") from error
        # a plain array, the type that kernels are compiled for
        return np.asarray(mapped)

    def _spill(self) -> None:
        try:
            if self._file is None:
                # closed by `finish`
                self._file = tempfile.TemporaryFile(prefix="fastseq-")  # noqa: SIM115
            for part in self._parts:
                self._file.write(part.data)
            self._file.flush()
        except OSError as error:
            place = tempfile.gettempdir()
            problem = f"cannot write a temporary file in {place}: {error.strerror}"
            raise FastseqError(problem) from error
        self._parts, self._held = [], 0


class SpillFile:
    """Arrays in a new file, which is held open. Several threads may read; writing is not shared.

    Raises FastseqError where the system refuses.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._size, self._lock = path, 0, threading.Lock()
        with writing(path):
            self._file = open(path, "w+b", buffering=0)  # noqa: SIM115 (see close)

    def append(self, array: npt.NDArray[Any]) -> int:
        """Write an array at the end; returns where it starts, in bytes."""
        start, rest = self._size, array.view(np.uint8).data
        with writing(self._path), self._lock:
            self._file.seek(start)
            while len(rest):
                rest = rest[self._file.write(rest) :]
        self._size += array.nbytes
        return start

    def read(self, start: int, dtype: np.dtype[Any], count: int) -> npt.NDArray[Any]:
        """The elements that begin at byte `start`."""
        found = np.empty(count, dtype)
        rest = found.view(np.uint8).data
        try:
            with self._lock:
                self._file.seek(start)
                while len(rest):
                    n = self._file.readinto(rest)
                    if not n:
                        raise FastseqError(f"cannot read {self._path}: it ends too early")
                    rest = rest[n:]
        except OSError as error:
            raise FastseqError(f"cannot read {self._path}: {reason(error)}") from error
        return found

    def close(self) -> None:
        with suppress(OSError):  # the file is no longer needed
            self._file.close()
