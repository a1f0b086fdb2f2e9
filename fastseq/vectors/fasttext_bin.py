"""fastText's models (.bin): settings, dictionary, and the matrices of input and output.

All numbers are little-endian. In order: the magic number and the version (int32 each); twelve
settings (int32) and the sampling threshold (float64); of the dictionary how many entries, words
and labels (int32) and tokens (int64), the size of a pruned model's index (int64, -1 for none), and
the entries: the word's bytes, a zero, its count (int64), its kind (int8, 0 a word, 1 a label); a
byte that says whether the input is quantised, and its rows and columns (int64) and float32
numbers; the same of the output.

Version 12 is read and written. Version 11 is read: supervised models had no character n-grams
then, whatever their settings say.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import BinaryIO

import numpy as np

from fastseq.errors import DataError, SettingsError
from fastseq.store.files import bytes_left, created, opened, peek, reason
from fastseq.types import Float32, Int64, Texts
from fastseq.vectors.fasttext_model import (
    PACKED,
    FastTextFile,
    FastTextSettings,
    means,
    outputs,
    packed,
    unpacked,
)

__all__ = [
    "FastTextFile",
    "FastTextSettings",
    "FastTextStream",
    "is_fasttext",
    "read_fasttext",
    "write_fasttext",
]

MAGIC = (793712314).to_bytes(4, "little")

_VERSION = 12
_SIZES = struct.Struct("<3i2q")
_ENTRY = struct.Struct("<qb")
_SHAPE = struct.Struct("<2q")
_BLOCK = 1 << 22  # bytes of a file read or written at a time
_WORDS = 1 << 13  # words whose vectors are made at a time
_LONGEST_WORD = 1 << 16  # bytes


def is_fasttext(path: str | os.PathLike[str]) -> bool:
    """Whether a file begins as a model of fastText does; False for one that cannot be read."""
    try:
        with opened(path) as file:
            return peek(file, len(MAGIC)) == MAGIC
    except (OSError, EOFError, zlib.error):
        return False


def read_fasttext(path: str | os.PathLike[str]) -> FastTextFile:
    """The whole of a model, from a .bin file as it is or under gzip.

    Raises
    ------
    DataError
        The file is missing, is no model of fastText or of another version, quantised, cut short
        or damaged, or holds a number that is not finite; the message says where.
    """
    with _reading(path) as file:
        stream = FastTextStream(file, path)
        rows, width = stream.input_shape
        table = stream.matrix(rows, width, "input")
        output = stream.matrix(*stream.output_shape(), "output")
        stream.end()
        try:
            return FastTextFile(
                stream.settings,
                texts_of(stream.entries),
                stream.counts,
                stream.is_label,
                table,
                output,
                stream.tokens,
            )
        except DataError as error:
            raise DataError(f"{path}: {error}") from None


def write_fasttext(path: str | os.PathLike[str], file: FastTextFile) -> None:
    """Write a model as fastText's .bin, version 12, whole or not at all; under gzip if `path`
    ends in .gz.

    Raises
    ------
    DataError
        A word is empty, holds a zero byte, is longer than 64 KiB or comes twice, a count is
        negative, or a number is not finite.
    SettingsError
        `path` is a folder, or its folder does not exist.
    FastseqError
        The system refuses.
    """
    data = file.words.data.tobytes()
    entries = [data[a:b] for a, b in pairwise(file.words.offsets.tolist())]
    seen: set[tuple[bytes, bool]] = set()
    is_label = file.is_label.tolist()
    for number, (word, label) in enumerate(zip(entries, is_label, strict=True), 1):
        if not word or b"\0" in word or len(word) >= _LONGEST_WORD:
            raise DataError(f"cannot write {path}: entry {number} is empty, too long or holds \\0")
        if (word, label) in seen:
            shown = word.decode("utf-8", "replace")
            raise DataError(f"cannot write {path}: {shown!r} is there twice (entry {number})")
        seen.add((word, label))
    if (file.counts < 0).any() or file.tokens < 0:
        raise DataError(f"cannot write {path}: a count is negative")
    labels = sum(is_label)
    with created(path) as out:
        out.write(MAGIC + struct.pack("<i", _VERSION) + packed(file.settings))
        out.write(_SIZES.pack(len(entries), len(entries) - labels, labels, file.tokens, -1))
        for word, count, label in zip(entries, file.counts.tolist(), is_label, strict=True):
            out.write(word + b"\0" + _ENTRY.pack(count, label))
        for name, matrix in (("input", file.input), ("output", file.output)):
            out.write(b"\0" + _SHAPE.pack(*matrix.shape))
            for first, last in _blocks(*matrix.shape):
                block = np.ascontiguousarray(matrix[first:last], "<f4")
                _finite(f"cannot write {path}", block, range(first, last), name)
                out.write(block.data)


class FastTextStream:
    """A model read from front to end: settings and dictionary at once, then the matrices.

    Raises DataError as read_fasttext, from every method too.

    Attributes
    ----------
    settings, tokens : as FastTextFile has them
    entries : the bytes of the words, then of the labels
    counts, is_label : int64 and bool for each entry
    num_words : how many of the entries are words
    input_shape : rows and columns of the input
    """

    def __init__(self, file: BinaryIO, path: str | os.PathLike[str]) -> None:
        self._file = file
        self._path = path
        self._left = bytes_left(file)
        self._ahead = b""  # read, and not yet taken
        if self._take(4, "the magic number") != MAGIC:
            raise DataError(f"{path}: not a model of fastText, expected its .bin")
        version = struct.unpack("<i", self._take(4, "the version"))[0]
        if version not in (_VERSION - 1, _VERSION):
            raise DataError(f"{path}: fastText's version {version}, expected 11 or 12")
        try:
            self.settings = unpacked(self._take(PACKED.size, "the settings"), version < _VERSION)
        except SettingsError as error:
            raise DataError(f"{path}: damaged settings of fastText: {error}") from None
        self._dictionary()
        self._dense("input")
        wanted = self.num_words + self.settings.buckets
        self.input_shape = self._shape(wanted, "input", "its words and buckets")

    def means(
        self, chosen: Sequence[int], others: Sequence[bytes] = ()
    ) -> Iterator[tuple[Sequence[int], Float32]]:
        """The vectors of chosen words (numbers of entries, ascending), some at a time, and then of
        others, numbered after the entries: each the mean of the word's own row, if it has one, and
        those of its n-grams. Reads to the end of the file, and of the input keeps only the rows
        that are needed."""
        from fastseq.kernels.text.ngrams import bucket_ids

        texts = texts_of([*(self.entries[number] for number in chosen), *others])
        buckets = self.settings.buckets
        ids, ends = bucket_ids(texts.data, texts.offsets, *self.settings.ngrams, buckets)
        used = np.zeros(buckets, np.bool_)
        used[ids] = True
        places = np.cumsum(used, dtype=np.int32) - np.int32(1)
        wanted = np.concatenate(
            [np.asarray(chosen, np.int64), self.num_words + np.flatnonzero(used)]
        )
        table = self._rows(wanted)
        self._skip(*self.output_shape())
        self.end()
        ids = places[ids]
        numbers = [*chosen, *range(len(self.entries), len(self.entries) + len(others))]
        for first in range(0, len(numbers), _WORDS):
            part = numbers[first : first + _WORDS]
            own = np.arange(first, first + len(part), dtype=np.int32)
            own[own >= len(chosen)] = -1
            here = ends[first : first + len(part) + 1]
            yield part, means(table[: len(chosen)], own, table[len(chosen) :], ids, here)

    def matrix(self, rows: int, width: int, name: str) -> Float32:
        """The matrix that comes next."""
        table = self._empty(rows, width)
        for first, last in _blocks(rows, width):
            self._fill(table[first:last], name)
            _finite(str(self._path), table[first:last], range(first, last), name)
        return table.astype(np.float32, copy=False)

    def output_shape(self) -> tuple[int, int]:
        """Rows and columns of the output, when the input has been read."""
        self._dense("output")
        return self._shape(outputs(self.settings, self.is_label), "output", "what it predicts")

    def end(self) -> None:
        """Nothing may follow."""
        if self._ahead or self._file.read(1):
            raise DataError(f"{self._path}: goes on after the output matrix")

    def _dictionary(self) -> None:
        sizes = _SIZES.unpack(self._take(_SIZES.size, "the sizes of the dictionary"))
        total, self.num_words, labels, self.tokens, pruned = sizes
        if pruned >= 0:
            raise DataError(
                f"{self._path}: a pruned model of fastText, expected a whole one (.bin)"
            )
        if min(sizes[:4]) < 0 or pruned < -1 or total != self.num_words + labels:
            raise self._damaged(
                f"{total} entries, {self.num_words} words, {labels} labels, {self.tokens} tokens"
            )
        self._need(total * (_ENTRY.size + 2), f"the dictionary of {total} entries")
        self.entries, counts, kinds = self._entries(total)
        self.counts = np.array(counts, np.int64)
        self.is_label = np.array(kinds, np.int8) == 1
        wrong = self.is_label != (np.arange(total) >= self.num_words)
        if wrong.any():
            number = int(wrong.argmax())
            kind = "label" if self.is_label[number] else "word"
            raise self._damaged(
                f"entry {number + 1} is a {kind}; {self.num_words} words come first"
            )

    def _entries(self, total: int) -> tuple[list[bytes], list[int], list[int]]:
        """Words, counts and kinds of all entries."""
        words: list[bytes] = []
        counts, kinds = [], []
        data, at, unpack = self._ahead, 0, _ENTRY.unpack_from
        while len(words) < total:
            stop = data.find(b"\0", at, at + _LONGEST_WORD)
            if stop < 0 or stop + 1 + _ENTRY.size > len(data):
                if stop < 0 and len(data) - at >= _LONGEST_WORD:
                    raise self._damaged(f"entry {len(words) + 1} has no end of its word")
                block = self._file.read(_BLOCK)
                if not block:
                    raise DataError(
                        f"{self._path}: cut short: in entry {len(words) + 1} of {total} "
                        "of the dictionary"
                    )
                data, at = data[at:] + block, 0
                continue
            count, kind = unpack(data, stop + 1)
            if stop == at or count < 0 or kind not in (0, 1):
                raise self._damaged(
                    f"entry {len(words) + 1} has {stop - at} bytes, count {count}, kind {kind}"
                )
            words.append(data[at:stop])
            counts.append(count)
            kinds.append(kind)
            at = stop + 1 + _ENTRY.size
            self._left -= len(words[-1]) + 1 + _ENTRY.size
        self._ahead = data[at:]
        return words, counts, kinds

    def _rows(self, wanted: Int64) -> Float32:
        """The wanted rows, in ascending order, of the input."""
        rows, width = self.input_shape
        table = self._empty(len(wanted), width)
        held = np.empty((max(1, _BLOCK // (4 * width)), width), "<f4")
        for first, last in _blocks(rows, width):
            low, high = np.searchsorted(wanted, (first, last))
            if low == high:
                self._skip(last - first, width)
                continue
            block = held[: last - first]
            self._fill(block, "input")
            table[low:high] = block[wanted[low:high] - first]
            _finite(str(self._path), table[low:high], wanted[low:high], "input")
        return table.astype(np.float32, copy=False)

    def _dense(self, name: str) -> None:
        """The byte that says whether a matrix is quantised. fastText never quantises the output
        alone."""
        mark = self._take(1, f"the mark of the {name}")[0]
        if mark > 1:
            raise self._damaged(f"the mark of the {name} is {mark}, expected 0 or 1")
        if mark and name == "input":
            raise DataError(
                f"{self._path}: a quantised model of fastText (.ftz), expected a whole one (.bin)"
            )

    def _shape(self, rows: int, name: str, why: str) -> tuple[int, int]:
        """Rows and columns of the matrix that comes next, which must be as many as expected."""
        shape: tuple[int, int] = _SHAPE.unpack(self._take(_SHAPE.size, f"the size of the {name}"))
        if shape != (rows, self.settings.dimensions):
            raise self._damaged(
                f"the {name} is {shape[0]} x {shape[1]}, expected {rows} x "
                f"{self.settings.dimensions} by {why}"
            )
        self._need(4 * rows * shape[1], f"the {name} of {rows} x {shape[1]} numbers")
        return shape

    def _empty(self, rows: int, width: int) -> Float32:
        try:
            return np.empty((rows, width), "<f4")
        except MemoryError:
            size = 4 * rows * width
            raise DataError(f"{self._path}: {size} bytes of numbers, too many to hold") from None

    def _damaged(self, found: str) -> DataError:
        return DataError(f"{self._path}: damaged model of fastText: {found}")

    def _need(self, n: int, what: str) -> None:
        """Raise unless the file can hold n more bytes."""
        if n > self._left:
            raise DataError(
                f"{self._path}: cut short: expected {n} bytes of {what}, "
                f"{max(self._left, 0)} are left"
            )

    def _take(self, n: int, what: str) -> bytes:
        data = bytearray(n)
        self._need(n, what)
        self._into(memoryview(data), what)
        return bytes(data)

    def _fill(self, rows: Float32, name: str) -> None:
        self._into(memoryview(rows.data).cast("B"), f"the {name} matrix")

    def _into(self, view: memoryview, what: str) -> None:
        """Fill the view with the bytes that come next."""
        n = min(len(view), len(self._ahead))
        view[:n] = self._ahead[:n]
        self._ahead = self._ahead[n:]
        while n < len(view):
            got = self._file.readinto(view[n:])  # type: ignore[attr-defined]
            if not got:
                missing = len(view) - n
                raise DataError(f"{self._path}: cut short: {missing} bytes of {what} are missing")
            n += got
        self._left -= len(view)

    def _skip(self, rows: int, width: int) -> None:
        """Leave out rows of the matrix that comes next."""
        n = 4 * rows * width
        self._left -= n
        held = min(n, len(self._ahead))
        self._ahead = self._ahead[held:]
        if n > held:  # the last byte is read, so that an end before it is met
            self._file.seek(n - held - 1, os.SEEK_CUR)
            if not self._file.read(1):
                raise DataError(f"{self._path}: cut short within a matrix")


def texts_of(words: Sequence[bytes]) -> Texts:
    """Bytes of words as texts."""
    offsets = np.zeros(len(words) + 1, np.int64)
    np.cumsum([len(word) for word in words], out=offsets[1:])
    return Texts(np.frombuffer(bytearray(b"".join(words)), np.uint8), offsets)


def _blocks(rows: int, width: int) -> Iterator[tuple[int, int]]:
    """Ranges of rows, a few megabytes each."""
    step = max(1, _BLOCK // (4 * width))
    return ((first, min(first + step, rows)) for first in range(0, rows, step))


def _finite(where: str, rows: Float32, numbers: Sequence[int] | Int64, name: str) -> None:
    """Raise unless all is finite in rows of a matrix, which stand in it at `numbers`."""
    finite = np.isfinite(rows).all(axis=1)
    if not finite.all():
        row = int(numbers[int(finite.argmin())]) + 1
        raise DataError(
            f"{where}: row {row} of the {name} matrix holds a number that is not finite"
        )


@contextmanager
def _reading(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    try:
        with opened(path) as file:
            yield file
    except FileNotFoundError:
        raise DataError(f"{path}: no such file, expected a model of fastText") from None
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read ({reason(error)})") from error
