"""Models of fastText: in memory, and as its .bin files.

All numbers are little-endian. In order: the magic number and the version (int32 each); twelve
settings (int32) and the sampling threshold (float64); of the dictionary the number of entries,
words and labels (int32) and tokens (int64), the size of a pruned model's index (int64, -1 for
none), and the entries: the word's bytes, a zero, its count (int64), its kind (int8, 0 a word, 1 a
label); a byte that is 1 if the input is quantised, its rows and columns (int64) and float32
numbers; the same of the output.

Version 12 is read and written. Version 11 is read: its supervised models have no character
n-grams, whatever their settings say.
"""

from __future__ import annotations

import math
import os
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from itertools import pairwise
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from fastseq.errors import DataError, SettingsError
from fastseq.kernels.text.ngrams import bucket_ids
from fastseq.settings import one_of, real, whole
from fastseq.store.files import bytes_left, created, opened, peek, reason
from fastseq.text.subwords import Subwords
from fastseq.text.tables import Dictionary
from fastseq.types import Float32, Int32, Int64, Texts
from fastseq.vectors.subword_vectors import SubwordVectors, means

MAGIC = (793712314).to_bytes(4, "little")

_VERSION = 12
_MODELS = ("cbow", "skipgram", "supervised")  # from 1 in a file
_LOSSES = ("hs", "ns", "softmax", "ova")  # from 1 in a file
_SETTINGS = struct.Struct("<12id")
_SIZES = struct.Struct("<3i2q")
_ENTRY = struct.Struct("<qb")
_SHAPE = struct.Struct("<2q")
_BLOCK = 1 << 22  # bytes of a file read or written at a time
_WORDS = 1 << 13  # words whose vectors are computed at a time
_LONGEST_WORD = 1 << 16  # bytes


@dataclass(frozen=True, slots=True)
class FastTextSettings:
    """Training settings in the order of the file, with fastText's names for them; the defaults are
    its own for word vectors. Raises SettingsError for values out of range."""

    dimensions: int = 100  # dim
    window: int = 5  # ws: maximum context words on each side
    epochs: int = 5  # epoch
    min_count: int = 5  # minCount: minimum occurrences of a word
    negatives: int = 5  # neg: negative samples
    word_ngrams: int = 1  # wordNgrams: maximum length of word n-grams, which share the buckets
    loss: str = "ns"  # "hs" (hierarchical), "ns" (negative sampling), "softmax", "ova"
    model: str = "skipgram"  # "cbow", "skipgram", "supervised"
    buckets: int = 2_000_000  # bucket: rows of the input after those of the words
    low: int = 3  # minn: minimum code points of a character n-gram
    high: int = 6  # maxn: maximum; 0 for no n-grams
    update_rate: int = 100  # lrUpdateRate: tokens between two updates of the learning rate
    sample: float = 1e-4  # t: threshold of subsampling

    def __post_init__(self) -> None:
        whole("dimensions", self.dimensions, 1)
        for name in ("window", "epochs", "min_count", "negatives", "word_ngrams", "update_rate"):
            whole(name, getattr(self, name), 0)
        one_of("loss", self.loss, _LOSSES)
        one_of("model", self.model, _MODELS)
        whole("low", self.low, 0)
        whole("high", self.high, 0)
        whole("buckets", self.buckets, 1 if self.ngrams[1] else 0)
        real("sample", self.sample, lambda t: 0 <= t < math.inf, "at least 0")

    @property
    def ngrams(self) -> tuple[int, int]:
        """Minimum and maximum code points of a character n-gram, both at least 1 (fastText treats
        minn 0 as 1); (0, 0) for none."""
        low = max(self.low, 1)
        return (low, self.high) if self.high >= low else (0, 0)


