"""Index construction: Parquet → tokens → slices → merged postings → one commit.

Slices of the corpus are tokenised and inverted on threads; `SliceStore` collects them within a
memory budget; `Merge` adds up the document frequencies of each term, which determines the position
of every posting in the index, and yields the merged postings in chunks of terms (index/slices.py).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastseq.errors import DataError, RowError, SettingsError, located, quoted
from fastseq.index import KIND, format_version
from fastseq.index import segment as layout
from fastseq.index.dense import DenseBuild, VectorBuilder, dense_build, write_graph
from fastseq.index.impacts import QUERIES, ImpactsBuilder
from fastseq.index.reordering import write_search_order
from fastseq.index.segment_writer import (
    segment_name,
    statistics_of,
    write_groups,
    write_ids,
    write_postings,
    write_terms,
    write_words,
)
from fastseq.index.slices import (
    Merge,
    Slice,
    SliceStore,
    Vocabulary,
    invert,
    invert_with_positions,
)
from fastseq.index.words import WordRuns
from fastseq.kernels.search.postings import WINDOW, WINDOW_BITS
from fastseq.settings import flag, function, parse_size, string, strings, thread_count
from fastseq.store.additions import Documents
from fastseq.store.container import ContainerWriter
from fastseq.store.documents import DocumentWriter, open_documents, schema_bytes, schema_text
from fastseq.store.files import writing
from fastseq.store.ids import id_hashes, id_list, refuse_duplicate_ids
from fastseq.store.memory import release_memory, system_allocator
from fastseq.store.outputs import check_folder
from fastseq.store.rows import Corpus, RowBatch
from fastseq.store.writer import FolderWriter
from fastseq.text.analyzer import Analyzer
from fastseq.text.lexicon import REPLACED, Lexicon, Ticket, encode_slices
from fastseq.text.settings import INDEX_TOKENIZER
from fastseq.types import Int32, Int64, Texts, Tokens, UInt64

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
    fields: str | list[str] | None = None, impacts: str | None = None, reorder: bool = False,
    dense: Any = None, dense_column: str | None = None, dense_dtype: str = "float32",
    dense_index: str = "exact",
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
    if impacts is not None:
        impacts = string("impacts", impacts)
        others = {"text_columns": text_columns, "fields": fields, "analyzer": analyzer}
        for name, given in others.items():
            if given is not None:
                raise SettingsError(f"{name} cannot be combined with impacts, which have no text")
        analyzer, positions = QUERIES, False
        if dense is not None:
            raise SettingsError("dense cannot be combined with impacts, which have no text")
    if dense_column is not None:
        dense_column = string("dense_column", dense_column)
    vectors = dense_build(dense, dense_column, dense_dtype, dense_index)
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
        impacts=impacts,
        vectors=dense_column,
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
    if impacts is not None:
        settings["impacts"] = {"column": impacts, "weights": documents.weights}
    report = function("progress", progress) or (lambda stage, done, total: None)
    overwrite, reorder = flag("overwrite", overwrite), flag("reorder", reorder)
    check_folder(path, corpus)
    with FolderWriter(path, KIND, format_version(settings, is_divided=False), overwrite) as writer:
        container = writer.container(segment_name(writer, 0))
        builder = SegmentBuilder(
            documents, analyzer, stored_positions, writer, container, budget, threads, report,
            dense=vectors,
        )  # fmt: skip
        entry = builder.run()
        if reorder:
            with writing(container.path):
                write_search_order(container, threads, partial(report, "reorder"))
            entry["reordered"] = True
        report("commit", entry["documents"], entry["documents"])
        writer.close(container)
        if vectors is not None:
            settings["dense"] = vectors.settings(builder.dimensions).to_dict()
        writer.format_version = format_version(settings, builder.is_divided)
        writer.commit(settings, statistics_of(writer.number, [entry]))
    if vectors is not None and vectors.model is not None:
        vectors.model.warn_of_texts()
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
    dense : how the documents get vectors; None where they have none

    Attributes
    ----------
    null_texts : the number of rows whose text is null
    """

    def __init__(
        self, corpus: Documents, analyzer: Analyzer, positions: bool, writer: FolderWriter,
        container: ContainerWriter, budget: int, threads: int, report: Progress,
        remedy: str = REPLACED, dense: DenseBuild | None = None,
    ) -> None:  # fmt: skip
        self._corpus, self._container, self._remedy = corpus, container, remedy
        self._budget, self._threads, self._report = budget, threads, report
        self._analyzer = analyzer
        self._fields: list[FieldBuilder | ImpactsBuilder] = []
        for number, (name, columns) in enumerate(corpus.layout.items()):
            spill = partial(writer.temporary, f"{container.path.name}-slices-{number}")
            if corpus.weights is not None:
                self._fields.append(ImpactsBuilder(corpus.weights, spill))
                continue
            self._fields.append(FieldBuilder(
                layout.field_prefix(name), columns, analyzer, positions, spill,
                budget // _SHARES // len(corpus.layout),
            ))  # fmt: skip
        self._vectors: VectorBuilder | None = None
        self._make_graph: Callable[[], Path] | None = None
        if dense is not None and dense.graph is not None:
            self._make_graph = partial(writer.temporary, f"{container.path.name}-graph")
        if dense is not None:
            spill = partial(writer.temporary, f"{container.path.name}-vectors")
            self._vectors = VectorBuilder(dense, spill)
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
            if self._vectors is not None:
                stack.callback(self._vectors.close)
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
            if self._vectors is not None:
                with writing(self._container.path):
                    self._vectors.write(self._container)
        self._release_memory()
        name = self._container.path.name
        entry = {"name": name, "documents": self._rows, "deleted": 0, **numbers[0]}
        if self._make_graph is not None:
            done = partial(self._report, "graph")
            entry |= write_graph(self._container, self._rows, self._make_graph(), done)
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

    @property
    def is_divided(self) -> bool:
        """Whether the stored columns are in several parts."""
        return self._documents is not None and len(self._documents.parts) > 1

    @property
    def dimensions(self) -> int:
        """Those of the vectors, after `run`; 0 without vectors."""
        return 0 if self._vectors is None else self._vectors.size or 0

    # ---- reading

    def _read(self) -> Iterator[_Rows]:
        """Yield the content of each slice, writing the stored columns."""
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
            if self._vectors is not None:
                self._vectors.append(batch, partial(self._whole_texts, batch))
            yield from self._cut(batch)
        if documents is not None:
            with writing(self._container.path):
                write_groups(self._container, documents)

    def _whole_texts(self, batch: RowBatch) -> Texts:
        """The texts of documents, of several columns joined, but for fields that are not among
        them."""
        return texts_of_columns(batch, self._corpus.layout[""])

    def _is_full(self) -> bool:
        """Whether the slices in memory take more than vocabulary and ids leave them."""
        rest = self._budget // 2 - sum(field.nbytes for field in self._fields)
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

    def _cut(self, batch: RowBatch) -> Iterator[_Rows]:
        """Yield the content of parts of the batch that do not cross windows."""
        start = 0
        while start < batch.rows:
            row = batch.first_row + start
            stop = min(batch.rows, start + WINDOW - (row & (WINDOW - 1)))
            yield _Rows(stop - start, [field.part(batch, start, stop) for field in self._fields])
            start = stop

    def encode_levels(self, texts: _Rows, ticket: Ticket | None = None) -> list[Any]:
        """What each field makes of its content: of texts the tokens by n-gram level."""
        assert ticket is not None
        found = []
        for number, (field, own) in enumerate(zip(self._fields, texts.fields, strict=True)):

            def enter(level: Any, number: int = number) -> Any:
                return ticket((number, level))

            try:
                found.append(field.encode(own, enter))
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
            reading = threading.Lock()
            with open(path, "rb") as file:

                def read_many(starts: list[int], stops: list[int]) -> list[bytes]:
                    found = []
                    with reading:  # threads take rows of several groups
                        for start, stop in zip(starts, stops, strict=True):
                            file.seek(start)  # the documents are the first array
                            found.append(file.read(stop - start))
                    return found

                reader = open_documents(
                    str(path), read_many, schema_bytes(documents.schema), documents.rows,
                    documents.sizes, documents.column_parts, documents.group_parts,
                )  # fmt: skip
                return id_list(reader.take(rows, [column]).column(column))

        where, place = f"column {quoted(column)}", self._corpus.place
        refuse_duplicate_ids(hashes, ids_of, where, place)

    def _invert(self, first_row: int, encoded: list[Any]) -> list[Slice]:
        window, first = first_row >> WINDOW_BITS, first_row & (WINDOW - 1)
        both = zip(self._fields, encoded, strict=True)
        return [field.invert(own, window, first) for field, own in both]

    # ---- writing

    def _write(
        self, field: FieldBuilder | ImpactsBuilder, pool: ThreadPoolExecutor, vocabulary: Vocabulary
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
        self, field: FieldBuilder | ImpactsBuilder, pool: ThreadPoolExecutor, sizes: list[int]
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
        write_postings(self._container, field.prefix, *counts, chunks, field.has_weights)
        return merge.postings


@dataclass(frozen=True, slots=True)
class _Rows:
    """The content of a slice of documents.

    fields  of each field of the index the texts of its columns, document after document; or terms
            with weights
    """

    rows: int
    fields: list[Any]

    def __len__(self) -> int:
        return self.rows


def texts_of_columns(batch: RowBatch, numbers: Sequence[int]) -> Texts:
    """A text for each row of a batch: some of its text columns, by their numbers, joined."""
    if batch.column_starts is None or len(numbers) == batch.column_starts.shape[1]:
        return batch.text
    texts = batch.columns(numbers)
    if len(numbers) == 1:
        return texts
    # with strides, kernels would be compiled once more
    return Texts(texts.data, np.ascontiguousarray(texts.offsets[:: len(numbers)]))


class FieldBuilder:
    """The inverted index of a field in progress: its lexicon and inverted slices.

    columns    texts of a document: where positions are stored, those of its columns are apart
    positions  whether they are stored
    """

    has_weights = False

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

    def finish(self) -> Vocabulary:
        """The terms and words, after the last slice. Frees the lexicon, whose tables are several
        times as large."""
        self.move_words()
        terms, sizes = self.lexicon.terms(), self.lexicon.section_sizes
        last = None if self._words is None else self._words.last(self.lexicon.raw_words())
        del self.lexicon
        words = None if self._words is None else self._words.finish(last, terms)
        return Vocabulary(terms, sizes, words)

    @property
    def nbytes(self) -> int:
        """Bytes of the vocabulary."""
        return self.lexicon.nbytes

    def part(self, batch: RowBatch, start: int, stop: int) -> Texts:
        """The texts of some rows of a batch."""
        texts = self._texts_of(batch)
        return Texts(texts.data, texts.offsets[start * self.columns : stop * self.columns + 1])

    def encode(self, texts: Texts, enter: Any) -> list[Tokens]:
        """The tokens of a slice by n-gram level: see Lexicon.encode_levels."""
        return self.lexicon.encode_levels(texts, enter)

    def _texts_of(self, batch: RowBatch) -> Texts:
        """The texts of this field."""
        numbers = self._numbers
        if batch.column_starts is None or self.columns == 1:
            return texts_of_columns(batch, numbers)
        return batch.columns(numbers)

    def invert(self, levels: Sequence[Tokens], window: int, first: int) -> Slice:
        """Invert the tokens of a slice whose first document has a number in its window."""
        sizes = self.lexicon.section_sizes
        if self.positions:
            return invert_with_positions(levels[0], sizes[0], self.columns, window, first)
        return invert(levels, sizes, window, first)
