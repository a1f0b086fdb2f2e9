"""Writing of folders: a single writer, atomic commits.

    <folder>/
      manifest.json         lists the files of the current commit
      lock                  held by the writer; released when its process ends
      data-000001/          the data files that a commit wrote
      data-000002.tmp/      temporary files of an active writer
      weights.safetensors   for some kinds of folder: a link to a data file

A commit never modifies a file of the previous one: it writes to a data folder with the next number,
and lists those files of earlier commits that it keeps. A file with one of these names that is not
in the manifest was left by a writer that was killed, or is of an earlier commit; the next writer
removes it.
"""

from __future__ import annotations

import io
import json
import os
import re
import zlib
from collections.abc import Collection, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import filelock
import numpy as np
import numpy.typing as npt

from fastseq.errors import FastseqError, FormatError, SettingsError
from fastseq.settings import file_path
from fastseq.store import disk
from fastseq.store.container import ContainerWriter
from fastseq.store.files import reason, writing
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
_NEW = ".new"  # suffix of a file until it is renamed
_NEW_MANIFEST = MANIFEST + _NEW
_DATA = re.compile(r"data-(\d{6,})(\.tmp)?")


class DataFile(io.RawIOBase):
    """A data file being written: append to it, from one thread at a time, then close it.

    It is also a binary file object, write-only and without seek.
    """

    def __init__(self, path: Path, file: BinaryIO, dtype: np.dtype[Any] | None) -> None:
        super().__init__()
        self.path = path
        self._file = file
        self._bytes = 0
        self._crc32 = 0
        self._dtype = dtype

    def append(self, data: npt.NDArray[Any] | bytes | bytearray | memoryview) -> None:
        """Append an array or bytes.

        Raises FastseqError where the system refuses (disk full), TypeError for arrays of two
        dtypes, or arrays and bytes, in one file.
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
        with writing(self.path):
            disk.write(self._file, data)
        self._crc32 = zlib.crc32(data, self._crc32)
        self._bytes += len(data)

    def write(self, data: Any, /) -> int:
        """`append` as a file object; returns the number of bytes."""
        before = self._bytes
        self.append(memoryview(data))
        return self._bytes - before

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._bytes

    def close(self) -> None:
        """Close the file; repeated calls do nothing."""
        try:
            with writing(self.path):
                self._file.close()
        finally:
            super().close()

    @property
    def entry(self) -> FileEntry:
        """The file's entry in the manifest."""
        if self._dtype is None:
            return FileEntry(self._bytes, self._crc32)
        shape = (self._bytes // self._dtype.itemsize,)
        return FileEntry(self._bytes, self._crc32, self._dtype.str, shape)


class FolderWriter:
    """Writes one commit; a context manager. Leaving the block without `commit` removes what was
    written, including folders created for it; the previous commit remains.

    Parameters
    ----------
    path : the folder, created if missing
    kind, format_version : entries of the manifest
    overwrite : replace an existing folder of the same kind
    update : change an existing folder of the same kind: `commit` may keep some of its files
    wait : seconds to wait for another writer to end
    links : names of data files that a commit also links next to the manifest, for people and other
        programs: hard links, or copies where the file system has none. Readers use the file in
        the data folder.
    inside : names of subfolders with writers of their own, which are left alone

    format_version  of the manifest; may be changed before `commit`
    number    of the commit, counted in this folder; a kind that is updated saves it as `commit`
              in the statistics, so that no number returns
    previous  with `update`: the manifest of the last commit

    Raises SettingsError: `path` is a file, exists and neither `overwrite` nor `update` is True, is
    of another kind, or is a folder with other files than fastseq's; FormatError: with `update`
    there is no intact folder, or one of a newer version; FastseqError: another process writes
    there, or the system refuses.
    """

    number: int
    previous: Manifest

    def __init__(
        self,
        path: str | Path,
        kind: str,
        format_version: int,
        overwrite: bool = False,
        links: Collection[str] = (),
        inside: Collection[str] = (),
        update: bool = False,
        wait: float = 0,
    ) -> None:
        self.root = file_path("path", path)
        self._kind = kind
        self.format_version = format_version
        self._versions = range(1, format_version + 1)  # that can be updated
        self._overwrite = overwrite or update
        self._update = update
        self._wait = wait
        self._links = frozenset(links)
        self._inside = frozenset(inside)
        self._files: dict[str, DataFile | ContainerWriter | FileEntry] = {}
        self._flushes: list[Future[None]] = []
        self._durable = False  # whether the manifest is known to survive a power cut
        self._unlisted: set[str] = set()  # own folders, while no manifest lists their files

    def __enter__(self) -> FolderWriter:
        if self._update:
            read_manifest(self.root, self._kind, self._versions)
        self._check_place()
        self._made = [folder for folder in (self.root, *self.root.parents) if not folder.exists()]
        try:
            for folder in reversed(self._made):
                with suppress(FileExistsError):  # of a concurrent writer
                    disk.make_folder(folder)
            self._lock = filelock.FileLock(self.root / LOCK, timeout=self._wait)
            self._lock.acquire()
        except filelock.Timeout:
            waited = f" after {self._wait:g} s" if self._wait else ""
            raise FastseqError(f"another process is writing to {self.root}{waited}") from None
        except (OSError, NotImplementedError) as error:
            for folder in self._made:
                with suppress(OSError):
                    folder.rmdir()
            raise FastseqError(f"cannot write to {self.root}: {reason(error)}") from error
        try:
            self._check_place()
            if self._update:
                self.previous = read_manifest(self.root, self._kind, self._versions)
            with writing(f"to {self.root}"):
                if not (self.root / MANIFEST).exists():
                    self._flush_made()
                self._sweep()
                numbers = [int(m[1]) for m in map(_DATA.fullmatch, os.listdir(self.root)) if m]
                last = self.previous.statistics.get("commit", 0) if self._update else 0
                self.number = max([*numbers, last]) + 1
                self._data = self.root / f"data-{self.number:06d}"
                self._temporary = self._data.with_suffix(".tmp")
                disk.make_folder(self._data)
                self._unlisted = {self._data.name, self._temporary.name}
        except BaseException:
            try:
                self._remove_made_folders()
            finally:
                self._lock.release()
            raise
        # closed files are flushed while others are still being written
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
                if not isinstance(file, FileEntry):
                    with suppress(FastseqError, OSError):  # the file is about to be removed
                        file.close()
            # after a commit this removes the files of the previous one
            self._sweep()
            self._remove_made_folders()
        finally:
            self._lock.release()

    def _flush_made(self) -> None:
        """Flush the folders that were created for the first commit, perhaps by a writer that was
        killed, and the lock: see _check_place."""
        there = self._made[-1].parent if self._made else self.root
        for folder in (*self._made, there):
            with suppress(PermissionError):  # to read the folder around it
                disk.flush_folder(folder.parent)
        disk.flush_folder(self.root)

    def _remove_made_folders(self) -> None:
        """Without a commit, remove the folders that were created for it."""
        with suppress(OSError):
            if not self._made or os.listdir(self.root) != [LOCK]:
                return
            # still under the lock, so that no other writer starts here
            disk.remove(self.root / LOCK)
            for folder in self._made:
                folder.rmdir()

    def create(self, name: str, dtype: npt.DTypeLike | None = None) -> DataFile:
        """A new data file, to be appended to and closed. Its dtype is by default that of the first
        array appended; a file of bytes has none."""
        path = self.path(name)
        with writing(path):
            opened = disk.create(path)
        file = DataFile(path, opened, None if dtype is None else np.dtype(dtype))
        self._files[name] = file
        return file

    def container(self, name: str) -> ContainerWriter:
        """A new data file of several arrays, each with checksums of its chunks. `close` or `commit`
        completes it."""
        path = self.path(name)
        with writing(path):
            file = ContainerWriter(path)
        self._files[name] = file
        return file

    def array(self, name: str, values: npt.NDArray[Any]) -> None:
        """Write a data file with a one-dimensional array."""
        file = self.create(name)
        file.append(values)
        self.close(file)

    def close(self, file: DataFile | ContainerWriter) -> None:
        """Complete a data file and flush it in the background. `commit` closes the remaining
        ones."""
        if isinstance(file, ContainerWriter):
            with writing(file.path):
                file.finish()
        else:
            file.close()
        self.flush(file.path)

    def flush(self, path: Path) -> None:
        """Flush what was written to a file so far, in the background."""
        self._flushes.append(self._flusher.submit(disk.flush, path))

    def discard(self, name: str) -> None:
        """Remove a data file of this commit."""
        file = self._files.pop(name)
        if not isinstance(file, FileEntry):
            file.close()
        with writing(self._data / name):
            for flush in self._flushes:
                flush.result()
            disk.remove(self._data / name)

    def entry(self, name: str) -> FileEntry:
        """The entry in the manifest of a completed data file of this commit."""
        file = self._files[name]
        if isinstance(file, ContainerWriter):
            return FileEntry(file.bytes, file.crc32, footer=file.footer)
        return file if isinstance(file, FileEntry) else file.entry

    def adopt(self, name: str) -> None:
        """Add a file that another library wrote, and closed, at `path(name)`."""
        path = self.path(name)
        with writing(path):
            self._files[name] = FileEntry(*checksum(path))
        self.flush(path)

    def path_of(self, name: str) -> Path:
        """The path of an existing data file of this commit."""
        return self._data / name

    def path(self, name: str) -> Path:
        """The path of the data file `name` of this commit. Raises ValueError for a name that is
        taken or not a plain file name."""
        if not NAME.fullmatch(name) or name in self._files:
            raise ValueError(f"{name!r}: expected a new, plain file name")
        return self._data / name

    def temporary(self, name: str) -> Path:
        """A path in a folder that is removed when the writer exits."""
        if not NAME.fullmatch(name):
            raise ValueError(f"{name!r}: expected a plain file name")
        with writing(self._temporary), suppress(FileExistsError):
            disk.make_folder(self._temporary)
        return self._temporary / name

    def commit(
        self, settings: Mapping[str, Any], statistics: Mapping[str, Any],
        keep: Collection[str] = (),
    ) -> None:  # fmt: skip
        """Make all that was written the current commit, durable when this returns.

        keep : of `previous`: the files, by their paths in it, that are also of this commit

        Raises FastseqError where the system refuses: the previous commit remains, or the message
        says that the new one is there.
        """
        for file in self._files.values():
            if not isinstance(file, FileEntry) and not file.closed:
                self.close(file)
        files = {name: self.previous.files[name] for name in keep}
        files |= {f"{self._data.name}/{name}": self.entry(name) for name in self._files}
        content = Manifest(
            self._kind, self.format_version, _version(), dict(settings), dict(statistics), files
        ).to_bytes()
        new = self.root / _NEW_MANIFEST
        with writing(f"to {self.root}"):
            for flush in self._flushes:
                flush.result()
            disk.flush_folder(self._data)
            with disk.create(new) as opened:
                disk.write(opened, content)
            disk.flush(new)
            linked = sorted(self._links & self._files.keys())
            for name in linked:
                disk.link(self._data / name, self.root / f"{name}{_NEW}")
            disk.flush_folder(self.root)
            for name in linked:
                # readers find the old links or, briefly, none
                with suppress(OSError):
                    disk.remove(self.root / name)
            self._durable = False
            self._unlisted = {self._temporary.name}
            disk.rename(new, self.root / MANIFEST)
        with writing(f"to {self.root}, but it has the new commit"):
            for name in linked:
                disk.rename(self.root / f"{name}{_NEW}", self.root / name)
            disk.flush_folder(self.root)
            self._durable = True

    def _check_place(self) -> None:
        """Refuse a folder that fastseq must not write to."""
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
                pass  # damaged: the other names show whose folder it is
            else:
                if not is_ours(content):
                    raise SettingsError(f"{root}: its {MANIFEST} is not fastseq's: choose another")
        # a writer creates the lock first, so a folder without one has no leftovers of a writer;
        # but on Windows the lock is removed when released, and subfolders may remain
        ours = self._links if raw is not None else frozenset()
        left = filter(self._is_leftover, names) if LOCK in names else ()
        strange = {*names} - ours - {*left} - {*filter(self._is_inside, names)}
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
        """Remove the files with fastseq's names that the manifest on disk does not list. Files that
        cannot be removed (open in another process on Windows) are left to the next writer.

        A manifest that was renamed but not flushed could be lost in a power cut, after the files of
        the one before: so the folder is flushed first.
        """
        files: list[str] = []
        if (self.root / MANIFEST).exists():
            try:
                files = list(read_manifest(self.root).files)
            except FormatError:
                return  # it is unknown which files belong to it
        linked = {name.rpartition("/")[2]: self.root / name for name in files}
        new = {_NEW_MANIFEST, *(f"{name}{_NEW}" for name in self._links)}
        for name in os.listdir(self.root):
            path = self.root / name
            if name in new or (name in self._links and name not in linked):
                with suppress(OSError):
                    disk.remove(path)
            elif _DATA.fullmatch(name):
                inside = f"{name}/"
                listed = {file.removeprefix(inside) for file in files if file.startswith(inside)}
                with suppress(OSError):
                    self._sweep_data(path, listed)
        for name in self._links & linked.keys():
            if not (self.root / name).exists():  # a commit was interrupted after its manifest
                with suppress(OSError):
                    disk.link(linked[name], self.root / f"{name}{_NEW}")
                    disk.rename(self.root / f"{name}{_NEW}", self.root / name)

    def _sweep_data(self, folder: Path, listed: Collection[str]) -> None:
        """Remove a data folder, or those of its files that are not listed. Raises OSError."""
        left = [name for name in os.listdir(folder) if name not in listed]
        if listed and not left:
            return
        if not self._durable and folder.name not in self._unlisted:
            disk.flush_folder(self.root)
            self._durable = True
        if not listed:
            disk.remove_folder(folder)
            return
        for name in left:
            with suppress(OSError):
                disk.remove(folder / name)

    def _is_leftover(self, name: str) -> bool:
        """Whether a writer that was killed before its first commit may have left the name; links
        are created by the commit."""
        return (
            name in (MANIFEST, _NEW_MANIFEST, LOCK)
            or (name.endswith(_NEW) and name.removesuffix(_NEW) in self._links)
            or name in self._inside
            or _DATA.fullmatch(name) is not None
        )

    def _is_inside(self, name: str) -> bool:
        """Whether a name is one of the subfolders and has a commit of its own."""
        with suppress(FormatError):
            return name in self._inside and bool(read_manifest(self.root / name))
        return False


@lru_cache(1)
def _version() -> str:
    """The version of fastseq, which takes a millisecond to find."""
    return metadata.version("fastseq")
