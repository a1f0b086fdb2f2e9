"""A commit of an index, opened: its segments, without the deleted documents, as one collection.

The statistics in the manifest, from format 2 on, are

    documents, tokens        of the documents that are not deleted
    terms, postings          the sums of those of the segments
    segments                 of each, in order: name (of its file), documents, deleted, and the
                             tokens of the documents that are not deleted; terms, postings;
                             reordered, true where they have an order of search; graph, true where
                             their vectors have a graph;
                             where there are any, fields: of each by name tokens, terms, postings
    deleted                  the name of the file of deletions, where there are any
    commit                   the number of the commit

The file of deletions has the bitmap of each segment with deleted documents, one after the other:
bit i % 8 of byte i // 8 is set where document i is deleted.

Documents of an index are in the order of their last addition: segment after segment, each in the
order of its rows. Rows count deleted documents too, until their segment is merged.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

import numpy as np

from fastseq.errors import FormatError
from fastseq.index import KIND, VERSIONS
from fastseq.index.dense import DenseSettings
from fastseq.index.segment import Field, Segment, upper_halves
from fastseq.kernels.search.postings import Postings, count_live, count_occurrences
from fastseq.kernels.text.hashing import PADDING
from fastseq.store.folder import Folder
from fastseq.store.recent import Recent
from fastseq.text.analyzer import Analyzer
from fastseq.text.tables import ByteTable
from fastseq.types import Int32, Int64, Texts, UInt8, offsets_of

if TYPE_CHECKING:
    import pyarrow as pa

Tokenizer = Callable[[str], list[str]]

RECENT_BYTES = 192 << 20  # all of wiki_simple, with its texts, is 165 MB
_numbers = itertools.count()

_MANY = 16  # one in so many terms: those of all are then counted
EVERY_ROW: UInt8 = np.empty(0, np.uint8)  # in the place of a byte for each row: all of them


@dataclass(frozen=True, eq=False)
class Leaf:
    """A segment in a collection.

    first_row  the collection's row of its first document
    live       uint8[documents], 0 for a deleted document; None where none is deleted
    documents, tokens  of those that are not deleted
    """

    segment: Segment  # or, of a field, a Field
    first_row: int
    live: UInt8 | None
    documents: int
    tokens: int

    @property
    def deleted(self) -> int:
        """The number of deleted documents."""
        return self.segment.documents - self.documents

    def of_field(self, name: str) -> Leaf:
        """The same documents with the inverted index of a field."""
        field: Any = self.segment.fields[name]
        return replace(self, segment=field, tokens=live_tokens(field, self.live))

    def counts_of(self, terms: Int32) -> Int64:
        """int64[n]: the documents with each term that are not deleted; 0 for a term of -1. Raises
        FormatError for a damaged file."""
        counts = np.zeros(len(terms), np.int64)
        known = terms >= 0
        if self.live is None:
            counts[known] = self.segment.df[terms[known]]
        else:
            found = terms[known]
            is_known = "df" in self.__dict__ or _MANY * len(found) > self.segment.terms
            counts[known] = self.df[found] if is_known else self._live_counts(found)
        return counts

    def _live_counts(self, terms: Int32) -> Int64:
        """`counts_of`, from the postings."""
        assert self.live is not None
        self.segment.verify_postings(terms)
        counts = np.empty(len(terms), np.int64)
        count_live(counts, self.segment.postings, self.live, terms)
        return counts

    def occurrences_of(self, terms: Int32) -> Int64:
        """int64[n]: the occurrences of each term in documents that are not deleted; 0 for a term of
        -1. Raises FormatError for a damaged file."""
        counts = np.zeros(len(terms), np.int64)
        known = terms >= 0
        self.segment.verify_postings(terms[known])
        counts[known] = occurrences(self.segment.postings, self.live, terms[known])
        return counts

    @cached_property
    def df(self) -> Int64:
        """int64[terms]: the documents with each term of the segment that are not deleted."""
        if self.live is None:
            return self.segment.df
        return self._live_counts(np.arange(self.segment.terms, dtype=np.int32))

    @cached_property
    def live_word_counts(self) -> dict[str, Int64]:
        """Of the text, "", and of fields by name: int64[n], how often each word of the table of
        words occurs in documents that are not deleted, where index/words.py has counted them."""
        return {}


def live_tokens(field: Field, live: UInt8 | None) -> int:
    """The tokens of the documents that are not deleted."""
    if live is None:
        return field.tokens
    return int(field.lengths[live != 0].sum(dtype=np.int64))


def occurrences(postings: Postings, live: UInt8 | None, terms: Int32) -> Int64:
    """int64[n]: the occurrences of each of some terms of postings in documents that are not
    deleted."""
    counts = np.empty(len(terms), np.int64)
    count_occurrences(counts, postings, EVERY_ROW if live is None else live, terms)
    return counts


class Collection:
    """The segments of a commit.

    Attributes
    ----------
    folder : the commit
    path : of the folder, absolute
    analyzer : of documents and queries
    tokenizer : the function that was passed to open
    id_column : None where the row number is the id
    stored_columns : the names of the stored columns, with the id
    leaves : the segments, in order
    documents, tokens : the numbers of documents that are not deleted, and of their tokens
    rows : the number of rows, those of deleted documents among them
    field : the field whose inverted index its leaves have; None for the text
    recent : a cache of stored rows, and of groups of them; commits that are opened one after the
        other share it
    number : of the collection in this process, for keys of `recent`
    """

    field: str | None = None

    def __init__(
        self, folder: Folder, earlier: Collection | None = None, tokenizer: Tokenizer | None = None
    ) -> None:
        self.folder = folder
        self.recent: Recent = Recent(RECENT_BYTES) if earlier is None else earlier.recent
        self.number = next(_numbers)
        self.path = str(folder.root.absolute())
        self.tokenizer = tokenizer
        saved = self._setting("analyzer", dict)
        if (
            earlier is not None
            and earlier.tokenizer is tokenizer
            and earlier.folder.settings.get("analyzer") == saved
        ):
            self.analyzer: Analyzer = earlier.analyzer
        else:
            self.analyzer = Analyzer.from_dict(saved, tokenizer)
        self.id_column: str | None = folder.settings.get("id_column")
        self.stored_columns: list[str] = self._setting("stored_columns", list)
        if folder.manifest.format_version == 1:
            documents = folder.statistics.get("documents", 0)
            segment = Segment(folder, "segment", documents, self.analyzer.changes_words)
            self.leaves = [Leaf(segment, 0, None, segment.documents, segment.tokens)]
        else:
            self.leaves = self._open_leaves(earlier)
        self.documents = sum(leaf.documents for leaf in self.leaves)
        self.tokens = sum(leaf.tokens for leaf in self.leaves)
        self._starts = offsets_of([leaf.segment.documents for leaf in self.leaves])
        self.rows = int(self._starts[-1])

    @property
    def impacts(self) -> Mapping[str, str] | None:
        """Of an index of impacts their `column` and kind of `weights` (store/impacts.py)."""
        found: Mapping[str, str] | None = self.folder.settings.get("impacts")
        return found

    @property
    def dense(self) -> DenseSettings | None:
        """How the vectors of documents were made; None for an index without vectors. Raises
        FormatError for a damaged setting."""
        try:
            return DenseSettings.of(self.folder.settings)
        except TypeError:
            raise FormatError(
                f"{self.folder.root}: the setting of vectors cannot be read"
            ) from None

    @property
    def fields(self) -> list[str]:
        """The names of the fields."""
        return list(self.folder.settings.get("fields", ()))

    def of_field(self, name: str) -> Collection:
        """The same documents with the inverted index of a field, and its number of tokens."""
        view = Collection.__new__(Collection)
        own = (
            "folder", "path", "analyzer", "tokenizer", "id_column", "stored_columns", "recent",
            "number",
        )  # fmt: skip
        view.__dict__.update({key: self.__dict__[key] for key in own})
        view.__dict__.update(documents=self.documents, rows=self.rows, _starts=self._starts)
        view.field = name
        view.leaves = [leaf.of_field(name) for leaf in self.leaves]
        view.tokens = sum(leaf.tokens for leaf in view.leaves)
        return view

    @cached_property
    def commit(self) -> int:
        """The CRC-32 of the manifest, which identifies the commit."""
        return self.folder.manifest.crc32

    def __reduce__(self) -> Any:
        """Pickle the path and the commit. Unpickling raises as `open`, and FormatError where the
        folder has another commit by then and this process no longer has the pickled one open."""
        _shared[self.path, self.commit] = self
        return _restored, (self.path, self.commit, self.tokenizer)

    def __copy__(self) -> Collection:
        return self  # it never changes

    def __deepcopy__(self, memo: dict[int, Any]) -> Collection:
        return self

    @cached_property
    def schema(self) -> pa.Schema:
        """The schema of the stored columns, with the id."""
        from fastseq.store.documents import read_schema

        saved = self.folder.settings.get("schema")
        if saved is not None:
            return read_schema(saved, str(self.folder.root))
        stored = self.leaves[0].segment.stored
        if stored is None:
            return read_schema("", str(self.folder.root))
        return stored.schema

    @staticmethod
    def open(
        path: str | Path, earlier: Collection | None = None, tokenizer: Tokenizer | None = None
    ) -> Collection:
        """Open the current commit; the files are mapped, not read.

        earlier : a commit of the same index, opened before, whose segments and tokenizer are shared
        tokenizer : the function that the index was built with, if it was one

        Raises FormatError where there is no index, or one of another format version, or a damaged
        one (naming the file).
        """
        folder = Folder.open(path, KIND, VERSIONS, None if earlier is None else earlier.folder)
        if earlier is not None and tokenizer is None:
            tokenizer = earlier.tokenizer
        return Collection(folder, earlier, tokenizer)

    def _open_leaves(self, earlier: Collection | None) -> list[Leaf]:
        known = {}
        if earlier is not None:
            for leaf in earlier.leaves:
                name = leaf.segment.name
                both = all(name in folder.names for folder in (earlier.folder, self.folder))
                if both and earlier.folder.entry(name) == self.folder.entry(name):
                    known[name] = leaf
        entries = self.folder.statistics.get("segments")
        expected = {"name", "documents", "deleted", "tokens"}
        if not isinstance(entries, list) or not all(expected <= {*entry} for entry in entries):
            raise FormatError(f"{self.folder.root}: the manifest has no statistics of its segments")
        bitmaps = self._bitmaps(entries)
        leaves: list[Leaf] = []
        row = 0
        for entry in entries:
            name, documents, bitmap = entry["name"], entry["documents"], bitmaps.get(entry["name"])
            before = known.get(name)
            if before is not None:
                segment = before.segment
            else:
                fields = entry.get("fields", ())
                container = self.folder.container(name)
                changes_words = self.analyzer.changes_words
                segment = Segment(container, name, documents, changes_words, fields)
            live = None
            if bitmap is not None:
                bits = np.unpackbits(bitmap, count=documents, bitorder="little")
                live = (1 - bits).astype(np.uint8)
            kept = documents if live is None else int(live.sum())
            if kept != documents - entry["deleted"]:
                raise FormatError(f"{self.folder.root}: damaged: not the deletions of {name}")
            if before is not None and before.first_row == row and _equal(before.live, live):
                leaves.append(before)
            else:
                leaves.append(Leaf(segment, row, live, kept, entry["tokens"]))
            row += documents
        return leaves

    def _bitmaps(self, entries: Sequence[dict[str, Any]]) -> dict[str, UInt8]:
        name = self.folder.statistics.get("deleted")
        if name is None:
            return {}
        raw = np.frombuffer(self.folder.buffer(name), np.uint8)
        path = self.folder.path(name)
        if zlib.crc32(raw.data) != self.folder.entry(name).crc32:
            raise FormatError(f"{path}: damaged: its checksum is wrong")
        sizes = {e["name"]: (e["documents"] + 7) // 8 for e in entries if e["deleted"]}
        if sum(sizes.values()) != len(raw):
            raise FormatError(f"{path}: damaged: not the bitmaps of the segments")
        ends = offsets_of(list(sizes.values())).tolist()
        return {name: raw[a:b] for name, a, b in zip(sizes, ends, ends[1:], strict=False)}

    # ---- terms

    @cached_property
    def _vocabulary(self) -> tuple[ByteTable, list[Int32], Int64]:
        """(distinct terms of all segments, their numbers of each segment's terms, df of each)."""
        table = ByteTable(max((leaf.segment.terms for leaf in self.leaves), default=0), 0, 0)
        numbers = []
        for leaf in self.leaves:
            texts = leaf.segment.vocabulary
            data = np.concatenate([texts.data, np.zeros(PADDING, np.uint8)])
            numbers.append(table.register(data, texts.offsets, 0))
        df = np.zeros(len(table), np.int64)
        for leaf, ids in zip(self.leaves, numbers, strict=True):
            df[ids] += leaf.df
        return table, numbers, df

    @property
    def _is_plain(self) -> bool:
        return len(self.leaves) == 1

    @property
    def terms(self) -> int:
        """The number of distinct terms."""
        if self._is_plain:
            return int(np.count_nonzero(self.leaves[0].df))
        return int(np.count_nonzero(self._vocabulary[2]))

    @property
    def summary(self) -> dict[str, int]:
        """The numbers of documents, terms, postings and tokens, and of segments and deleted
        documents where there are several or any. Postings are those on disk."""
        postings = sum(len(leaf.segment.postings.docs) for leaf in self.leaves)
        found = {
            "documents": self.documents,
            "terms": self.terms,
            "postings": postings,
            "tokens": self.tokens,
        }
        if len(self.leaves) > 1:
            found["segments"] = len(self.leaves)
        if self.rows > self.documents:
            found["deleted"] = self.rows - self.documents
        return found

    def frequencies(self, leaf: Leaf) -> Int64:
        """int64[terms]: the documents of the collection with each term of a segment."""
        if self._is_plain:
            return leaf.df
        _, numbers, df = self._vocabulary
        return df[numbers[self.leaves.index(leaf)]]

    def frequent_terms(self, most: int) -> list[str]:
        """The `most` terms of the highest document frequency, the most frequent first."""
        if self._is_plain:
            texts, df = self.leaves[0].segment.vocabulary, self.leaves[0].df
        else:
            table, _, df = self._vocabulary
            texts = Texts(*table.texts())
        order = np.argsort(-df, kind="stable")[:most]
        order = order[df[order] > 0]
        raw, offsets = texts.data.tobytes(), texts.offsets
        spans = zip(offsets[order].tolist(), offsets[order + 1].tolist(), strict=True)
        return [raw[a:b].decode("utf-8", "replace") for a, b in spans]

    # ---- documents

    def rows_of(self, values: Any) -> Int64:
        """int64[n]: the row of the document with each id, -1 for an unknown one. Without an id
        column the ids are the row numbers.

        values : Python values, a NumPy or Arrow array

        Raises DataError for an id of another type than the column's, FormatError for a damaged
        file.
        """
        from fastseq.store.ids import ids_like, row_ids

        if self.id_column is None:
            rows = row_ids(values)
            return np.where((rows >= 0) & (rows < self.rows), rows, -1)
        return self._rows_of(ids_like(values, self.schema.field(self.id_column).type))

    def _rows_of(self, ids: pa.Array) -> Int64:
        """`rows_of` ids that `ids_like` returned."""
        from fastseq.store.arrays import is_null

        assert self.id_column is not None
        found = np.full(len(ids), -1, np.int64)
        places = None
        if ids.null_count:  # out of range
            places = np.flatnonzero(~is_null(ids))
            ids = ids.drop_null()
        for number, rows, at in _matches(self.leaves, self.id_column, ids):
            found[at if places is None else places[at]] = self._starts[number] + rows
        return found

    def unknown_ids(self, values: Any) -> list[Any]:
        """The distinct ids that no document has, in the given order and as results have them; those
        out of the range of the column's type as they are given. Raises as `rows_of`."""
        from fastseq.store.ids import ROW_TYPE, given_names, ids_like

        if isinstance(values, Iterator):
            values = list(values)
        column = self.id_column
        kind = ROW_TYPE if column is None else self.schema.field(column).type
        ids = ids_like(values, kind)
        rows = self.rows_of(values) if column is None else self._rows_of(ids)
        named = zip(given_names(values, ids), rows.tolist(), strict=True)
        return list(dict.fromkeys(id for id, row in named if row < 0))

    def take(self, rows: Int64, columns: Sequence[str] | None = None) -> pa.Table:
        """The stored columns, or some of them, of rows, in the given order.

        Raises DataError for a column that is not stored, FormatError for a damaged file.
        """
        from fastseq.store.documents import conformed, joined_rows, no_rows

        rows = np.asarray(rows, np.int64)
        if not len(rows):
            return no_rows(self.schema, columns)
        if len(self.leaves) == 1:
            only = self.leaves[0].segment.stored
            assert only is not None
            return conformed(only.take(rows, columns, self.recent), self.schema)
        owners = np.searchsorted(self._starts, rows, "right") - 1
        pieces, places = [], []
        for number in np.unique(owners).tolist():
            at = np.flatnonzero(owners == number)
            stored = self.leaves[number].segment.stored
            assert stored is not None
            piece = stored.take(rows[at] - self._starts[number], columns, self.recent)
            pieces.append(conformed(piece, self.schema))
            places.append(at)
        if len(pieces) == 1:
            return pieces[0]
        order = np.empty(len(rows), np.int64)
        order[np.concatenate(places)] = np.arange(len(rows))
        return joined_rows(pieces, order)

    def _setting(self, name: str, kind: type) -> Any:
        value = self.folder.settings.get(name)
        if not isinstance(value, kind):
            raise FormatError(f"{self.folder.root}: the manifest has no setting {name!r}")
        return value


def find_rows(leaves: Sequence[Leaf], id_column: str, ids: Any) -> Iterator[tuple[int, Int64]]:
    """(number of a segment, its rows with one of the ids that are not deleted) of each segment that
    has some.

    ids : an Arrow array of the type of the id column
    """
    for number, rows, _ in _matches(leaves, id_column, ids):
        yield number, rows


def _matches(
    leaves: Sequence[Leaf], id_column: str, ids: Any
) -> Iterator[tuple[int, Int64, Int64]]:
    """(number of a segment, rows, the place of each row's id in `ids`)."""
    from fastseq.store.arrays import number_array
    from fastseq.store.ids import id_hashes, id_list

    hashes = upper_halves(id_hashes(ids))
    for number, leaf in enumerate(leaves):
        at, rows = leaf.segment.rows_with(hashes, id_column)
        if leaf.live is not None:
            alive = leaf.live[rows] != 0
            at, rows = at[alive], rows[alive]
        if not len(rows):
            continue
        stored = leaf.segment.stored
        assert stored is not None
        there = id_list(stored.take(rows, [id_column]).column(0))
        wanted = id_list(ids.take(number_array(at)))
        same = np.array([a == b for a, b in zip(there, wanted, strict=True)], bool)
        if same.any():
            yield number, rows[same], at[same]


def _equal(one: UInt8 | None, other: UInt8 | None) -> bool:
    if one is None or other is None:
        return one is other
    return np.array_equal(one, other)


# open collections by path and commit: all that is unpickled from one index shares its files
_shared: WeakValueDictionary[tuple[str, int], Collection] = WeakValueDictionary()


def _restored(path: str, commit: int, tokenizer: Tokenizer | None) -> Collection:
    """The collection of a pickle."""
    collection = _shared.get((path, commit))
    if collection is None or collection.tokenizer is not tokenizer:
        collection = Collection.open(path, tokenizer=tokenizer)
        if collection.commit != commit:
            raise FormatError(
                f"{path}: the commit of this pickle is gone; Index.open opens the current one"
            )
        _shared[path, commit] = collection
    return collection
