"""Writing a folder: one writer at a time, and a commit that happens whole or not at all.

    <folder>/
      manifest.json         names the files of the standing commit
      lock                  held by the writer; the system drops it with the process
      data-000001/          the data files of a commit
      data-000002.tmp/      spills of a writer at work
      weights.safetensors   where the kind of folder asks for it: a data file under a second name

A commit never touches a file of the one before it: it writes to a data folder with the next
number. Whatever bears one of these names and is not in the manifest was left behind by a writer
that died; the next writer sweeps it.
"""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import zlib
from collections.abc import Collection, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import filelock
import numpy as np
import numpy.typing as npt

from fastseq.errors import FastseqError, FormatError, SettingsError
from fastseq.settings import file_path
from fastseq.store.files import flush_folder, flush_to_disk, reason, replace
from fastseq.store.folder import (
    MANIFEST,
    NAME,
    FileEntry,
    Manifest,
    checksum,
    is_ours,
    read_manifest,
)

LOCK = "lock"
_NEW = ".new"  # ends the name of a file until it is renamed into place
_NEW_MANIFEST = MANIFEST + _NEW
_DATA = re.compile(r"data-(\d{6})(\.tmp)?")


class DataFile(io.RawIOBase):
    """A data file being written: append to it, from one thread at a time, then close it.

    It is also a binary file object that can be written to but not sought.
    """

    def __init__(self, path: Path, file: BinaryIO, dtype: np.dtype[Any] | None) -> None:
        super().__init__()
        self.path = path
        self._file = file
        self._bytes = 0
        self._crc32 = 0
        self._dtype = dtype

    def append(self, data: npt.NDArray[Any] | bytes | bytearray | memoryview) -> None:
        """Write an array or bytes after what is there.

        Raises
        ------
        FastseqError
            The system refuses (disk full).
        TypeError
            Arrays of two dtypes, or arrays and bytes, in one file.
        """
        dtype = data.dtype if isinstance(data, np.ndarray) else None
        if self._bytes == 0 and self._dtype is None:
            self._dtype = dtype
        if dtype != self._dtype:
            raise TypeError(
                f"{self.path.name}: {dtype or 'bytes'} appended to {self._dtype or 'bytes'}"
            )
        if isinstance(data, np.ndarray):
            data = np.ascontiguousarray(data).reshape(-1).view(np.uint8).data
        else:
            data = memoryview(data).cast("B")
        try:
            self._file.write(data)
        except OSError as error:
            raise FastseqError(f"cannot write {self.path}: {reason(error)}") from error
        self._crc32 = zlib.crc32(data, self._crc32)
        self._bytes += len(data)

    def write(self, data: Any, /) -> int:
        """`append` for those who expect a file object; returns the number of bytes."""
        before = self._bytes
        self.append(memoryview(data))
        return self._bytes - before

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._bytes

    def close(self) -> None:
        """Hand the last bytes to the system. Closing twice does nothing."""
        if not self.closed:
            try:
                self._file.close()
            except OSError as error:
                raise FastseqError(f"cannot write {self.path}: {reason(error)}") from error
            finally:
                super().close()

    @property
    def entry(self) -> FileEntry:
        """What the manifest will say of the file."""
        if self._dtype is None:
            return FileEntry(self._bytes, self._crc32)
        shape = (self._bytes // self._dtype.itemsize,)
        return FileEntry(self._bytes, self._crc32, self._dtype.str, shape)


class FolderWriter:
    """Writes one commit; a context manager. Leaving the block without `commit` removes what was
    written, with the folder where it was made for it, and the commit before still stands.

    Parameters
    ----------
    path : the folder, made where missing
    kind, format_version : what the manifest will say
    overwrite : replace a folder of the same kind that stands there
    beside : names of data files that a commit also puts beside the manifest, for people and for
        other programs: hard links, or copies where the file system has none. A reader takes the
        one in the data folder.
    inside : names of folders in this one that have writers of their own; they are left alone

    Raises
    ------
    SettingsError
        `path` is a file, holds something already and `overwrite` is False, holds another kind, or
        is a folder with files that are not fastseq's.
    FastseqError
        Another process writes there, or the system refuses.
    """

    def __init__(
        self,
        path: str | Path,
        kind: str,
        format_version: int,
        overwrite: bool = False,
        beside: Collection[str] = (),
        inside: Collection[str] = (),
    ) -> None:
        self.root = file_path("path", path)
        self._kind = kind
        self._format_version = format_version
        self._overwrite = overwrite
        self._beside = frozenset(beside)
        self._inside = frozenset(inside)
        self._files: dict[str, DataFile | FileEntry] = {}
        self._flushes: list[Future[None]] = []

    def __enter__(self) -> FolderWriter:
        self._check_place()
        self._made = [folder for folder in (self.root, *self.root.parents) if not folder.exists()]
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            self._lock = filelock.FileLock(self.root / LOCK, timeout=0)
            self._lock.acquire()
        except filelock.Timeout:
            raise FastseqError(f"another process is writing to {self.root}") from None
        except (OSError, NotImplementedError) as error:
            raise FastseqError(f"cannot write to {self.root}: {reason(error)}") from error
        try:
            self._check_place()
            self._sweep()
            numbers = [int(m[1]) for m in map(_DATA.fullmatch, os.listdir(self.root)) if m]
            self._data = self.root / f"data-{max(numbers, default=0) + 1:06d}"
            self._spill = self._data.with_suffix(".tmp")
            self._data.mkdir()
        except OSError as error:
            self._lock.release()
            raise FastseqError(f"cannot write to {self.root}: {reason(error)}") from error
        except BaseException:
            self._lock.release()
            raise
        # closed files go to disk while others are still being written
        self._flusher = ThreadPoolExecutor(1, "fastseq-flush")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self._flusher.shutdown(cancel_futures=True)
            for file in self._files.values():
                if isinstance(file, DataFile) and not file.closed:
                    try:
                        file.close()
                    except FastseqError:
                        continue  # of a file about to be removed
            # after a commit this removes the files of the one before it
            self._sweep()
            self._unmake()
        finally:
            self._lock.release()

    def _unmake(self) -> None:
        """Remove the folders that were made for a commit that did not come."""
        with suppress(OSError):
            if not self._made or os.listdir(self.root) != [LOCK]:
                return
            # under the lock, so that nobody else begins here meanwhile
            (self.root / LOCK).unlink()
            for folder in self._made:
                folder.rmdir()

    def create(self, name: str, dtype: npt.DTypeLike | None = None) -> DataFile:
        """A new data file, to be appended to and closed. Its dtype, unless given, is that of the
        first array appended; a file of bytes has none."""
        path = self.path(name)
        try:
            opened = open(path, "xb")  # noqa: SIM115 (DataFile closes it)
        except OSError as error:
            raise FastseqError(f"cannot write {path}: {reason(error)}") from error
        file = DataFile(path, opened, None if dtype is None else np.dtype(dtype))
        self._files[name] = file
        return file

    def array(self, name: str, values: npt.NDArray[Any]) -> None:
        """Write a data file that is one array, of one dimension."""
        file = self.create(name)
        file.append(values)
        self.close(file)

    def close(self, file: DataFile) -> None:
        """Close a data file and let it go to disk in the background. `commit` does it for those
        that were not."""
        file.close()
        self._flushes.append(self._flusher.submit(flush_to_disk, file.path))

    def adopt(self, name: str, source: Path | None = None) -> None:
        """Take in a file that another library wrote, whole and closed, to `path(name)`, or to
        `source` inside this folder (`temporary`), from where it is moved."""
        path = self.path(name)
        try:
            if source is not None:
                replace(source, path)
            self._files[name] = FileEntry(*checksum(path))
        except OSError as error:
            raise FastseqError(f"cannot write {path}: {reason(error)}") from error
        self._flushes.append(self._flusher.submit(flush_to_disk, path))

    def path(self, name: str) -> Path:
        """Where the data file `name` of this commit belongs. Raises ValueError for a name that is
        taken or is no plain file name."""
        if not NAME.fullmatch(name) or name in self._files:
            raise ValueError(f"{name!r}: expected a new, plain file name")
        return self._data / name

    def temporary(self, name: str) -> Path:
        """A path for a spill, in a folder that is removed when the writer is done."""
        if not NAME.fullmatch(name):
            raise ValueError(f"{name!r}: expected a plain file name")
        self._spill.mkdir(exist_ok=True)
        return self._spill / name

    def commit(self, settings: Mapping[str, Any], statistics: Mapping[str, Any]) -> None:
        """Make everything written the standing commit, durable when this returns.

        Raises
        ------
        FastseqError
            The system refuses; the commit before still stands.
        """
        for file in self._files.values():
            if isinstance(file, DataFile) and not file.closed:
                self.close(file)
        files = {
            f"{self._data.name}/{name}": file.entry if isinstance(file, DataFile) else file
            for name, file in self._files.items()
        }
        content = Manifest(
            self._kind,
            self._format_version,
            metadata.version("fastseq"),
            dict(settings),
            dict(statistics),
            files,
        ).to_bytes()
        new = self.root / _NEW_MANIFEST
        try:
            for flush in self._flushes:
                flush.result()
            flush_folder(self._data)
            new.write_bytes(content)
            flush_to_disk(new)
            published = sorted(self._beside & self._files.keys())
            for name in published:
                _second_name(self._data / name, self.root / f"{name}{_NEW}")
            flush_folder(self.root)
            for name in published:
                # beside a manifest stands its own file or, for a moment, none
                with suppress(OSError):
                    (self.root / name).unlink()
            replace(new, self.root / MANIFEST)
            for name in published:
                replace(self.root / f"{name}{_NEW}", self.root / name)
            flush_folder(self.root)
        except OSError as error:
            raise FastseqError(f"cannot write to {self.root}: {reason(error)}") from error

    def _check_place(self) -> None:
        """Refuse a place that is not ours to write to."""
        root = self.root
        if not root.exists():
            return
        if not root.is_dir():
            raise SettingsError(f"{root} is a file, expected a folder or a new name")
        try:
            names = os.listdir(root)
            raw = (root / MANIFEST).read_bytes() if MANIFEST in names else None
        except OSError as error:
            raise FastseqError(f"cannot read {root}: {reason(error)}") from error
        content = None
        if raw is not None:
            try:
                content = json.loads(raw)
            except (ValueError, RecursionError):
                pass  # damaged: the other names tell whose it is
            else:
                if not is_ours(content):
                    raise SettingsError(f"{root}: its {MANIFEST} is not fastseq's: choose another")
        # the lock is there before anything else is, so a folder without one is not a writer's;
        # but on Windows a lock is gone once released, and folders inside may outlast it
        strange = [
            name
            for name in names
            if not (
                (LOCK in names and self._is_leftover(name))
                or (raw is not None and name in self._beside)
                or self._stands_inside(name)
            )
        ]
        if content is None and strange:
            raise SettingsError(
                f"{root} holds files that are not fastseq's ({min(strange)}): expected a new or "
                "empty folder"
            )
        if content is not None and content["kind"] != self._kind:
            raise SettingsError(
                f"{root} holds the kind {content['kind']!r}, expected {self._kind!r} or nothing"
            )
        if raw is not None and not self._overwrite:
            raise SettingsError(f"{root} already exists: overwrite=True replaces it")

    def _sweep(self) -> None:
        """Remove what bears a name of ours and is not in the manifest on disk. Whatever cannot be
        removed (open in another process on Windows) is left to the next writer."""
        files: list[str] = []
        if (self.root / MANIFEST).exists():
            try:
                files = list(read_manifest(self.root).files)
            except FormatError:
                return  # nobody knows what belongs to it
        keep = {name.partition("/")[0] for name in files}
        published = {name.rpartition("/")[2]: self.root / name for name in files}
        new = {_NEW_MANIFEST, *(f"{name}{_NEW}" for name in self._beside)}
        for name in os.listdir(self.root):
            if name in new or (name in self._beside and name not in published):
                with suppress(OSError):
                    (self.root / name).unlink()
            elif _DATA.fullmatch(name) and name not in keep:
                shutil.rmtree(self.root / name, ignore_errors=True)
        for name in self._beside & published.keys():
            if not (self.root / name).exists():  # a commit was cut short after its manifest
                with suppress(OSError):
                    _second_name(published[name], self.root / f"{name}{_NEW}")
                    replace(self.root / f"{name}{_NEW}", self.root / name)

    def _is_leftover(self, name: str) -> bool:
        """Whether a writer that died before its first commit may have left something of the name:
        second names of data files come with the commit."""
        return (
            name in (MANIFEST, _NEW_MANIFEST, LOCK)
            or (name.endswith(_NEW) and name.removesuffix(_NEW) in self._beside)
            or name in self._inside
            or _DATA.fullmatch(name) is not None
        )

    def _stands_inside(self, name: str) -> bool:
        """Whether a name in the folder is a folder of ours with a commit of its own."""
        if name not in self._inside:
            return False
        try:
            read_manifest(self.root / name)
        except FormatError:
            return False
        return True


def _second_name(source: Path, target: Path) -> None:
    """A hard link to a file that is on disk, or a copy of it where links cannot be made."""
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
        flush_to_disk(target)
