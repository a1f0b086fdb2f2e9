"""Building an index: Parquet → tokens → slices → merged postings → one commit."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import numpy.typing as npt

from fastseq.errors import DataError, FastseqError, SettingsError, located
from fastseq.index import format as layout
from fastseq.index.merge import Merge
from fastseq.index.slices import Slice, SliceStore, invert
from fastseq.kernels.search.postings import WINDOW, WINDOW_BITS
from fastseq.kernels.text import hashing
from fastseq.settings import flag, function, parse_size, string, strings, thread_count
from fastseq.store.corpus import Corpus
from fastseq.store.documents import DocumentReader, DocumentWriter
from fastseq.store.examples import RowBatch
from fastseq.store.ids import id_hashes, refuse_duplicate_ids
from fastseq.store.sources import ParquetSource
from fastseq.store.writer import FolderWriter
from fastseq.text.analyzer import Analyzer
from fastseq.text.lexicon import Lexicon
from fastseq.text.turns import Turns, encode_in_turn
from fastseq.threads import in_order
from fastseq.types import Int32, Texts, UInt64

Progress = Callable[[str, int, int | None], None]

MOST_DOCUMENTS = (1 << 31) - 1  # rows are int32
SMALLEST_MEMORY = 16 << 20
# A slice at work takes about this many times its text: ids, sort keys and their spare, postings,
# for words; for what is shorter than a word, there are about this many times as many of them.
_BYTES_PER_BYTE = 8
_CHARACTERS = 4
_LARGEST_SLICE = 8 << 20
_SMALLEST_SLICE = 64 << 10


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
    """Index a corpus into the folder `path` and commit it; returns a summary.

    The folder's bytes do not depend on `memory` or `threads`. The vocabulary, four bytes a
    document and the id hashes are held in memory beside the `memory` given for postings.

    Raises
    ------
    DataError
        The corpus is not what it should be: see Corpus; no rows; duplicate ids; text that is not
        UTF-8 (naming the row) unless the analyzer replaces.
    SettingsError
        A setting outside its range, `path` is taken.
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
    settings: dict[str, Any] = {"analyzer": analyzer.to_dict()}
    documents = Corpus.open(
        corpus,
        None if id_column is None else string("id_column", id_column),
        None if text_columns is None else strings("text_columns", text_columns),
        None if store is None else strings("store", store),
    )
    overwrite = flag("overwrite", overwrite)
    settings |= {
        "id_column": documents.id_column,
        "text_columns": list(documents.text_columns),
        "stored_columns": list(documents.stored_columns),
    }
    with FolderWriter(path, layout.KIND, layout.VERSION, overwrite) as writer:
        builder = _Builder(
            documents, analyzer, writer, budget, threads, function("progress", progress)
        )
        statistics = builder.run()
        builder.report("commit", statistics["documents"], statistics["documents"])
        writer.commit(settings, statistics)
    return statistics | {
        "null_texts": builder.null_texts,
        "seconds": time.perf_counter() - started,
    }


