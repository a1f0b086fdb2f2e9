"""Reading of committed folders: manifest.json and the memory-mapped data files that it lists.

    {
     "kind": "index",
     "format_version": 1,
     "fastseq": "0.1.0",
     "settings": {...},
     "statistics": {...},
     "files": {"data-000001/postings": {"bytes": 12, "crc32": 305419896,
                                        "dtype": "<u4", "shape": [3]}, ...},
     "crc32": 2596996162
    }

The last entry is the CRC-32 of the manifest itself: of its JSON without that entry, with sorted
keys and no white space. No entry depends on the clock, the machine or the order of threads.

A reader keeps the commit that it opened: all files are mapped at once, and a mapping outlives the
file's name, so a later commit may remove the file.
"""

from __future__ import annotations

import json
import math
import mmap
import os
import re
import zlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastseq.errors import DataError, FormatError
from fastseq.settings import file_path
from fastseq.store.container import Container
from fastseq.store.files import private_map, reason

MANIFEST = "manifest.json"
CHECKPOINT = "checkpoint"  # subfolder with the checkpoint of a training run
BLOCK = 1 << 20  # bytes read at a time for a checksum

# one component of a file name: valid on every system, and never outside of the folder
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,100}")

# the format versions that can be read of a kind; None: any
VersionsOf = Callable[[str], Collection[int] | None]


class VersionError(FormatError):
    """A folder of a format version that cannot be read."""


@dataclass(frozen=True, slots=True)
class FileEntry:
    """Size and CRC-32 of a data file; for a single array also dtype (NumPy's `.str`) and shape; for
    a container the size of its footer, which the CRC-32 is of."""

    bytes: int
    crc32: int
    dtype: str | None = None
    shape: tuple[int, ...] | None = None
    footer: int | None = None

    def to_json(self) -> dict[str, Any]:
        entry: dict[str, Any] = {"bytes": self.bytes, "crc32": self.crc32}
        if self.dtype is not None and self.shape is not None:
            entry.update(dtype=self.dtype, shape=list(self.shape))
        if self.footer is not None:
            entry["footer"] = self.footer
        return entry


@dataclass(frozen=True, slots=True)
class Manifest:
    """Content of a manifest; `files` by path inside the folder, with '/'."""

    kind: str
    format_version: int
    fastseq: str
    settings: dict[str, Any]
    statistics: dict[str, Any]
    files: dict[str, FileEntry]

    def to_bytes(self) -> bytes:
        """The manifest as JSON. Raises ValueError for NaN or infinity, TypeError for non-JSON."""
        content = as_json(self.describe())
        del content["bytes"]
        content["crc32"] = _checksum(content)
        return json.dumps(content, indent=1).encode("ascii") + b"\n"

    @property
    def crc32(self) -> int:
        """The manifest's own CRC-32, which identifies the commit."""
        content = as_json(self.describe())
        del content["bytes"]
        return _checksum(content)

    def describe(self) -> dict[str, Any]:
        """The content for JSON: kind, format_version, fastseq (the version that wrote it),
        settings, statistics, files (name -> bytes, crc32 and, for arrays, dtype and shape), and
        bytes, the size of all data files."""
        return {
            "kind": self.kind,
            "format_version": self.format_version,
            "fastseq": self.fastseq,
            "settings": self.settings,
            "statistics": self.statistics,
            "files": {name: entry.to_json() for name, entry in sorted(self.files.items())},
            "bytes": sum(entry.bytes for entry in self.files.values()),
        }


def as_json(values: Any) -> Any:
    """Values after a JSON round trip: keys are strings, tuples lists; surrogates, as in file names
    that are not UTF-8, are restored. Raises as Manifest.to_bytes."""
    return json.loads(json.dumps(values, allow_nan=False))


