"""Read word vectors from files that others wrote: word2vec's text and binary forms, GloVe's and
fastText's text, each as it is or under gzip, and Parquet.

What a file is, its content says; only where word2vec's text and binary cannot be told apart
(a damaged first row) does the suffix decide. Files are read in blocks, and of the vectors only
those of wanted words are kept.
"""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc

from fastseq.errors import DataError
from fastseq.settings import thread_count
from fastseq.store.arrays import is_string, plain, plain_type
from fastseq.store.atomic import reason
from fastseq.store.columns import listing
from fastseq.store.gzipped import opened, peek
from fastseq.store.parquet import parquet_file
from fastseq.threads import in_order
from fastseq.types import Float32

_BLOCK = 1 << 22  # bytes of a file read at a time
_LONGEST_WORD = 1 << 16  # bytes; past them without a space, it is not a word
_LONGEST_LINE = 1 << 26
_BOM = b"\xef\xbb\xbf"
_MOST_DIMENSIONS = 1 << 20
_HEADER = re.compile(rb"\s*(\d{1,18})[ \t]+(\d{1,18})\s*")


@dataclass(slots=True)
class WantedVectors:
    """Words and vectors read so far, of those that are wanted.

    unit     what the file consists of, for messages
    read     how many words have been seen
    words    those that are kept, as keys, in order
    vectors  the bytes of float32[len(words), dimensions]
    """

    path: str
    wanted: frozenset[str] | None
    unit: str = "line"
    dimensions: int = 0
    read: int = 0
    words: dict[str, None] = field(default_factory=dict)
    vectors: bytearray = field(default_factory=bytearray)

    def takes(self, word: bytes, number: int) -> bool:
        """Whether the word is wanted and new; if so it is taken, and its vector must follow."""
        self.read += 1
        if not word:
            raise self.wrong(number, "has no word before its numbers")
        text = word.decode("utf-8", "replace")
        if (self.wanted is not None and text not in self.wanted) or text in self.words:
            return False
        self.words[text] = None
        return True

    def add(self, vectors: Float32, numbers: Sequence[int]) -> None:
        """Keep the vectors of words taken, which stand in the units `numbers`."""
        finite = np.isfinite(vectors).reshape(len(numbers), self.dimensions).all(axis=1)
        if not finite.all():
            raise self.wrong(numbers[int(finite.argmin())], "holds a number that is not finite")
        self.vectors += vectors.tobytes()

    def wrong(self, number: int, problem: str) -> DataError:
        """The error to raise about a unit of the file."""
        return DataError(f"{self.path}: {self.unit} {number} {problem}")


ReadFormat = Callable[[BinaryIO, WantedVectors], None]


def read_vector_file(
    path: str | os.PathLike[str],
    wanted: Collection[str] | None = None,
    threads: int | None = None,
    formats: Mapping[bytes, ReadFormat] | None = None,
) -> tuple[list[str], Float32]:
    """Return the words of a file and their vectors [n, d], in the file's order.

    vectors.formats.read_word_vectors has the parameters and errors; `formats` are readers of
    further binary formats by the bytes that these begin with.
    """
    workers = thread_count(threads)
    kept = WantedVectors(str(path), None if wanted is None else frozenset(wanted))
    try:
        with opened(path) as file:
            start = peek(file, 8)
            known = [read for magic, read in (formats or {}).items() if start.startswith(magic)]
            if not start:
                raise DataError(f"{path}: empty, expected word vectors")
            if start.startswith(b"PAR1"):
                _read_parquet(kept)
            elif known:
                known[0](file, kept)
            elif start.startswith(b"PK\x03\x04"):
                raise DataError(f"{path}: a zip archive, expected the file inside of it")
            else:
                _read_words(file, kept, workers)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file, expected word vectors") from None
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read ({reason(error)})") from error
    if not kept.read:
        raise DataError(f"{path}: no word vectors in it")
    if not kept.words:
        return [], np.empty((0, kept.dimensions), np.float32)
    vectors: Float32 = np.frombuffer(kept.vectors, np.float32)
    return list(kept.words), vectors.reshape(-1, kept.dimensions)


def _read_words(file: BinaryIO, kept: WantedVectors, threads: int) -> None:
    """A file of word2vec's, GloVe's or fastText's, by its first two lines."""
    header = _HEADER.fullmatch(file.readline(_BLOCK).removeprefix(_BOM))
    if header is None:
        file.seek(0)
        _read_text(file, kept, threads, 1)
        return
    count, kept.dimensions = int(header[1]), int(header[2])
    if not 1 <= kept.dimensions <= _MOST_DIMENSIONS:
        raise kept.wrong(1, f"says that vectors have {kept.dimensions} numbers")
    place = file.tell()
    pieces = file.readline(_BLOCK).split()
    file.seek(place)
    numbers = pieces[-kept.dimensions :]
    is_text = len(pieces) > kept.dimensions and all(map(_is_number, numbers))
    if is_text or kept.path.removesuffix(".gz").endswith((".txt", ".vec")):
        _read_text(file, kept, threads, 2)
        if kept.read != count:
            raise kept.wrong(1, f"says that there are {count} words, the file holds {kept.read}")
    else:
        _read_binary(file, kept, count)


