"""Index construction: Parquet → tokens → slices → merged postings → one commit."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import numpy.typing as npt

from fastseq.errors import DataError, FastseqError, SettingsError, located
from fastseq.index import format as layout
from fastseq.index.slices import Merge, Slice, SliceStore, invert
from fastseq.kernels.search.postings import WINDOW, WINDOW_BITS
from fastseq.kernels.text import hashing
from fastseq.settings import flag, function, parse_size, string, strings, thread_count
from fastseq.store.corpus import Corpus
from fastseq.store.documents import DocumentReader, DocumentWriter
from fastseq.store.examples import RowBatch
from fastseq.store.ids import id_hashes, refuse_duplicate_ids
from fastseq.store.outputs import check_folder
from fastseq.store.sources import ParquetSource
from fastseq.store.writer import FolderWriter
from fastseq.text.analyzer import Analyzer
from fastseq.text.encoding import encode_slices
from fastseq.text.lexicon import Lexicon
from fastseq.types import Int32, Texts, Tokens, UInt64

Progress = Callable[[str, int, int | None], None]

MOST_DOCUMENTS = (1 << 31) - 1  # rows are int32
SMALLEST_MEMORY = 16 << 20
_BYTES_PER_BYTE = 8  # memory of a slice in progress by bytes of text: ids, sort keys, postings
_CHARACTERS = 4  # tokens shorter than a word, by words
_LARGEST_SLICE = 8 << 20
_SMALLEST_SLICE = 64 << 10

# file, its array in a Chunk, dtype
_POSTING_FILES = (
    (layout.POSTING_DOCS, "docs", np.uint16),
    (layout.POSTING_TFS, "tfs", np.uint8),
    (layout.RUN_WINDOWS, "run_window", np.uint16),
    (layout.RUN_COUNTS, "run_count", np.uint16),
    (layout.LARGE_AT, "large_at", np.int64),
    (layout.LARGE_TFS, "large_tf", np.int32),
)


def build(
    corpus: Any,
    path: str | Path,
    *,
    id_column: str | None = None,
    text_columns: str | list[str] | None = None,
    store: str | list[str] | None = None,
    analyzer: Analyzer | None = None,
    memory: str | int = "1GB",
    threads: int | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Index a corpus into a folder and return its summary: see `Index.build`.

    The bytes of the folder do not depend on `memory` or `threads`. The vocabulary, four bytes a
    document and the hashes of the ids are held in memory besides `memory`.
    """
    started = time.perf_counter()
    budget = max(parse_size(memory), SMALLEST_MEMORY)
    threads = thread_count(threads)
    if analyzer is not None and not isinstance(analyzer, Analyzer):
        raise SettingsError(
            "analyzer must be a fastseq.Analyzer, such as Analyzer.for_language('english'), "
            f"not {analyzer!r}"
        )
    analyzer = analyzer or Analyzer()
    saved_analyzer = analyzer.to_dict()
    documents = Corpus.open(
        corpus,
        None if id_column is None else string("id_column", id_column),
        None if text_columns is None else strings("text_columns", text_columns),
        None if store is None else strings("store", store),
    )
    settings = {
        "analyzer": saved_analyzer,
        "id_column": documents.id_column,
        "text_columns": list(documents.text_columns),
        "stored_columns": list(documents.stored_columns),
    }
    report = function("progress", progress) or (lambda stage, done, total: None)
    overwrite = flag("overwrite", overwrite)
    check_folder(path, corpus)
    with FolderWriter(path, layout.KIND, layout.VERSION, overwrite) as writer:
        builder = _Builder(documents, Lexicon(analyzer), writer, budget, threads, report)
        statistics = builder.run()
        report("commit", statistics["documents"], statistics["documents"])
        writer.commit(settings, statistics)
    seconds = time.perf_counter() - started
    return statistics | {"null_texts": builder.null_texts, "seconds": seconds}