def read_manifest(
    folder: Path, kind: str | None = None, versions: Collection[int] | VersionsOf | None = None
) -> Manifest:
    """The manifest of a folder, of any kind and version unless these are given.

    Raises FormatError: the manifest is missing, damaged or not one of fastseq; the folder is of
    another kind. Raises VersionError: its format version is too old or too new.
    """
    path = folder / MANIFEST
    try:
        raw = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        if not folder.exists():
            raise FormatError(f"{folder}: no such folder") from None
        if not folder.is_dir():
            raise FormatError(f"{folder}: a file, expected a folder that fastseq wrote") from None
        raise FormatError(
            f"{folder}: no {MANIFEST}, expected a folder that fastseq wrote"
        ) from None
    except OSError as error:
        raise FormatError(f"{path}: cannot be read: {reason(error)}") from error
    try:
        content = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{path}: damaged: not JSON ({reason(error)})") from error
    if not is_ours(content):
        raise FormatError(f"{path}: not a manifest of fastseq")

    def typed(key: str, type_: type) -> Any:
        value = content.get(key)
        if not isinstance(value, type_) or isinstance(value, bool):
            raise FormatError(f"{path}: damaged: {key!r} is missing or of the wrong type")
        return value

    # checked before the rest: another version may have other entries
    found, version = typed("kind", str), typed("format_version", int)
    if kind is not None and found != kind:
        raise FormatError(f"{folder}: holds the kind {found!r}, expected {kind!r}")
    if callable(versions):
        versions = versions(found)
    if versions is not None and version not in versions:
        known = " or ".join(map(str, sorted(versions)))
        new = version > max(versions)
        raise VersionError(
            f"{folder}: format version {version} is too {'new' if new else 'old'}: this fastseq "
            f"reads version {known} ({'upgrade fastseq' if new else 'build it again'})"
        )
    if typed("crc32", int) != _own_checksum(raw):
        raise FormatError(f"{path}: damaged: its own checksum is wrong")
    settings, statistics = typed("settings", dict), typed("statistics", dict)
    files = {name: _file_entry(name, entry, path) for name, entry in typed("files", dict).items()}
    return Manifest(found, version, typed("fastseq", str), settings, statistics, files)


def is_ours(content: Any) -> bool:
    """Whether parsed JSON looks like a manifest of fastseq, of any version."""
    keys = {"kind", "format_version", "fastseq", "files"}
    return isinstance(content, dict) and keys <= set(content)


def _file_entry(name: str, entry: Any, path: Path) -> FileEntry:
    if not all(NAME.fullmatch(part) for part in name.split("/")):
        raise FormatError(f"{path}: damaged: {name!r} is not a file name of fastseq")
    problem = FormatError(f"{path}: damaged: the entry of {name!r} is invalid")
    if not isinstance(entry, dict):
        raise problem
    size, crc32, dtype, shape = (entry.get(key) for key in ("bytes", "crc32", "dtype", "shape"))
    footer = entry.get("footer")
    if type(size) is not int or type(crc32) is not int or size < 0:
        raise problem
    if footer is not None and (type(footer) is not int or not 0 < footer <= size):
        raise problem
    if dtype is None and shape is None:
        return FileEntry(size, crc32, footer=footer)
    if not isinstance(dtype, str) or not isinstance(shape, list):
        raise problem
    try:
        kind = np.dtype(dtype)
    except (TypeError, ValueError, SyntaxError):
        raise problem from None
    # numbers only: neither object arrays nor records
    if kind.kind not in "biuf" or any(type(n) is not int or n < 0 for n in shape):
        raise problem
    if math.prod(shape) * kind.itemsize != size:
        raise problem
    if not kind.isnative:
        raise FormatError(f"{path}: written on a machine of the other byte order")
    return FileEntry(size, crc32, dtype, tuple(shape))


@lru_cache(8)
def _own_checksum(raw: bytes) -> int:
    """`_checksum` of a manifest. A commit reads the same one several times."""
    return _checksum(json.loads(raw))


def _checksum(content: Mapping[str, Any]) -> int:
    rest = {key: value for key, value in content.items() if key != "crc32"}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return zlib.crc32(text.encode("ascii"))