def _read_text(file: BinaryIO, kept: WantedVectors, threads: int, line: int) -> None:
    """The words and numbers of a text file, from line `line` on."""
    pool = ThreadPoolExecutor(threads, "fastseq-vectors")
    try:
        blocks = _text_blocks(file, kept, line)
        for (lines, numbers), vectors in in_order(
            pool, lambda b: _parse(b[1]), blocks, threads + 1
        ):
            if vectors is None:
                raise _unread(kept, lines, numbers)
            kept.add(vectors, lines)
    finally:
        pool.shutdown(cancel_futures=True)


def _text_blocks(
    file: BinaryIO, kept: WantedVectors, line: int
) -> Iterator[tuple[list[int], list[bytes]]]:
    """For the words taken, block after block: the line each stands in, and its numbers."""
    for rows in _line_blocks(file, kept):
        lines, numbers = [], []
        for number, row in enumerate(rows, line):
            if number == 1:
                row = row.removeprefix(_BOM)
            row = row.replace(b"\t", b" ").rstrip()
            if not row:
                continue
            if not kept.read:
                _first_row(kept, row.split(), number)
            if row.count(b" ") == kept.dimensions:
                word, _, rest = row.partition(b" ")
            else:
                word, rest = _uneven(kept, row, number)
            if kept.takes(word, number):
                lines.append(number)
                numbers.append(rest)
        line += len(rows)
        if lines:
            yield lines, numbers


def _first_row(kept: WantedVectors, pieces: list[bytes], line: int) -> None:
    """The first word and its numbers: how many there are to be, where no header said so. They are
    looked at though the word may not be wanted, so that text of another kind is met."""
    if len(pieces) == 1:
        raise kept.wrong(line, "holds no numbers, expected a word and its vector")
    kept.dimensions = kept.dimensions or len(pieces) - 1
    wrong = _no_number(kept, line, pieces[1:][-kept.dimensions :])
    if wrong is not None:
        raise wrong


def _line_blocks(file: BinaryIO, kept: WantedVectors) -> Iterator[list[bytes]]:
    """The lines of a file, without their ends, in runs of a few megabytes."""
    left = b""
    while block := file.read(_BLOCK):
        lines = (left + block).split(b"\n")
        left = lines.pop()
        if len(left) > _LONGEST_LINE:
            raise DataError(f"{kept.path}: not a text file of word vectors: a line without an end")
        yield lines
    if left:
        yield [left]


def _uneven(kept: WantedVectors, row: bytes, line: int) -> tuple[bytes, bytes]:
    """Word and numbers of a line with spaces inside of the word, or several in a row."""
    pieces = row.split()
    word = pieces[: -kept.dimensions]
    if not word or (len(word) > 1 and _is_number(word[-1])):
        raise kept.wrong(line, f"holds {len(pieces) - 1} numbers, expected {kept.dimensions}")
    return b" ".join(word), b" ".join(pieces[-kept.dimensions :])


def _parse(numbers: list[bytes]) -> Float32 | None:
    """The numbers of some lines, one after the other; None where one is no number.

    Arrow's CSV reader takes them as one column: it is three times as fast as NumPy.
    """
    text = b"\n".join(numbers).replace(b" ", b"\n")
    try:
        table = pc.read_csv(
            pa.BufferReader(text),
            pc.ReadOptions(use_threads=False, block_size=len(text) + 1, column_names=["number"]),
            pc.ParseOptions(quote_char=False, ignore_empty_lines=False),
            pc.ConvertOptions(column_types={"number": pa.float32()}, null_values=[]),
        )
    except pa.ArrowException:
        return None
    vectors: Float32 = table.column(0).to_numpy()
    return vectors


def _unread(kept: WantedVectors, lines: list[int], numbers: list[bytes]) -> DataError:
    """The error about the first of some lines that `_parse` cannot read."""
    for line, row in zip(lines, numbers, strict=True):
        if _parse([row]) is None:
            wrong = _no_number(kept, line, row.split(b" "))
            return wrong or kept.wrong(line, "holds what is no number")
    return DataError(f"{kept.path}: cannot be read as numbers, after line {lines[0]}")


