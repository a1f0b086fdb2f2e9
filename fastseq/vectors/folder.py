"""Word vectors on disk.

    VECTORS/
      manifest.json         kind "vectors", settings and statistics
      words.parquet         word, count; the rows of the arrays, in order: a second name of
      vectors.safetensors   "vectors" float32[V, d], and what else belongs to them: likewise
      data-00000n/          the two files of the standing commit
      checkpoint/           the last checkpoint of their training

Further arrays have names of their own: "output" float32[V, d] for training that goes on, "subwords"
float32[buckets, d] of vectors that are sums of pieces of words. The arrays are written and mapped
without ever being in memory twice, however large they are.

Format of vectors.safetensors: eight bytes, the length of a JSON header in little-endian order; the
header, {name: {dtype, shape, data_offsets}}, filled up with spaces; the arrays.
"""

from __future__ import annotations

import json
import math
import mmap
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from fastseq.errors import DataError, FormatError, SettingsError
from fastseq.store.folder import CHECKPOINT, MANIFEST, Folder, is_begun
from fastseq.store.parquet import write_columns
from fastseq.store.writer import FolderWriter
from fastseq.types import Float32, Int64
from fastseq.vectors.checks import check_counts, check_finite, check_words

KIND = "vectors"
VERSION = 1
WORDS = "words.parquet"
VECTORS = "vectors.safetensors"
MAIN = "vectors"  # the array that every folder has

Arrays = dict[str, npt.NDArray[Any]]

_TYPES = {"F32": "<f4", "I64": "<i8", "I32": "<i4", "U32": "<u4", "U16": "<u2", "U8": "|u1"}
_NAMES = {np.dtype(kind): name for name, kind in _TYPES.items()}
_LENGTH = 8  # bytes of the header's length
_ALIGNED = 64  # bytes; where the first array begins


@dataclass(frozen=True, slots=True, eq=False)
class VectorsContent:
    """Word vectors as they were read.

    words       V different strings
    arrays      "vectors" float32[V, d] and what else there is, mapped: memory is filled as they
                are looked at, and what is written to them never reaches the file
    counts      int64[V] of the words in the training text; None where nobody counted
    settings    what the writer was told
    statistics  what the writer counted; "words" and "dimensions" always
    """

    path: Path
    words: list[str]
    arrays: Arrays
    counts: Int64 | None
    settings: dict[str, Any]
    statistics: dict[str, Any]

    @property
    def vectors(self) -> Float32:
        """float32[V, d]"""
        return self.arrays[MAIN]


class VectorsWriter:
    """A place where word vectors are trained and then written; a context manager.

    The place is taken when the block begins, so that two trainings cannot share it and that a
    place that is refused is refused before training. What stands there stands until `commit`.

    Parameters
    ----------
    path : the folder, made where missing
    overwrite : standing vectors may be replaced, and a checkpoint forgotten
    resume : the checkpoint there may be continued

    Raises
    ------
    SettingsError
        Vectors stand there, or the checkpoint of a training that did not end, and neither was
        said; `resume` where a training has ended; another kind of folder, or not ours at all.
    FastseqError
        Another process trains there, or the system refuses.
    """

    def __init__(self, path: str | Path, overwrite: bool = False, resume: bool = False) -> None:
        self.path = Path(path)
        self._overwrite = overwrite
        self._resume = resume
        self._writer = FolderWriter(
            path, KIND, VERSION, overwrite or resume, beside=(WORDS, VECTORS), inside=(CHECKPOINT,)
        )

    def __enter__(self) -> VectorsWriter:
        stands, begun = (self.path / MANIFEST).exists(), is_begun(self.path)
        if not self._overwrite:
            if begun and not self._resume:
                raise SettingsError(
                    f"{self.path} holds the checkpoint of an unfinished training: resume=True "
                    "continues it, overwrite=True replaces it"
                )
            if stands and not begun:
                raise SettingsError(
                    f"{self.path} already exists: start=… trains from these vectors into another "
                    "folder, overwrite=True replaces them"
                )
        self._writer.__enter__()
        if begun and not self._resume:
            shutil.rmtree(self.path / CHECKPOINT, ignore_errors=True)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._writer.__exit__(kind, error, traceback)

    def commit(
        self,
        words: Sequence[str],
        arrays: Mapping[str, npt.NDArray[Any]],
        counts: Int64 | None = None,
        settings: Mapping[str, Any] | None = None,
        statistics: Mapping[str, Any] | None = None,
    ) -> None:
        """Write the vectors, whole or not at all; the same content gives the same bytes. A
        checkpoint there has had its day, and goes.

        Parameters
        ----------
        words : V different strings, none of them empty
        arrays : "vectors" [V, d], and any others. Floating-point numbers are written as float32
        counts : int64[V], or None
        settings, statistics : JSON; numbers are finite

        Raises
        ------
        DataError
            Words that are empty, there twice or no valid Unicode, another number of words than of
            vectors or counts, an array of another type or with a number that is not finite.
        FastseqError
            The system refuses; what stood before still stands.
        """
        plain = {name: _plain(name, array) for name, array in sorted(arrays.items())}
        # wide numbers first, so that all are aligned
        plain = dict(sorted(plain.items(), key=lambda each: -each[1].itemsize))
        V, d = _shape_of(plain)
        check_words(words, V)
        columns: dict[str, Any] = {"word": list(words), "count": [None] * V}
        if counts is not None:
            columns["count"] = check_counts(counts, V)
        writer = self._writer
        write_columns(writer.path(WORDS), columns)
        writer.adopt(WORDS)
        file = writer.create(VECTORS)
        file.append(_header(plain))
        for array in plain.values():
            if array.size:
                file.append(array.reshape(-1).view(np.uint8).data)
        writer.close(file)
        writer.commit(settings or {}, {"words": V, "dimensions": d, **(statistics or {})})
        shutil.rmtree(self.path / CHECKPOINT, ignore_errors=True)


