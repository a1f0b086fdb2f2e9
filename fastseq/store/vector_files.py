"""Word vectors in the files of other programs: word2vec's text and binary forms, the text of GloVe
and fastText, each plain or under gzip, and Parquet.

The form of a file to read is detected by its content; the suffix decides only where word2vec's text
and binary cannot be distinguished (a damaged first row). Files are read and written in blocks, and
only the vectors of wanted words are held in memory.
"""

from __future__ import annotations

import os
import re
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.csv

from fastseq.errors import DataError, SettingsError, quoted, warn
from fastseq.settings import one_of, thread_count
from fastseq.store.arrays import first_null, is_string, plain, plain_type, text_array, valid_utf8
from fastseq.store.files import created, opened, peek, reason, written_whole
from fastseq.store.parquet import listing, parquet_file, parquet_writer, unreadable
from fastseq.threads import in_order
from fastseq.types import Float32, Texts

KIND = "word vectors"  # of output, which only Parquet can be marked as
FORMS = ("text", "binary", "parquet")
SUFFIXES = {".vec": "text", ".txt": "text", ".bin": "binary", ".parquet": "parquet"}

_NUMBERS = 1 << 18  # written at a time
_GROUP = 1 << 22  # numbers of a row group of Parquet
_SHOWN = 40  # characters of a word in a message
_BLANKS = np.zeros(256, np.bool_)
_BLANKS[list(b" \t\n\r\x0b\x0c\0")] = True  # separators of words for one reader or another

_BLOCK = 1 << 22  # bytes of a file read at a time
_LONGEST_WORD = 1 << 16  # bytes
_LONGEST_LINE = 1 << 26
_SOME = 1000  # lines that determine the dimensions, where the first may be damaged
_BOM = b"\xef\xbb\xbf"
_MOST_DIMENSIONS = 1 << 20
_HEADER = re.compile(rb"\s*(\d{1,18})[ \t]+(\d{1,18})\s*")


# ---- writing


def write_word_vectors(
    path: str | os.PathLike[str],
    words: Texts | Sequence[str],
    vectors: Float32,
    form: str | None = None,
) -> None:
    """Write V words and their vectors, float32[V, d], atomically.

    Parameters
    ----------
    path : text and binary are gzip-compressed if it ends in .gz
    form : "text": a first line of "words dimensions", then a word and its numbers on each line, in
        as few digits as read back to the same float32 (word2vec's, fastText's .vec); "binary":
        word2vec's, the numbers as little-endian float32; "parquet": the columns word (strings)
        and vector (lists of d float32). None: by the suffix, .vec or .txt, .bin, .parquet

    Raises SettingsError: an unknown form or suffix, Parquet under gzip, or `path` is a folder or
    lies in none; DataError: no words or no dimensions, different numbers of words and vectors, a
    number that is not finite, a word that is empty or not valid Unicode or, except in Parquet,
    contains white space or a zero byte; FastseqError: the system refuses.
    """
    form = _form(path, form)
    texts = words if isinstance(words, Texts) else Texts.from_strings(words)
    if vectors.ndim != 2 or vectors.dtype != np.float32 or not vectors.size:
        raise DataError(
            f"cannot write {path}: vectors are {vectors.dtype}{list(vectors.shape)}, expected "
            "float32[words, dimensions], at least one of each"
        )
    if len(texts) != len(vectors):
        raise DataError(f"cannot write {path}: {len(texts)} words, {len(vectors)} vectors")
    if form == "parquet":
        d = vectors.shape[1]
        schema = pa.schema([("word", pa.string()), ("vector", pa.list_(pa.float32(), d))])
        with (
            written_whole(path) as temporary,
            parquet_writer(temporary, schema, KIND, use_dictionary=False) as writer,
        ):
            for names, numbers in _blocks(path, texts, vectors, _GROUP, blanks=True):
                lists = pa.FixedSizeListArray.from_arrays(pa.array(numbers.reshape(-1)), d)
                writer.write_batch(pa.record_batch([names, lists], schema=schema))
        return
    with created(path) as file:
        file.write(f"{len(texts)} {vectors.shape[1]}\n".encode())
        for names, numbers in _blocks(path, texts, vectors, _NUMBERS, blanks=False):
            file.write((_lines if form == "text" else _entries)(names, numbers))


def _form(path: str | os.PathLike[str], form: str | None) -> str:
    name = os.fspath(path).lower()
    if form is None:
        suffix = os.path.splitext(name.removesuffix(".gz"))[1]
        if suffix not in SUFFIXES:
            known = ", ".join(SUFFIXES)
            raise SettingsError(f"{path}: cannot tell the form of word vectors; expected {known}")
        form = SUFFIXES[suffix]
    one_of("form", form, FORMS)
    if form == "parquet" and name.endswith(".gz"):
        raise SettingsError(f"{path}: Parquet compresses itself; expected a name without .gz")
    return form


