"""A committed index opened for reading: postings, statistics, term dictionary."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fastseq.errors import FormatError
from fastseq.index import format as layout
from fastseq.kernels.search.impacts import Postings
from fastseq.kernels.search.postings import WINDOW, WINDOW_BITS, run_totals
from fastseq.store.folder import Folder
from fastseq.text.analyzer import Analyzer
from fastseq.types import Int32, Int64, Texts, offsets_of

if TYPE_CHECKING:
    from fastseq.store.documents import DocumentReader

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
        self.analyzer = Analyzer.from_dict(self._setting("analyzer", dict))
        self.id_column: str | None = folder.settings.get("id_column")
        self.stored_columns: list[str] = self._setting("stored_columns", list)
        lengths = self._counts(layout.DOCUMENT_LENGTHS)
        self.lengths: Int32 = lengths.astype(np.int32)
        self.documents = len(lengths)
        if not 0 < self.documents == folder.statistics.get("documents"):
            raise self._damaged(layout.DOCUMENT_LENGTHS, "not one length for each document")
        self.tokens = int(lengths.sum(dtype=np.int64))
        self._term_bytes = folder.array(layout.TERM_BYTES, np.uint8)
        self._term_offsets = self._offsets(layout.TERM_LENGTHS, len(self._term_bytes))
        self._slots = folder.array(layout.TERM_SLOTS, np.uint32)
        self.terms = len(self._term_offsets) - 1
        if len(self._slots) < 1 or len(self._slots) & (len(self._slots) - 1):
            raise self._damaged(layout.TERM_SLOTS, "not a power of two of slots")
        self.postings = self._postings()

    @staticmethod
    def open(path: str | Path) -> Segment:
        """Open a committed index; the files are mapped, not read. Raises as `Index.open`."""
        return Segment(Folder.open(path, layout.KIND, [layout.VERSION]))

    def lookup(self, words: Texts) -> Int32:
        """int32[n]: the id of each term, -1 for one that the index lacks."""
        from fastseq.kernels.text import hashing

        out = np.empty(len(words), np.int32)
        hashing.lookup(
            out, self._slots, self._term_bytes, self._term_offsets, words.data, words.offsets
        )
        return out

    def frequent_terms(self, most: int) -> list[str]:
        """The `most` terms of the highest document frequency, the most frequent first."""
        order = np.argsort(-self.df, kind="stable")[:most]
        raw, offsets = self._term_bytes.tobytes(), self._term_offsets
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
        reader = DocumentReader(
            self.folder.buffer(layout.DOCUMENTS), self.folder.path(layout.DOCUMENTS)
        )
        if reader.num_rows != self.documents or set(self.stored_columns) - set(reader.columns):
            raise self._damaged(layout.DOCUMENTS, "not the rows and columns of the index")
        return reader

    def _postings(self) -> Postings:
        folder = self.folder
        docs = folder.array(layout.POSTING_DOCS, np.uint16)
        tfs = folder.array(layout.POSTING_TFS, np.uint8)
        run_window = folder.array(layout.RUN_WINDOWS, np.uint16)
        run_count = folder.array(layout.RUN_COUNTS, np.uint16)
        large_at = folder.array(layout.LARGE_AT, np.int64)
        large_tf = folder.array(layout.LARGE_TFS, np.int32)
        term_run = self._offsets(layout.TERM_RUNS, len(run_window))
        for name, array, other in (
            (layout.POSTING_TFS, tfs, docs),
            (layout.RUN_COUNTS, run_count, run_window),
            (layout.LARGE_TFS, large_tf, large_at),
            (layout.TERM_RUNS, term_run[1:], self._term_offsets[1:]),
        ):
            if len(array) != len(other):
                raise self._damaged(name, f"{len(array)} entries, expected {len(other)}")
        totals = np.empty(self.terms, np.int64)
        run_totals(totals, term_run, run_count)
        term_posting = offsets_of(totals)
        if term_posting[-1] != len(docs):
            raise self._damaged(layout.RUN_COUNTS, f"its total is not {len(docs)}")
        return Postings(
            docs, tfs, term_posting, term_run, run_window, run_count, large_at, large_tf
        )

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