def write_vectors(
    path: str | Path,
    words: Sequence[str],
    arrays: Mapping[str, npt.NDArray[Any]],
    counts: Int64 | None = None,
    settings: Mapping[str, Any] | None = None,
    statistics: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> None:
    """Write word vectors that are trained already. As VectorsWriter and its `commit`."""
    with VectorsWriter(path, overwrite) as writer:
        writer.commit(words, arrays, counts, settings, statistics)


def read_vectors(path: str | Path) -> VectorsContent:
    """Open word vectors: words and counts are read, arrays mapped. Checksums are not looked at.

    Raises
    ------
    FormatError
        No vectors there, those of a newer fastseq, a file that is missing, cut short, or not what
        it must be.
    """
    root = Path(path)
    if is_begun(root) and not (root / MANIFEST).exists():
        raise FormatError(
            f"{root}: holds the checkpoint of a training that did not end: resume it first"
        )
    folder = Folder.open(root, KIND, {VERSION})
    words, found = folder.columns(WORDS, ["word", "count"])
    arrays = _mapped(folder.buffer(VECTORS), folder.path(VECTORS))
    try:
        V, _ = _shape_of(arrays)
        check_words(words, V)
        counts = None
        if None not in found:
            counts = check_counts(np.array(found), V)
        elif any(count is not None for count in found):
            raise DataError("some of the counts are missing")
    except DataError as error:
        raise FormatError(f"{root}: damaged: {error}") from error
    return VectorsContent(root, words, arrays, counts, folder.settings, folder.statistics)


def _shape_of(arrays: Mapping[str, npt.NDArray[Any]]) -> tuple[int, int]:
    """V and d of the vectors among some arrays."""
    vectors = arrays.get(MAIN)
    if vectors is None:
        raise DataError(f"no array {MAIN!r} among {', '.join(arrays) or 'none'}")
    if vectors.ndim != 2 or vectors.dtype != np.float32 or not vectors.size:
        raise DataError(
            f"{MAIN} are {vectors.dtype} of shape {vectors.shape}, expected float32 [words, "
            "dimensions], at least one of each"
        )
    return vectors.shape


def _plain(name: str, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """An array of a type that the file can hold, C-contiguous, its numbers finite."""
    array = np.asarray(array)
    kind = np.dtype("<f4") if array.dtype.kind == "f" else array.dtype.newbyteorder("<")
    if kind not in _NAMES:
        known = ", ".join(kind.name for kind in _NAMES)
        raise DataError(f"{name} is an array of {array.dtype}, expected one of {known}")
    with np.errstate(over="ignore"):  # what is too large is refused as infinite
        plain = np.require(array.astype(kind, copy=False), requirements="C")
    if kind.kind == "f":
        check_finite(name, plain)
    return plain


def _header(arrays: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """What the file begins with; the arrays follow in order."""
    entries: dict[str, Any] = {}
    at = 0
    for name, array in arrays.items():
        shape, stop = list(array.shape), at + array.nbytes
        entries[name] = {
            "dtype": _NAMES[array.dtype.newbyteorder("<")],
            "shape": shape,
            "data_offsets": [at, stop],
        }
        at = stop
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-(_LENGTH + len(text)) % _ALIGNED)
    return len(text).to_bytes(_LENGTH, "little") + text


def _mapped(buffer: mmap.mmap | bytearray, path: Path) -> Arrays:
    """The arrays of a file in safetensors' format, over its mapped bytes."""
    damaged = FormatError(f"{path}: damaged: not safetensors, or one of another form")
    start = _LENGTH + int.from_bytes(buffer[:_LENGTH], "little")
    if start > len(buffer):
        raise damaged
    try:
        entries = json.loads(buffer[_LENGTH:start])
        arrays = {
            name: _array(buffer, start, entry)
            for name, entry in entries.items()
            if name != "__metadata__"
        }
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise damaged from error
    return arrays


def _array(buffer: mmap.mmap | bytearray, start: int, entry: Any) -> npt.NDArray[Any]:
    """One array. Raises one of several exceptions for an entry that makes no sense."""
    kind = np.dtype(_TYPES[entry["dtype"]])
    shape, (first, last) = entry["shape"], entry["data_offsets"]
    if any(type(n) is not int or n < 0 for n in (*shape, first, last)):
        raise ValueError("sizes are whole numbers from 0")
    count = math.prod(shape)
    if first + count * kind.itemsize != last or start + last > len(buffer):
        raise ValueError("an array lies outside of the file")
    values: npt.NDArray[Any] = np.frombuffer(buffer, kind, count, start + first)
    if not values.flags.aligned:  # as other programs may write them
        values = values.copy()
    return values.astype(kind.newbyteorder("="), copy=False).reshape(shape)
