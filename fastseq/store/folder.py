"""A committed folder, opened to be read: manifest checked, data files mapped.

A reader stays on the commit it opened: every file is mapped at once, and what is mapped outlives
its name, so that a later commit may remove the file.
"""

from __future__ import annotations

import mmap
import os
import zlib
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastseq.errors import DataError, FormatError
from fastseq.settings import file_path
from fastseq.store.atomic import reason
from fastseq.store.manifest import MANIFEST, FileEntry, Manifest, read_manifest

BLOCK = 1 << 20  # bytes read at a time when a checksum is reckoned

CHECKPOINT = "checkpoint"  # folder of a training, inside that of what it trains


class Folder:
    """The files of one commit. A file is asked for by the name it was created under.

    Attributes
    ----------
    root : the folder
    manifest : what its commit says
    """

    root: Path
    manifest: Manifest

    def __init__(self, root: Path, manifest: Manifest) -> None:
        self.root = root
        self.manifest = manifest
        self._paths = {name.rpartition("/")[2]: name for name in manifest.files}
        self._maps = {name: _mapped(root, name, entry) for name, entry in manifest.files.items()}

    @staticmethod
    def open(path: str | Path, kind: str, versions: Collection[int]) -> Folder:
        """Open the standing commit of a folder and map every file of it.

        Parameters
        ----------
        kind : the kind of folder expected, such as "index"
        versions : the format versions that the caller reads

        Raises
        ------
        FormatError
            No manifest, a damaged one, another kind or version, a file that is missing or of the
            wrong size.
        """
        root = file_path("path", path)
        manifest = read_manifest(root, kind, versions)
        while True:
            try:
                return Folder(root, manifest)
            except FormatError:
                # a commit may have come between the manifest and its files
                latest = read_manifest(root, kind, versions)
                if latest == manifest:
                    raise
                manifest = latest

    @property
    def settings(self) -> dict[str, Any]:
        """What the writer was told."""
        return self.manifest.settings

    @property
    def statistics(self) -> dict[str, Any]:
        """What the writer counted."""
        return self.manifest.statistics

    @property
    def names(self) -> list[str]:
        """The names of the files, sorted."""
        return sorted(self._paths)

    @property
    def nbytes(self) -> int:
        """Bytes of all data files."""
        return sum(entry.bytes for entry in self.manifest.files.values())

    def array(self, name: str, dtype: npt.DTypeLike | None = None) -> npt.NDArray[Any]:
        """The array of a file, mapped: memory is filled as it is looked at.

        The array says that it is writable, because Numba compiles a kernel a second time for
        read-only ones. The mapping is private: what is written to it never reaches the file.

        Raises
        ------
        FormatError
            There is no such array, or it is not of `dtype`.
        """
        entry = self._entry(name)
        if entry.dtype is None or entry.shape is None:
            raise FormatError(f"{self.path(name)}: not an array, according to {MANIFEST}")
        if dtype is not None and np.dtype(dtype) != np.dtype(entry.dtype):
            raise FormatError(
                f"{self.path(name)}: holds {np.dtype(entry.dtype)}, expected {np.dtype(dtype)}"
            )
        return np.frombuffer(self.buffer(name), entry.dtype).reshape(entry.shape)

    def buffer(self, name: str) -> mmap.mmap | bytearray:
        """The bytes of a file, mapped; an empty bytearray for an empty file.

        Raises
        ------
        FormatError
            There is no such file in the manifest.
        """
        self._entry(name)
        return self._maps[self._paths[name]]

    def columns(self, name: str, names: Sequence[str]) -> list[list[Any]]:
        """Columns of a Parquet file, as Python values, in the order of `names`.

        Raises
        ------
        FormatError
            There is no such file in the manifest, it is not Parquet or a column is missing.
        """
        import pyarrow as pa  # slow to import, and most readers have no need of it

        from fastseq.store.tables import read_columns

        source: Any = pa.BufferReader(pa.py_buffer(self.buffer(name)))
        try:
            return [column.to_pylist() for column in read_columns(source, [[n] for n in names])]
        except DataError:
            raise FormatError(
                f"{self.path(name)}: damaged: not Parquet with the columns {', '.join(names)}"
            ) from None

    def damaged(self) -> list[str]:
        """Read every byte that is mapped; the names, inside the folder, of the files whose
        checksum is wrong, and of files that stand beside the manifest and are not what it names."""
        wrong = []
        for name, entry in self.manifest.files.items():
            if zlib.crc32(memoryview(self._maps[name])) != entry.crc32:
                wrong.append(name)
        return wrong + _changed_beside(self.root, self.manifest)

    def path(self, name: str) -> Path:
        """Where a file lies, for messages: after a later commit it may be gone.

        Raises
        ------
        FormatError
            There is no such file in the manifest.
        """
        self._entry(name)
        return self.root / self._paths[name]

    def _entry(self, name: str) -> FileEntry:
        if name not in self._paths:
            raise FormatError(f"{self.root}: {MANIFEST} names no file {name!r}")
        return self.manifest.files[self._paths[name]]