class Folder:
    """The files of one commit, addressed by the names under which they were created. `root` is the
    folder as it was given, `location` its absolute path, `manifest` that of the commit, with its
    `settings` and `statistics`."""

    def __init__(self, root: Path, manifest: Manifest, earlier: Folder | None = None) -> None:
        self.root = root
        self.location = root.absolute()
        self.manifest = manifest
        self.settings = manifest.settings
        self.statistics = manifest.statistics
        self._paths = {name.rpartition("/")[2]: name for name in manifest.files}
        self._maps: dict[str, mmap.mmap | bytearray] = {
            name: earlier._maps[name]
            if earlier is not None and earlier.has(root, name, entry)
            else map_file(root / name, entry)
            for name, entry in manifest.files.items()
        }

    @staticmethod
    def open(
        path: str | Path, kind: str, versions: Collection[int], earlier: Folder | None = None
    ) -> Folder:
        """Open the current commit of a folder and map all of its files.

        earlier : a commit of the same folder, opened before, whose mappings are shared

        Raises FormatError: the manifest is missing, damaged, or not of the `kind`, such as "index",
        or `versions` that the caller reads; a file is missing or of the wrong size.
        """
        root = file_path("path", path)
        manifest = read_manifest(root, kind, versions)
        while True:
            try:
                return Folder(root, manifest, earlier)
            except FormatError:
                # perhaps a commit between reading the manifest and opening the files
                latest = read_manifest(root, kind, versions)
                if latest == manifest:
                    raise
                manifest = latest

    def has(self, root: Path, name: str, entry: FileEntry) -> bool:
        """Whether this commit has the same file of a folder, by its path in the folder."""
        return self.location == root.absolute() and self.manifest.files.get(name) == entry

    @property
    def names(self) -> list[str]:
        """The names of the files, sorted."""
        return sorted(self._paths)

    def array(self, name: str, dtype: npt.DTypeLike | None = None) -> npt.NDArray[Any]:
        """The array of a file, mapped: pages are loaded on access.

        The array is flagged writable, because Numba compiles a second version of each kernel for
        read-only arrays. The mapping is private: writes never reach the file.

        Raises FormatError: there is no such array, or it is not of `dtype`.
        """
        entry = self.entry(name)
        if entry.dtype is None or entry.shape is None:
            raise FormatError(f"{self.path(name)}: not an array, according to {MANIFEST}")
        if dtype is not None and np.dtype(dtype) != np.dtype(entry.dtype):
            raise FormatError(
                f"{self.path(name)}: holds {np.dtype(entry.dtype)}, expected {np.dtype(dtype)}"
            )
        return np.frombuffer(self.buffer(name), entry.dtype).reshape(entry.shape)

    def buffer(self, name: str) -> mmap.mmap | bytearray:
        """The bytes of a file, mapped; an empty bytearray for an empty file. Raises FormatError for
        a file that is not in the manifest."""
        self.entry(name)
        return self._maps[self._paths[name]]

    def container(self, name: str) -> Container:
        """The arrays of a container. Raises FormatError for a damaged one."""
        return open_container(self.path(name), self.entry(name), self.buffer(name))

    def columns(self, name: str, names: Sequence[str]) -> list[list[Any]]:
        """Columns of a Parquet file, as Python values, in the order of `names`.

        Raises FormatError: the file is not in the manifest, not Parquet, or lacks a column.
        """
        import pyarrow as pa  # slow to import, and not needed by most readers

        from fastseq.store.parquet import read_columns

        source: Any = pa.BufferReader(pa.py_buffer(self.buffer(name)))
        try:
            return [column.to_pylist() for column in read_columns(source, [[n] for n in names])]
        except DataError:
            raise FormatError(
                f"{self.path(name)}: damaged: not Parquet with the columns {', '.join(names)}"
            ) from None

    def damaged(self) -> list[str]:
        """Read all mapped bytes and return the names, inside the folder, of the files whose
        checksum is wrong, and of links next to the manifest whose content differs."""
        files = self.manifest.files.items()
        wrong = [
            name for name, entry in files
            if not _is_intact(self.location / name, entry, self._maps[name])
        ]  # fmt: skip
        return wrong + _changed_links(self.location, self.manifest)

    def path(self, name: str) -> Path:
        """The path of a file, for messages: after a later commit it may be gone. Raises FormatError
        for a file that is not in the manifest."""
        self.entry(name)
        return self.root / self._paths[name]

    def entry(self, name: str) -> FileEntry:
        """The manifest's entry of a file. Raises FormatError where it has none."""
        if name not in self._paths:
            raise FormatError(f"{self.root}: {MANIFEST} names no file {name!r}")
        return self.manifest.files[self._paths[name]]


