"""Word vectors on disk, and what is checked of words, counts and vectors.

    VECTORS/
      manifest.json         kind "vectors", settings and statistics
      words.parquet         word, count; the rows of the arrays, in order; a link to the commit's
      vectors.safetensors   "vectors" float32[V, d], and further arrays; a link as well
      data-00000n/          the two files of the current commit
      checkpoint/           the last checkpoint of their training

Further arrays: "output" float32[V, d] for further training, "subwords" float32[buckets, d] of
n-grams, and others. Arrays are written and mapped without a second copy in memory.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from fastseq.errors import DataError, FormatError, SettingsError
from fastseq.store.folder import CHECKPOINT, Folder, is_begun, is_written
from fastseq.store.weights import Arrays, array_bytes, pack_header, views
from fastseq.store.writer import FolderWriter
from fastseq.types import Float32, Int64

KIND = "vectors"
VERSION = 1
WORDS = "words.parquet"
VECTORS = "vectors.safetensors"
MAIN = "vectors"  # the array that every folder has

# words, arrays, counts, settings and statistics, as VectorsWriter.write takes them
Content = tuple[list[str], Arrays, Int64 | None, dict[str, Any], dict[str, Any]]

_KINDS = [np.dtype(kind) for kind in ("<f4", "<i8", "<i4", "<u4", "<u2", "|u1")]
_ALIGNED = 64  # bytes; alignment of the first array
_NUMBERS = 1 << 20  # checked at a time


@dataclass(frozen=True, slots=True, eq=False)
class VectorsContent:
    """The content of a folder of word vectors."""

    path: Path
    words: list[str]  # V different ones
    arrays: Arrays  # "vectors" float32[V, d] and others, mapped copy-on-write
    counts: Int64 | None  # [V] of the words in the training text
    settings: dict[str, Any]
    statistics: dict[str, Any]  # "words" and "dimensions" always

    @property
    def vectors(self) -> Float32:
        """float32[V, d]"""
        return self.arrays[MAIN]


class VectorsWriter(FolderWriter):
    """Writes the word vectors of a training run; a context manager.

    The folder is locked from the beginning of the block, so two runs cannot share it and a folder
    that is not free is refused before training. Vectors there remain until `write`.

    path : the folder, made where missing
    overwrite : replace existing vectors, and discard a checkpoint
    resume : the checkpoint there may be continued

    Raises SettingsError for vectors there, or the checkpoint of an unfinished training, without
    `overwrite` or `resume`, for `resume` where a training has ended, and for another kind of
    folder; FastseqError where another process trains there or the system refuses.
    """

    def __init__(self, path: str | Path, overwrite: bool = False, resume: bool = False) -> None:
        links, inside = (WORDS, VECTORS), (CHECKPOINT,)
        super().__init__(path, KIND, VERSION, overwrite or resume, links, inside)
        self._replace, self._resume = overwrite, resume

    def __enter__(self) -> Self:
        begun = is_begun(self.root)
        if not self._replace:
            if begun and not self._resume:
                raise SettingsError(
                    f"{self.root} holds the checkpoint of an unfinished training: resume=True "
                    "continues it, overwrite=True replaces it"
                )
            if is_written(self.root) and not begun:
                raise SettingsError(
                    f"{self.root} already exists: start=… trains from these vectors into another "
                    "folder, overwrite=True replaces them"
                )
        super().__enter__()
        if begun and not self._resume:
            shutil.rmtree(self.root / CHECKPOINT, ignore_errors=True)
        return self

    def write(
        self,
        words: Sequence[str],
        arrays: Mapping[str, npt.NDArray[Any]],
        counts: Int64 | None = None,
        settings: Mapping[str, Any] | None = None,
        statistics: Mapping[str, Any] | None = None,
    ) -> None:
        """Commit the vectors, whole or not at all, and remove the checkpoint. The same content
        gives the same bytes.

        words : V different strings, none of them empty
        arrays : "vectors" [V, d], and any others. Floating-point numbers are written as float32
        counts : int64[V], or None
        settings, statistics : JSON; numbers are finite

        Raises DataError for words that are empty, duplicate or no valid Unicode, another number of
        words than of vectors or counts, an array of another type or with a number that is not
        finite; FastseqError where the system refuses, which leaves the folder unchanged.
        """
        from fastseq.store.parquet import write_columns  # imports pyarrow

        plain = {name: _plain(name, array) for name, array in sorted(arrays.items())}
        # wide numbers first, so that all are aligned
        plain = dict(sorted(plain.items(), key=lambda each: -each[1].itemsize))
        V, d = _shape_of(plain)
        check_words(words, V)
        columns: dict[str, Any] = {"word": list(words), "count": [None] * V}
        if counts is not None:
            columns["count"] = check_counts(counts, V)
        write_columns(self.path(WORDS), columns)
        self.adopt(WORDS)
        file = self.create(VECTORS)
        file.append(pack_header(plain, _ALIGNED))
        for array in plain.values():
            if array.size:
                file.append(array_bytes(array))
        self.close(file)
        self.commit(settings or {}, {"words": V, "dimensions": d, **(statistics or {})})
        shutil.rmtree(self.root / CHECKPOINT, ignore_errors=True)


def write_vectors(path: str | Path, *content: Any, overwrite: bool = False, **more: Any) -> None:
    """Write trained word vectors. Arguments as those of VectorsWriter.write."""
    with VectorsWriter(path, overwrite) as writer:
        writer.write(*content, **more)


def read_vectors(path: str | Path) -> VectorsContent:
    """Open word vectors: words and counts are read, arrays mapped. Checksums are not verified.

    Raises FormatError for no vectors, those of a newer fastseq, or files that are missing, cut
    short or damaged.
    """
    root = Path(path)
    if is_begun(root) and not is_written(root):
        raise FormatError(
            f"{root}: holds the checkpoint of an unfinished training: resume it first"
        )
    folder = Folder.open(root, KIND, {VERSION})
    words, found = folder.columns(WORDS, ["word", "count"])
    try:
        arrays, _ = views(folder.buffer(VECTORS))
    except ValueError as error:
        raise FormatError(
            f"{folder.path(VECTORS)}: damaged: not safetensors, or one of another form ({error})"
        ) from error
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
    """V and d."""
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
    """The array in a type of the file, C-contiguous. Raises DataError for others, and for numbers
    that are not finite."""
    array = np.asarray(array)
    kind = np.dtype("<f4") if array.dtype.kind == "f" else array.dtype.newbyteorder("<")
    if kind not in _KINDS:
        known = ", ".join(kind.name for kind in _KINDS)
        raise DataError(f"{name} is an array of {array.dtype}, expected one of {known}")
    with np.errstate(over="ignore"):  # what is too large becomes infinite and is refused
        plain = np.require(array.astype(kind, copy=False), requirements="C")
    if kind.kind == "f":
        check_finite(name, plain)
    return plain


def check_words(words: Sequence[str], expected: int) -> None:
    """Raise DataError unless these are `expected` different, non-empty strings of valid Unicode."""
    if len(words) != expected:
        raise DataError(f"{len(words):,} words, but {expected:,} vectors: expected one for each")
    for number, word in enumerate(words):
        if not isinstance(word, str) or not word:
            raise DataError(f"word {number} (from 0) is {word!r}, expected a string")
    if len(set(words)) != len(words):
        firsts: dict[str, int] = {}
        number = next(n for n, word in enumerate(words) if firsts.setdefault(word, n) != n)
        raise DataError(
            f"word {number} (from 0), {words[number]!r}, is there twice: expected different words"
        )
    try:
        "".join(words).encode()
    except UnicodeEncodeError:
        number = next(n for n, word in enumerate(words) if re.search("[\ud800-\udfff]", word))
        shown = f"word {number} (from 0), {words[number]!r}"
        raise DataError(f"{shown}, is no valid Unicode text") from None


def check_counts(counts: npt.ArrayLike, expected: int) -> Int64:
    """The counts as int64[expected]. Raises DataError for other shapes, types or negative ones."""
    values = np.asarray(counts)
    if values.shape != (expected,) or values.dtype.kind not in "iu":
        raise DataError(
            f"counts are {values.dtype} of shape {values.shape}, expected whole numbers, one for "
            f"each of {expected:,} words"
        )
    if len(values) and values.min() < 0:
        raise DataError(f"the count of word {int(values.argmin())} (from 0) is negative")
    return values.astype(np.int64)


def check_finite(name: str, array: npt.NDArray[Any]) -> None:
    """Raise DataError, naming the row, for an array with a NaN or an infinity."""
    if not array.size:
        return
    rows = array.reshape(len(array), -1) if array.ndim else array.reshape(1, 1)
    step = max(1, _NUMBERS // rows.shape[1])
    for start in range(0, len(rows), step):
        finite = np.isfinite(rows[start : start + step]).all(axis=1)
        if not finite.all():
            row = start + int(finite.argmin())
            raise DataError(f"{name}: row {row} (from 0) holds a number that is not finite")