@dataclass(frozen=True, slots=True, eq=False)
class FastTextFile:
    """A model of fastText: V words and L labels, d dimensions. Raises DataError where sizes or
    types are not consistent."""

    settings: FastTextSettings
    words: Texts  # V + L: the words in the order of their ids, then the labels
    counts: Int64  # [V + L] occurrences of each
    is_label: npt.NDArray[np.bool_]  # [V + L]
    input: Float32  # [V + buckets, d] the words' own vectors, then those of the buckets
    output: Float32  # [M, d] a row for each label of a supervised model, for each word of others
    tokens: int  # of the training text

    def __post_init__(self) -> None:
        n, d = len(self.words), self.settings.dimensions
        for name, array, kind, shape in (
            ("counts", self.counts, np.int64, (n,)),
            ("is_label", self.is_label, np.bool_, (n,)),
            ("input", self.input, np.float32, (self.num_words + self.settings.buckets, d)),
            ("output", self.output, np.float32, (_outputs(self.settings, self.is_label), d)),
        ):
            if array.dtype != kind or array.shape != shape:
                raise DataError(
                    f"{name} of a fastText model is {array.dtype}{list(array.shape)}, "
                    f"expected {np.dtype(kind)}{list(shape)}"
                )
        if self.is_label[: self.num_words].any():
            raise DataError("a label before a word, expected all words of a fastText model first")

    @property
    def num_words(self) -> int:
        """V."""
        return len(self.is_label) - int(np.count_nonzero(self.is_label))

    @property
    def subwords(self) -> SubwordVectors | None:
        """The vectors of n-grams; None where there are none."""
        low, high = self.settings.ngrams
        if not high:
            return None
        grams = Subwords(low, high, self.settings.buckets)
        return SubwordVectors(grams, self.input[self.num_words :])

    def vectors(self, words: Texts) -> Float32:
        """float32[W, d]: the vector of each word, known or not.

        It is the mean of the word's own row, if any, and those of its character n-grams
        (fastText's get_word_vector); zeros if there are none.
        """
        V = self.num_words
        own = Dictionary(Texts(self.words.data, self.words.offsets[: V + 1])).columns(words)
        ids, ends = bucket_ids(
            words.data, words.offsets, *self.settings.ngrams, self.settings.buckets
        )
        return means(self.input[:V], own, self.input[V:], ids, ends)


def _outputs(settings: FastTextSettings, is_label: npt.NDArray[np.bool_]) -> int:
    """Rows of the output matrix."""
    return int(np.count_nonzero(is_label == (settings.model == "supervised")))


def fasttext_file(
    words: Sequence[str],
    vectors: Float32,
    counts: Int64 | None,
    subwords: Any,
    output: Float32 | None,
    settings: Mapping[str, Any],
) -> FastTextFile:
    """The model of word vectors. Its input has a row for every word, such that the mean of the
    word's rows is its vector, and for every bucket (0.8 GB for two million buckets of 100
    dimensions), zeros if unused.

    Without `output` the model's is zeros: good for look-ups, not for further training. Missing
    counts are 1, missing settings fastText's defaults.

    Raises SettingsError where vectors of other words are not made of n-grams.
    """
    if subwords is not None and not isinstance(subwords, SubwordVectors):
        raise SettingsError("a model of fastText holds vectors of n-grams, and these are others")
    texts, (V, d) = Texts.from_strings(words), vectors.shape
    names = ("window", "epochs", "min_count", "sample", "negatives")
    given = {name: settings[name] for name in names if name in settings}
    given |= {"low": 0, "high": 0, "buckets": 0} if subwords is None else subwords.settings
    given["model"] = "cbow" if settings.get("architecture") == "cbow" else "skipgram"
    made = FastTextSettings(dimensions=d, **given)
    rows: Float32 = np.zeros((V + made.buckets, d), np.float32)
    rows[:V] = vectors
    if subwords is not None:
        sums, many = subwords.sums_of(texts)
        rows[:V] *= (many + 1).astype(np.float32)[:, None]
        rows[:V] -= sums
        rows[V:][slice(None) if subwords.buckets is None else subwords.buckets] = subwords.table
    counts = np.ones(V, np.int64) if counts is None else counts
    return FastTextFile(
        made, texts, counts, np.zeros(V, np.bool_), rows,
        np.zeros((V, d), np.float32) if output is None else np.asarray(output), int(counts.sum()),
    )  # fmt: skip


def is_fasttext(path: str | os.PathLike[str]) -> bool:
    """Whether a file begins like a model of fastText; False for one that cannot be read."""
    try:
        with opened(path) as file:
            return peek(file, len(MAGIC)) == MAGIC
    except (OSError, EOFError, zlib.error):
        return False


def read_fasttext(path: str | os.PathLike[str]) -> FastTextFile:
    """Read a model from a .bin file, plain or under gzip.

    Raises DataError for a file that is missing, no model of fastText or of another version,
    quantised, cut short or damaged, or holds a number that is not finite; the message says where.
    """
    try:
        with opened(path) as file:
            stream = FastTextStream(file, path)
            return FastTextFile(
                stream.settings, texts_of(stream.entries), stream.counts, stream.is_label,
                stream.input(), stream.output(), stream.tokens,
            )  # fmt: skip
    except FileNotFoundError:
        raise DataError(f"{path}: no such file, expected a model of fastText") from None
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read ({reason(error)})") from error