def _no_number(kept: WantedVectors, line: int, pieces: list[bytes]) -> DataError | None:
    """The error about the first piece of a line that is no number; None where all are."""
    for piece in pieces:
        if not _is_number(piece):
            shown = piece[:40].decode("utf-8", "replace")
            return kept.wrong(line, f"holds {shown!r}, expected a number")
    return None


def _is_number(piece: bytes) -> bool:
    try:
        float(piece)
    except ValueError:
        return False
    return True


def _read_binary(file: BinaryIO, kept: WantedVectors, count: int) -> None:
    """The entries of word2vec's binary form: a word, a space, float32[dimensions] in little-endian
    order, and in most files the end of a line."""
    kept.unit = "entry"
    size = 4 * kept.dimensions
    left = b""
    while kept.read < count:
        block = file.read(_BLOCK)
        data = left + block
        at, entries, numbers = 0, [], []
        while kept.read < count:
            while data.startswith(b"\n", at):
                at += 1
            space = data.find(b" ", at, at + _LONGEST_WORD)
            stop = space + 1 + size
            if space < 0 or stop > len(data):
                break
            if kept.takes(data[at:space], kept.read + 1):
                entries.append(data[space + 1 : stop])
                numbers.append(kept.read)
            at = stop
        if entries:
            kept.add(np.frombuffer(b"".join(entries), "<f4"), numbers)
        left = data[at:]
        if space < 0 and len(left) >= _LONGEST_WORD:
            raise kept.wrong(kept.read + 1, "has no end of its word: not word2vec's binary form")
        if not block:
            raise DataError(
                f"{kept.path}: cut short: line 1 says that there are {count} words, "
                f"the file holds {kept.read}"
            )
    if (left + file.read(_BLOCK)).strip(b"\n"):
        raise DataError(f"{kept.path}: goes on after the {count} words that line 1 says there are")


def _read_parquet(kept: WantedVectors) -> None:
    """The columns word and vector."""
    kept.unit = "row"
    path = kept.path
    try:
        with parquet_file(path) as file:
            schema = file.schema_arrow
            for name in ("word", "vector"):
                if schema.names.count(name) != 1:
                    raise DataError(f"{path}: no column {name!r}; its columns: {listing(schema)}")
            kinds = schema.field("word").type, schema.field("vector").type
            if not is_string(plain_type(kinds[0])) or not _is_vector(kinds[1]):
                raise DataError(
                    f"{path}: word and vector are {kinds[0]} and {kinds[1]}, "
                    "expected strings and lists of numbers"
                )
            if not file.num_row_groups:  # which some versions of pyarrow cannot read
                return
            for batch in file.iter_batches(8192, columns=["word", "vector"], use_threads=False):
                _keep_batch(kept, batch.column("word"), batch.column("vector"))
    except pa.ArrowException as error:
        raise DataError(
            f"{path}: not a Parquet file, or one cut short ({reason(error)})"
        ) from error


def _is_vector(kind: pa.DataType) -> bool:
    lists = pa.types.is_list(kind), pa.types.is_large_list(kind), pa.types.is_fixed_size_list(kind)
    return any(lists) and bool(
        pa.types.is_floating(kind.value_type) or pa.types.is_integer(kind.value_type)
    )


def _keep_batch(kept: WantedVectors, words: pa.Array, lists: pa.Array) -> None:
    """Take what is wanted of some rows, which follow those read before."""
    before = kept.read
    for column in (words, lists):
        if column.null_count:
            row = int(np.argmax(column.is_null().to_numpy(zero_copy_only=False)))
            raise kept.wrong(before + row + 1, "holds a null")
    if pa.types.is_fixed_size_list(lists.type):
        lengths = np.full(len(lists), lists.type.list_size)
    else:
        lengths = np.diff(lists.offsets.to_numpy())
    kept.dimensions = kept.dimensions or int(lengths[0])
    other = lengths != kept.dimensions
    if other.any() or not kept.dimensions:
        row = int(other.argmax())
        raise kept.wrong(
            before + row + 1,
            f"holds {lengths[row]} numbers, expected {kept.dimensions or 'at least 1'}",
        )
    values = lists.flatten()
    if values.null_count:
        item = int(np.argmax(values.is_null().to_numpy(zero_copy_only=False)))
        raise kept.wrong(before + item // kept.dimensions + 1, "holds a null among its numbers")
    taken = [
        row
        for row, word in enumerate(plain(words, pa.string()).cast(pa.binary()).to_pylist())
        if kept.takes(word, before + row + 1)
    ]
    with np.errstate(over="ignore"):  # what is too large is refused as infinite
        numbers = values.to_numpy(zero_copy_only=False).astype(np.float32)
    kept.add(
        numbers.reshape(-1, kept.dimensions)[taken].reshape(-1),
        [before + row + 1 for row in taken],
    )
