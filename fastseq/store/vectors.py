"""Read word vectors from files that others wrote: word2vec's text and binary forms, GloVe's and
fastText's text, each as it is or under gzip, and Parquet.

What a file is, its content says; only where word2vec's text and binary cannot be told apart
(a damaged first row) does the suffix decide. Files are read in blocks, and of the vectors only
those of wanted words are kept.
"""

from __future__ import annotations

import os
import re
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import BinaryIO, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc

from fastseq.errors import DataError, FastseqWarning
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
_SOME = 1000  # lines that tell how many numbers a line has, where the first may be damaged
_BOM = b"\xef\xbb\xbf"
_MOST_DIMENSIONS = 1 << 20
_HEADER = re.compile(rb"\s*(\d{1,18})[ \t]+(\d{1,18})\s*")


@dataclass(slots=True)
class WantedVectors:
    """Words and vectors read so far, of those that are wanted.

    unit     what the file consists of, for messages
    skip     whether damaged units are skipped rather than refused
    read     how many words have been seen
    skipped  how many units have been skipped; example: what is wrong with the first
    words    those that are kept, as keys, in order
    vectors  the bytes of float32[len(words), dimensions]
    """

    path: str
    wanted: frozenset[str] | None
    unit: str = "line"
    skip: bool = False
    dimensions: int = 0
    read: int = 0
    skipped: int = 0
    example: str = ""
    words: dict[str, None] = field(default_factory=dict)
    vectors: bytearray = field(default_factory=bytearray)

    def takes(self, word: bytes, number: int) -> bool:
        """Whether the word is wanted and new; if so it is taken, and its vector must follow."""
        if not word:
            self.refuse(number, "has no word before its numbers")
            return False
        self.read += 1
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

    def refuse(self, number: int, problem: str) -> None:
        """Skip a damaged unit, or raise the error about it."""
        if not self.skip:
            raise self.wrong(number, problem)
        self.skipped += 1
        self.example = self.example or f"{self.unit} {number} {problem}"

    def wrong(self, number: int, problem: str) -> DataError:
        """The error to raise about a unit of the file."""
        return DataError(f"{self.path}: {self.unit} {number} {problem}")


ReadFormat = Callable[[BinaryIO, WantedVectors], None]


def read_vector_file(
    path: str | os.PathLike[str],
    wanted: Collection[str] | None = None,
    threads: int | None = None,
    formats: Mapping[bytes, ReadFormat] | None = None,
    skip_bad_lines: bool = False,
) -> tuple[list[str], Float32]:
    """Return the words of a file and their vectors [n, d], in the file's order.

    vectors.formats.read_word_vectors has the parameters and errors; `formats` are readers of
    further binary formats by the bytes that these begin with.
    """
    workers = thread_count(threads)
    chosen = None if wanted is None else frozenset(wanted)
    kept = WantedVectors(str(path), chosen, skip=skip_bad_lines)
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
        skipped = f", {kept.skipped:,} damaged ones skipped: {kept.example}" if kept.skipped else ""
        raise DataError(f"{path}: no word vectors in it{skipped}")
    if kept.skipped:
        more = ", …" if kept.skipped > 1 else ""
        said = f"{path}: damaged vectors skipped: {kept.skipped:,}: {kept.example}{more}"
        warnings.warn(said, FastseqWarning, stacklevel=3)
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
        if (held := kept.read + kept.skipped) != count:
            raise kept.wrong(1, f"says that there are {count} words, the file holds {held}")
    else:
        _read_binary(file, kept, count)


def _read_text(file: BinaryIO, kept: WantedVectors, threads: int, line: int) -> None:
    """The words and numbers of a text file, from line `line` on."""
    pool = ThreadPoolExecutor(threads, "fastseq-vectors")
    try:
        blocks = _text_blocks(file, kept, line)
        for rows, vectors in in_order(pool, lambda b: _parse(b.numbers), blocks, threads + 1):
            _keep_rows(kept, rows, vectors)
    finally:
        pool.shutdown(cancel_futures=True)


class _Rows(NamedTuple):
    """Lines whose words may be wanted: the number of each, its word, and its numbers."""

    lines: list[int]
    words: list[bytes]
    numbers: list[bytes]


def _text_blocks(file: BinaryIO, kept: WantedVectors, line: int) -> Iterator[_Rows]:
    """The lines that may be wanted, block after block; others are counted as read."""
    known = False
    for rows in _line_blocks(file, kept):
        found = _Rows([], [], [])
        if kept.skip and not kept.dimensions:  # the first line may be the damaged one
            lengths = Counter(len(row.split()) for row in rows[:_SOME] if row.strip())
            kept.dimensions = max(lengths.most_common(1)[0][0] - 1, 0) if lengths else 0
        for number, row in enumerate(rows, line):
            if number == 1:
                row = row.removeprefix(_BOM)
            row = row.replace(b"\t", b" ").rstrip()
            if not row:
                continue
            if not known and not kept.skip:
                _first_row(kept, row.split(), number)
            known = True
            if row.count(b" ") == kept.dimensions:
                word, _, rest = row.partition(b" ")
            else:
                try:
                    word, rest = _uneven(row, kept.dimensions)
                except ValueError as error:
                    kept.refuse(number, str(error))
                    continue
            if not word:
                kept.refuse(number, "has no word before its numbers")
            elif kept.wanted is None or word.decode("utf-8", "replace") in kept.wanted:
                found.lines.append(number)
                found.words.append(word)
                found.numbers.append(rest)
            else:
                kept.read += 1
        line += len(rows)
        if found.lines:
            yield found


