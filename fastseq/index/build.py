"""Index construction: Parquet → tokens → slices → merged postings → one commit.

Slices of the corpus are tokenised and inverted on threads; `SliceStore` collects them within a
memory budget; `Merge` adds up the document frequencies of each term, which determines the position
of every posting in the index, and yields the merged postings in chunks of terms.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import numpy.typing as npt

from fastseq.errors import DataError, FastseqError, SettingsError, located
from fastseq.index import segment as layout
from fastseq.kernels.search import postings as kernels
from fastseq.kernels.search.postings import WINDOW, WINDOW_BITS
from fastseq.kernels.text import hashing
from fastseq.settings import flag, function, parse_size, string, strings, thread_count
from fastseq.store.documents import DocumentReader, DocumentWriter
from fastseq.store.files import reason
from fastseq.store.ids import id_hashes, id_list, refuse_duplicate_ids
from fastseq.store.outputs import check_folder
from fastseq.store.rows import Corpus, RowBatch
from fastseq.store.sources import FileSource
from fastseq.store.writer import FolderWriter
from fastseq.text.analyzer import Analyzer
from fastseq.text.lexicon import Lexicon, encode_slices
from fastseq.threads import in_order
from fastseq.types import Int32, Int64, Texts, Tokens, UInt8, UInt16, UInt64, offsets_of

Array = npt.NDArray[Any]
Progress = Callable[[str, int, int | None], None]

MOST_DOCUMENTS = (1 << 31) - 1  # rows are int32
SMALLEST_MEMORY = 16 << 20
_BYTES_PER_BYTE = 8  # memory of a slice in progress by bytes of text: ids, sort keys, postings
_CHARACTERS = 4  # tokens shorter than a word, by words
_LARGEST_SLICE = 8 << 20
_SMALLEST_SLICE = 64 << 10

# Postings of a chunk, the unit of merging: enough to be worth a pass over every slice, few enough
# for all threads to get some.
SMALLEST_CHUNK = 1 << 16
CHUNKS_PER_THREAD = 4
_BYTES_PER_POSTING = 6  # of a chunk being merged, with what is read from the spill file


def build(
    corpus: Any, path: str | Path, *, id_column: str | None, text_columns: str | list[str] | None,
    store: str | list[str] | None, analyzer: Analyzer | None, memory: str | int,
    threads: int | None, overwrite: bool, progress: Progress | None,
) -> dict[str, Any]:  # fmt: skip
    """Index a corpus into a folder and return its summary: see `Index.build`.

    The bytes of the folder do not depend on `memory` or `threads`. The vocabulary, four bytes a
    document and the hashes of the ids take memory in addition to `memory`.
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
        self, corpus: Corpus, lexicon: Lexicon, writer: FolderWriter, budget: int, threads: int,
        report: Progress,
    ) -> None:  # fmt: skip
        self._corpus, self._lexicon, self._writer = corpus, lexicon, writer
        self._budget, self._threads, self._report = budget, threads, report
        self._hashes: list[UInt64] = []
        self._rows = 0
        self.null_texts = 0

    def run(self) -> dict[str, Any]:
        """Write all files; returns the statistics for the manifest."""
        slices = SliceStore(self._writer.temporary("slices"), self._budget // 3)
        done = 0
        with located(self._corpus.where):
            for texts, one in encode_slices(
                self._lexicon, self._read(), self._invert, self._threads
            ):  # no variable for the generator, so that an exception here closes it
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
        schema = self._corpus.stored_schema
        writer: AbstractContextManager[DocumentWriter | None] = nullcontext()
        if schema.names:
            self._stored = self._writer.create(layout.DOCUMENTS)
            file = cast(BinaryIO, self._stored)  # has the methods that a writer needs
            writer = DocumentWriter(file, schema, self._corpus.id_column)
        with writer as documents:
            for batch in self._corpus.batches(size):
                self._rows += batch.rows
                if self._rows > MOST_DOCUMENTS:
                    raise DataError(f"more than {MOST_DOCUMENTS:,} rows, the maximum of an index")
                self.null_texts += batch.null_texts
                if batch.ids is not None:
                    self._hashes.append(id_hashes(batch.ids))
                if batch.kept is not None and documents is not None:
                    documents.append(batch.kept)
                yield from _cut(batch)

    def _check_ids(self) -> None:
        column = self._corpus.id_column
        if column is None:
            return
        hashes = np.concatenate(self._hashes)
        self._hashes.clear()
        self._writer.close(self._stored)

        def ids_of(rows: Int64) -> list[Any]:
            reader = DocumentReader(self._stored.path)
            return id_list(reader.take(rows, [column]).column(column))

        files = isinstance(self._corpus.sources[0], FileSource)
        place = self._corpus.where if files else None
        refuse_duplicate_ids(hashes, ids_of, f"column {column!r}", place)

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
        files = {field: writer.create(*file) for field, file in layout.POSTING_FILES.items()}

        def report(done: int) -> None:
            self._report("merge", done, total)

        for chunk in merge.chunks(pool, self._threads, self._budget // 3, report):
            for field, file in files.items():
                file.append(chunk[field])
        for file in files.values():
            writer.close(file)
        writer.array(layout.TERM_RUNS, narrowest(merge.runs))
        writer.array(layout.TERM_BYTES, terms.data)
        writer.array(layout.TERM_LENGTHS, narrowest(np.diff(terms.offsets)))
        slots = np.zeros(slot_count(len(terms)), np.uint32)
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


def narrowest(counts: Array) -> Array:
    """The counts in the smallest unsigned type that holds them."""
    return counts.astype(np.min_scalar_type(int(counts.max(initial=0))))


def slot_count(terms: int) -> int:
    """The slots of a hash table of `terms` terms: a power of two, at most 80 % full."""
    return 1 << max(int(terms / 0.8), 1).bit_length()


# ---- inverted slices, in memory or spilled to disk


@dataclass(slots=True)
class Part:
    """The postings of one n-gram level of a slice, sorted by (term, document).

    terms    int32[n]   term ids of the level, ascending
    dfs      int32[n]   postings of each term
    docs     uint16[p]  document in the window
    tfs      uint8[p]   term frequency
    large_at, large_tf  int64[l], int32[l]: position and value of frequencies from 255 on
    """

    terms: Int32 | SpilledArray
    dfs: Int32 | SpilledArray
    docs: UInt16 | SpilledArray
    tfs: UInt8 | SpilledArray
    large_at: Int64
    large_tf: Int32

    @property
    def nbytes(self) -> int:
        """Bytes of memory that spilling frees."""
        return self.terms.nbytes + self.dfs.nbytes + self.docs.nbytes + self.tfs.nbytes


@dataclass(slots=True)
class Slice:
    """Inverted consecutive documents of one window, with a part for each n-gram level."""

    window: int
    lengths: Int32  # [D] tokens of each document, all levels together
    parts: list[Part]


@dataclass(frozen=True, slots=True)
class SpilledArray:
    """An array in the spill file."""

    file: Path
    start: int
    count: int
    dtype: np.dtype[Any]
    nbytes: int = 0

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, part: slice) -> Array:
        """Read some elements. (A mapping would hold memory and a file handle.)"""
        start, stop, _ = part.indices(self.count)
        offset = self.start + start * self.dtype.itemsize
        return np.fromfile(self.file, self.dtype, stop - start, offset=offset)


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
        ))  # fmt: skip
    return Slice(window, lengths.astype(np.int32), parts)


