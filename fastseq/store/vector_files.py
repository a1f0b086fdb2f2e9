"""Word vectors written in the forms that other programs read: word2vec's text and binary, and
Parquet. The matrix is taken a few megabytes at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fastseq.errors import DataError, FastseqError, SettingsError
from fastseq.settings import one_of
from fastseq.store.arrays import valid_utf8
from fastseq.store.atomic import reason, written_whole
from fastseq.store.gzipped import created
from fastseq.store.parquet import parquet_writer
from fastseq.types import Float32, Texts, UInt8

KIND = "word vectors"  # of output, which only Parquet can be marked as
FORMS = ("text", "binary", "parquet")
SUFFIXES = {".vec": "text", ".txt": "text", ".bin": "binary", ".parquet": "parquet"}

_NUMBERS = 1 << 18  # written at a time
_GROUP = 1 << 22  # numbers of a row group of Parquet
_SHOWN = 40  # characters of a word in a message
_BLANKS = np.zeros(256, np.bool_)
_BLANKS[list(b" \t\n\r\x0b\x0c\0")] = True  # what ends a word for one reader or another


def write_word_vectors(
    path: str | os.PathLike[str],
    words: Texts | Sequence[str],
    vectors: Float32,
    form: str | None = None,
) -> None:
    """Write words and their vectors, whole or not at all.

    Parameters
    ----------
    path : text and binary go under gzip where it ends in .gz
    words : V words
    vectors : float32[V, d]
    form : "text": a first line of "words dimensions", then a word and its numbers on each line, in
        as few digits as read back to the same float32 (word2vec's, fastText's .vec); "binary":
        word2vec's, the numbers as little-endian float32; "parquet": the columns word (strings)
        and vector (lists of d float32). None: by the suffix, .vec or .txt, .bin, .parquet

    Raises
    ------
    SettingsError
        A form or suffix that is none of these, Parquet under gzip, or `path` is a folder or lies
        in none.
    DataError
        No words or no dimensions, another number of words than of vectors, a number that is not
        finite, a word that is empty or not valid Unicode, or, but in Parquet, one with white space
        or a zero byte in it.
    FastseqError
        The system refuses.
    """
    kind = _form(path, form)
    texts = words if isinstance(words, Texts) else Texts.from_strings(words)
    if vectors.ndim != 2 or vectors.dtype != np.float32 or not vectors.size:
        raise DataError(
            f"cannot write {path}: vectors are {vectors.dtype}{list(vectors.shape)}, expected "
            "float32[words, dimensions], at least one of each"
        )
    if len(texts) != len(vectors):
        raise DataError(f"cannot write {path}: {len(texts)} words, {len(vectors)} vectors")
    if kind == "parquet":
        _write_parquet(path, texts, vectors)
        return
    with created(path) as file:
        file.write(f"{len(texts)} {vectors.shape[1]}\n".encode())
        for names, numbers in _blocks(path, texts, vectors, _NUMBERS, blanks=False):
            if kind == "text":
                file.write(_lines(names, numbers))
            else:
                file.write(_entries(names, numbers))


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
        raise SettingsError(f"{path}: Parquet is packed inside; expected a name without .gz")
    return form


def _blocks(
    path: str | os.PathLike[str], words: Texts, vectors: Float32, numbers: int, *, blanks: bool
) -> Iterator[tuple[pa.Array, Float32]]:
    """Words as an array of strings and their vectors, some at a time, each of them looked at."""
    step = max(1, numbers // vectors.shape[1])
    for first in range(0, len(words), step):
        block = np.ascontiguousarray(vectors[first : first + step], "<f4")
        offsets = words.offsets[first : first + step + 1]
        data = words.data[offsets[0] : offsets[-1]]
        offsets = offsets - offsets[0]
        if offsets[-1] > np.iinfo(np.int32).max:
            raise DataError(f"cannot write {path}: words of more than 2 GiB")
        buffers = [None, pa.py_buffer(offsets.astype(np.int32)), pa.py_buffer(data)]
        names = pa.Array.from_buffers(pa.string(), len(block), buffers)
        empty = np.diff(offsets) == 0
        if empty.any():
            raise DataError(f"cannot write {path}: word {first + int(empty.argmax()) + 1} is empty")
        if not valid_utf8(names):
            raise _refused(path, data, first, offsets.tolist())
        if not blanks and (blank := _BLANKS[data]).any():
            word = int(np.searchsorted(offsets, blank.argmax(), "right")) - 1
            raise DataError(
                f"cannot write {path}: word {first + word + 1}, {_shown(names[word].as_py())}, has "
                "white space or a zero byte in it, which only Parquet can hold"
            )
        finite = np.isfinite(block).all(axis=1)
        if not finite.all():
            word = int(finite.argmin())
            raise DataError(
                f"cannot write {path}: the vector of word {first + word + 1}, "
                f"{_shown(names[word].as_py())}, holds a number that is not finite"
            )
        yield names, block


def _refused(
    path: str | os.PathLike[str], data: UInt8, first: int, offsets: list[int]
) -> DataError:
    """The error about the first word that is not UTF-8."""
    raw = data.tobytes()
    found = ((n, raw[a:b]) for n, (a, b) in enumerate(pairwise(offsets), first + 1))
    number, word = next((n, w) for n, w in found if w.decode("utf-8", "replace").encode() != w)
    return DataError(f"cannot write {path}: word {number}, {word[:_SHOWN]!r}, is not valid UTF-8")


def _shown(word: str) -> str:
    return repr(word if len(word) <= _SHOWN else word[: _SHOWN - 1] + "…")


def _lines(words: pa.Array, vectors: Float32) -> pa.Buffer:
    """The lines of some words. Arrow writes a float32 in the fewest digits that tell it from its
    neighbours, far faster than Python."""
    n, d = vectors.shape
    digits = pa.array(vectors.reshape(-1)).cast(pa.string())
    rows = pa.ListArray.from_arrays(pa.array(np.arange(0, n * d + 1, d, dtype=np.int32)), digits)
    lines = pc.binary_join_element_wise(words, pc.binary_join(rows, " "), " ")
    # the last line is empty, so that a line end follows the one before it
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


def _write_parquet(path: str | os.PathLike[str], words: Texts, vectors: Float32) -> None:
    d = vectors.shape[1]
    schema = pa.schema([("word", pa.string()), ("vector", pa.list_(pa.float32(), d))])
    with written_whole(path) as temporary:
        try:
            with parquet_writer(temporary, schema, KIND, use_dictionary=False) as writer:
                for names, numbers in _blocks(path, words, vectors, _GROUP, blanks=True):
                    flat = pa.array(numbers.reshape(-1))
                    lists = pa.FixedSizeListArray.from_arrays(flat, d)
                    writer.write_batch(pa.record_batch([names, lists], schema=schema))
        except pa.ArrowException as error:
            raise FastseqError(f"cannot write {path}: {reason(error)}") from error
