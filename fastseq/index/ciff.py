"""Indexes to and from files of the Common Index File Format (store/ciff.py).

An export has the terms of the text in the order of their bytes, and the documents that are not
deleted, numbered in order. An import is an ordinary index of one segment: the terms and the lengths
of documents are those of the file, `collection_docid` is the id, and there are no positions. The
file is read twice, since the sizes of an index's arrays must be known before they are written.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastseq.errors import DataError, SettingsError
from fastseq.index import KIND, VERSION
from fastseq.index.build import MOST_DOCUMENTS, Progress
from fastseq.index.collection import Collection, Leaf
from fastseq.index.segment import DOCUMENTS, sorted_ids
from fastseq.index.segment_writer import (
    segment_name,
    statistics_of,
    write_groups,
    write_ids,
    write_postings,
    write_terms,
)
from fastseq.kernels.search.ciff import collect_postings, split_windows
from fastseq.kernels.text.hashing import PADDING
from fastseq.settings import flag, function
from fastseq.store.ciff import (
    CiffHeader,
    CiffReader,
    PostingsLists,
    document_bytes,
    id_table,
    id_texts,
)
from fastseq.store.container import ContainerWriter
from fastseq.store.documents import DocumentWriter, schema_text
from fastseq.store.files import created, writing
from fastseq.store.ids import id_hashes, refuse_duplicate_ids
from fastseq.store.impacts import WHOLE
from fastseq.store.outputs import check_folder, check_output
from fastseq.store.writer import FolderWriter
from fastseq.text.analyzer import Analyzer
from fastseq.text.settings import INDEX_TOKENIZER
from fastseq.text.tables import ByteTable, chosen_texts
from fastseq.types import Int32, Int64, Texts, offsets_of

ID, TEXT = "id", "text"  # the columns of an imported index
_POSTINGS = 1 << 20  # of an export, written at a time; at least a term's
_RECORDS = 1 << 16
OUTPUT = "CIFF file"  # the kind of output; without a mark


def export_ciff(
    collection: Collection, path: Path, overwrite: bool, progress: Progress | None
) -> None:
    """Write an index to a file: see `Index.to_ciff`."""
    report = function("progress", progress) or (lambda stage, done, total: None)
    check_output(path, OUTPUT, collection.path, overwrite=flag("overwrite", overwrite))
    if collection.documents == 0:
        raise DataError(f"{collection.path}: no documents to export")
    if collection.impacts is not None and collection.impacts["weights"] != WHOLE:
        raise DataError(
            f"{collection.path}: its weights are not whole numbers, as those of this format are: "
            "index multiples of them, rounded"
        )
    terms, numbers, df = _sorted_terms(collection)
    average = collection.tokens / collection.documents
    description = f"Exported by fastseq; analyzer: {_described(collection.analyzer)}"
    header = CiffHeader(len(terms), collection.documents, collection.tokens, average, description)
    total, done = int(df.sum()), 0
    with created(path) as file:
        file.write(header.to_bytes())
        for lists in _lists(collection.leaves, terms, numbers, df):
            file.write(lists.to_bytes().data)
            done += len(lists.docs)
            report("merge", done, total)
        done = 0
        for ids, lengths in _documents(collection):
            file.write(document_bytes(done, ids, lengths).data)
            done += len(lengths)
    report("commit", done, done)


def _described(analyzer: Analyzer) -> str:
    settings = analyzer.to_dict(functions=True)
    return ", ".join(f"{name}={value}" for name, value in settings.items() if name != "packages")


def _sorted_terms(collection: Collection) -> tuple[Texts, list[Int32], Int64]:
    """(terms in the order of their bytes, of each segment int32[V] their numbers in it or -1, df of
    each)."""
    table = ByteTable(max(leaf.segment.terms for leaf in collection.leaves), 0, 0)
    ids = []
    for leaf in collection.leaves:
        leaf.segment.verify_all_postings()
        texts = leaf.segment.vocabulary
        padded = np.append(texts.data, np.zeros(PADDING, np.uint8))
        ids.append(table.register(padded, texts.offsets, 0))
    df = np.zeros(len(table), np.int64)
    for leaf, own in zip(collection.leaves, ids, strict=True):
        df[own] += leaf.df
    data, offsets = table.texts()
    raw, ends = data.tobytes(), offsets.tolist()
    live = np.flatnonzero(df).tolist()
    order = np.array(sorted(live, key=lambda i: raw[ends[i] : ends[i + 1]]), np.int32)
    numbers = []
    for leaf, own in zip(collection.leaves, ids, strict=True):
        number = np.full(len(table), -1, np.int32)
        number[own] = np.arange(leaf.segment.terms, dtype=np.int32)
        numbers.append(number[order])
    return chosen_texts(data, offsets, 0, order), numbers, df[order]


def _lists(
    leaves: list[Leaf], terms: Texts, numbers: list[Int32], df: Int64
) -> Iterator[PostingsLists]:
    """The postings of terms, some at a time."""
    rows, first = [], 0
    for leaf in leaves:
        live = np.ones(leaf.segment.documents, bool) if leaf.live is None else leaf.live != 0
        rows.append(np.where(live, first - 1 + np.cumsum(live), -1).astype(np.int32))
        first += leaf.documents
    ends = offsets_of(df)
    start = 0
    while start < len(terms):
        stop = int(np.searchsorted(ends, ends[start] + _POSTINGS, "right")) - 1
        stop = max(stop, start + 1)
        offsets = ends[start : stop + 1] - ends[start]
        docs, tfs = np.empty((2, int(offsets[-1])), np.int32)
        places = offsets[:-1].copy()
        for leaf, of_leaf, own in zip(leaves, rows, numbers, strict=True):
            collect_postings(
                docs, tfs, places, leaf.segment.postings, of_leaf, own[start:stop].copy()
            )
        texts = Texts(
            terms.data[terms.offsets[start] : terms.offsets[stop]],
            terms.offsets[start : stop + 1] - terms.offsets[start],
        )
        yield PostingsLists(texts, docs, tfs, offsets)
        start = stop


def _documents(collection: Collection) -> Iterator[tuple[Texts, Int32]]:
    """(ids as results have them, lengths) of the documents, some at a time."""
    column = collection.id_column
    for leaf in collection.leaves:
        live = leaf.live
        rows = np.arange(leaf.segment.documents) if live is None else np.flatnonzero(live)
        for start in range(0, len(rows), _RECORDS):
            some = rows[start : start + _RECORDS]
            if column is None:
                ids = Texts.from_strings(map(str, (leaf.first_row + some).tolist()))
            else:
                assert leaf.segment.stored is not None
                ids = id_texts(leaf.segment.stored, some, column)
            yield ids, leaf.segment.lengths[some]


# ---- import


def import_ciff(
    file: Path, path: str | Path, analyzer: Analyzer | None, overwrite: bool,
    progress: Progress | None,
) -> None:  # fmt: skip
    """Make an index of a file: see `Index.from_ciff`."""
    if analyzer is not None and not isinstance(analyzer, Analyzer):
        raise SettingsError(f"analyzer must be a fastseq.Analyzer, not {analyzer!r}")
    # the terms of queries as they are given
    analyzer = analyzer or Analyzer(tokenizer="space", lowercase=False)
    analyzer = analyzer.resolved(INDEX_TOKENIZER)
    saved = analyzer.to_dict(functions=True)
    report = function("progress", progress) or (lambda stage, done, total: None)
    overwrite = flag("overwrite", overwrite)
    check_folder(path, file)
    content = _Content(file, report)
    table = id_table(ID, content.ids)
    hashes = id_hashes(table.column(ID).chunk(0))
    refuse_duplicate_ids(
        hashes, lambda rows: list(map(content.id, rows.tolist())), f"{file}: collection_docid"
    )
    settings = {
        "analyzer": saved,
        "id_column": ID,
        "text_columns": [TEXT],
        "stored_columns": [ID],
        "store_named": True,
        "positions": False,
        "schema": schema_text(table.schema),
    }
    with FolderWriter(path, KIND, VERSION, overwrite) as writer:
        container = writer.container(segment_name(writer, 0))
        with writing(container.path):
            region = container.region(DOCUMENTS, np.uint8)
            documents = DocumentWriter(region.append, table.schema)
            documents.append(table)
            write_groups(container, documents)
            write_ids(container, *sorted_ids(hashes))
            content.write(container)
        entry = {
            "name": container.path.name,
            "documents": len(content.lengths),
            "deleted": 0,
            "tokens": int(content.lengths.sum(dtype=np.int64)),
            "terms": len(content.terms),
            "postings": content.postings,
        }
        report("commit", len(content.lengths), len(content.lengths))
        writer.close(container)
        writer.commit(settings, statistics_of(writer.number, [entry]))


class _Content:
    """The content of a file but for its postings, which `write` reads again.

    terms     in the order of the file
    ids, lengths  of each document, int32
    postings  their number
    """

    def __init__(self, file: Path, report: Progress) -> None:
        self._file, self._report = file, report
        with CiffReader(file) as reader:
            header = reader.header
            if header.documents == 0:
                raise DataError(f"{file}: no documents to index")
            if header.documents > MOST_DOCUMENTS:
                raise DataError(f"{file}: more than {MOST_DOCUMENTS:,} documents")
            table = ByteTable(header.postings_lists, 0, 0)
            runs, self.postings = [np.empty(0, np.int32)], 0
            larges = np.zeros(2, np.int64)
            for lists in reader.lists():
                terms, before = lists.terms, len(table)
                data = np.append(terms.data, np.zeros(PADDING, np.uint8))
                ids = table.register(data, terms.offsets, 0)
                for twice in np.flatnonzero(ids != np.arange(before, before + len(ids)))[:1]:
                    name = terms.to_strings()[twice]
                    raise DataError(f"{file}: the term {name!r:.80} has two postings lists")
                chunk, own_runs, own_larges = _as_in_an_index(lists, self.postings)
                runs.append(own_runs)
                larges += own_larges
                self.postings += len(chunk["docs"])
            self.terms = Texts(*table.texts())
            self._runs = np.concatenate(runs)
            self._larges = int(larges[0]), int(larges[1])
            self._read_documents(reader)
            reader.finish()

    def _read_documents(self, reader: CiffReader) -> None:
        """Read the documents, which may be in any order."""
        count = reader.header.documents
        parts = list(reader.documents())
        numbers = np.concatenate([part[0] for part in parts])
        order = np.argsort(numbers, kind="stable").astype(np.int32)
        for wrong in np.flatnonzero(numbers[order] != np.arange(count))[:1].tolist():
            raise DataError(
                f"{self._file}: the document records are not those of the documents 0 to "
                f"{count - 1}: {wrong} is missing, or another one has a record too many"
            )
        offsets = offsets_of(np.concatenate([np.diff(part[1].offsets) for part in parts]))
        data = np.concatenate([part[1].data for part in parts])
        self.ids = chosen_texts(data, offsets, 0, order)
        self.lengths = np.concatenate([part[2] for part in parts])[order]

    def id(self, row: int) -> str:
        """The id of a document."""
        start, stop = self.ids.offsets[row : row + 2]
        return bytes(self.ids.data[start:stop]).decode()

    def write(self, container: ContainerWriter) -> None:
        """Write the inverted index. Raises DataError where the file has changed."""
        counts = self.postings, self._runs, self._larges, None
        with CiffReader(self._file) as reader:
            write_postings(container, "", *counts, self._chunks(reader))
        write_terms(container, "", self.terms, self.lengths)

    def _chunks(self, reader: CiffReader) -> Iterator[dict[str, npt.NDArray[Any]]]:
        done = 0
        for lists in reader.lists():
            chunk, _, _ = _as_in_an_index(lists, done)
            yield chunk
            done += len(lists.docs)
            self._report("merge", done, self.postings)


def _as_in_an_index(
    lists: PostingsLists, first: int
) -> tuple[dict[str, npt.NDArray[Any]], Int32, tuple[int, int]]:
    """(the arrays that write_postings takes, the runs of each term, the numbers of frequencies of
    15 and more, and of 255 and more); `first` is the number of the first posting."""
    count = len(lists.docs)
    docs, tfs = np.empty(count, np.uint16), np.empty(count, np.uint8)
    runs = np.empty(len(lists.terms), np.int32)
    run_window, run_count = np.empty((2, count), np.uint16)
    large_at, large_tf = np.empty(count, np.int64), np.empty(count, np.int32)
    total, packed_larges, larges = split_windows(
        docs, tfs, runs, run_window, run_count, large_at, large_tf, lists.docs, lists.tfs,
        lists.offsets, first,
    )  # fmt: skip
    chunk: dict[str, npt.NDArray[Any]] = {
        "docs": docs, "tfs": tfs, "run_window": run_window[:total], "run_count": run_count[:total],
        "large_at": large_at[:larges], "large_tf": large_tf[:larges],
    }  # fmt: skip
    return chunk, runs, (packed_larges, larges)