def write_fasttext(path: str | os.PathLike[str], file: FastTextFile) -> None:
    """Write a model as fastText's .bin, version 12, whole or not at all; under gzip if `path`
    ends in .gz.

    Raises DataError for a word that is empty, duplicate, longer than 64 KiB or holds a zero byte, a
    negative count or a number that is not finite, SettingsError where `path` is a folder or its
    folder does not exist, FastseqError where the system refuses.
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
    settings, labels = list(astuple(file.settings)), sum(is_label)
    settings[6] = _LOSSES.index(file.settings.loss) + 1
    settings[7] = _MODELS.index(file.settings.model) + 1
    with created(path) as out:
        out.write(MAGIC + struct.pack("<i", _VERSION) + _SETTINGS.pack(*settings))
        out.write(_SIZES.pack(len(entries), len(entries) - labels, labels, file.tokens, -1))
        for word, count, label in zip(entries, file.counts.tolist(), is_label, strict=True):
            out.write(word + b"\0" + _ENTRY.pack(count, label))
        for name, matrix in (("input", file.input), ("output", file.output)):
            out.write(b"\0" + _SHAPE.pack(*matrix.shape))
            for first, last in _blocks(*matrix.shape):
                block = np.ascontiguousarray(matrix[first:last], "<f4")
                _check_finite(f"cannot write {path}", block, range(first, last), name)
                out.write(block.data)


class FastTextStream:
    """A model read from front to end: settings and dictionary at once, then the matrices.

    Every method raises DataError as read_fasttext does.

    Attributes
    ----------
    settings, tokens : as in FastTextFile
    entries : the bytes of the words, then of the labels
    counts, is_label : int64 and bool for each entry
    num_words : number of entries that are words
    """

    def __init__(self, file: BinaryIO, path: str | os.PathLike[str]) -> None:
        self._file, self._path = file, path
        self._left = bytes_left(file)
        if self._take(4, "the magic number") != MAGIC:
            raise DataError(f"{path}: not a model of fastText, expected its .bin")
        version = struct.unpack("<i", self._take(4, "the version"))[0]
        if version not in (_VERSION - 1, _VERSION):
            raise DataError(f"{path}: fastText's version {version}, expected 11 or 12")
        try:
            self.settings = self._read_settings(version)
        except SettingsError as error:
            raise DataError(f"{path}: damaged settings of fastText: {error}") from None
        self._read_dictionary()

    def input(self, wanted: Int64 | None = None) -> Float32:
        """The input matrix, or the wanted rows of it, ascending."""
        return self._matrix("input", self.num_words + self.settings.buckets, wanted)

    def output(self, wanted: Int64 | None = None) -> Float32:
        """The output matrix, or the wanted rows of it, after the input. Nothing may follow."""
        found = self._matrix("output", _outputs(self.settings, self.is_label), wanted)
        if self._file.read(1):
            raise DataError(f"{self._path}: has more data after the output matrix")
        return found

    def means(
        self, chosen: Sequence[int], others: Sequence[bytes] = ()
    ) -> Iterator[tuple[Sequence[int], Float32]]:
        """The vectors of chosen words (numbers of entries, ascending), some at a time, and then of
        others, numbered after the entries: each the mean of the word's own row, if any, and those
        of its n-grams. Reads to the end of the file, and holds only the rows that are needed."""
        texts = texts_of([*(self.entries[number] for number in chosen), *others])
        buckets, C = self.settings.buckets, len(chosen)
        if buckets > self._left:  # each takes a byte at least: refused before memory is allocated
            total = self.num_words + buckets
            self._need(4 * total * self.settings.dimensions, f"the input of {total} rows")
        ids, ends = bucket_ids(texts.data, texts.offsets, *self.settings.ngrams, buckets)
        used = np.zeros(buckets, np.bool_)
        used[ids] = True
        rows: Int32 = (np.cumsum(used, dtype=np.int32) - np.int32(1))[ids]
        wanted = [np.asarray(chosen, np.int64), self.num_words + np.flatnonzero(used)]
        table = self.input(np.concatenate(wanted))
        self.output(np.zeros(0, np.int64))
        numbers = [*chosen, *range(len(self.entries), len(self.entries) + len(others))]
        for first in range(0, len(numbers), _WORDS):
            part = numbers[first : first + _WORDS]
            own = np.arange(first, first + len(part), dtype=np.int32)
            own[own >= C] = -1
            yield part, means(table[:C], own, table[C:], rows, ends[first : first + len(part) + 1])

    def _read_settings(self, version: int) -> FastTextSettings:
        """Raises SettingsError for impossible ones."""
        fields: list[Any] = list(_SETTINGS.unpack(self._take(_SETTINGS.size, "the settings")))
        for at, name, names in ((6, "loss", _LOSSES), (7, "model", _MODELS)):
            if not 1 <= fields[at] <= len(names):
                raise SettingsError(f"{name} is {fields[at]}, expected 1 to {len(names)}")
            fields[at] = names[fields[at] - 1]
        if version < _VERSION and fields[7] == "supervised":
            fields[10] = 0
        return FastTextSettings(*fields)

    def _read_dictionary(self) -> None:
        sizes = _SIZES.unpack(self._take(_SIZES.size, "the sizes of the dictionary"))
        total, self.num_words, labels, self.tokens, pruned = sizes
        if pruned >= 0:
            raise DataError(
                f"{self._path}: a pruned fastText model, expected an unpruned one (.bin)"
            )
        if min(sizes[:4]) < 0 or pruned < -1 or total != self.num_words + labels:
            raise self._damaged(
                f"{total} entries, {self.num_words} words, {labels} labels, {self.tokens} tokens"
            )
        self._need(total * (_ENTRY.size + 2), f"the dictionary of {total} entries")
        self.entries, counts, kinds = self._read_entries(total)
        self.counts: Int64 = np.array(counts, np.int64)
        self.is_label = np.array(kinds, np.int8) == 1
        wrong = self.is_label != (np.arange(total) >= self.num_words)
        if wrong.any():
            number = int(wrong.argmax())
            kind = "label" if self.is_label[number] else "word"
            raise self._damaged(
                f"entry {number + 1} is a {kind}; {self.num_words} words come first"
            )

    def _read_entries(self, total: int) -> tuple[list[bytes], list[int], list[int]]:
        """Words, counts and kinds of all entries."""
        words: list[bytes] = []
        counts, kinds = [], []
        data, at, unpack = b"", 0, _ENTRY.unpack_from
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
                self._left -= len(block)
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
        self._file.seek(at - len(data), os.SEEK_CUR)
        self._left += len(data) - at
        return words, counts, kinds

    def _matrix(self, name: str, rows: int, wanted: Int64 | None) -> Float32:
        """The matrix that comes next, of `rows` rows, or the wanted rows of it."""
        mark = self._take(1, f"the mark of the {name}")[0]
        if mark > 1:
            raise self._damaged(f"the mark of the {name} is {mark}, expected 0 or 1")
        if mark and name == "input":  # fastText never quantises the output alone
            raise DataError(f"{self._path}: a quantised fastText model (.ftz), expected a .bin")
        shape = _SHAPE.unpack(self._take(_SHAPE.size, f"the size of the {name}"))
        width = self.settings.dimensions
        if shape != (rows, width):
            why = "its words and buckets" if name == "input" else "what it predicts"
            raise self._damaged(
                f"the {name} is {shape[0]} x {shape[1]}, expected {rows} x {width} by {why}"
            )
        self._need(4 * rows * width, f"the {name} of {rows} x {width} numbers")
        count = rows if wanted is None else len(wanted)
        try:
            table: Float32 = np.empty((count, width), "<f4")
        except MemoryError:
            size = 4 * count * width
            raise DataError(f"{self._path}: {size} bytes of numbers, too many to hold") from None
        block: Float32 = np.empty((max(1, _BLOCK // (4 * width)), width), "<f4")
        for first, last in _blocks(rows, width):
            numbers: Any = range(first, last)
            if wanted is None:
                part = table[first:last]
                self._fill(part, name)
            else:
                low, high = np.searchsorted(wanted, (first, last))
                part, numbers = table[low:high], wanted[low:high]
                if not len(part):
                    self._skip(4 * (last - first) * width)
                    continue
                self._fill(block[: last - first], name)
                part[:] = block[numbers - first]
            _check_finite(str(self._path), part, numbers, name)
        return table.astype(np.float32, copy=False)

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
        self._need(n, what)
        data = self._file.read(n)
        self._left -= n
        if len(data) < n:
            raise DataError(f"{self._path}: cut short: {n - len(data)} bytes of {what} are missing")
        return data

    def _fill(self, rows: Float32, name: str) -> None:
        view, n = memoryview(rows.data).cast("B"), 0
        while n < len(view):
            got = self._file.readinto(view[n:])  # type: ignore[attr-defined]
            if not got:
                missing = f"{len(view) - n} bytes of the {name} matrix are missing"
                raise DataError(f"{self._path}: cut short: {missing}")
            n += got
        self._left -= n

    def _skip(self, n: int) -> None:
        self._left -= n
        self._file.seek(n - 1, os.SEEK_CUR)  # the last byte is read, which must exist
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


def _check_finite(where: str, rows: Float32, numbers: Sequence[int] | Int64, name: str) -> None:
    """Raise unless all is finite in the rows `numbers` of a matrix."""
    finite = np.isfinite(rows).all(axis=1)
    if not finite.all():
        row = int(numbers[int(finite.argmin())]) + 1
        raise DataError(
            f"{where}: row {row} of the {name} matrix holds a number that is not finite"
        )