class SliceStore:
    """Collects slices, spilling them to `file` when they take more than `budget` bytes."""

    def __init__(self, file: Path, budget: int) -> None:
        self.slices: list[Slice] = []
        self._file = file
        self._budget = budget
        self._resident = 0
        self._spilled = 0  # slices
        self._written = 0  # bytes

    def append(self, one: Slice) -> None:
        """Take the next slice, in document order."""
        self.slices.append(one)
        self._resident += sum(part.nbytes for part in one.parts)
        if self._resident > self._budget:
            self._spill()

    def _spill(self) -> None:
        try:
            with open(self._file, "ab") as out:
                for one in self.slices[self._spilled :]:
                    for part in one.parts:
                        for name in ("docs", "tfs", "terms", "dfs"):
                            setattr(part, name, self._write(out, getattr(part, name)))
        except OSError as error:
            raise FastseqError(f"cannot write {self._file}: {reason(error)}") from error
        self._spilled = len(self.slices)
        self._resident = 0

    def _write(self, out: BinaryIO, array: Array) -> SpilledArray:
        out.write(array.data)
        spilled = SpilledArray(self._file, self._written, len(array), array.dtype)
        self._written += array.nbytes
        return spilled


# ---- merging slices


class Merge:
    """A merge of slices: first the number of postings of each term, then their places.

    Attributes
    ----------
    df : int64[V], document frequency of each term
    runs : int32[V], windows in which each term occurs
    """

    def __init__(self, slices: Sequence[Slice], sizes: Sequence[int]) -> None:
        self._slices = slices
        self._bases = [0, *np.cumsum(sizes).tolist()]
        vocabulary = self._bases[-1]
        self.df = np.zeros(vocabulary, np.int64)
        self.runs = np.zeros(vocabulary, np.int32)
        last_window = np.full(vocabulary, -1, np.int32)
        for one, part, base in self._parts():
            terms = part.terms[:].astype(np.int64) + base
            self.df[terms] += part.dfs[:]
            self.runs[terms[last_window[terms] != one.window]] += 1
            last_window[terms] = one.window
        self._posting = offsets_of(self.df)
        self._run = offsets_of(self.runs)

    def _parts(self) -> Iterator[tuple[Slice, Part, int]]:
        for one in self._slices:
            for part, base in zip(one.parts, self._bases[:-1], strict=True):
                yield one, part, base

    def chunks(
        self, pool: ThreadPoolExecutor, threads: int, memory: int, done: Callable[[int], None]
    ) -> Iterator[dict[str, Array]]:
        """Yield the merged postings in the order of terms, in chunks by `POSTING_FILES`.

        memory  bytes for all chunks in progress
        done    called with the number of postings merged so far, after each chunk
        """
        total = int(self._posting[-1])
        size = max(total // (threads * CHUNKS_PER_THREAD), SMALLEST_CHUNK)
        size = max(min(size, memory // (_BYTES_PER_POSTING * (threads + 1))), 1)
        edges = np.searchsorted(self._posting, np.arange(size, total + size, size)).tolist()
        edges = [0, *(min(edge, len(self.df)) for edge in edges)]
        starts = []  # of each chunk among the terms and among the postings of each part
        for _, part, base in self._parts():
            terms = np.searchsorted(part.terms[:], np.array(edges) - base)
            starts.append((terms.tolist(), offsets_of(part.dfs[:])[terms].tolist()))

        def merge(i: int) -> dict[str, Array]:
            ranges = [(terms[i : i + 2], postings[i : i + 2]) for terms, postings in starts]
            return self._merge(edges[i], edges[i + 1], ranges)

        for i, chunk in in_order(pool, merge, range(len(edges) - 1), threads + 1):
            yield chunk
            done(int(self._posting[edges[i + 1]]))

    def _merge(
        self, first: int, last: int, ranges: Sequence[tuple[list[int], list[int]]]
    ) -> dict[str, Array]:
        """Merge the postings of the terms first to last; large_at counts from the index's start."""
        first_posting, first_run = int(self._posting[first]), int(self._run[first])
        docs = np.empty(int(self._posting[last]) - first_posting, np.uint16)
        tfs = np.empty(len(docs), np.uint8)
        run_window = np.empty(int(self._run[last]) - first_run, np.uint16)
        run_count = np.empty(len(run_window), np.uint16)
        posting_at = self._posting[first:last].copy()
        run_at = self._run[first:last].copy()
        open_window = np.full(last - first, -1, np.int32)
        large = [(np.empty(0, np.int64), np.empty(0, np.int32))]
        for (one, part, base), (terms, postings) in zip(self._parts(), ranges, strict=True):
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
        large_at, large_tf = (np.concatenate(parts) for parts in zip(*large, strict=True))
        order = np.argsort(large_at)
        return {
            "docs": docs, "tfs": tfs, "run_window": run_window, "run_count": run_count,
            "large_at": large_at[order], "large_tf": large_tf[order],
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