def verify(path: str | Path) -> list[str]:
    """Read every byte of a folder of any kind and return the names, inside the folder, of the
    files that are missing, of the wrong size or of the wrong checksum, or that stand beside the
    manifest as the second name of a data file and are not that.

    Raises
    ------
    FormatError
        The manifest itself is missing or damaged.
    """
    root = Path(path)
    manifest = read_manifest(root)
    wrong = []
    for name, entry in manifest.files.items():
        try:
            size, crc32 = checksum(root / name)
        except OSError:
            wrong.append(name)
            continue
        if (size, crc32) != (entry.bytes, entry.crc32):
            wrong.append(name)
    return wrong + _changed_beside(root, manifest)


def describe(path: str | Path) -> dict[str, Any]:
    """What a folder of any kind says it is, ready for JSON.

    kind, format_version, fastseq (the version that wrote it), settings, statistics, files (name
    -> bytes, crc32 and, for arrays, dtype and shape), bytes (of all data files).

    Raises
    ------
    FormatError
        The manifest is missing or damaged.
    """
    return description(read_manifest(Path(path)))


def description(manifest: Manifest) -> dict[str, Any]:
    """`describe` for a manifest already read."""
    return {
        "kind": manifest.kind,
        "format_version": manifest.format_version,
        "fastseq": manifest.fastseq,
        "settings": manifest.settings,
        "statistics": manifest.statistics,
        "files": {name: entry.to_json() for name, entry in manifest.files.items()},
        "bytes": sum(entry.bytes for entry in manifest.files.values()),
    }


def checksum(path: Path) -> tuple[int, int]:
    """Size in bytes and CRC-32 of a file."""
    size = crc32 = 0
    with open(path, "rb", buffering=0) as file:
        while block := file.read(BLOCK):
            size += len(block)
            crc32 = zlib.crc32(block, crc32)
    return size, crc32


def _changed_beside(root: Path, manifest: Manifest) -> list[str]:
    """The second names that data files have beside the manifest, where the content differs. One
    that is missing is no fault: a copy of the folder may do without."""
    wrong = []
    for name, entry in manifest.files.items():
        second = root / name.rpartition("/")[2]
        try:
            if "/" not in name or not second.exists() or second.samefile(root / name):
                continue
            same = checksum(second) == (entry.bytes, entry.crc32)
        except FileNotFoundError:
            continue  # a commit just now
        except OSError:
            same = False
        if not same:
            wrong.append(second.name)
    return wrong


def _mapped(root: Path, name: str, entry: FileEntry) -> mmap.mmap | bytearray:
    path = root / name
    try:
        with open(path, "rb") as file:
            size = file.seek(0, 2)
            if size != entry.bytes:
                raise FormatError(
                    f"{path}: damaged: {size} bytes, expected {entry.bytes} by {MANIFEST}"
                )
            if size == 0:
                return bytearray()
            if hasattr(mmap, "MAP_NORESERVE"):
                # a private mapping counts as memory that may be written to; an index larger
                # than the machine's memory would be refused without this flag
                return mmap.mmap(
                    file.fileno(),
                    size,
                    flags=mmap.MAP_PRIVATE | mmap.MAP_NORESERVE,
                    prot=mmap.PROT_READ | mmap.PROT_WRITE,
                )
            return mmap.mmap(file.fileno(), size, access=mmap.ACCESS_COPY)
    except FileNotFoundError:
        raise FormatError(f"{path}: missing, but named in {MANIFEST}") from None
    except OSError as error:
        raise FormatError(f"{path}: cannot be read: {reason(error)}") from error


def is_written(path: str | os.PathLike[str]) -> bool:
    """Whether a commit of any kind stands in the folder."""
    return os.path.exists(os.path.join(path, MANIFEST))


def is_begun(path: str | os.PathLike[str]) -> bool:
    """Whether a training left a checkpoint in the folder."""
    return is_written(os.path.join(path, CHECKPOINT))


def is_finished(path: str | os.PathLike[str]) -> bool:
    """Whether what a training gave stands in the folder, and no checkpoint."""
    return is_written(path) and not is_begun(path)
