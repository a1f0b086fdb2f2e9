"""Files of data: on this machine, on the file systems of pyarrow (s3://, gs://, hdfs://, …), and
standard input; the search of folders and globs for them.

A folder is searched at every depth for the suffixes of `locations.FORMATS`, case-insensitively,
compressed or not; a file named *.json only if it is JSON Lines. Names that begin with '.' or '_'
(`_SUCCESS`, checksums, unfinished work) are ignored by Hadoop's convention, and so are folders that
fastseq wrote.
"""

from __future__ import annotations

import glob
import io
import json
import mmap
import os
import posixpath
import re
import shutil
import stat
import sys
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from weakref import WeakKeyDictionary

import pyarrow as pa

from fastseq.errors import DataError, FastseqError, SettingsError
from fastseq.store.files import compression_of, reason
from fastseq.store.folder import MANIFEST
from fastseq.store.locations import (
    EXPECTED,
    STDIN,
    STDIN_NAME,
    format_of,
    glob_matches,
    is_uri,
)
from fastseq.store.parquet import opened_file, parquet_file

HIDDEN = "._"  # first characters of names that are not data, by Hadoop's convention
HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"
_INTEGER = re.compile(r"-?[0-9]+")
_LONGEST_LINE = 1 << 20  # of a file called *.json that is examined


class DataFile(ABC):
    """A file that can be read several times, from any position.

    name        for messages
    path        where it is a file of this machine, else None
    read_ahead  bytes of the read buffer of each column of Parquet. With it the pages of a column
                are read one by one; without it the whole column of a row group is, which can be
                gigabytes
    """

    name: str
    path: Path | None = None
    read_ahead = 64 << 10

    @abstractmethod
    def open(self) -> AbstractContextManager[Any]:
        """The file as pyarrow reads it. Raises OSError."""

    def parquet(self, **options: Any) -> AbstractContextManager[Any]:
        """The Parquet file; `options` of pq.ParquetFile."""
        return self._parquet(options)

    @contextmanager
    def _parquet(self, options: Mapping[str, Any]) -> Iterator[Any]:
        with self.open() as file, parquet_file(file, **options) as found:
            yield found

    def head(self, size: int) -> bytes:
        """The first bytes, at most `size`. Raises DataError where the file cannot be read."""
        with self.reading(), self.open() as file:
            return bytes(file.read(size))

    @contextmanager
    def text(self) -> Iterator[Any]:
        """The file as a stream, decompressed if its content is gzip or zstd."""
        with ExitStack() as stack:
            file = stack.enter_context(self.open())
            found = compression_of(bytes(file.read(4)))
            file.seek(0)
            if found is not None:
                file = stack.enter_context(pa.CompressedInputStream(file, found))
            yield file

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Convert the errors of pyarrow and the system in the block to a DataError with the
        name."""
        try:
            yield
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{self.name}: cannot be read ({reason(error)})") from error


class LocalFile(DataFile):
    """A file of this machine."""

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self.path: Path = path

    @contextmanager
    def open(self) -> Iterator[Any]:
        with opened_file(self.path) as file:
            yield file

    def parquet(self, **options: Any) -> AbstractContextManager[Any]:
        return parquet_file(self.path, **options)


class RemoteFile(DataFile):
    """A file of one of pyarrow's file systems, where it has the path `inner`."""

    read_ahead = 4 << 20  # a request for each

    def __init__(self, name: str, system: Any, inner: str) -> None:
        self.name, self._system, self.inner = name, system, inner

    def open(self) -> AbstractContextManager[Any]:
        file: AbstractContextManager[Any] = self._system.open_input_file(self.inner)
        return file


class MemoryFile(DataFile):
    """Bytes in memory, or mapped."""

    def __init__(self, name: str, data: Any) -> None:
        self.name, self.data = name, pa.py_buffer(data)

    def __str__(self) -> str:
        return self.name

    def open(self) -> AbstractContextManager[Any]:
        file: AbstractContextManager[Any] = pa.BufferReader(self.data)
        return file


# ---- standard input and pipes