def _keep_rows(kept: WantedVectors, rows: _Rows, vectors: Float32 | None) -> None:
    """Take the words of some lines, and their vectors as `_parse` gave them."""
    good = list(range(len(rows.lines)))
    if vectors is None and not kept.skip:
        raise _unread(kept, rows)
    if kept.skip:
        if vectors is None:
            parsed = [_parse([numbers]) for numbers in rows.numbers]
            blank = np.full(kept.dimensions, np.nan, np.float32)
            vectors = np.concatenate([blank if one is None else one for one in parsed])
        table = vectors.reshape(len(rows.lines), kept.dimensions)
        finite = np.isfinite(table).all(axis=1)
        for i in np.flatnonzero(~finite).tolist():
            problem = _no_number(rows.numbers[i].split(b" "))
            kept.refuse(rows.lines[i], problem or "holds a number that is not finite")
        good = np.flatnonzero(finite).tolist()
    assert vectors is not None
    taken = [i for i in good if kept.takes(rows.words[i], rows.lines[i])]
    if taken:
        table = vectors.reshape(len(rows.lines), kept.dimensions)[taken]
        kept.add(table.reshape(-1), [rows.lines[i] for i in taken])


def _first_row(kept: WantedVectors, pieces: list[bytes], line: int) -> None:
    """The first word and its numbers: how many there are to be, where no header said so. They are
    looked at though the word may not be wanted, so that text of another kind is met."""
    if len(pieces) == 1:
        raise kept.wrong(line, "holds no numbers, expected a word and its vector")
    kept.dimensions = kept.dimensions or len(pieces) - 1
    problem = _no_number(pieces[1:][-kept.dimensions :])
    if problem is not None:
        raise kept.wrong(line, problem)


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


def _uneven(row: bytes, dimensions: int) -> tuple[bytes, bytes]:
    """Word and numbers of a line with spaces inside of the word, or several in a row. Raises
    ValueError, which says what is wrong, where they are not as many as expected."""
    pieces = row.split()
    word = pieces[: len(pieces) - dimensions]
    if len(pieces) <= dimensions or (len(word) > 1 and _is_number(word[-1])):
        if len(pieces) == dimensions and all(map(_is_number, pieces)):
            raise ValueError("has no word before its numbers")
        raise ValueError(f"holds {len(pieces) - 1} numbers, expected {dimensions}")
    return b" ".join(word), b" ".join(pieces[len(pieces) - dimensions :])


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


def _unread(kept: WantedVectors, rows: _Rows) -> DataError:
    """The error about the first of some lines that `_parse` cannot read."""
    for line, numbers in zip(rows.lines, rows.numbers, strict=True):
        if _parse([numbers]) is None:
            return kept.wrong(line, _no_number(numbers.split(b" ")) or "holds what is no number")
    return DataError(f"{kept.path}: cannot be read as numbers, after line {rows.lines[0]}")


def _no_number(pieces: list[bytes]) -> str | None:
    """What is wrong with the first piece of a line that is no number; None where all are."""
    for piece in pieces:
        if not _is_number(piece):
            shown = piece[:40].decode("utf-8", "replace")
            return f"holds {shown!r}, expected a number"
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
    seen = 0
    while seen < count:
        block = file.read(_BLOCK)
        data = left + block
        at, entries, numbers = 0, [], []
        while seen < count:
            while data.startswith(b"\n", at):
                at += 1
            space = data.find(b" ", at, at + _LONGEST_WORD)
            stop = space + 1 + size
            if space < 0 or stop > len(data):
                break
            seen += 1
            vector = data[space + 1 : stop]
            if kept.skip and not np.isfinite(np.frombuffer(vector, "<f4")).all():
                kept.refuse(seen, "holds a number that is not finite")
            elif kept.takes(data[at:space], seen):
                entries.append(vector)
                numbers.append(seen)
            at = stop
        if entries:
            kept.add(np.frombuffer(b"".join(entries), "<f4"), numbers)
        left = data[at:]
        if space < 0 and len(left) >= _LONGEST_WORD:
            raise kept.wrong(seen + 1, "has no end of its word: not word2vec's binary form")
        if not block:
            raise DataError(
                f"{kept.path}: cut short: line 1 says that there are {count} words, "
                f"the file holds {seen}"
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