class _Builder:
    def __init__(
        self,
        corpus: Corpus,
        analyzer: Analyzer,
        writer: FolderWriter,
        budget: int,
        threads: int,
        progress: Progress | None,
    ) -> None:
        self._corpus = corpus
        self._writer = writer
        self._budget = budget
        self._threads = threads
        self._progress = progress
        self._lexicon = Lexicon(analyzer)
        self._turns = Turns()
        self._hashes: list[UInt64] = []
        self._rows = 0
        self.null_texts = 0

    def report(self, stage: str, done: int, total: int | None) -> None:
        if self._progress is not None:
            self._progress(stage, done, total)

    def run(self) -> dict[str, Any]:
        """Do all but the commit; returns the statistics for the manifest."""
        slices = SliceStore(self._writer.temporary("slices"), self._budget // 3)
        reading = self._read()
        with (
            located(self._corpus.where),
            ThreadPoolExecutor(self._threads, "fastseq-index") as pool,
        ):
            try:
                work = in_order(pool, self._invert, reading, self._threads + 1)
                for (_, first_row, texts), one in work:
                    slices.append(one)
                    self.report("index", first_row + len(texts), self._corpus.num_rows)
            except BaseException:
                self._turns.abort()
                reading.close()
                raise
            if self._rows == 0:
                names = ", ".join(source.name for source in self._corpus.sources[:3])
                raise DataError(f"{names}: no rows to index")
            self._check_ids()
            return self._write(slices, pool)

    # ---- reading

    def _read(self) -> Generator[tuple[int, int, Texts], None, None]:
        """(number, first row, texts) of each slice; writes the stored columns on the way."""
        analyzer = self._lexicon.analyzer
        weight = _CHARACTERS if analyzer.tokenizer == "char" else 1
        if analyzer.char_ngrams is not None:
            low, high = analyzer.char_ngrams
            weight = _CHARACTERS * (high - low + 1)
        size = self._budget // (2 * _BYTES_PER_BYTE * weight * (self._threads + 1))
        size = min(max(size, _SMALLEST_SLICE), _LARGEST_SLICE)
        number = 0
        with self._documents() as documents:
            for batch in self._corpus.batches(size):
                self._take(batch, documents)
                for first_row, texts in _cut(batch):
                    yield number, first_row, texts
                    number += 1

    @contextmanager
    def _documents(self) -> Iterator[DocumentWriter | None]:
        """The writer of the stored columns; None where there are none."""
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
            # left open, Parquet's writer would write its footer to a file that is closed by then
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

    def _invert(self, job: tuple[int, int, Texts]) -> Slice:
        number, first_row, texts = job
        levels = encode_in_turn(self._lexicon, self._turns, number, first_row, texts)
        sizes = self._lexicon.section_sizes
        return invert(levels, sizes, first_row >> WINDOW_BITS, first_row & (WINDOW - 1))

    # ---- writing

    def _write(self, slices: SliceStore, pool: ThreadPoolExecutor) -> dict[str, Any]:
        writer = self._writer
        terms = self._lexicon.terms()
        merge = Merge(slices.slices, self._lexicon.section_sizes)
        total = int(merge.df.sum())
        lengths: Int32 = np.concatenate([one.lengths for one in slices.slices])
        files = {
            name: writer.create(name, dtype)
            for name, dtype in (
                (layout.POSTING_DOCS, np.uint16),
                (layout.POSTING_TFS, np.uint8),
                (layout.RUN_WINDOWS, np.uint16),
                (layout.RUN_COUNTS, np.uint16),
                (layout.LARGE_AT, np.int64),
                (layout.LARGE_TFS, np.int32),
            )
        }

        def report(done: int) -> None:
            self.report("merge", done, total)

        for chunk in merge.chunks(pool, self._threads, self._budget // 3, report):
            files[layout.POSTING_DOCS].append(chunk.docs)
            files[layout.POSTING_TFS].append(chunk.tfs)
            files[layout.RUN_WINDOWS].append(chunk.run_window)
            files[layout.RUN_COUNTS].append(chunk.run_count)
            files[layout.LARGE_AT].append(chunk.large_at)
            files[layout.LARGE_TFS].append(chunk.large_tf)
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


def _cut(batch: RowBatch) -> Iterator[tuple[int, Texts]]:
    """The batch in pieces that do not cross the border of a window."""
    start = 0
    while start < batch.rows:
        row = batch.first_row + start
        stop = min(batch.rows, start + WINDOW - (row & (WINDOW - 1)))
        yield row, Texts(batch.text.data, batch.text.offsets[start : stop + 1])
        start = stop


def narrowest(counts: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The same counts in the smallest unsigned type that holds them."""
    largest = int(counts.max(initial=0))
    return counts.astype(np.min_scalar_type(largest))