_inputs: WeakKeyDictionary[Any, MemoryFile] = WeakKeyDictionary()  # by sys.stdin
_pipes: dict[tuple[int, int], MemoryFile] = {}  # by device and inode


def standard_input() -> MemoryFile:
    """Standard input as a file: the redirected file, or a copy in a temporary one, which is
    removed with the process. It is read once: later calls return the same.

    Raises DataError: it is closed; FastseqError: the copy cannot be written.
    """
    stream = sys.stdin
    if stream is None or stream.closed:
        raise DataError("standard input is closed")
    if stream not in _inputs:
        _inputs[stream] = _mapped(stream.buffer, STDIN_NAME)
    return _inputs[stream]


def _piped(path: Path) -> MemoryFile:
    """A named pipe, such as `<(…)` in a shell, as standard_input."""
    status = path.stat()
    key = (status.st_dev, status.st_ino)
    if key not in _pipes:
        with open(path, "rb") as stream:
            _pipes[key] = _mapped(stream, str(path))
    return _pipes[key]


def _mapped(stream: Any, name: str) -> MemoryFile:
    """The rest of a stream, mapped from its file or a copy."""
    data: Any = b""
    try:
        with suppress(io.UnsupportedOperation, AttributeError):  # not the stream of a file
            handle = stream.fileno()
            status = os.fstat(handle)
            if stat.S_ISREG(status.st_mode) and status.st_size:
                start = stream.tell()
                data = memoryview(mmap.mmap(handle, 0, access=mmap.ACCESS_READ))[start:]
        if not len(data):
            with tempfile.TemporaryFile(prefix="fastseq-") as copy:
                shutil.copyfileobj(stream, copy, 1 << 20)
                copy.flush()
                if copy.tell():
                    data = mmap.mmap(copy.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        place = tempfile.gettempdir()
        problem = f"cannot copy {name} to a temporary file in {place}: {reason(error)}"
        raise FastseqError(problem) from error
    return MemoryFile(name, data)


def _not_empty(file: MemoryFile) -> MemoryFile:
    if not file.data.size:
        raise DataError(f"{file.name} is empty, expected {EXPECTED} or an Arrow stream")
    return file


def single_file(path: str | os.PathLike[str]) -> str | os.PathLike[str] | MemoryFile:
    """The content of standard input ("-"), of a pipe or of a URI, else the path, for what reads a
    single file several times. Raises DataError where it cannot be read."""
    if os.fspath(path) == STDIN:
        return standard_input()
    if is_uri(path):
        file = RemoteFile(os.fspath(path), *file_system(os.fspath(path)))
        with file.reading(), file.open() as opened:
            return MemoryFile(file.name, opened.read())
    return _piped(Path(path)) if Path(path).is_fifo() else path


# ---- paths, folders, globs and URIs


@dataclass(frozen=True, slots=True)
class FoundFiles:
    """What some paths, folders, globs and URIs name.

    files       in the order of the paths; sorted inside a folder or glob; each once
    partitions  of each file the columns from the names of its folders
    skipped     names of files in folders that are empty or have another suffix
    repeated    names of files that are named several times, each once
    """

    files: list[DataFile]
    partitions: list[dict[str, pa.Scalar]]
    skipped: list[str]
    repeated: list[str]


def find_files(given: Iterable[str | os.PathLike[str]]) -> FoundFiles:
    """The files to read. Raises DataError: a path does not exist, or nothing in it is data;
    SettingsError: standard input is named twice."""
    found: dict[str, tuple[str, str, DataFile]] = {}  # by a name that is one for all links
    roots: dict[str, list[str]] = {}  # by file system
    skipped: list[str] = []
    repeated: dict[str, None] = {}

    def add(key: str, store: str, inner: str, file: DataFile) -> None:
        if found.setdefault(key, (store, inner, file))[2] is not file:
            repeated[file.name] = None

    given = list(given)
    if [os.fspath(each) for each in given].count(STDIN) > 1:
        raise SettingsError("standard input (-) is named twice: it can be read once")
    for each in given:
        if os.fspath(each) == STDIN:
            found[STDIN] = (STDIN, "", _not_empty(standard_input()))
            continue
        if is_uri(each):
            store, root, remote = _search_uri(os.fspath(each), skipped)
            for file in remote:
                add(file.name, store, file.inner, file)
        else:
            store, (root, paths) = "", search_path(Path(each), skipped)
            for path in paths:
                local = _not_empty(_piped(path)) if path.is_fifo() else LocalFile(path)
                add(str(path.resolve()), store, os.path.abspath(path), local)
        roots.setdefault(store, []).append(root)
    bases: dict[str, str | None] = {}
    for store, names in roots.items():
        try:
            bases[store] = os.path.commonpath(names)
        except ValueError:  # on several drives
            bases[store] = None
    places = [(bases.get(store), inner) for store, inner, _ in found.values()]
    files = [file for *_, file in found.values()]
    return FoundFiles(files, _partitions(places), sorted(skipped), list(repeated))


def search_path(path: Path, skipped: list[str]) -> tuple[str, list[Path]]:
    """The folder that Hive partitions are relative to, absolute, and the files that a path, folder
    or glob of this machine names; names of others are appended to `skipped`.

    Raises DataError: the path does not exist, or nothing in it is data.
    """
    root = path
    if path.is_dir():
        files = sorted(data_files(path, skipped))
        if not files:
            raise DataError(f"{path}: no file of data in this folder or below it: {_SUFFIXES}")
    elif path.exists():
        files, root = [path], path.parent
    elif glob.has_magic(str(path)):
        files = []
        for match in map(Path, sorted(glob.glob(str(path), recursive=True))):
            if not match.is_dir():
                files.append(match)
            elif match.name[0] not in HIDDEN:
                files += sorted(data_files(match, skipped))
        if not files:
            raise DataError(f"{path}: no file matches")
        while glob.has_magic(str(root)):
            root = root.parent
    else:
        raise DataError(f"{path}: no such file or folder")
    return os.path.abspath(root), files


_SUFFIXES = "*.parquet, *.jsonl, *.ndjson, *.json, *.csv or *.tsv"


def data_files(folder: Path, skipped: list[str]) -> Iterator[Path]:
    """The files of data at and below a folder, in no order; the names of others are appended to
    `skipped`."""
    if (folder / MANIFEST).exists() and any(folder.glob("data-*")):
        return
    for entry in folder.iterdir():
        if entry.name[0] in HIDDEN:
            continue
        if entry.is_dir():
            yield from data_files(entry, skipped)
        elif not (entry.exists() and not entry.stat().st_size) and _is_data(LocalFile(entry)):
            yield entry
        else:
            skipped.append(str(entry))


def _is_data(file: DataFile) -> bool:
    """Whether a file in a folder is data, by its suffix; of a file called *.json, which is most
    often a single value, the first line decides."""
    if format_of(file.name) is None:
        return False
    if ".json" not in Path(file.name.lower()).suffixes[-2:]:
        return True
    with suppress(DataError, ValueError, RecursionError), file.reading(), file.text() as stream:
        head = bytes(stream.read(_LONGEST_LINE))
        line, end, _ = head.removeprefix(b"\xef\xbb\xbf").lstrip().partition(b"\n")
        if not end and len(head) == _LONGEST_LINE:
            return line.startswith(b"{")
        return isinstance(json.loads(line), dict)
    return False


# ---- URIs


def file_system(uri: str) -> tuple[Any, str]:
    """pyarrow's file system of a URI and the path in it. Raises DataError."""
    from pyarrow.fs import FileSystem  # slow to import

    try:
        system, path = FileSystem.from_uri(uri)
    except (pa.ArrowException, OSError, ValueError, TypeError) as error:
        raise DataError(f"{uri}: {reason(error)}") from error
    return system, path


def _search_uri(uri: str, skipped: list[str]) -> tuple[str, str, list[RemoteFile]]:
    """The file system's name, the folder that Hive partitions are relative to, and the files that
    the URI of a file, folder or glob names. The parameters of a file system follow a question mark,
    which is no wildcard here."""
    from pyarrow.fs import FileSelector, FileType

    location, _, parameters = uri.partition("?")
    query = f"?{parameters}" if parameters else ""
    scheme = uri.partition("://")[0].lower()
    pattern: list[str] = []
    if "*" in location or "[" in location:
        whole = location.split("/")
        first = next(i for i, part in enumerate(whole) if "*" in part or "[" in part)
        location, pattern = "/".join(whole[:first]), whole[first:]
        if location.endswith((":/", "://")):
            location += "/"  # the root folder
    system, base = file_system(location + query)
    base = base.rstrip("/") or base

    def named(inner: str) -> RemoteFile:
        slash = "" if inner.startswith("/") or scheme != "file" else "/"
        return RemoteFile(f"{scheme}://{slash}{inner}", system, inner)

    files: list[RemoteFile] = []
    try:
        info = system.get_file_info(base)
        if info.type == FileType.File and not pattern:
            return scheme, posixpath.dirname(base), [named(base)]
        if info.type != FileType.Directory:
            raise DataError(f"{uri}: no such file or folder")
        entries = system.get_file_info(FileSelector(base, recursive=True))
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{uri}: {reason(error)}") from error
    plain = {entry.path: entry for entry in entries if entry.type == FileType.File}
    ours = _folders_of_fastseq(plain)
    for inner in sorted(plain):
        parts = posixpath.relpath(inner, base).split("/")
        whole_match = bool(pattern) and glob_matches(parts, pattern)
        depth = _matched_depth(parts, pattern)
        if whole_match:
            files.append(named(inner))
        elif depth is not None and not any(part[0] in HIDDEN for part in parts[depth:]):
            if any(inner.startswith(f"{folder}/") for folder in ours):
                continue
            file = named(inner)
            if plain[inner].size != 0 and _is_data(file):
                files.append(file)
            else:
                skipped.append(file.name)
    if not files:
        raise DataError(
            f"{uri}: "
            + ("no file matches" if pattern else f"no file of data in this folder: {_SUFFIXES}")
        )
    return scheme, base, files


def _matched_depth(parts: Sequence[str], pattern: Sequence[str]) -> int | None:
    """The depth of the outermost folder of a file that a pattern matches, 0 without a pattern;
    None where it matches none."""
    if not pattern:
        return 0
    for depth in range(1, len(parts)):
        if parts[depth - 1][0] not in HIDDEN and glob_matches(parts[:depth], pattern):
            return depth
    return None


def _folders_of_fastseq(paths: Iterable[str]) -> list[str]:
    """Folders that have a manifest and data folders."""
    paths = list(paths)
    with_manifest = [posixpath.dirname(p) for p in paths if posixpath.basename(p) == MANIFEST]
    return [f for f in with_manifest if any(p.startswith(f"{f}/data-") for p in paths)]


# ---- Hive partitions: folders called KEY=VALUE


def _partitions(places: Sequence[tuple[str | None, str]]) -> list[dict[str, pa.Scalar]]:
    """For each file, of a base folder and its absolute path, the columns from the folders between
    them, typed as pyarrow does: int32 (here also int64) where all values of a key are integers,
    else string."""
    keys = [{} if not base else _keys(path, base) for base, path in places]
    kinds: dict[str, pa.DataType] = {}
    for name in dict.fromkeys(name for each in keys for name in each):
        values = [text for each in keys if (text := each.get(name)) is not None]
        kinds[name] = pa.string()
        if values and all(map(_INTEGER.fullmatch, values)):
            for kind, bits in ((pa.int64(), 63), (pa.int32(), 31)):
                if all(-(1 << bits) <= int(text) < 1 << bits for text in values):
                    kinds[name] = kind

    def scalar(text: str | None, kind: pa.DataType) -> pa.Scalar:
        return pa.scalar(text if text is None or kind == pa.string() else int(text), kind)

    return [{name: scalar(text, kinds[name]) for name, text in each.items()} for each in keys]


def _keys(path: str, base: str) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for part in Path(os.path.relpath(os.path.dirname(path), base)).parts:
        name, equals, value = part.partition("=")
        if equals and name:
            text = unquote(value)
            found.setdefault(unquote(name), None if text == HIVE_NULL else text)
    return found