class _Builder:
    def __init__(
        self,
        corpus: Corpus,
        lexicon: Lexicon,
        writer: FolderWriter,
        budget: int,
        threads: int,
        report: Progress,
    ) -> None:
        self._corpus, self._lexicon, self._writer = corpus, lexicon, writer
        self._budget, self._threads, self._report = budget, threads, report
        self._hashes: list[UInt64] = []
        self._rows = 0
        self.null_texts = 0

    def run(self) -> dict[str, Any]:
        """Do everything but the commit; returns the statistics for the manifest."""
        slices = SliceStore(self._writer.temporary("slices"), self._budget // 3)
        done = 0
        with located(self._corpus.where):
            for texts, one in encode_slices(
                self._lexicon, self._read(), lambda texts: texts, self._invert, self._threads
            ):
                slices.append(one)
                done += len(texts)
                self._report("index", done, self._corpus.num_rows)
            if self._rows == 0:
                names = ", ".join(source.name for source in self._corpus.sources[:3])
                raise DataError(f"{names}: no rows to index")
            self._check_ids()
        with ThreadPoolExecutor(self._threads, "fastseq-index") as pool:
            return self._write(slices, pool)

    # ---- reading

    def _read(self) -> Iterator[Texts]:
        """Yield the texts of each slice, writing the stored columns."""
        analyzer = self._lexicon.analyzer
        weight = _CHARACTERS if analyzer.tokenizer == "char" else 1
        if analyzer.char_ngrams is not None:
            low, high = analyzer.char_ngrams
            weight = _CHARACTERS * (high - low + 1)
        size = self._budget // (2 * _BYTES_PER_BYTE * weight * (self._threads + 1))
        size = min(max(size, _SMALLEST_SLICE), _LARGEST_SLICE)
        with self._documents() as documents:
            for batch in self._corpus.batches(size):
                self._take(batch, documents)
                yield from _cut(batch)

    @contextmanager
    def _documents(self) -> Iterator[DocumentWriter | None]:
        """The writer of the stored columns; None if there are none."""
        schema = self._corpus.stored_schema
        if not schema.names:
            yield None
            return
        self._stored = self._writer.create(layout.DOCUMENTS)
        file = cast(BinaryIO, self._stored)  # as far as a writer needs one
        documents = DocumentWriter(file, schema, self._corpus.id_column)
        try:
            yield documents
        except BaseException:
            # left open, Parquet's writer would write its footer to a closed file
            with suppress(FastseqError):
                documents.close()
            raise
        documents.close()

    def _take(self, batch: RowBatch, documents: DocumentWriter | None) -> None:
        self._rows += batch.rows
        if self._rows > MOST_DOCUMENTS:
            raise DataError(f"more than {MOST_DOCUMENTS:,} rows; an index holds no more")
        self.null_texts += batch.null_texts
        if batch.ids is not None:
            self._hashes.append(id_hashes(batch.ids))
        if batch.kept is not None and documents is not None:
            documents.append(batch.kept)

    def _check_ids(self) -> None:
        column = self._corpus.id_column
        if column is None:
            return
        hashes = np.concatenate(self._hashes)
        self._hashes.clear()
        self._writer.close(self._stored)

        def ids_of(rows: npt.NDArray[np.int64]) -> list[Any]:
            reader = DocumentReader(self._stored.path)
            values: list[Any] = reader.take(rows, [column]).column(column).to_pylist()
            return values

        files = isinstance(self._corpus.sources[0], ParquetSource)
        place = self._corpus.where if files else None
        refuse_duplicate_ids(hashes, ids_of, f"column {column!r}", place)

    # ---- inverting

    def _invert(self, first_row: int, levels: list[Tokens]) -> Slice:
        sizes = self._lexicon.section_sizes
        return invert(levels, sizes, first_row >> WINDOW_BITS, first_row & (WINDOW - 1))

    # ---- writing

    def _write(self, slices: SliceStore, pool: ThreadPoolExecutor) -> dict[str, Any]:
        writer = self._writer
        terms = self._lexicon.terms()
        merge = Merge(slices.slices, self._lexicon.section_sizes)
        total = int(merge.df.sum())
        lengths: Int32 = np.concatenate([one.lengths for one in slices.slices])
        files = {field: writer.create(name, dtype) for name, field, dtype in _POSTING_FILES}

        def report(done: int) -> None:
            self._report("merge", done, total)

        for chunk in merge.chunks(pool, self._threads, self._budget // 3, report):
            for field, file in files.items():
                file.append(getattr(chunk, field))
        for file in files.values():
            writer.close(file)
        writer.array(layout.TERM_RUNS, narrowest(merge.runs))
        writer.array(layout.TERM_BYTES, terms.data)
        writer.array(layout.TERM_LENGTHS, narrowest(np.diff(terms.offsets)))
        slots = np.zeros(layout.slot_count(len(terms)), np.uint32)
        hashing.build_slots(slots, terms.data, terms.offsets)
        writer.array(layout.TERM_SLOTS, slots)
        writer.array(layout.DOCUMENT_LENGTHS, narrowest(lengths))
        return {
            "documents": self._rows,
            "terms": len(terms),
            "postings": total,
            "tokens": int(lengths.sum(dtype=np.int64)),
        }


def _cut(batch: RowBatch) -> Iterator[Texts]:
    """Yield the texts of parts of the batch that do not cross windows."""
    start = 0
    while start < batch.rows:
        row = batch.first_row + start
        stop = min(batch.rows, start + WINDOW - (row & (WINDOW - 1)))
        yield Texts(batch.text.data, batch.text.offsets[start : stop + 1])
        start = stop


def narrowest(counts: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The counts in the smallest unsigned type that holds them."""
    return counts.astype(np.min_scalar_type(int(counts.max(initial=0))))
