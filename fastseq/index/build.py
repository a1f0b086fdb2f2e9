"""Index construction: Parquet → tokens → slices → merged postings → one commit.

Slices of the corpus are tokenised and inverted on threads; `SliceStore` collects them within a
memory budget; `Merge` adds up the document frequencies of each term, which determines the position
of every posting in the index, and yields the merged postings in chunks of terms.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastseq.errors import DataError, RowError, SettingsError, located
from fastseq.index import KIND, VERSION
from fastseq.index import segment as layout
from fastseq.index.reordering import write_search_order
from fastseq.index.segment_writer import (
    chunk_edges,
    segment_name,
    statistics_of,
    write_groups,
    write_ids,
    write_postings,
    write_terms,
    write_words,
)
from fastseq.index.words import WordRuns
from fastseq.kernels.search import positions as position_kernels
from fastseq.kernels.search import postings as kernels
from fastseq.kernels.search.postings import WINDOW, WINDOW_BITS
from fastseq.settings import flag, function, parse_size, string, strings, thread_count
from fastseq.store.additions import Documents
from fastseq.store.container import ContainerWriter
from fastseq.store.documents import DocumentReader, DocumentWriter, schema_bytes, schema_text
from fastseq.store.files import SpillFile, writing
from fastseq.store.ids import id_hashes, id_list, refuse_duplicate_ids
from fastseq.store.memory import release_memory, system_allocator
from fastseq.store.outputs import check_folder
from fastseq.store.rows import Corpus, RowBatch
from fastseq.store.writer import FolderWriter
from fastseq.text.analyzer import Analyzer
from fastseq.text.lexicon import REPLACED, Lexicon, Ticket, encode_slices
from fastseq.text.settings import INDEX_TOKENIZER
from fastseq.threads import in_order
from fastseq.types import Int32, Int64, RawWords, Texts, Tokens, UInt8, UInt16, UInt64, offsets_of

Array = npt.NDArray[Any]
Progress = Callable[[str, int, int | None], None]

MOST_DOCUMENTS = (1 << 31) - 1  # rows are int32
SMALLEST_MEMORY = 16 << 20
# What does not depend on the limit: compiled kernels, a Parquet file's pages, what malloc keeps.
_FIXED = 40 << 20
# A quarter of the rest is for slices in progress, and later for chunks of merged postings; half is
# for the vocabulary, ids and collected slices, which are spilled when it is full. Raw words, a part
# of the vocabulary, are cleared when they take a quarter. The last quarter is for batches of the
# corpus, tables that grow and the table of ids.
_SHARES = 4
_LEAST = 16  # collected slices may always take this part
_DOCUMENT, _ID = 4, 8  # bytes that stay in memory until the end: a length; the hash of an id
_BYTES_PER_BYTE = 8  # memory of a slice in progress by bytes of text: ids, sort keys, postings
_CHARACTERS = 4  # tokens shorter than a word, by words
_LARGEST_SLICE = 8 << 20
_SMALLEST_SLICE = 64 << 10


def build(
    corpus: Any, path: str | Path, *, id_column: str | None, text_columns: str | list[str] | None,
    store: str | list[str] | None, analyzer: Analyzer | None, memory: str | int,
    threads: int | None, overwrite: bool, progress: Progress | None, positions: bool = True,
    fields: str | list[str] | None = None, reorder: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """Index a corpus into a folder and return its summary: see `Index.build`.

    The bytes of the folder do not depend on `memory` or `threads`.
    """
    started = time.perf_counter()
    budget = memory_budget(memory)
    threads = thread_count(threads)
    if analyzer is not None and not isinstance(analyzer, Analyzer):
        raise SettingsError(
            "analyzer must be a fastseq.Analyzer, such as Analyzer.for_language('english'), "
            f"not {analyzer!r}"
        )
    analyzer = (analyzer or Analyzer()).resolved(INDEX_TOKENIZER)
    saved_analyzer = analyzer.to_dict(functions=True)
    names = [] if fields is None else list(dict.fromkeys(strings("fields", fields)))
    if "" in names:
        raise SettingsError("a column without a name cannot be a field")
    documents = Corpus.open(
        corpus,
        None if id_column is None else string("id_column", id_column),
        None if text_columns is None else strings("text_columns", text_columns),
        None if store is None else strings("store", store),
        names,
    )
    stored_positions = flag("positions", positions) and not analyzer.has_ngrams
    settings = {
        "analyzer": saved_analyzer,
        "id_column": documents.id_column,
        "text_columns": list(documents.text_columns),
        "stored_columns": list(documents.stored_columns),
        "store_named": store is not None,
        "positions": stored_positions,
        "schema": schema_text(documents.stored_schema),
    }
    if len(documents.layout) > 1:
        settings["fields"] = [name for name in documents.layout if name]
    report = function("progress", progress) or (lambda stage, done, total: None)
    overwrite, reorder = flag("overwrite", overwrite), flag("reorder", reorder)
    check_folder(path, corpus)
    with FolderWriter(path, KIND, VERSION, overwrite) as writer:
        container = writer.container(segment_name(writer, 0))
        builder = SegmentBuilder(
            documents, analyzer, stored_positions, writer, container, budget, threads, report
        )
        entry = builder.run()
        if reorder:
            with writing(container.path):
                write_search_order(container, threads, partial(report, "reorder"))
            entry["reordered"] = True
        report("commit", entry["documents"], entry["documents"])
        writer.close(container)
        writer.commit(settings, statistics_of(writer.number, [entry]))
    seconds = time.perf_counter() - started
    return {"null_texts": builder.null_texts, "seconds": seconds}


def memory_budget(memory: str | int) -> int:
    """The part of the limit that building or merging may use. Raises SettingsError as
    parse_size."""
    return max(parse_size(memory) - _FIXED, SMALLEST_MEMORY)


class SegmentBuilder:
    """Builds a segment from a corpus: every row becomes a document.

    Parameters
    ----------
    positions : whether to store the positions of terms
    writer : of the commit, for temporary files
    container : the segment's file, empty
    budget : bytes of memory, of `memory_budget`
    remedy : end of the message about a text that is not UTF-8

    Attributes
    ----------
    null_texts : the number of rows whose text is null
    """

    def __init__(
        self, corpus: Documents, analyzer: Analyzer, positions: bool, writer: FolderWriter,
        container: ContainerWriter, budget: int, threads: int, report: Progress,
        remedy: str = REPLACED,
    ) -> None:  # fmt: skip
        self._corpus, self._container, self._remedy = corpus, container, remedy
        self._budget, self._threads, self._report = budget, threads, report
        self._analyzer = analyzer
        self._fields = [
            _FieldBuilder(
                layout.field_prefix(name), columns, analyzer, positions,
                partial(writer.temporary, f"{container.path.name}-slices-{number}"),
                budget // _SHARES // len(corpus.layout),
            )
            for number, (name, columns) in enumerate(corpus.layout.items())
        ]  # fmt: skip
        self._hashes: list[UInt64] = []
        self._rows = 0
        self._spilled = False
        self._documents: DocumentWriter | None = None
        self.null_texts = 0

    def run(self) -> dict[str, Any]:
        """Write all arrays; returns the segment's entry in the manifest.

        Raises DataError for a corpus without rows, with duplicate ids, or too many documents.
        """
        with ExitStack() as stack:
            for field in self._fields:
                stack.callback(field.slices.close)
            self._collect()
            if self._spilled:
                self._spill()
            vocabularies = [field.finish() for field in self._fields]
            if self._hashes:
                self._write_ids()
            self._release_memory()
            with ThreadPoolExecutor(self._threads, "fastseq-index") as pool:
                both = zip(self._fields, vocabularies, strict=True)
                numbers = [self._write(field, pool, own) for field, own in both]
        self._release_memory()
        name = self._container.path.name
        entry = {"name": name, "documents": self._rows, "deleted": 0, **numbers[0]}
        names = [name for name in self._corpus.layout if name]
        return {**entry, "fields": dict(zip(names, numbers[1:], strict=True))} if names else entry

    def _collect(self) -> None:
        """Read the corpus: write its stored columns, and collect inverted slices."""
        done = 0
        with system_allocator(), located(self._corpus.where):
            for texts, slices in encode_slices(
                self, self._read(), self._invert, self._threads, remedy=self._remedy
            ):
                # no variable for the generator, so that an exception here closes it
                for field, one in zip(self._fields, slices, strict=True):
                    field.slices.append(one)
                    field.move_words()
                if self._is_full():
                    self._spill()
                done += len(texts)
                self._report("index", done, self._corpus.num_rows)
        if self._rows == 0:
            raise DataError(f"{self._corpus.name}: no rows to index")

    # ---- reading

    def _read(self) -> Iterator[_Columns]:
        """Yield the texts of each slice, writing the stored columns."""
        analyzer = self._analyzer
        weight = _CHARACTERS if analyzer.tokenizer == "char" else 1
        if analyzer.char_ngrams is not None:
            low, high = analyzer.char_ngrams
            weight = _CHARACTERS * (high - low + 1)
        size = self._budget // (_SHARES * _BYTES_PER_BYTE * weight * (self._threads + 1))
        size = min(max(size, _SMALLEST_SLICE), _LARGEST_SLICE)
        schema = self._corpus.stored_schema
        documents = None
        if schema.names:
            region = self._container.region(layout.DOCUMENTS, np.uint8)
            self._documents = documents = DocumentWriter(region.append, schema)
        for batch in self._corpus.batches(size):
            self._rows += batch.rows
            if self._rows > MOST_DOCUMENTS:
                raise DataError(f"more than {MOST_DOCUMENTS:,} rows, the maximum of an index")
            self.null_texts += batch.null_texts
            if batch.ids is not None:
                self._hashes.append(id_hashes(batch.ids))
            if batch.kept is not None and documents is not None:
                with writing(self._container.path):
                    documents.append(batch.kept)
            yield from self._cut(batch)
        if documents is not None:
            with writing(self._container.path):
                write_groups(self._container, documents)

    def _is_full(self) -> bool:
        """Whether the slices in memory take more than vocabulary and ids leave them."""
        rest = self._budget // 2 - sum(field.lexicon.nbytes for field in self._fields)
        rest -= self._rows * (_DOCUMENT + (_ID if self._hashes else 0))
        resident = sum(field.slices.resident for field in self._fields)
        return resident > max(rest, self._budget // _LEAST)

    def _spill(self) -> None:
        """Move the slices in memory to disk."""
        for field in self._fields:
            field.slices.spill()
        self._spilled = True
        self._release_memory()

    def _release_memory(self) -> None:
        """Return freed memory to the system, where memory is short."""
        if self._spilled:
            release_memory()

    def _cut(self, batch: RowBatch) -> Iterator[_Columns]:
        """Yield the texts of parts of the batch that do not cross windows."""
        every = [field.texts_of(batch) for field in self._fields]
        start = 0
        while start < batch.rows:
            row = batch.first_row + start
            stop = min(batch.rows, start + WINDOW - (row & (WINDOW - 1)))
            parts = []
            for field, texts in zip(self._fields, every, strict=True):
                first, last = start * field.columns, stop * field.columns
                parts.append(Texts(texts.data, texts.offsets[first : last + 1]))
            yield _Columns(stop - start, parts)
            start = stop

    def encode_levels(self, texts: _Columns, ticket: Ticket | None = None) -> list[list[Tokens]]:
        """The tokens of each field, by n-gram level: see Lexicon.encode_levels."""
        assert ticket is not None
        found = []
        for number, (field, own) in enumerate(zip(self._fields, texts.fields, strict=True)):

            def enter(level: Any, number: int = number) -> Any:
                return ticket((number, level))

            try:
                found.append(field.lexicon.encode_levels(own, enter))
            except RowError as error:
                error.row //= field.columns
                raise
        return found

    def _write_ids(self) -> None:
        """Write the table of ids. Raises DataError for a repeated one."""
        hashes = np.concatenate(self._hashes)
        self._hashes.clear()
        self._check_ids(hashes)
        with writing(self._container.path):
            write_ids(self._container, *layout.sorted_ids(hashes))

    def _check_ids(self, hashes: UInt64) -> None:
        column = self._corpus.id_column
        documents = self._documents
        assert column is not None
        assert documents is not None
        path = self._container.path

        def ids_of(rows: Int64) -> list[Any]:
            with open(path, "rb") as file:

                def read(start: int, stop: int) -> bytes:
                    file.seek(start)  # the documents are the first array
                    return file.read(stop - start)

                schema = schema_bytes(documents.schema)
                reader = DocumentReader(str(path), read, schema, documents.rows, documents.sizes)
                return id_list(reader.take(rows, [column]).column(column))

        where, place = f"column {column!r}", self._corpus.place
        refuse_duplicate_ids(hashes, ids_of, where, place)

    def _invert(self, first_row: int, levels: list[list[Tokens]]) -> list[Slice]:
        window, first = first_row >> WINDOW_BITS, first_row & (WINDOW - 1)
        both = zip(self._fields, levels, strict=True)
        return [field.invert(own, window, first) for field, own in both]

    # ---- writing

    def _write(
        self, field: _FieldBuilder, pool: ThreadPoolExecutor, vocabulary: _Vocabulary
    ) -> dict[str, int]:
        """Write the inverted index of a field; returns its numbers of tokens, terms and
        postings."""
        terms, sizes, words = vocabulary
        with writing(self._container.path):
            postings = self._write_postings(field, pool, sizes)
            lengths: Int32 = np.concatenate([one.lengths for one in field.slices.slices])
            write_terms(self._container, field.prefix, terms, lengths)
            if words is not None:
                write_words(self._container, field.prefix, words, len(terms))
        tokens = int(lengths.sum(dtype=np.int64))
        return {"tokens": tokens, "terms": len(terms), "postings": postings}

    def _write_postings(
        self, field: _FieldBuilder, pool: ThreadPoolExecutor, sizes: list[int]
    ) -> int:
        """Merge the slices of a field; returns the number of postings."""
        merge = Merge(field.slices, sizes)

        def report(done: int) -> None:
            if not field.prefix:
                self._report("merge", done, merge.postings)
            self._release_memory()

        chunks = merge.chunks(pool, self._threads, self._budget // _SHARES, report)
        nbytes = merge.nbytes if field.positions else None
        counts = merge.postings, merge.runs, merge.larges, nbytes
        write_postings(self._container, field.prefix, *counts, chunks)
        return merge.postings


@dataclass(frozen=True, slots=True)
class _Columns:
    """The texts of a slice of documents.

    fields  of each field of the index the texts of its columns, document after document
    """

    rows: int
    fields: list[Texts]

    def __len__(self) -> int:
        return self.rows


class _Vocabulary(NamedTuple):
    """The terms of a field, their number in each section, and their words as they are written; None
    where terms are these words."""

    terms: Texts
    sizes: list[int]
    words: RawWords | None


class _FieldBuilder:
    """The inverted index of a field in progress: its lexicon and inverted slices.

    columns    texts of a document: where positions are stored, those of its columns are apart
    positions  whether they are stored
    """

    def __init__(
        self, prefix: str, columns: Sequence[int], analyzer: Analyzer, positions: bool,
        make_spill: Callable[[], Path], max_raw_bytes: int,
    ) -> None:  # fmt: skip
        self.prefix, self.positions = prefix, positions
        counts_words = analyzer.changes_words
        self.lexicon = Lexicon(analyzer, positions, max_raw_bytes, counts_words)
        self.slices = SliceStore(make_spill)
        self._words = WordRuns(self.slices.moved) if counts_words else None
        self._numbers = columns
        # a function gets the whole text
        self.columns = len(columns) if positions and not callable(analyzer.tokenizer) else 1

    def move_words(self) -> None:
        """Move the words that the lexicon has cleared to the file of slices."""
        for run in self.lexicon.take_cleared():
            assert self._words is not None
            self._words.append(run)

    def finish(self) -> _Vocabulary:
        """The terms and words, after the last slice. Frees the lexicon, whose tables are several
        times as large."""
        self.move_words()
        terms, sizes = self.lexicon.terms(), self.lexicon.section_sizes
        last = None if self._words is None else self._words.last(self.lexicon.raw_words())
        del self.lexicon
        words = None if self._words is None else self._words.finish(last, terms)
        return _Vocabulary(terms, sizes, words)

    def texts_of(self, batch: RowBatch) -> Texts:
        """The texts of this field."""
        numbers = self._numbers
        if batch.column_starts is None:
            return batch.text
        if self.columns == 1 and len(numbers) == batch.column_starts.shape[1]:
            return batch.text
        texts = batch.columns(numbers)
        if self.columns == len(numbers):
            return texts
        return Texts(texts.data, texts.offsets[:: len(numbers)])

    def invert(self, levels: Sequence[Tokens], window: int, first: int) -> Slice:
        """Invert the tokens of a slice whose first document has a number in its window."""
        sizes = self.lexicon.section_sizes
        if self.positions:
            return invert_with_positions(levels[0], sizes[0], self.columns, window, first)
        return invert(levels, sizes, window, first)


# ---- inverted slices, in memory or spilled to disk


_SPILLED = ("docs", "tfs", "terms", "dfs", "positions", "sizes")  # arrays of a Part


@dataclass(slots=True)
class Part:
    """The postings of one n-gram level of a slice, sorted by (term, document).

    terms    int32[n]   term ids of the level, ascending
    dfs      int32[n]   postings of each term
    docs     uint16[p]  document in the window
    tfs      uint8[p]   term frequency
    large_at, large_tf  int64[l], int32[l]: position and value of frequencies from 255 on
    packed_larges  the number of frequencies from 15 on
    positions  uint8[…]  those of each posting, see kernels/search/positions.py; empty without
    sizes    int32[n]   bytes of each term's
    """

    terms: Int32 | SpilledArray
    dfs: Int32 | SpilledArray
    docs: UInt16 | SpilledArray
    tfs: UInt8 | SpilledArray
    large_at: Int64
    large_tf: Int32
    packed_larges: int
    positions: UInt8 | SpilledArray
    sizes: Int32 | SpilledArray

    @property
    def nbytes(self) -> int:
        """Bytes of memory that spilling frees."""
        return sum(getattr(self, name).nbytes for name in _SPILLED)


@dataclass(slots=True)
class Slice:
    """Inverted consecutive documents of one window, with a part for each n-gram level."""

    window: int
    lengths: Int32  # [D] tokens of each document, all levels together
    parts: list[Part]


@dataclass(frozen=True, slots=True)
class SpilledArray:
    """An array in the spill file."""

    file: SpillFile
    start: int
    count: int
    dtype: np.dtype[Any]
    nbytes: int = 0

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, part: slice) -> Array:
        """Read some elements. (A mapping would hold memory.)"""
        start, stop, _ = part.indices(self.count)
        return self.file.read(self.start + start * self.dtype.itemsize, self.dtype, stop - start)


def invert(levels: Sequence[Tokens], sizes: Sequence[int], window: int, first: int) -> Slice:
    """Invert the tokens of a slice.

    levels  the slice's tokens for each n-gram level
    sizes   an exclusive upper bound of the term ids of each level
    first   the slice's first document, counted from the start of its window
    """
    lengths = np.zeros(len(levels[0]), np.int64)
    parts = []
    for tokens, size in zip(levels, sizes, strict=True):
        lengths += np.diff(tokens.offsets)
        n = len(tokens.values)
        docs, tfs = np.empty(n, np.uint16), np.empty(n, np.uint8)
        terms, dfs = np.empty(n, np.int32), np.empty(n, np.int32)
        large_at = np.empty(n // kernels.LARGE_TF + 1, np.int64)
        large_tf = np.empty(len(large_at), np.int32)
        keys, spare = np.empty(n, np.uint64), np.empty(n, np.uint64)
        starts = np.empty(kernels.DIGITS, np.int64)
        postings, distinct, large = kernels.invert(
            docs, tfs, terms, dfs, large_at, large_tf, keys, spare, starts,
            tokens.values, tokens.offsets, first, size,
        )  # fmt: skip
        # copies, so that the larger buffers are freed
        parts.append(Part(
            terms[:distinct].copy(), dfs[:distinct].copy(), docs[:postings].copy(),
            tfs[:postings].copy(), large_at[:large].copy(), large_tf[:large].copy(),
            _packed_larges(tfs[:postings]), np.empty(0, np.uint8), np.zeros(distinct, np.int32),
        ))  # fmt: skip
    return Slice(window, lengths.astype(np.int32), parts)


def invert_with_positions(
    tokens: Tokens, size: int, columns: int, window: int, first: int
) -> Slice:
    """Invert the tokens of a slice, with their positions; -1 for a removed word.

    tokens   of the columns of each document
    others   as of `invert`
    """
    n = len(tokens.values)
    lengths = np.empty(len(tokens) // columns, np.int32)
    docs, tfs = np.empty(n, np.uint16), np.empty(n, np.uint8)
    terms, dfs, sizes = np.empty((3, n), np.int32)
    data = np.empty(position_kernels.MOST_BYTES * n, np.uint8)
    large_at = np.empty(n // kernels.LARGE_TF + 1, np.int64)
    large_tf = np.empty(len(large_at), np.int32)
    keys, spare = np.empty((2, n), np.uint64)
    starts = np.empty(kernels.DIGITS, np.int64)
    postings, distinct, large, nbytes = position_kernels.invert_positions(
        docs, tfs, terms, dfs, sizes, data, large_at, large_tf, lengths, keys, spare, starts,
        np.empty(n, np.uint16), np.empty(n, np.int32), tokens.values, tokens.offsets, columns,
        first, size,
    )  # fmt: skip
    part = Part(
        terms[:distinct].copy(), dfs[:distinct].copy(), docs[:postings].copy(),
        tfs[:postings].copy(), large_at[:large].copy(), large_tf[:large].copy(),
        _packed_larges(tfs[:postings]), data[:nbytes].copy(), sizes[:distinct].copy(),
    )  # fmt: skip
    return Slice(window, lengths, [part])


def _packed_larges(tfs: UInt8) -> int:
    return int(np.count_nonzero(tfs >= kernels.LARGE_PACKED_TF))


class SliceStore:
    """Collects slices, in memory or in a file.

    make_file  returns the path of the file, and is called when it is needed
    resident   bytes of the slices in memory
    """

    def __init__(self, make_file: Callable[[], Path]) -> None:
        self.slices: list[Slice] = []
        self.resident = 0
        self._spilled = 0
        self._make_file = make_file
        self._file: SpillFile | None = None

    def append(self, one: Slice) -> None:
        """Take the next slice, in document order."""
        self.slices.append(one)
        self.resident += sum(part.nbytes for part in one.parts)

    def spill(self) -> None:
        """Write the slices in memory to the file."""
        for one in self.slices[self._spilled :]:
            for part in one.parts:
                for name in _SPILLED:
                    setattr(part, name, self.moved(getattr(part, name)))
        self._spilled = len(self.slices)
        self.resident = 0

    def moved(self, array: Array) -> SpilledArray:
        """The array, moved to the file."""
        if self._file is None:
            self._file = SpillFile(self._make_file())
        return SpilledArray(self._file, self._file.append(array), len(array), array.dtype)

    def stored(self, array: Array) -> Array | SpilledArray:
        """The array, moved to the file if there is one."""
        return array if self._file is None else self.moved(array)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()


# ---- merging slices


class Merge:
    """A merge of slices: first the number of postings of each term, then their places.

    Parameters
    ----------
    store : the slices
    sizes : terms of each section

    Attributes
    ----------
    postings : the number of postings
    runs : int32[V], windows in which each term occurs
    nbytes : bytes of all positions
    larges : the number of frequencies of 15 and more, and of 255 and more
    """

    def __init__(self, store: SliceStore, sizes: Sequence[int]) -> None:
        self._store = store
        self._bases = [0, *np.cumsum(sizes).tolist()]
        vocabulary = self._bases[-1]
        df = np.zeros(vocabulary, np.int64)
        self.runs = np.zeros(vocabulary, np.int32)
        nbytes = np.zeros(vocabulary, np.int64)
        last_window = np.full(vocabulary, -1, np.int32)
        for one, part, base in self._parts():
            terms = part.terms[:].astype(np.int64) + base
            df[terms] += part.dfs[:]
            self.runs[terms[last_window[terms] != one.window]] += 1
            last_window[terms] = one.window
            nbytes[terms] += part.sizes[:]
        parts = [part for _, part, _ in self._parts()]
        packed_larges = sum(part.packed_larges for part in parts)
        self.larges = packed_larges, sum(len(part.large_at) for part in parts)
        self._posting = offsets_of(df)
        self._run = offsets_of(self.runs)
        self._position = offsets_of(nbytes)
        self.postings, self.nbytes = int(self._posting[-1]), int(self._position[-1])

    def _parts(self) -> Iterator[tuple[Slice, Part, int]]:
        for one in self._store.slices:
            for part, base in zip(one.parts, self._bases[:-1], strict=True):
                yield one, part, base

    def chunks(
        self, pool: ThreadPoolExecutor, threads: int, memory: int, done: Callable[[int], None]
    ) -> Iterator[dict[str, Array]]:
        """Yield the merged postings in the order of terms, in chunks by `POSTING_ARRAYS`.

        memory  bytes for all chunks in progress
        done    called with the number of postings merged so far, after each chunk
        """
        edges = chunk_edges(self._posting, self._position, threads, memory)
        # of each part int64[3 * (chunks + 1)]: where each chunk starts among the terms, the
        # postings and the bytes of positions
        starts: list[Any] = []
        for _, part, base in self._parts():
            terms = np.searchsorted(part.terms[:], np.array(edges) - base)
            ends = [offsets_of(counts[:])[terms] for counts in (part.dfs, part.sizes)]
            starts.append(self._store.stored(np.stack([terms, *ends], axis=1).reshape(-1)))

        def merge(i: int) -> dict[str, Array]:
            ranges = [of_part[3 * i : 3 * i + 6].reshape(2, 3).T.tolist() for of_part in starts]
            return self._merge(edges[i], edges[i + 1], ranges)

        for i, chunk in in_order(pool, merge, range(len(edges) - 1), threads + 1):
            yield chunk
            done(int(self._posting[edges[i + 1]]))

    def _merge(self, first: int, last: int, ranges: Sequence[list[list[int]]]) -> dict[str, Array]:
        """Merge the postings of the terms first to last; large_at counts from the index's start."""
        first_posting, first_run = int(self._posting[first]), int(self._run[first])
        docs = np.empty(int(self._posting[last]) - first_posting, np.uint16)
        tfs = np.empty(len(docs), np.uint8)
        run_window = np.empty(int(self._run[last]) - first_run, np.uint16)
        run_count = np.empty(len(run_window), np.uint16)
        posting_at = self._posting[first:last].copy()
        run_at = self._run[first:last].copy()
        open_window = np.full(last - first, -1, np.int32)
        first_position = int(self._position[first])
        positions = np.empty(int(self._position[last]) - first_position, np.uint8)
        position_at = self._position[first:last].copy()
        large = [(np.empty(0, np.int64), np.empty(0, np.int32))]
        for (one, part, base), (terms, postings, bytes_) in zip(self._parts(), ranges, strict=True):
            if terms[0] == terms[1]:
                continue
            ids, dfs = part.terms[slice(*terms)], part.dfs[slice(*terms)]
            shift = base - first
            if len(part.large_at):
                large.append(_place_large(part, postings, ids, dfs, shift, posting_at))
            kernels.place_slice(
                docs, tfs, run_window, run_count, posting_at, run_at, open_window, ids, dfs,
                part.docs[slice(*postings)], part.tfs[slice(*postings)],
                one.window, shift, first_posting, first_run,
            )  # fmt: skip
            if len(positions):
                position_kernels.place_positions(
                    positions, position_at, ids, part.sizes[slice(*terms)],
                    part.positions[slice(*bytes_)], shift, first_position,
                )  # fmt: skip
        large_at, large_tf = (np.concatenate(parts) for parts in zip(*large, strict=True))
        order = np.argsort(large_at)
        return {
            "docs": docs, "tfs": tfs, "run_window": run_window, "run_count": run_count,
            "large_at": large_at[order], "large_tf": large_tf[order], "positions": positions,
        }  # fmt: skip


def _place_large(
    part: Part, postings: list[int], ids: Int32, dfs: Int32, shift: int, posting_at: Int64
) -> tuple[Int64, Int32]:
    """The large frequencies of a part within a chunk, with their positions in the index."""
    low, high = np.searchsorted(part.large_at, postings)
    at = part.large_at[low:high] - postings[0]
    ends = offsets_of(dfs)
    term = np.searchsorted(ends, at, "right") - 1
    return posting_at[ids[term] + shift] + at - ends[term], part.large_tf[low:high]