def _blocks(
    path: str | os.PathLike[str], words: Texts, vectors: Float32, numbers: int, *, blanks: bool
) -> Iterator[tuple[pa.Array, Float32]]:
    """Words as an array of strings and their vectors, some at a time; all are checked."""
    step = max(1, numbers // vectors.shape[1])
    for first in range(0, len(words), step):
        block = np.ascontiguousarray(vectors[first : first + step], "<f4")
        offsets = words.offsets[first : first + step + 1]
        data = words.data[offsets[0] : offsets[-1]]
        offsets = offsets - offsets[0]
        if offsets[-1] > np.iinfo(np.int32).max:
            raise DataError(f"cannot write {path}: words of more than 2 GiB")
        names = text_array(Texts(data, offsets), pa.string())
        empty = np.diff(offsets) == 0
        if empty.any():
            raise DataError(f"cannot write {path}: word {first + int(empty.argmax()) + 1} is empty")
        if not valid_utf8(names):
            binary = names.cast(pa.binary()).to_pylist()
            word = next(i for i in range(len(names)) if not valid_utf8(names.slice(i, 1)))
            shown = f"word {first + word + 1}, {binary[word][:_SHOWN]!r}"
            raise DataError(f"cannot write {path}: {shown}, is not valid UTF-8")
        if not blanks and (blank := _BLANKS[data]).any():
            word = int(np.searchsorted(offsets, blank.argmax(), "right")) - 1
            raise DataError(
                f"cannot write {path}: {_shown(names, word, first)}, has white space or a zero "
                "byte in it, which only Parquet can store"
            )
        finite = np.isfinite(block).all(axis=1)
        if not finite.all():
            word = int(finite.argmin())
            raise DataError(
                f"cannot write {path}: the vector of {_shown(names, word, first)}, holds a number "
                "that is not finite"
            )
        yield names, block


def _shown(words: pa.Array, at: int, first: int) -> str:
    """A word for a message; `first`, the number of words before the array."""
    word = words[at].as_py()
    return f"word {first + at + 1}, {word if len(word) <= _SHOWN else word[: _SHOWN - 1] + '…'!r}"


def _lines(words: pa.Array, vectors: Float32) -> pa.Buffer:
    """The lines of some words. Arrow formats a float32 in the fewest digits that identify it, far
    faster than Python."""
    import pyarrow.compute as pc

    n, d = vectors.shape
    digits = pa.array(vectors.reshape(-1)).cast(pa.string())
    rows = pa.ListArray.from_arrays(pa.array(np.arange(0, n * d + 1, d, dtype=np.int32)), digits)
    lines = pc.binary_join_element_wise(words, pc.binary_join(rows, " "), " ")
    # an empty last line, so that a line end follows the one before
    every = pa.concat_arrays([lines, pa.array([""], pa.string())])
    whole = pa.ListArray.from_arrays(pa.array([0, n + 1], pa.int32()), every)
    return pc.binary_join(whole, "\n")[0].as_buffer()


def _entries(words: pa.Array, vectors: Float32) -> bytes:
    """The entries of some words in word2vec's binary form."""
    raw, size = vectors.tobytes(), 4 * vectors.shape[1]
    pieces: list[bytes] = []
    for at, word in enumerate(words.cast(pa.binary()).to_pylist()):
        pieces += (word, b" ", raw[at * size : (at + 1) * size], b"\n")
    return b"".join(pieces)


# ---- reading


@dataclass(slots=True)
class WantedVectors:
    """The wanted words and vectors read so far.

    unit     the unit of the file, for messages
    skip     whether damaged units are skipped rather than an error
    read     number of words seen
    skipped  number of units skipped; example: the problem of the first
    words    the words taken, as keys, in order
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
        """Whether the word is wanted and new; if so it is added, and the caller adds its vector."""
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
        """Append the vectors, of any shape, of the words taken from the units `numbers`."""
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


def read_vector_file(
    path: str | os.PathLike[str],
    wanted: Collection[str] | None = None,
    threads: int | None = None,
    formats: Mapping[bytes, Callable[[BinaryIO, WantedVectors], None]] | None = None,
    skip_bad_lines: bool = False,
) -> tuple[list[str], Float32]:
    """The words of a file and their vectors [n, d], in the file's order.

    Parameters and errors are those of vectors.formats.read_word_vectors; `formats` are readers of
    further binary formats by their first bytes.
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
        notice = f"{path}: damaged vectors skipped: {kept.skipped:,}: {kept.example}{more}"
        warn(notice)
    if not kept.words:
        return [], np.empty((0, kept.dimensions), np.float32)
    vectors: Float32 = np.frombuffer(kept.vectors, np.float32)
    return list(kept.words), vectors.reshape(-1, kept.dimensions)


def _read_words(file: BinaryIO, kept: WantedVectors, threads: int) -> None:
    """Read a file of word2vec, GloVe or fastText, detected by its first two lines."""
    header = _HEADER.fullmatch(file.readline(_BLOCK).removeprefix(_BOM))
    if header is None:
        file.seek(0)
        _read_text(file, kept, threads, 1)
        return
    count, kept.dimensions = int(header[1]), int(header[2])
    if not 1 <= kept.dimensions <= _MOST_DIMENSIONS:
        raise kept.wrong(1, f"declares vectors of {kept.dimensions} numbers")
    place = file.tell()
    pieces = file.readline(_BLOCK).split()
    file.seek(place)
    numbers = pieces[-kept.dimensions :]
    is_text = len(pieces) > kept.dimensions and all(map(_is_number, numbers))
    if is_text or kept.path.removesuffix(".gz").endswith((".txt", ".vec")):
        _read_text(file, kept, threads, 2)
        if (held := kept.read + kept.skipped) != count:
            raise kept.wrong(1, f"declares {count} words, the file has {held}")
    else:
        _read_binary(file, kept, count)


# line numbers, words, numbers; three lists, since a tuple per line would cost garbage collection
_Rows = tuple[list[int], list[bytes], list[bytes]]


def _read_text(file: BinaryIO, kept: WantedVectors, threads: int, line: int) -> None:
    """The words and numbers of a text file, from line `line` on."""
    pool = ThreadPoolExecutor(threads, "fastseq-vectors")
    try:
        blocks = _text_blocks(file, kept, line)
        for rows, vectors in in_order(pool, lambda rows: _parse(rows[2]), blocks, threads + 1):
            _keep_rows(kept, rows, vectors)
    finally:
        pool.shutdown(cancel_futures=True)


def _text_blocks(file: BinaryIO, kept: WantedVectors, line: int) -> Iterator[_Rows]:
    """The lines that may be wanted, block after block; others are counted as read."""
    first, wanted = True, kept.wanted
    for rows in _line_blocks(file, kept):
        found: _Rows = ([], [], [])
        lines, words, numbers = found
        if kept.skip and not kept.dimensions:  # the first line may be the damaged one
            lengths = Counter(len(row.split()) for row in rows[:_SOME] if row.strip())
            kept.dimensions = max(lengths.most_common(1)[0][0] - 1, 0) if lengths else 0
        for number, row in enumerate(rows, line):
            if number == 1:
                row = row.removeprefix(_BOM)
            row = row.replace(b"\t", b" ").rstrip()
            if not row:
                continue
            if first and not kept.skip:
                _check_first_row(kept, row.split(), number)
            first = False
            if row.count(b" ") == kept.dimensions:
                word, _, rest = row.partition(b" ")
            else:
                try:
                    word, rest = _uneven(row, kept.dimensions)
                except ValueError as error:
                    kept.refuse(number, str(error))
                    continue
            if not word or wanted is None or word.decode("utf-8", "replace") in wanted:
                lines.append(number)
                words.append(word)
                numbers.append(rest)
            else:
                kept.read += 1
        line += len(rows)
        if lines:
            yield found


def _keep_rows(kept: WantedVectors, rows: _Rows, vectors: Float32 | None) -> None:
    """Take the words of some lines, and their vectors from `_parse`."""
    lines, words, numbers = rows
    if vectors is None:
        parsed = [_parse([each]) for each in numbers]
        if not kept.skip:
            bad = next((i for i, one in enumerate(parsed) if one is None), 0)
            problem = _no_number(numbers[bad].split(b" ")) or "holds something that is not a number"
            raise kept.wrong(lines[bad], problem)
        blank = np.full(kept.dimensions, np.nan, np.float32)
        vectors = np.concatenate([blank if one is None else one for one in parsed])
    table = vectors.reshape(len(lines), kept.dimensions)
    good: Sequence[int] = range(len(lines))
    if kept.skip:
        finite = np.isfinite(table).all(axis=1)
        for i in np.flatnonzero(~finite).tolist():
            problem = _no_number(numbers[i].split(b" ")) or "holds a number that is not finite"
            kept.refuse(lines[i], problem)
        good = np.flatnonzero(finite).tolist()
    taken = [i for i in good if kept.takes(words[i], lines[i])]
    if taken:
        kept.add(table[taken], [lines[i] for i in taken])


def _check_first_row(kept: WantedVectors, pieces: list[bytes], line: int) -> None:
    """Check the first word and its numbers, and count them, where the header does not. Done even if
    the word is not wanted, so that other text is detected."""
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
    """Word and numbers of a line with spaces inside of the word, or repeated spaces. Raises
    ValueError, with the problem, for an unexpected number of numbers."""
    pieces = row.split()
    word = pieces[: len(pieces) - dimensions]
    if len(pieces) <= dimensions or (len(word) > 1 and _is_number(word[-1])):
        if len(pieces) == dimensions and all(map(_is_number, pieces)):
            raise ValueError("has no word before its numbers")
        raise ValueError(f"holds {len(pieces) - 1} numbers, expected {dimensions}")
    return b" ".join(word), b" ".join(pieces[len(pieces) - dimensions :])


def _parse(numbers: list[bytes]) -> Float32 | None:
    """The numbers of some lines, concatenated; None where one is no number.

    Arrow's CSV reader parses them as one column, three times as fast as NumPy.
    """
    text = b"\n".join(numbers).replace(b" ", b"\n")
    csv = pa.csv
    try:
        table = csv.read_csv(
            pa.BufferReader(text),
            csv.ReadOptions(use_threads=False, block_size=len(text) + 1, column_names=["number"]),
            csv.ParseOptions(quote_char=False, ignore_empty_lines=False),
            csv.ConvertOptions(column_types={"number": pa.float32()}, null_values=[]),
        )
    except pa.ArrowException:
        return None
    vectors: Float32 = table.column(0).to_numpy()
    return vectors


def _no_number(pieces: list[bytes]) -> str | None:
    """The problem with the first piece that is not a number; None where all are."""
    piece = next((piece for piece in pieces if not _is_number(piece)), None)
    shown = "" if piece is None else piece[:40].decode("utf-8", "replace")
    return None if piece is None else f"holds {shown!r}, expected a number"


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
            problem = f"cut short: line 1 declares {count} words, the file has {seen}"
            raise DataError(f"{kept.path}: {problem}")
    if (left + file.read(_BLOCK)).strip(b"\n"):
        raise DataError(f"{kept.path}: has data after the {count} words that line 1 declares")


def _read_parquet(kept: WantedVectors) -> None:
    """The columns word and vector."""
    kept.unit = "row"
    path = kept.path
    with unreadable(path), parquet_file(path) as file:
        schema = file.schema_arrow
        for name in ("word", "vector"):
            if schema.names.count(name) != 1:
                raise DataError(f"{path}: no column {quoted(name)}; its columns: {listing(schema)}")
        kinds = schema.field("word").type, schema.field("vector").type
        if not is_string(plain_type(kinds[0])) or not _is_numbers(kinds[1]):
            raise DataError(
                f"{path}: word and vector are {kinds[0]} and {kinds[1]}, "
                "expected strings and lists of numbers"
            )
        if not file.num_row_groups:  # some versions of pyarrow cannot read such a file
            return
        for batch in file.iter_batches(8192, columns=["word", "vector"], use_threads=False):
            _keep_batch(kept, batch.column("word"), batch.column("vector"))


def _is_numbers(kind: pa.DataType) -> bool:
    t = pa.types
    lists = t.is_list(kind) or t.is_large_list(kind) or t.is_fixed_size_list(kind)
    return bool(lists and (t.is_floating(kind.value_type) or t.is_integer(kind.value_type)))


def _keep_batch(kept: WantedVectors, words: pa.Array, lists: pa.Array) -> None:
    """Take the wanted words and vectors of the next rows."""
    before = kept.read
    for column in (words, lists):
        if column.null_count:
            raise kept.wrong(before + first_null(column) + 1, "holds a null")
    if pa.types.is_fixed_size_list(lists.type):
        lengths = np.full(len(lists), lists.type.list_size)
    else:
        lengths = np.diff(lists.offsets.to_numpy())
    kept.dimensions = kept.dimensions or int(lengths[0])
    other = lengths != kept.dimensions
    if other.any() or not kept.dimensions:
        row = int(other.argmax())
        expected = kept.dimensions or "at least 1"
        raise kept.wrong(before + row + 1, f"holds {lengths[row]} numbers, expected {expected}")
    values = lists.flatten()
    if values.null_count:
        row = first_null(values) // kept.dimensions
        raise kept.wrong(before + row + 1, "holds a null among its numbers")
    taken = [
        row
        for row, word in enumerate(plain(words, pa.string()).cast(pa.binary()).to_pylist())
        if kept.takes(word, before + row + 1)
    ]
    with np.errstate(over="ignore"):  # a number that is too large is refused as infinite
        numbers = values.to_numpy(zero_copy_only=False).astype(np.float32)
    table = numbers.reshape(-1, kept.dimensions)
    kept.add(table[taken], [before + row + 1 for row in taken])
