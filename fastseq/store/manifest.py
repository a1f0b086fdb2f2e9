"""manifest.json: the one file that says what a folder holds.

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
keys and no white space. Nothing in it depends on the clock, the machine or the order of threads.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fastseq.errors import FormatError
from fastseq.store.atomic import reason

MANIFEST = "manifest.json"

# a part of a file's name that is the same file on every system, and never climbs out
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,100}")


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One data file: its size, its CRC-32 and, when it is one array, dtype (NumPy's `.str`)
    and shape."""

    bytes: int
    crc32: int
    dtype: str | None = None
    shape: tuple[int, ...] | None = None

    def to_json(self) -> dict[str, Any]:
        entry: dict[str, Any] = {"bytes": self.bytes, "crc32": self.crc32}
        if self.dtype is not None and self.shape is not None:
            entry.update(dtype=self.dtype, shape=list(self.shape))
        return entry


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a commit says: `files` maps each path inside the folder, with '/', to its entry."""

    kind: str
    format_version: int
    fastseq: str
    settings: dict[str, Any]
    statistics: dict[str, Any]
    files: dict[str, FileEntry]

    def to_bytes(self) -> bytes:
        """The manifest as JSON. Raises ValueError for a NaN or an infinity, TypeError for what
        is not JSON."""
        content = {
            "kind": self.kind,
            "format_version": self.format_version,
            "fastseq": self.fastseq,
            "settings": self.settings,
            "statistics": self.statistics,
            "files": {name: entry.to_json() for name, entry in sorted(self.files.items())},
        }
        content = as_json(content)
        content["crc32"] = _checksum(content)
        return json.dumps(content, indent=1).encode("ascii") + b"\n"


def as_json(values: Any) -> Any:
    """Values as a reader of their JSON gets them: keys are strings, tuples lists.

    Surrogates, as in names of files that are not UTF-8, are escaped in the file and restored.
    Raises as Manifest.to_bytes.
    """
    return json.loads(json.dumps(values, allow_nan=False))


def read_manifest(
    folder: Path, kind: str | None = None, versions: Collection[int] | None = None
) -> Manifest:
    """The manifest of a folder, of any kind and version unless these are given.

    Raises
    ------
    FormatError
        There is none; it is damaged or not one of ours; the folder is of another kind; its format
        version is too old or too new.
    """
    path = folder / MANIFEST
    try:
        raw = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        if not folder.exists():
            raise FormatError(f"{folder}: no such folder") from None
        raise FormatError(f"{folder}: no {MANIFEST} there, so nothing that fastseq wrote") from None
    except OSError as error:
        raise FormatError(f"{path}: cannot be read: {reason(error)}") from error
    try:
        content = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{path}: damaged: not JSON ({reason(error)})") from error
    if not is_ours(content):
        raise FormatError(f"{path}: not a manifest of fastseq")
    # before anything else is looked at: another version may have other entries
    found = _typed(content, "kind", str, path)
    version = _typed(content, "format_version", int, path)
    if kind is not None and found != kind:
        raise FormatError(f"{folder}: holds the kind {found!r}, expected {kind!r}")
    if versions is not None and version not in versions:
        known = " or ".join(map(str, sorted(versions)))
        new = version > max(versions)
        raise FormatError(
            f"{folder}: format version {version} is too {'new' if new else 'old'}: this fastseq "
            f"reads version {known} ({'upgrade fastseq' if new else 'build it again'})"
        )
    return _checked(content, path)


def is_ours(content: Any) -> bool:
    """Whether parsed JSON looks like a manifest of fastseq, of whatever version."""
    return isinstance(content, dict) and {"kind", "format_version", "fastseq", "files"} <= set(
        content
    )


def _checked(content: Any, path: Path) -> Manifest:
    if _typed(content, "crc32", int, path) != _checksum(content):
        raise FormatError(f"{path}: damaged: its own checksum is wrong")
    files = _typed(content, "files", dict, path)
    return Manifest(
        _typed(content, "kind", str, path),
        _typed(content, "format_version", int, path),
        _typed(content, "fastseq", str, path),
        _typed(content, "settings", dict, path),
        _typed(content, "statistics", dict, path),
        {_safe_name(name, path): _entry(name, entry, path) for name, entry in files.items()},
    )


def _typed(content: Mapping[str, Any], key: str, kind: type, path: Path) -> Any:
    value = content.get(key)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise FormatError(f"{path}: damaged: {key!r} is missing or of the wrong type")
    return value


def _safe_name(name: str, path: Path) -> str:
    if not all(NAME.fullmatch(part) for part in name.split("/")):
        raise FormatError(f"{path}: damaged: {name!r} is not a file name of ours")
    return name


def _entry(name: str, entry: Any, path: Path) -> FileEntry:
    problem = FormatError(f"{path}: damaged: the entry of {name!r} makes no sense")
    if not isinstance(entry, dict):
        raise problem
    size, crc32, dtype, shape = (entry.get(key) for key in ("bytes", "crc32", "dtype", "shape"))
    if type(size) is not int or type(crc32) is not int or size < 0:
        raise problem
    if dtype is None and shape is None:
        return FileEntry(size, crc32)
    if not isinstance(dtype, str) or not isinstance(shape, list):
        raise problem
    try:
        kind = np.dtype(dtype)
    except (TypeError, ValueError, SyntaxError):
        raise problem from None
    # no object arrays, no records: numbers only
    if kind.kind not in "biuf" or any(type(n) is not int or n < 0 for n in shape):
        raise problem
    count = 1
    for n in shape:
        count *= n
    if count * kind.itemsize != size:
        raise problem
    if not kind.isnative:
        raise FormatError(f"{path}: written on a machine of the other byte order")
    return FileEntry(size, crc32, dtype, tuple(shape))


def _checksum(content: Mapping[str, Any]) -> int:
    rest = {key: value for key, value in content.items() if key != "crc32"}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return zlib.crc32(text.encode("ascii"))
