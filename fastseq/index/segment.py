"""A segment of an index: the postings, terms and documents that one commit wrote.

An index of format 3 is one container for each segment (store/container.py), with these arrays:

    posting_docs      uint16[P]  document in its window of 65,536, by (term, document)
    posting_tfs4      uint8[P / 2]  term frequencies, two to a byte, the first of them in its lower
                                 half; 15 when it is in large_tfs
    posting_tfs       uint8[P]   instead of posting_tfs4 where more than 1 of 48 frequencies is from
                                 15 to 254: a byte each; 255 when it is in large_tfs
    run_windows       uint16[R]  the windows in which each term occurs, ascending
    run_counts        uint16[R]  its postings in the window, minus one
    large_at          int64[L]   positions of the postings marked 15 or 255, ascending
    large_tfs         int32[L]   their frequencies
    posting_weights   float32[P]  the weights of postings, where documents are terms with weights
                                 that are not all whole numbers; whole ones are the frequencies
    term_runs         uint[V]    runs of each term
    term_bytes        uint8[…]   the concatenated terms in UTF-8
    term_lengths      uint[V]    bytes of each
    term_slots        uint32[2^n]  hash table: id + 1 of the term in each slot, 0 for none
    document_lengths  uint[N]    tokens of each document
    positions         uint8[…]   the positions of each posting (kernels/search/positions.py), where
                                 they are stored
    position_blocks   uint[P / 128 + 1]  bytes of those of each block of 128 postings
    term_words        uint[V]    words of each term in the next three, where the analyzer changes
                                 words; 0 where the term is its only word
    word_bytes        uint8[…]   the concatenated words in UTF-8, as they are written (after the
                                 tokenizer, before normalisation and stems), term after term, those
                                 of a term by first occurrence
    word_lengths      uint[W]    bytes of each
    word_counts       uint8[…]   occurrences of each, as varints (kernels/core/varints.py)
    documents         uint8[…]   the stored columns (store/documents.py), where there are any
    document_schema   uint8[…]   their schema, an Arrow IPC message
    group_rows, group_bytes  uint[G]  rows and bytes of each of their groups
    column_parts      uint8[C]   the part of each stored column, and
    group_parts       uint8[G]   of each group, which has the columns of its part; where some
                                 columns have groups of their own: format 5
    id_hashes         uint32[N]  the upper halves of the hashes of the ids, ascending; where the
                                 index has an id column
    id_rows           uint32[N]  the document of each
    search_order      uint32[N]  the documents in the order in which they are searched, where that
                                 is not their own (index/reordering.py)
    vectors           float32[N · H] or float16[N · H]  the vectors of the documents, divided by
                                 their norms, where the index has vectors (index/dense.py)
    vector_codes      uint8[N · 4 ceil(H / 4)]  the vectors as bytes, where they are searched first
    vector_steps      float32[N · 3]  what the bytes of a document stand for (index/dense.py)
    no_vector         uint32[…]  the documents without a vector, ascending, whose rows are zeros
    vector_graph      uint8[…]   the graph of the vectors, as usearch saves it, where the index has
                                 graphs and the segment many vectors (index/graphs.py)

A field, a text column with an inverted index of its own, has the arrays from posting_docs to
word_counts again, with names that begin with its own name and a slash.

Format 4 is format 3 of an index whose documents are terms with weights (index/impacts.py), format 5
is either with column_parts in a segment, format 6 any of these with vectors, format 7 one of which
segments may have graphs. Format 2 has no words.
In an index of format 1, which has a single segment, each array is a file, frequencies are bytes,
and `documents.parquet` has the stored columns; the arrays from there on are missing.

Terms are numbered by their first occurrence in the segment (n-gram level by level), documents by
their row. `uint` is the narrowest of uint8, 16, 32, 64 that fits. Counts are stored, not offsets:
they are smaller, and a running total of unsigned numbers whose end is checked cannot point outside
of a damaged file. Frequencies are stored, not scores, so the model is chosen at search time.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastseq.errors import FormatError
from fastseq.index.graphs import Graph
from fastseq.kernels.core.varints import read_varints
from fastseq.kernels.search.positions import BLOCK_BITS
from fastseq.kernels.search.postings import WINDOW, WINDOW_BITS, Postings
from fastseq.kernels.text.raw_words import copy_strings
from fastseq.store.container import Container
from fastseq.store.folder import Folder
from fastseq.text.tables import Dictionary
from fastseq.types import (
    Float32,
    Float64,
    Int32,
    Int64,
    RawWords,
    Texts,
    UInt8,
    UInt32,
    UInt64,
    offsets_of,
    ranges,
)

if TYPE_CHECKING:
    from fastseq.store.documents import StoredDocuments
    from fastseq.text.vocabulary import SortedWords

# of each field of Postings that is an array of the index: its name, dtype
POSTING_ARRAYS = {
    "docs": ("posting_docs", np.uint16),
    "tfs": ("posting_tfs", np.uint8),
    "run_window": ("run_windows", np.uint16),
    "run_count": ("run_counts", np.uint16),
    "large_at": ("large_at", np.int64),
    "large_tf": ("large_tfs", np.int32),
}
PACKED_TFS = "posting_tfs4"  # not of format 1; may take the place of posting_tfs
POSTING_WEIGHTS = "posting_weights"
TERM_RUNS = "term_runs"
TERM_BYTES = "term_bytes"
TERM_LENGTHS = "term_lengths"
TERM_SLOTS = "term_slots"
DOCUMENT_LENGTHS = "document_lengths"
POSITIONS = "positions"
POSITION_BLOCKS = "position_blocks"
TERM_WORDS = "term_words"
WORD_BYTES = "word_bytes"
WORD_LENGTHS = "word_lengths"
WORD_COUNTS = "word_counts"
DOCUMENTS = "documents"
DOCUMENT_SCHEMA = "document_schema"
GROUP_ROWS = "group_rows"
GROUP_BYTES = "group_bytes"
COLUMN_PARTS = "column_parts"
GROUP_PARTS = "group_parts"
ID_HASHES = "id_hashes"
ID_ROWS = "id_rows"
SEARCH_ORDER = "search_order"
VECTORS = "vectors"
VECTOR_CODES = "vector_codes"
VECTOR_STEPS = "vector_steps"
NO_VECTOR = "no_vector"
VECTOR_GRAPH = "vector_graph"
PARQUET = "documents.parquet"  # of format 1

_DOCS = POSTING_ARRAYS["docs"][0]
_MOST = 1 << 48  # total of any counts, far from int64 overflow
_LOOKUPS = 1 << 17  # ids that are looked up at a time, for the memory that each takes


class Field:
    """The inverted index of the documents of a segment, or of one of their text columns.

    What a damaged file of format 1 could contain is either checked here or harmless to the kernels:
    offsets are running totals of unsigned counts that must end where the arrays do, windows and
    documents beyond the last are ignored. Later, checksums find all damage.

    Parameters
    ----------
    source : a container, or a folder of format 1
    prefix : of the names of the arrays
    documents : the number that the manifest has
    changes_words : whether the analyzer does

    Attributes
    ----------
    postings : the arrays of the search kernels
    weights : float32[postings]; None where frequencies are the weights, or terms have none
    documents, terms, tokens : their numbers (tokens of all documents)
    lengths : int32[documents], tokens of each document
    vocabulary : the terms
    df : int64[terms], document frequency of each term
    factors : what a ranking model that does not depend on other segments has computed of the
        documents, by its name
    has_words : whether the words as they are written are known. They are not in segments of formats
        1 and 2 whose analyzer changes words
    """

    def __init__(
        self, source: Container | Folder, prefix: str, documents: int, changes_words: bool
    ) -> None:
        self._source, self._prefix = source, prefix
        self._with_words = isinstance(source, Container) and prefix + TERM_WORDS in source
        self.has_words = self._with_words or not changes_words
        lengths = self._counts(DOCUMENT_LENGTHS)
        self.lengths: Int32 = lengths.astype(np.int32)
        self.documents = len(lengths)
        if not 0 < self.documents == documents:
            raise self.damaged(DOCUMENT_LENGTHS, "not one length for each document")
        self.tokens = int(lengths.sum(dtype=np.int64))
        term_bytes = self._array(TERM_BYTES, np.uint8)
        self.vocabulary = Texts(term_bytes, self._offsets(TERM_LENGTHS, len(term_bytes)))
        self.terms = len(self.vocabulary)
        slots = self._array(TERM_SLOTS, np.uint32)
        if len(slots) < 1 or len(slots) & (len(slots) - 1):
            raise self.damaged(TERM_SLOTS, "not a power of two of slots")
        self._dictionary = Dictionary(self.vocabulary, slots)
        packed = isinstance(source, Container) and prefix + PACKED_TFS in source
        self._tfs = PACKED_TFS if packed else POSTING_ARRAYS["tfs"][0]
        self.postings = self._postings()
        self.weights = self._weights()
        self._verified: set[int] = set()  # terms with their positions
        self.factors: dict[str, Float64] = {}

    def lookup(self, words: Texts) -> Int32:
        """int32[n]: the id of each term, -1 for one that the segment lacks."""
        return self._dictionary.columns(words)

    @cached_property
    def _verified_postings(self) -> UInt8:
        """uint8[terms]: 1 for those whose postings are verified."""
        return np.zeros(self.terms, np.uint8)

    @cached_property
    def df(self) -> Int64:
        return np.diff(self.postings.term_posting)

    @property
    def windows(self) -> int:
        """The number of windows of 65,536 documents."""
        return (self.documents + WINDOW - 1) >> WINDOW_BITS

    @cached_property
    def search_order(self) -> UInt32 | None:
        """uint32[documents]: the documents in the order in which they are searched; None where that
        is their own. Raises FormatError for a damaged one."""
        name = self._prefix + SEARCH_ORDER
        if isinstance(self._source, Folder) or name not in self._source:
            return None
        order = self._array(name, np.uint32)
        seen = np.zeros(self.documents, bool)
        if len(order) == self.documents and int(order.max()) < self.documents:
            seen[order] = True
        if not seen.all():
            raise self.damaged(SEARCH_ORDER, "not each document once")
        return order

    @cached_property
    def search_places(self) -> Int32 | None:
        """int32[documents]: the place of each document in `search_order`; None without one."""
        order = self.search_order
        if order is None:
            return None
        places = np.empty(len(order), np.int32)
        places[order] = np.arange(len(order), dtype=np.int32)
        return places

    def verify_postings(self, terms: Int32) -> None:
        """Verify the checksums of the postings of some terms, of each once. Raises FormatError
        where one is wrong."""
        if isinstance(self._source, Container):
            terms = terms[self._verified_postings[terms] == 0]
            if not len(terms):
                return
            starts, stops = self.postings.term_posting[terms], self.postings.term_posting[terms + 1]
            self._source.verify_ranges(self._prefix + _DOCS, starts, stops)
            if self.weights is not None:
                self._source.verify_ranges(self._prefix + POSTING_WEIGHTS, starts, stops)
            packed = self.postings.packed  # an element has two
            starts, stops = starts >> packed, (stops + packed) >> packed
            self._source.verify_ranges(self._prefix + self._tfs, starts, stops)
            self._verified_postings[terms] = 1

    def verify_all_postings(self) -> None:
        """Verify the checksums of all postings. Raises FormatError where one is wrong."""
        if isinstance(self._source, Container):
            self._source.verify(self._prefix + _DOCS, 0, len(self.postings.docs))
            self._source.verify(self._prefix + self._tfs, 0, len(self.postings.tfs))
            if self.weights is not None:
                self._source.verify(self._prefix + POSTING_WEIGHTS, 0, len(self.weights))

    @cached_property
    def positions(self) -> tuple[UInt8, Int64] | None:
        """(positions uint8[…], where those of each block of 128 postings start); None where they
        are not stored. All are verified. Raises FormatError for damaged ones."""
        found = self.unverified_positions
        if found is not None and isinstance(self._source, Container):
            self._source.verify(self._prefix + POSITIONS, 0, len(found[0]))
        return found

    @cached_property
    def unverified_positions(self) -> tuple[UInt8, Int64] | None:
        """`positions`, of which `verify_positions` must verify those that are used."""
        source = self._source
        if isinstance(source, Folder) or self._prefix + POSITIONS not in source:
            return None
        data = source.unverified(self._prefix + POSITIONS, np.uint8)
        blocks = self._offsets(POSITION_BLOCKS, len(data))
        if len(blocks) != (len(self.postings.docs) >> BLOCK_BITS) + 2:
            raise self.damaged(POSITION_BLOCKS, "not the blocks of the postings")
        return data, blocks

    def verify_positions(self, terms: Int32) -> None:
        """Verify the checksums of the postings of some terms and of their positions, where they are
        stored; each term once. Raises FormatError where one is wrong."""
        new = [term for term in terms.tolist() if term not in self._verified]
        if not new:
            return
        found = np.array(new, np.int32)
        self.verify_postings(found)
        positions = self.unverified_positions
        if positions is not None and isinstance(self._source, Container):
            first, last = self.postings.term_posting[found], self.postings.term_posting[found + 1]
            starts = positions[1][first >> BLOCK_BITS]
            stops = positions[1][-(-last >> BLOCK_BITS)]
            self._source.verify_ranges(self._prefix + POSITIONS, starts, stops)
        self._verified.update(new)

    @cached_property
    def sorted_terms(self) -> SortedWords:
        """The terms in the order of their bytes."""
        from fastseq.text.vocabulary import SortedWords

        return SortedWords(self.vocabulary)

    @cached_property
    def sorted_words(self) -> tuple[SortedWords, Int32 | None]:
        """(the words as they are written, the term of each; None where words are terms)."""
        from fastseq.text.vocabulary import SortedWords

        words, terms = self.words()
        if words is self.vocabulary:
            return self.sorted_terms, None
        return SortedWords(words), terms

    @cached_property
    def word_table(self) -> RawWords | None:
        """The words that are stored, in the order of terms; None without the arrays. Raises
        FormatError for damaged ones."""
        if not self._with_words:
            return None
        data = self._array(WORD_BYTES, np.uint8)
        words = Texts(data, self._offsets(WORD_LENGTHS, len(data)))
        of_term = np.diff(self._offsets(TERM_WORDS, len(words)))
        if len(of_term) != self.terms:
            raise self.damaged(TERM_WORDS, f"{len(of_term)} entries, expected {self.terms}")
        packed, counts = self._array(WORD_COUNTS, np.uint8), np.empty(len(words), np.int64)
        ends = int(np.count_nonzero(packed < 128))
        if ends != len(words) or read_varints(counts, packed) != len(packed):
            raise self.damaged(WORD_COUNTS, f"not {len(words)} counts")
        return RawWords(words, np.repeat(np.arange(self.terms, dtype=np.int32), of_term), counts)

    def words(self) -> tuple[Texts, Int32]:
        """(words, int32[n] the term of each): the distinct words as they are written, in the order
        of terms. The terms themselves where the words are not known, or an analyzer does not change
        them. Words of deleted documents are among them. Raises FormatError for damaged arrays.
        """
        words, terms, _ = self._words
        return words, terms

    def places_in_table(self, words: Int32) -> Int64:
        """int64[n]: the place in `word_table` of words by their numbers in `words`, -1 for a term
        that is its only word."""
        found: Int64 = self._words[2][words]
        return found

    @cached_property
    def _words(self) -> tuple[Texts, Int32, Int64]:
        """(words, terms, place of each in `word_table` or -1)."""
        table, every = self.word_table, np.arange(self.terms, dtype=np.int32)
        if table is None:
            return self.vocabulary, every, np.full(self.terms, -1, np.int64)
        counts = np.bincount(table.terms, minlength=self.terms)
        terms = np.repeat(every, np.maximum(counts, 1))
        stored = counts[terms] > 0
        alone = every[counts == 0]
        lengths = np.empty(len(terms), np.int64)
        lengths[stored] = np.diff(table.words.offsets)
        lengths[~stored] = np.diff(self.vocabulary.offsets)[alone]
        ends = offsets_of(lengths)
        out = np.empty(int(ends[-1]), np.uint8)
        whole = np.arange(len(table), dtype=np.int32)
        for which, texts, chosen in (
            (stored, table.words, whole), (~stored, self.vocabulary, alone)
        ):  # fmt: skip
            copy_strings(out, ends[:-1][which], texts.data, texts.offsets, 0, chosen)
        return Texts(out, ends), terms, np.where(stored, np.cumsum(stored) - 1, -1)

    def _postings(self) -> Postings:
        source = self._source
        names = {field: name for field, (name, _) in POSTING_ARRAYS.items()} | {"tfs": self._tfs}
        packed = int(self._tfs == PACKED_TFS)
        arrays: dict[str, Any] = {}
        for field, name in names.items():
            # chunks of these are verified when a term is first used
            lazy = name in (_DOCS, self._tfs) and isinstance(source, Container)
            read = source.unverified if lazy else source.array  # type: ignore[union-attr]
            arrays[field] = read(self._prefix + name, POSTING_ARRAYS[field][1])
        term_run = self._offsets(TERM_RUNS, len(arrays["run_window"]))
        tfs = (len(arrays["docs"]) + packed) >> packed
        lengths = [
            (TERM_RUNS, len(term_run) - 1, self.terms), (self._tfs, len(arrays["tfs"]), tfs)
        ]  # fmt: skip
        for field, other in (("run_count", "run_window"), ("large_tf", "large_at")):
            lengths.append((names[field], len(arrays[field]), len(arrays[other])))
        for name, entries, expected in lengths:
            if entries != expected:
                raise self.damaged(name, f"{entries} entries, expected {expected}")
        run_posting = offsets_of(arrays["run_count"])  # of counts less one
        term_posting = run_posting[term_run] + term_run
        if term_posting[-1] != len(arrays["docs"]):
            raise self.damaged(names["run_count"], f"its total is not {len(arrays['docs'])}")
        return Postings(**arrays, term_posting=term_posting, term_run=term_run, packed=packed)

    def _weights(self) -> Float32 | None:
        """The weights of postings, which must be verified."""
        source, name = self._source, self._prefix + POSTING_WEIGHTS
        if isinstance(source, Folder) or name not in source:
            return None
        weights: Float32 = source.unverified(name, np.float32)
        if len(weights) != len(self.postings.docs):
            raise self.damaged(POSTING_WEIGHTS, "not one for each posting")
        return weights

    def _offsets(self, name: str, end: int) -> Int64:
        """The offsets of counts, which must add up to `end`."""
        offsets = offsets_of(self._counts(name))
        if offsets[-1] != end:
            raise self.damaged(name, f"its total is not {end}")
        return offsets

    def _counts(self, name: str) -> npt.NDArray[Any]:
        counts = self._array(name)
        if counts.dtype.kind != "u" or counts.sum(dtype=np.float64) > _MOST:
            raise self.damaged(name, "not counts")
        return counts

    def damaged(self, name: str, what: str) -> FormatError:
        """The error of an array."""
        if isinstance(self._source, Folder):
            return FormatError(f"{self._source.path(name)}: damaged: {what}")
        return FormatError(f"{self._source.path}: damaged: {self._prefix}{name}: {what}")

    def _array(self, name: str, dtype: npt.DTypeLike | None = None) -> npt.NDArray[Any]:
        return self._source.array(self._prefix + name, dtype)


class Codes(NamedTuple):
    """The vectors of the documents of a segment as bytes: see index/dense.py.

    words  float32[documents, ceil(size / 4)], whose bits are four bytes each
    steps  float32[documents, 3]
    """

    words: Float32
    steps: Float32


class Vectors:
    """The vectors of the documents of a segment.

    raw      float32[documents, size] or float16, mapped; what is used must be verified
    missing  uint32[n]  documents without a vector, ascending, whose rows are zeros
    codes    None where there are none; mapped, what is used must be verified
    size     dimensions
    """

    def __init__(
        self, source: Container, raw: npt.NDArray[Any], missing: UInt32, codes: Codes | None
    ) -> None:
        self.raw, self.missing, self.codes = raw, missing, codes
        self.size = raw.shape[1]
        self._source = source

    def verify(self, first: int, last: int) -> None:
        """Verify the checksums of the vectors of documents [first, last), once. Raises FormatError
        where one is wrong."""
        self._source.verify(VECTORS, first * self.size, last * self.size)

    def verify_rows(self, rows: Int64) -> None:
        """`verify` for documents int64[n]."""
        self._source.verify_ranges(VECTORS, rows * self.size, (rows + 1) * self.size)

    def verify_codes(self, first: int, last: int) -> None:
        """`verify` for the codes."""
        assert self.codes is not None
        width = 4 * self.codes.words.shape[1]
        self._source.verify(VECTOR_CODES, first * width, last * width)
        self._source.verify(VECTOR_STEPS, first * 3, last * 3)


class Segment(Field):
    """A segment: the inverted index of its text, those of its fields, and its stored columns.

    name     unique in the index
    fields   the inverted indexes of text columns
    """

    def __init__(
        self, source: Container | Folder, name: str, documents: int, changes_words: bool,
        fields: Iterable[str] = (),
    ) -> None:  # fmt: skip
        """fields : their names. Others as in Field."""
        super().__init__(source, "", documents, changes_words)
        self.name = name
        self.fields = {
            field: Field(source, field_prefix(field), documents, changes_words) for field in fields
        }

    @property
    def is_divided(self) -> bool:
        """Whether the stored columns are in several parts (store/documents.py)."""
        return isinstance(self._source, Container) and COLUMN_PARTS in self._source

    @cached_property
    def vectors(self) -> Vectors | None:
        """The vectors of the documents; None where the index has none."""
        source = self._source
        if isinstance(source, Folder) or VECTORS not in source:
            return None
        raw = source.unverified(VECTORS)
        if raw.dtype not in (np.float32, np.float16) or not len(raw) or len(raw) % self.documents:
            raise self.damaged(VECTORS, "not a vector for each document")
        missing = source.array(NO_VECTOR, np.uint32)
        if len(missing) and int(missing.max()) >= self.documents:
            raise self.damaged(NO_VECTOR, "not documents of the segment")
        return Vectors(source, raw.reshape(self.documents, -1), missing, self._codes(source, raw))

    @cached_property
    def vector_graph(self) -> Graph | None:
        """The graph of the vectors; None without one. All of it is verified. Raises FormatError for
        a damaged one, MissingExtraError without usearch."""
        source, vectors = self._source, self.vectors
        if isinstance(source, Folder) or vectors is None or VECTOR_GRAPH not in source:
            return None
        try:
            return Graph(source.array(VECTOR_GRAPH, np.uint8), vectors.size, self.documents)
        except ValueError as error:
            raise self.damaged(VECTOR_GRAPH, str(error)) from None

    def _codes(self, source: Container, raw: npt.NDArray[Any]) -> Codes | None:
        if VECTOR_CODES not in source:
            return None
        codes = source.unverified(VECTOR_CODES, np.uint8)
        steps = source.unverified(VECTOR_STEPS, np.float32)
        width = 4 * -(-len(raw) // self.documents // 4)
        if len(codes) != self.documents * width or len(steps) != 3 * self.documents:
            raise self.damaged(VECTOR_CODES, "not a code for each document")
        return Codes(
            codes.view(np.float32).reshape(self.documents, -1), steps.reshape(self.documents, 3)
        )

    @cached_property
    def stored(self) -> StoredDocuments | None:
        """The stored columns; None if there are none."""
        from fastseq.store.documents import ParquetDocuments, open_documents

        source = self._source
        reader: StoredDocuments
        if isinstance(source, Folder):
            if PARQUET not in source.names:
                return None
            reader = ParquetDocuments(source.buffer(PARQUET), source.path(PARQUET))
        else:
            if DOCUMENTS not in source:
                return None
            data = source.unverified(DOCUMENTS, np.uint8)

            def read_many(starts: list[int], stops: list[int]) -> list[Any]:
                source.verify_ranges(DOCUMENTS, np.array(starts), np.array(stops))
                return [data[start:stop] for start, stop in zip(starts, stops, strict=True)]

            rows, sizes = self._counts(GROUP_ROWS), self._counts(GROUP_BYTES)
            if len(rows) != len(sizes) or int(sizes.sum(dtype=np.int64)) != len(data):
                raise self.damaged(GROUP_BYTES, "not the groups of the documents")
            schema = source.array(DOCUMENT_SCHEMA, np.uint8)
            parts = [
                source.array(name, np.uint8) if name in source else None
                for name in (COLUMN_PARTS, GROUP_PARTS)
            ]
            reader = open_documents(str(source.path), read_many, schema, rows, sizes, *parts)
        if reader.num_rows != self.documents:
            raise self.damaged(DOCUMENTS, "not the rows of the index")
        return reader

    def rows_with(self, hashes: UInt32, id_column: str) -> tuple[Int64, Int64]:
        """Candidates for ids: (place, row) of each id, by its place in `hashes`, and each document
        whose id has the same hash; their ids must be compared."""
        known, of_known = self.id_table(id_column)
        places, rows = [], []
        for first in range(0, max(len(hashes), 1), _LOOKUPS):
            wanted = hashes[first : first + _LOOKUPS]
            low = np.searchsorted(known, wanted, "left")
            counts = np.searchsorted(known, wanted, "right") - low
            places.append(first + np.repeat(np.arange(len(wanted)), counts))
            rows.append(of_known[ranges(low, counts)].astype(np.int64))
        return np.concatenate(places), np.concatenate(rows)

    def id_table(self, id_column: str) -> tuple[UInt32, UInt32]:
        """(hashes, rows), ascending by hash: see the arrays `id_hashes` and `id_rows`."""
        if self._ids is None:
            if isinstance(self._source, Container):
                hashes = self._source.array(ID_HASHES, np.uint32)
                self._ids = hashes, self._source.array(ID_ROWS, np.uint32)
                if len(hashes) != self.documents or len(self._ids[1]) != self.documents:
                    raise self.damaged(ID_HASHES, "not one for each document")
            else:
                from fastseq.store.arrays import one_chunk
                from fastseq.store.ids import id_hashes

                stored = self.stored
                assert stored is not None
                ids = one_chunk(stored.column(id_column))
                self._ids = sorted_ids(id_hashes(ids))
        return self._ids

    _ids: tuple[UInt32, UInt32] | None = None


def field_prefix(name: str) -> str:
    """The prefix of the names of a field's arrays; "" for the text."""
    return f"{name}/" if name else ""


def sorted_ids(hashes: UInt64, rows: UInt32 | None = None) -> tuple[UInt32, UInt32]:
    """(`id_hashes`, `id_rows`) of the upper halves of hashes, and of their rows, by default 0, 1, …

    hashes : overwritten, which saves memory
    """
    hashes &= np.uint64(0xFFFFFFFF00000000)
    hashes |= np.arange(len(hashes), dtype=np.uint32) if rows is None else rows
    hashes.sort()  # a fifth of the time of argsort
    return (hashes >> np.uint64(32)).astype(np.uint32), hashes.astype(np.uint32)


def upper_halves(hashes: UInt64) -> UInt32:
    """Hashes as the array `id_hashes` has them."""
    return (hashes >> np.uint64(32)).astype(np.uint32)
