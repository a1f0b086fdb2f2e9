"""Changes of an index: documents added, replaced and deleted in one commit.

A commit writes new segments and a file of deletions, and keeps the files of the other segments.
Adjacent segments are merged before the commit, where that is due (index/merging.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from fastseq.errors import DataError, FastseqError, FormatError, SettingsError
from fastseq.index import KIND, VERSIONS, format_version
from fastseq.index.build import MOST_DOCUMENTS, Progress, SegmentBuilder, memory_budget
from fastseq.index.collection import Collection, Leaf, find_rows, live_tokens
from fastseq.index.dense import DenseBuild, changed_build, write_graph
from fastseq.index.merging import due, merge
from fastseq.index.segment import Segment
from fastseq.index.segment_writer import segment_name, statistics_of
from fastseq.index.words import StoredWords
from fastseq.settings import flag, function, real, thread_count
from fastseq.store.additions import Addition, Buffer, Documents, refuse_repeated_ids
from fastseq.store.arrays import number_array
from fastseq.store.documents import schema_text
from fastseq.store.folder import open_container
from fastseq.store.ids import given_names, ids_like
from fastseq.store.rows import text_layout
from fastseq.store.writer import FolderWriter
from fastseq.types import Int64, UInt8

_FEW_ROWS = 1024  # of an addition: collected in memory, with others
_BUFFER = 8 << 20  # bytes of documents collected
_REMEDY = 'build the index again with on_invalid="replace", which reads it as U+FFFD'


@dataclass(frozen=True)
class _Part:
    """A segment of the commit in progress.

    leaf   without the deleted documents
    entry  of the segment in the manifest; deleted and tokens follow from the leaf
    path   of its file in the previous commit, None for a new one
    """

    leaf: Leaf
    entry: dict[str, Any]
    path: str | None


class IndexWriter:
    """Changes an index in one commit; a context manager. Leaving the block commits, an exception
    in it discards all changes.

    Parameters
    ----------
    path : the index
    memory : as of Index.build
    threads : default: all cores
    wait : seconds to wait for another writer to end
    progress : called as progress(stage, done, total or None) from the calling thread, with
        numbers of postings in the stage "merge", else of documents
    opened : a commit of the index, opened before, whose segments are shared
    dense : the encoder of an index that has the vectors of one

    Attributes
    ----------
    summary : numbers of documents added, replaced (of those added) and deleted, of ids to delete
        that are unknown, of null_texts, and of segments merged

    Raises FormatError where there is no index or a damaged one; FastseqError where another process
    writes to it or the system refuses; SettingsError for a setting outside its range.
    """

    def __init__(
        self, path: str | Path, memory: str | int = "1GB", threads: int | None = None,
        wait: float = 0, progress: Progress | None = None, opened: Collection | None = None,
        dense: Any = None,
    ) -> None:  # fmt: skip
        self._opened, self._encoder = opened, dense
        self._budget = memory_budget(memory)
        self._threads = thread_count(threads)
        self._report = function("progress", progress) or (lambda stage, done, total: None)
        wait = real("wait", wait, lambda seconds: seconds >= 0, "a number of seconds from 0 on")
        self._writer = FolderWriter(path, KIND, max(VERSIONS), update=True, wait=wait)
        self._open = self._broken = False
        self.summary = dict.fromkeys(
            ("added", "replaced", "deleted", "unknown", "null_texts", "merged"), 0
        )

    def __enter__(self) -> IndexWriter:
        self._writer.__enter__()
        try:
            self._collection = collection = Collection.open(self._writer.root, self._opened)
            self._schema = collection.schema
            statistics = collection.folder.statistics
            paths = {name.rpartition("/")[2]: name for name in collection.folder.manifest.files}
            first_version = collection.folder.manifest.format_version == 1
            self._parts = [
                _Part(leaf, entry, None if first_version else paths[entry["name"]])
                for leaf, entry in zip(
                    collection.leaves, statistics.get("segments", [{}]), strict=True
                )
            ]
            self._dense: DenseBuild | None = None
            self._changed = False
            self._new = 0
            self._buffer = self._empty_buffer()
            self._open = True
        except BaseException as error:
            self._writer.__exit__(type(error), error, error.__traceback__)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self._commit()
        finally:
            self._open = False
            self._writer.__exit__(kind, error, traceback)

    # ---- changes

    def add(self, corpus: Any) -> None:
        """Add documents, in the order of the corpus; one with a known id replaces the document with
        that id, and is then the last.

        corpus : as of Index.build, with the index's columns; where it lacks a stored column, that
            is null

        Raises DataError as Index.build, for an index without ids, for a column of another type or
        one that the index does not have; SettingsError without the encoder of an index with
        vectors, and for another one.
        """
        buffer = self._require_ids()
        settings = self._collection.folder.settings
        dense = self._dense = self._dense or changed_build(self._encoder, self._collection.dense)
        addition = Addition(
            corpus, buffer.id_column, settings["text_columns"], settings.get("fields", []),
            self._schema, settings.get("store_named", False), *self._impacts,
            *((None, None) if dense is None else (dense.column, dense.size)),
        )  # fmt: skip
        if addition.num_rows is None or addition.num_rows > _FEW_ROWS:
            self._flush()
            self._build(addition)
            self._change_schema(addition.stored_schema)
            return
        batches = [batch for batch in addition.batches() if batch.rows]
        refuse_repeated_ids(batches)
        buffer = self._change_schema(addition.stored_schema)
        with self._whole_or_broken():
            for batch in batches:
                self.summary["added"] += batch.rows
                self.summary["null_texts"] += batch.null_texts
                self.summary["replaced"] += buffer.append(batch) + self._remove(batch.ids)
        if buffer.nbytes > min(_BUFFER, self._budget // 4):
            self._flush()

    def delete(self, ids: Any = None, *, where: Any = None) -> None:
        """Delete documents: by one id, or several as a list, NumPy or Arrow array, of which unknown
        ones are counted in `summary`; or `where` a filter is true (see store/filters.py).

        Raises DataError for an id of another type than the index's, for ids where the index has
        none, for a filter of other columns or types; SettingsError for text that is no filter, and
        unless one of both is given.
        """
        if (ids is None) == (where is None):
            raise SettingsError("delete: give either ids or where=…, a filter")
        if where is not None:
            self._delete_where(where)
            return
        buffer = self._require_ids()
        several = [ids] if isinstance(ids, str | bytes) or not hasattr(ids, "__iter__") else ids
        if isinstance(several, Iterator):
            several = list(several)
        wanted = ids_like(several, self._schema.field(buffer.id_column).type)
        places = {id: place for place, id in enumerate(given_names(several, wanted))}
        wanted = wanted.take(number_array(list(places.values()))).drop_null()
        with self._whole_or_broken():
            deleted = buffer.remove(list(places)) + self._remove(wanted)
        self.summary["deleted"] += deleted
        self.summary["unknown"] += len(places) - deleted

    def _delete_where(self, where: Any) -> None:
        from fastseq.store.filters import as_filter, passing  # imports pyarrow.compute

        self._require_open()
        filter = as_filter(where, self._schema)
        self._flush()
        with self._whole_or_broken():
            for number, part in enumerate(self._parts):
                meets = passing(filter, [part.leaf.segment.stored], self._threads)
                if part.leaf.live is not None:
                    meets &= part.leaf.live != 0
                self.summary["deleted"] += self._remove_rows(number, np.flatnonzero(meets))

    def compact(self, reorder: bool = False) -> None:
        """Merge all segments into one, without the deleted documents.

        reorder : search the documents in an order in which similar ones are close
            (index/reordering.py), as where a segment that is merged has one
        """
        reorder = flag("reorder", reorder)
        self._require_open()
        self._flush()
        self._drop_empty()
        parts = self._parts
        if len(parts) > 1 or any(p.leaf.live is not None or self._is_old(p) for p in parts):
            self._merge(0, len(parts), reorder)
        elif reorder and parts and parts[0].leaf.segment.search_order is None:
            self._merge(0, 1, reorder)

    # ---- segments

    def _require_open(self) -> None:
        if not self._open:
            raise FastseqError("the block of this writer has ended: begin another for more changes")

    @contextmanager
    def _whole_or_broken(self) -> Iterator[None]:
        """A change that an error (a damaged segment, say) may leave half done: the block then
        commits nothing, even where its caller catches the error."""
        try:
            yield
        except BaseException:
            self._broken = True
            raise

    def _require_ids(self) -> Buffer:
        self._require_open()
        if self._buffer is None:
            raise DataError(
                f"{self._writer.root}: the index has no id column, so documents cannot be added or "
                "deleted: build it again with ids"
            )
        return self._buffer

    def _change_schema(self, schema: Any) -> Buffer:
        """Give columns of null type, and new documents, the types of a schema."""
        if not schema.equals(self._schema):
            self._flush()
            self._schema = schema
            self._buffer = self._empty_buffer()
        return self._require_ids()

    def _empty_buffer(self) -> Buffer | None:
        column = self._collection.id_column
        settings = self._collection.folder.settings
        layout = text_layout(settings["text_columns"], settings.get("fields", []))
        return None if column is None else Buffer(column, self._schema, layout, self._impacts[1])

    @property
    def _impacts(self) -> tuple[str | None, str | None]:
        """The column of impacts and the kind of their weights; None for an index of texts."""
        impacts = self._collection.impacts
        return (None, None) if impacts is None else (impacts["column"], impacts["weights"])

    @property
    def _leaves(self) -> list[Leaf]:
        return [part.leaf for part in self._parts]

    def _flush(self) -> None:
        """Write the documents collected in memory as a segment."""
        if self._buffer is not None and self._buffer.num_rows:
            self._append(self._buffer)
            self._buffer = self._empty_buffer()

    def _build(self, documents: Documents) -> None:
        """Add a segment of documents; those with known ids are replaced."""
        before = len(self._parts)
        self.summary["null_texts"] += self._append(documents)
        new = self._parts[-1].leaf.segment
        self.summary["added"] += new.documents
        assert documents.id_column is not None
        hashes, _ = new.id_table(documents.id_column)
        if not before:
            return
        stored = new.stored
        assert stored is not None
        with self._whole_or_broken():
            places = self._candidates(hashes)
            if len(places):
                rows = new.id_table(documents.id_column)[1][places].astype(np.int64)
                ids = stored.take(np.unique(rows), [documents.id_column]).column(0)
                self.summary["replaced"] += self._remove(ids.combine_chunks(), before)

    def _candidates(self, hashes: Any) -> Int64:
        """The places among hashes of new ids that older documents have."""
        column = self._collection.id_column
        assert column is not None
        found = [part.leaf.segment.rows_with(hashes, column)[0] for part in self._parts[:-1]]
        return np.unique(np.concatenate(found))

    def _append(self, documents: Documents) -> int:
        """Add a segment of documents; returns how many texts are null."""
        name = segment_name(self._writer, self._new)
        self._new += 1
        container = self._writer.container(name)
        builder = SegmentBuilder(
            documents, self._collection.analyzer,
            self._collection.folder.settings.get("positions", False), self._writer, container,
            self._budget, self._threads, self._report, _REMEDY, self._dense,
        )  # fmt: skip
        try:
            entry = builder.run()
            self._writer.close(container)
        except BaseException:
            self._writer.discard(name)
            raise
        self._insert(len(self._parts), len(self._parts), entry)
        if sum(part.leaf.segment.documents for part in self._parts) > MOST_DOCUMENTS:
            raise DataError(f"more than {MOST_DOCUMENTS:,} documents, the maximum of an index")
        return builder.null_texts

    def _insert(self, first: int, last: int, entry: dict[str, Any]) -> None:
        """Put a new segment in the place of those from first to last."""
        path = self._writer.path_of(entry["name"])
        container = open_container(path, self._writer.entry(entry["name"]))
        segment = Segment(
            container, entry["name"], entry["documents"], self._collection.analyzer.changes_words,
            entry.get("fields", ()),
        )  # fmt: skip
        leaf = Leaf(segment, 0, None, segment.documents, segment.tokens)
        self._parts[first:last] = [_Part(leaf, entry, None)]
        self._changed = True

    def _remove(self, ids: Any, last: int | None = None) -> int:
        """Delete the documents with some ids, an Arrow array, of the segments before `last`.
        Returns how many there were."""
        column = self._collection.id_column
        assert column is not None
        found = find_rows(self._leaves[:last], column, ids)
        return sum(self._remove_rows(number, rows) for number, rows in found)

    def _remove_rows(self, number: int, rows: Int64) -> int:
        """Delete some rows of a segment that are not deleted yet. Returns how many there were."""
        if not len(rows):
            return 0
        part = self._parts[number]
        live: UInt8 = (
            np.ones(part.leaf.segment.documents, np.uint8)
            if part.leaf.live is None
            else part.leaf.live.copy()
        )
        live[rows] = 0
        tokens = int(part.leaf.segment.lengths[rows].sum(dtype=np.int64))
        leaf = replace(
            part.leaf,
            live=live,
            documents=part.leaf.documents - len(rows),
            tokens=part.leaf.tokens - tokens,
        )
        self._parts[number] = replace(part, leaf=leaf)
        self._changed = True
        return len(rows)

    # ---- merging and commit

    def _drop_empty(self) -> None:
        """Leave out the segments in which every document is deleted."""
        for part in self._parts:
            if not part.leaf.documents and part.path is None and not self._is_old(part):
                self._writer.discard(part.entry["name"])
        self._parts = [part for part in self._parts if part.leaf.documents]

    def _is_old(self, part: _Part) -> bool:
        """Whether a segment is one of format 1, which is not in a container."""
        return not part.entry

    def _merge(self, first: int, last: int, reorder: bool = False) -> None:
        name = segment_name(self._writer, self._new)
        self._new += 1
        container = self._writer.container(name)
        parts = self._parts[first:last]
        if any(map(self._is_old, parts)):
            self._refuse_damage()
        reorder = reorder or any(part.leaf.segment.search_order is not None for part in parts)
        try:
            entry = merge(
                [part.leaf for part in parts], container, self._collection.id_column, self._schema,
                StoredWords(self._collection), self._budget // 3, self._threads,
                lambda done, total: self._report("merge", done, total),
                partial(self._report, "reorder") if reorder else None,
            )  # fmt: skip
            dense = self._collection.dense
            if dense is not None and dense.graph is not None:
                path = self._writer.temporary(f"{name}-graph")
                done = partial(self._report, "graph")
                entry |= write_graph(container, entry["documents"], path, done)
            self._writer.close(container)
        except BaseException:
            self._writer.discard(name)
            raise
        self._insert(first, last, entry)
        for part in parts:
            if part.path is None and not self._is_old(part):
                self._writer.discard(part.entry["name"])
        self.summary["merged"] += len(parts)

    def _refuse_damage(self) -> None:
        """Format 1 has no checksums of chunks that reading verifies: a damaged file would be
        rewritten as if it were intact."""
        folder = self._collection.folder
        if damaged := folder.damaged():
            raise FormatError(f"{folder.root / damaged[0]}: damaged: its checksum is wrong")

    def _commit(self) -> None:
        if self._broken:
            raise FastseqError(f"{self._writer.root}: a change failed halfway: nothing committed")
        self._flush()
        if self._dense is not None and self._dense.model is not None:
            self._dense.model.warn_of_texts()
        if not self._changed:
            return
        self._drop_empty()
        for number, part in enumerate(self._parts):
            if self._is_old(part):
                self._merge(number, number + 1)
        while True:
            live = [leaf.documents for leaf in self._leaves]
            found = due(live, [leaf.deleted for leaf in self._leaves])
            if found is None:
                break
            self._merge(*found)
        entries = [_entry(part) for part in self._parts]
        total = sum(entry["documents"] - entry["deleted"] for entry in entries)
        self._report("commit", total, total)
        bitmaps = [
            np.packbits(part.leaf.live == 0, bitorder="little")
            for part in self._parts
            if part.leaf.live is not None and part.leaf.deleted
        ]
        deleted = None
        if bitmaps:
            deleted = f"deleted-{self._writer.number:06d}"
            file = self._writer.create(deleted)
            file.append(np.concatenate(bitmaps).tobytes())
            self._writer.close(file)
        keep = [part.path for part in self._parts if part.path is not None]
        settings = dict(self._collection.folder.settings)
        settings["schema"] = schema_text(self._schema)
        statistics = statistics_of(self._writer.number, entries, deleted)
        is_divided = any(part.leaf.segment.is_divided for part in self._parts)
        self._writer.format_version = format_version(settings, is_divided)
        self._writer.commit(settings, statistics, keep)


def _entry(part: _Part) -> dict[str, Any]:
    """The segment's entry in the manifest, without the deleted documents."""
    leaf = part.leaf
    entry = {**part.entry, "deleted": leaf.deleted, "tokens": leaf.tokens}
    if leaf.segment.fields:
        entry["fields"] = {
            name: {**part.entry["fields"][name], "tokens": live_tokens(field, leaf.live)}
            for name, field in leaf.segment.fields.items()
        }
    return entry
