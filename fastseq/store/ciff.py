"""The Common Index File Format: an inverted index in one file, for other search engines.

J. Lin, J. Mackenzie, C. Kamphuis, C. Macdonald, A. Mallia, M. Siedlaczek, A. Trotman, A. de Vries:
Supporting Interoperability Between Open-Source Search Engines with the Common Index File Format,
SIGIR 2020. A file is a sequence of Protocol Buffers messages, each after its length as a varint:

    Header        1 version (1), 2 num_postings_lists, 3 num_docs, 4 total_postings_lists,
                  5 total_docs, 6 total_terms_in_collection, 7 average_doclength (double),
                  8 description
    PostingsList  1 term, 2 df, 3 cf, 4 postings (repeated Posting), num_postings_lists times
    Posting       1 docid: the first one, then the distance to the one before; 2 tf
    DocRecord     1 docid, 2 collection_docid, 3 doclength, num_docs times

A field that is 0 or empty may be left out, and is written so.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fastseq.errors import DataError
from fastseq.kernels.search import ciff as kernels
from fastseq.kernels.text.unicode import first_invalid
from fastseq.store.arrays import text_array
from fastseq.store.documents import StoredDocuments
from fastseq.store.files import opened, reason
from fastseq.store.ids import id_list
from fastseq.types import Int32, Int64, Texts, UInt8, offsets_of, ranges

VERSION = 1
_CHUNK = 8 << 20  # bytes of messages that are read at a time, or one message
_LENGTH = 10  # the most bytes of a length
_MOST_MESSAGES = _CHUNK // 2
_LARGEST = 1 << 31  # bytes of a message, of Protocol Buffers
_VARINT, _EIGHT, _BYTES, _FOUR = 0, 1, 2, 5  # wire types
_PROBLEMS = {
    kernels.MALFORMED: "it is malformed",
    kernels.NO_TERM: "it has no term",
    kernels.NO_POSTINGS: "it has no postings",
    kernels.BAD_DOCUMENT: "its documents are not ascending numbers below {documents}",
    kernels.BAD_FREQUENCY: "a frequency is not from 1 to 2147483647",
    kernels.BAD_NUMBER: "its length is not from 0 to 2147483647",
}


@dataclass(frozen=True, slots=True)
class CiffHeader:
    """The numbers of an index.

    postings_lists, documents  in the file
    tokens                     of all documents
    average_length             tokens of a document
    description                for people
    """

    postings_lists: int
    documents: int
    tokens: int
    average_length: float
    description: str = ""

    def to_bytes(self) -> bytes:
        """The message, with its length."""
        fields = [(1, VERSION), (2, self.postings_lists), (3, self.documents)]
        fields += [(4, self.postings_lists), (5, self.documents), (6, self.tokens)]
        out = b"".join(_varint(n << 3 | _VARINT) + _varint(v) for n, v in fields if v)
        if self.average_length:
            out += _varint(7 << 3 | _EIGHT) + struct.pack("<d", self.average_length)
        text = self.description.encode()
        if text:
            out += _varint(8 << 3 | _BYTES) + _varint(len(text)) + text
        return _varint(len(out)) + out

    @staticmethod
    def of_bytes(raw: bytes) -> CiffHeader:
        """The header of a message. Raises ValueError for what is none."""
        found: dict[int, Any] = {}
        at = 0
        while at < len(raw):
            key, at = _read_varint(raw, at)
            number, wire = key >> 3, key & 7
            if wire == _VARINT:
                found[number], at = _read_varint(raw, at)
                continue
            length = {_EIGHT: 8, _FOUR: 4}.get(wire)
            if wire == _BYTES:
                length, at = _read_varint(raw, at)
            if length is None or at + length > len(raw) or not number:
                raise ValueError("it is malformed")
            found[number], at = raw[at : at + length], at + length
        version = found.get(1, 0)
        if version != VERSION:
            raise ValueError(f"its version is {version!r:.40}, expected {VERSION}")
        counts = [found.get(number, 0) for number in (2, 3, 6)]
        if not all(isinstance(n, int) and 0 <= n < 1 << 63 for n in counts):
            raise ValueError("its numbers of lists, documents and tokens are no counts")
        average, text = found.get(7, bytes(8)), found.get(8, b"")
        if not (isinstance(average, bytes) and len(average) == 8 and isinstance(text, bytes)):
            raise ValueError("it is malformed")
        (average_length,) = struct.unpack("<d", average)
        lists, documents, tokens = counts
        return CiffHeader(lists, documents, tokens, average_length, text.decode("utf-8", "replace"))


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def _read_varint(raw: bytes, at: int) -> tuple[int, int]:
    """(an integer, the place after it). Raises ValueError where it does not end."""
    value = 0
    for shift, byte in enumerate(raw[at : at + _LENGTH]):
        value |= (byte & 127) << 7 * shift
        if byte < 128:
            return value, at + shift + 1
    raise ValueError("it is malformed")


# ---- writing


@dataclass(frozen=True, slots=True, eq=False)
class PostingsLists:
    """The postings of n terms.

    terms    n
    docs     int32[P]  the documents of each term, ascending
    tfs      int32[P]  the frequency in each
    offsets  int64[n + 1]  term i has the postings offsets[i] to offsets[i + 1]
    """

    terms: Texts
    docs: Int32
    tfs: Int32
    offsets: Int64

    def to_bytes(self) -> UInt8:
        """The messages, with their lengths."""
        sizes = np.empty(len(self.terms), np.int64)
        lists = self.docs, self.tfs, self.offsets
        kernels.size_lists(sizes, *lists, self.terms.offsets)
        out = np.empty(int(sizes.sum()) + _LENGTH * len(sizes), np.uint8)
        size = kernels.write_lists(out, sizes, *lists, self.terms.data, self.terms.offsets)
        return out[:size]


def id_texts(stored: StoredDocuments, rows: Int64, column: str) -> Texts:
    """The ids of some rows as strings, in the form of results."""
    return Texts.from_strings(map(str, id_list(stored.take(rows, [column]).column(0))))


def id_table(column: str, ids: Texts) -> pa.Table:
    """A table of one column, in one chunk."""
    return pa.table({column: text_array(ids)})


def document_bytes(first: int, ids: Texts, lengths: Int32) -> UInt8:
    """The records of some documents, whose first has the number `first`, with their lengths."""
    out = np.empty(ids.nbytes + 4 * _LENGTH * len(ids), np.uint8)
    return out[: kernels.write_documents(out, first, ids.data, ids.offsets, lengths)]


# ---- reading


class CiffReader:
    """Reads a file, compressed or not; a context manager.

    Attributes
    ----------
    header : read when the block begins

    The methods must be called in their order, each read to its end. They and the beginning of the
    block raise DataError for a file that does not exist, is truncated or of another format.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> CiffReader:
        try:
            self._context = opened(self.path)
            self._file: BinaryIO = self._context.__enter__()
        except OSError as error:
            raise DataError(f"{self.path}: cannot be read: {reason(error)}") from error
        try:
            self._rest = np.empty(0, np.uint8)
            self.header = self._read_header()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._context.__exit__(None, None, None)

    def lists(self) -> Iterator[PostingsLists]:
        """The postings lists, some at a time. Raises DataError as well for a list without a term
        or postings, with documents that are not ascending or not below the number of documents,
        frequencies below 1, another df than its postings, and a term that is not UTF-8."""
        done, documents = 0, self.header.documents
        for data, bounds in self._messages(self.header.postings_lists, "postings list"):
            count = len(bounds) // 2
            counts = np.empty(count, np.int64)
            bad = kernels.count_postings(counts, data, bounds)
            if bad < count:
                raise self._wrong("postings list", done + bad, kernels.MALFORMED)
            offsets = offsets_of(counts)
            docs, tfs = np.empty((2, int(offsets[-1])), np.int32)
            dfs, places = np.empty(count, np.int64), np.empty(2 * count, np.int64)
            bad, problem = kernels.read_lists(
                places, dfs, docs, tfs, offsets, data, bounds, documents
            )
            if bad < count:
                raise self._wrong("postings list", done + bad, problem)
            terms = _texts_at(data, places)
            self._check_utf8(terms, "postings list", done)
            for wrong in np.flatnonzero(dfs != counts)[:1].tolist():
                raise DataError(
                    f"{self.path}: postings list {done + wrong + 1}: its df is {dfs[wrong]}, but "
                    f"it has {counts[wrong]} postings"
                )
            yield PostingsLists(terms, docs, tfs, offsets)
            done += count

    def documents(self) -> Iterator[tuple[Int64, Texts, Int32]]:
        """(docid int64[n], collection_docid, doclength int32[n]) of some documents at a time."""
        done = 0
        for data, bounds in self._messages(self.header.documents, "document record"):
            count = len(bounds) // 2
            numbers, lengths = np.empty((2, count), np.int64)
            places = np.empty(2 * count, np.int64)
            bad, problem = kernels.read_documents(numbers, places, lengths, data, bounds)
            if bad < count:
                raise self._wrong("document record", done + bad, problem)
            ids = _texts_at(data, places)
            self._check_utf8(ids, "document record", done)
            yield numbers, ids, lengths.astype(np.int32)
            done += count

    def finish(self) -> None:
        """Raise DataError for data after the last record."""
        if len(self._rest) or len(self._read(1)):
            raise DataError(f"{self.path}: there is more after the last document record")

    def _read_header(self) -> CiffHeader:
        ((data, (start, stop)),) = self._messages(1, "header")
        try:
            return CiffHeader.of_bytes(data[start:stop].tobytes())
        except ValueError as error:
            raise DataError(f"{self.path}: not a CIFF file: the header: {error}") from None

    def _messages(self, count: int, what: str) -> Iterator[tuple[UInt8, Int64]]:
        """(data, where each message starts and stops in it) of the next `count` messages, some at a
        time."""
        done, needed = 0, 0
        bounds = np.empty(2 * min(count, _MOST_MESSAGES), np.int64)
        while done < count:
            most = min(count - done, len(bounds) // 2)
            found, needed = kernels.find_messages(bounds, self._rest, most)
            if not found:
                place = f"{self.path}: {what} {done + 1} of {count}"
                if not 0 <= needed <= _LARGEST:
                    problem = "no message begins here: not a CIFF file, or a damaged one"
                    raise DataError(f"{place}: {problem}")
                # twice as much each time: a wrong length must not take memory for what is not there
                more = self._read(len(self._rest) + _CHUNK)
                if not len(more):
                    raise DataError(f"{place}: the file is truncated: it ends here")
                self._rest = np.concatenate([self._rest, more])
                continue
            data, own = self._rest, bounds[: 2 * found].copy()
            self._rest = data[own[-1] :]
            done += found
            yield data, own

    def _read(self, nbytes: int) -> UInt8:
        """At most some bytes of the file, none at its end."""
        try:
            raw = self._file.read(nbytes)
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(f"{self.path}: damaged: {reason(error)}") from error
        return np.frombuffer(bytearray(raw), np.uint8)

    def _wrong(self, what: str, number: int, problem: int) -> DataError:
        said = _PROBLEMS[problem].format(documents=self.header.documents)
        return DataError(f"{self.path}: {what} {number + 1}: {said}")

    def _check_utf8(self, texts: Texts, what: str, first: int) -> None:
        row = first_invalid(texts.data, texts.offsets, 0)
        if row < len(texts):
            raise DataError(f"{self.path}: {what} {first + row + 1}: its text is not UTF-8")


def _texts_at(data: UInt8, places: Int64) -> Texts:
    """The texts that start and stop at some places of the data."""
    starts, counts = places[::2], places[1::2] - places[::2]
    out: npt.NDArray[np.uint8] = data[ranges(starts, counts)]
    return Texts(out, offsets_of(counts))