def verify(path: str | Path, versions: VersionsOf | None = None) -> list[str]:
    """Read every byte of a folder of any kind and return the names, inside the folder, of the
    files that are missing, of the wrong size or checksum, and of links next to the manifest whose
    content differs from their data file. Raises FormatError for a missing or damaged manifest,
    VersionError for a version that is not one of `versions`."""
    root = Path(path)
    manifest = read_manifest(root, versions=versions)
    while True:
        wrong = []
        for name, entry in manifest.files.items():
            try:
                intact = _is_intact(root / name, entry)
            except OSError:
                intact = False
            if not intact:
                wrong.append(name)
        wrong += _changed_links(root, manifest)
        latest = read_manifest(root, versions=versions) if wrong else manifest
        if latest == manifest:
            return wrong
        manifest = latest  # a commit in between has removed files


def describe(path: str | Path, versions: VersionsOf | None = None) -> dict[str, Any]:
    """`Manifest.describe` for a folder of any kind. Raises as `verify`."""
    return read_manifest(Path(path), versions=versions).describe()


def is_written(path: str | os.PathLike[str]) -> bool:
    """Whether the folder has a commit of any kind."""
    return os.path.exists(os.path.join(path, MANIFEST))


def is_begun(path: str | os.PathLike[str]) -> bool:
    """Whether the folder has the checkpoint of a training run."""
    return is_written(os.path.join(path, CHECKPOINT))


def is_finished(path: str | os.PathLike[str]) -> bool:
    """Whether the folder has the result of a training run, and no checkpoint."""
    return is_written(path) and not is_begun(path)


def checksum(path: Path) -> tuple[int, int]:
    """Size in bytes and CRC-32 of a file."""
    size = crc32 = 0
    with open(path, "rb", buffering=0) as file:
        while block := file.read(BLOCK):
            size += len(block)
            crc32 = zlib.crc32(block, crc32)
    return size, crc32


def open_container(
    path: Path, entry: FileEntry, mapped: mmap.mmap | bytearray | None = None
) -> Container:
    """The arrays of a container. `mapped` is its mapping; None: map it. Raises FormatError for a
    missing or damaged one."""
    if entry.footer is None:
        raise FormatError(f"{path}: not a container, according to {MANIFEST}")
    mapped = map_file(path, entry) if mapped is None else mapped
    return Container(path, mapped, entry.footer, entry.crc32)


def _is_intact(path: Path, entry: FileEntry, mapped: mmap.mmap | bytearray | None = None) -> bool:
    """Whether all bytes of a file, mapped or not, have their checksums. Raises OSError where it
    cannot be read."""
    if entry.footer is not None:
        try:
            # a new container, which has verified no chunk yet
            return open_container(path, entry, mapped).is_intact()
        except FormatError:
            return False
    if mapped is not None:
        return zlib.crc32(memoryview(mapped)) == entry.crc32
    return checksum(path) == (entry.bytes, entry.crc32)


def _changed_links(root: Path, manifest: Manifest) -> list[str]:
    """The links next to the manifest whose content differs from their data file. A missing link
    is no error: a copy of the folder may lack them."""
    wrong = []
    for name, entry in manifest.files.items():
        link = root / name.rpartition("/")[2]
        try:
            same = "/" not in name or not link.exists() or link.samefile(root / name)
            if not same and checksum(link) != (entry.bytes, entry.crc32):
                wrong.append(link.name)
        except FileNotFoundError:
            continue  # a concurrent commit
        except OSError:
            wrong.append(link.name)
    return wrong


def map_file(path: Path, entry: FileEntry) -> mmap.mmap | bytearray:
    """A private mapping of a data file. Raises FormatError for a missing one or of another size."""
    try:
        with open(path, "rb") as file:
            size = file.seek(0, 2)
            if size != entry.bytes:
                raise FormatError(
                    f"{path}: damaged: {size} bytes, expected {entry.bytes} by {MANIFEST}"
                )
            return private_map(file, size)
    except FileNotFoundError:
        raise FormatError(f"{path}: missing, but named in {MANIFEST}") from None
    except OSError as error:
        raise FormatError(f"{path}: cannot be read: {reason(error)}") from error
