"""The files of an index, format version 1, and an index opened for reading.

    posting_docs      uint16[P]  document in its window of 65,536, by (term, document)
    posting_tfs       uint8[P]   term frequency; 255 when it is in large_tfs
    run_windows       uint16[R]  the windows in which each term occurs, ascending
    run_counts        uint16[R]  its postings in the window, minus one
    large_at          int64[L]   positions of the postings marked 255
    large_tfs         int32[L]   their frequencies
    term_runs         uint[V]    runs of each term
    term_bytes        uint8[…]   the concatenated terms in UTF-8
    term_lengths      uint[V]    bytes of each
    term_slots        uint32[2^n]  hash table: id + 1 of the term in each slot, 0 for none
    document_lengths  uint[N]    tokens of each document
    documents.parquet the stored columns, including the id

Terms are numbered by their first occurrence in the collection (n-gram level by level), documents
by their row. `uint` is the narrowest of uint8, 16, 32, 64 that fits. Counts are stored, not
offsets: they are smaller, and a running total of unsigned numbers whose end is checked cannot point
outside a damaged file. Frequencies are stored, not scores, so the model is chosen at search time.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

import numpy as np
import numpy.typing as npt

from fastseq.errors import FormatError, SettingsError
from fastseq.kernels.search.impacts import Postings
from fastseq.kernels.search.postings import WINDOW, WINDOW_BITS
from fastseq.store.folder import Folder
from fastseq.text.analyzer import Analyzer
from fastseq.text.tables import Dictionary
from fastseq.types import Int32, Int64, Texts, offsets_of

if TYPE_CHECKING:
    from fastseq.store.documents import DocumentReader

KIND = "index"
VERSION = 1

# of each field of Postings that is a file: its name, dtype
POSTING_FILES = {
    "docs": ("posting_docs", np.uint16),
    "tfs": ("posting_tfs", np.uint8),
    "run_window": ("run_windows", np.uint16),
    "run_count": ("run_counts", np.uint16),
    "large_at": ("large_at", np.int64),
    "large_tf": ("large_tfs", np.int32),
}
TERM_RUNS = "term_runs"
TERM_BYTES = "term_bytes"
TERM_LENGTHS = "term_lengths"
TERM_SLOTS = "term_slots"
DOCUMENT_LENGTHS = "document_lengths"
DOCUMENTS = "documents.parquet"

_MOST = 1 << 48  # total of any counts, far from int64 overflow


class Segment:
    """The postings, term dictionary, document lengths and stored columns of a committed index.

    What a damaged file could contain is either checked here or harmless to the kernels: offsets are
    running totals of unsigned counts that must end where the arrays do, windows beyond the last are
    ignored, hits beyond the last document are dropped.

    Attributes
    ----------
    postings : the arrays of the search kernels
    documents, terms, tokens : their numbers (tokens of all documents)
    lengths : int32[documents], tokens of each document
    df : int64[terms], document frequency of each term
    analyzer : the analyzer of documents and queries
    """

    def __init__(self, folder: Folder) -> None:
        self.folder = folder
        self._path = str(folder.root.absolute())
        self.analyzer = Analyzer.from_dict(self._setting("analyzer", dict))
        self.id_column: str | None = folder.settings.get("id_column")
        self.stored_columns: list[str] = self._setting("stored_columns", list)
        lengths = self._counts(DOCUMENT_LENGTHS)
        self.lengths: Int32 = lengths.astype(np.int32)
        self.documents = len(lengths)
        if not 0 < self.documents == folder.statistics.get("documents"):
            raise self._damaged(DOCUMENT_LENGTHS, "not one length for each document")
        self.tokens = int(lengths.sum(dtype=np.int64))
        term_bytes = folder.array(TERM_BYTES, np.uint8)
        self._terms = Texts(term_bytes, self._offsets(TERM_LENGTHS, len(term_bytes)))
        self.terms = len(self._terms)
        slots = folder.array(TERM_SLOTS, np.uint32)
        if len(slots) < 1 or len(slots) & (len(slots) - 1):
            raise self._damaged(TERM_SLOTS, "not a power of two of slots")
        self._dictionary = Dictionary(self._terms, slots)
        self.postings = self._postings()

    @staticmethod
    def open(path: str | Path) -> Segment:
        """Open a committed index; the files are mapped, not read. Raises as `Index.open`."""
        return Segment(Folder.open(path, KIND, [VERSION]))

    @cached_property
    def commit(self) -> int:
        """The CRC-32 of the manifest, which identifies the commit."""
        crc32: int = json.loads(self.folder.manifest.to_bytes())["crc32"]
        return crc32

    def __reduce__(self) -> Any:
        """Pickle the path and the commit. Unpickling raises as `open`, and FormatError where the
        folder has another commit by then."""
        _shared[self._path, self.commit] = self
        return _opened, (self._path, self.commit)

    def __copy__(self) -> Segment:
        return self  # it never changes

    def __deepcopy__(self, memo: dict[int, Any]) -> Segment:
        return self

    def lookup(self, words: Texts) -> Int32:
        """int32[n]: the id of each term, -1 for one that the index lacks."""
        return self._dictionary.columns(words)

    def frequent_terms(self, most: int) -> list[str]:
        """The `most` terms of the highest document frequency, the most frequent first."""
        order = np.argsort(-self.df, kind="stable")[:most]
        raw, offsets = self._terms.data.tobytes(), self._terms.offsets
        spans = zip(offsets[order].tolist(), offsets[order + 1].tolist(), strict=True)
        return [raw[a:b].decode("utf-8", "replace") for a, b in spans]

    @cached_property
    def df(self) -> Int64:
        return np.diff(self.postings.term_posting)

    @property
    def windows(self) -> int:
        """The number of windows of 65,536 documents."""
        return (self.documents + WINDOW - 1) >> WINDOW_BITS

    @cached_property
    def stored(self) -> DocumentReader | None:
        """The stored columns; None if there are none."""
        from fastseq.store.documents import DocumentReader

        if not self.stored_columns:
            return None
        reader = DocumentReader(self.folder.buffer(DOCUMENTS), self.folder.path(DOCUMENTS))
        if reader.num_rows != self.documents or set(self.stored_columns) - set(reader.columns):
            raise self._damaged(DOCUMENTS, "not the rows and columns of the index")
        return reader

    def rows_of(self, ids: Sequence[Any]) -> Int64:
        """int64[n]: the row of the document with each id, -1 for an unknown id.

        Without an id column the ids are the row numbers. Raises SettingsError for an id of another
        type than the column's.
        """
        known = self._row_of_id
        kind: type[Any] = int if known is None else type(next(iter(known), None))
        rows = np.empty(len(ids), np.int64)
        for i, given in enumerate(ids):
            value = given.item() if isinstance(given, np.generic) else given
            if type(value) is not kind:
                ours = "" if known is None else f", as in the column {self.id_column!r}"
                raise SettingsError(
                    f"the id must be of type {kind.__name__}{ours}, not {type(value).__name__}: "
                    f"{value!r}"
                )
            if known is None:
                rows[i] = value if value in range(self.documents) else -1
            else:
                rows[i] = known.get(value, -1)
        return rows

    @cached_property
    def _row_of_id(self) -> dict[Any, int] | None:
        """The row of each id; None where the ids are the row numbers."""
        if self.id_column is None or self.stored is None:
            return None
        ids = self.stored.column(self.id_column).to_pylist()
        return dict(zip(ids, range(self.documents), strict=True))

    def _postings(self) -> Postings:
        arrays: dict[str, Any] = {
            field: self.folder.array(name, dtype) for field, (name, dtype) in POSTING_FILES.items()
        }
        term_run = self._offsets(TERM_RUNS, len(arrays["run_window"]))
        lengths = [(TERM_RUNS, len(term_run) - 1, self.terms)]
        pairs = (("tfs", "docs"), ("run_count", "run_window"), ("large_tf", "large_at"))
        for field, other in pairs:
            lengths.append((POSTING_FILES[field][0], len(arrays[field]), len(arrays[other])))
        for name, entries, expected in lengths:
            if entries != expected:
                raise self._damaged(name, f"{entries} entries, expected {expected}")
        run_posting = offsets_of(arrays["run_count"])  # of counts less one
        term_posting = run_posting[term_run] + term_run
        if term_posting[-1] != len(arrays["docs"]):
            name = POSTING_FILES["run_count"][0]
            raise self._damaged(name, f"its total is not {len(arrays['docs'])}")
        return Postings(**arrays, term_posting=term_posting, term_run=term_run)

    def _offsets(self, name: str, end: int) -> Int64:
        """The offsets of counts, which must add up to `end`."""
        offsets = offsets_of(self._counts(name))
        if offsets[-1] != end:
            raise self._damaged(name, f"its total is not {end}")
        return offsets

    def _counts(self, name: str) -> npt.NDArray[Any]:
        counts = self.folder.array(name)
        if counts.dtype.kind != "u" or counts.sum(dtype=np.float64) > _MOST:
            raise self._damaged(name, "not counts")
        return counts

    def _setting(self, name: str, kind: type) -> Any:
        value = self.folder.settings.get(name)
        if not isinstance(value, kind):
            raise FormatError(f"{self.folder.root}: the manifest has no setting {name!r}")
        return value

    def _damaged(self, name: str, what: str) -> FormatError:
        return FormatError(f"{self.folder.path(name)}: damaged: {what}")


# open segments by path and commit: all that is unpickled from one index shares its files
_shared: WeakValueDictionary[tuple[str, int], Segment] = WeakValueDictionary()


def _opened(path: str, commit: int) -> Segment:
    """The segment of a pickle."""
    segment = _shared.get((path, commit))
    if segment is None:
        segment = Segment.open(path)
        if segment.commit != commit:
            raise FormatError(
                f"{path}: the commit of this pickle is gone; Index.open opens the current one"
            )
        _shared[path, commit] = segment
    return segment
