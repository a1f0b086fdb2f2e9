"""Merging adjacent segments into one: live documents are renumbered, postings and stored columns
copied. No text is read again, but that of deleted documents for tables of words (index/words.py).

Merging is due where ten segments of a similar size are adjacent, or several ones before a larger
one, which bounds both their number and how often a document is copied, by the logarithm of the size
of the index; and where more than a third of a segment is deleted. Only adjacent segments are
merged, so that documents keep their order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from fastseq.index import segment as layout
from fastseq.index.collection import Leaf
from fastseq.index.dense import ROWS, VectorRegions
from fastseq.index.reordering import write_search_order
from fastseq.index.segment_writer import (
    chunk_edges,
    write_groups,
    write_ids,
    write_postings,
    write_terms,
    write_words,
)
from fastseq.index.words import StoredWords, merged_words
from fastseq.kernels.search.positions import count_merged_positions, place_merged_positions
from fastseq.kernels.search.postings import count_merged, place_merged
from fastseq.kernels.search.weights import place_merged_weights
from fastseq.kernels.text.hashing import PADDING
from fastseq.store.container import ContainerWriter
from fastseq.store.documents import DocumentWriter, conformed
from fastseq.store.files import writing
from fastseq.text.tables import ByteTable
from fastseq.threads import in_order
from fastseq.types import Int32, Int64, Texts, UInt8, offsets_of, ranges

FACTOR = 10  # adjacent segments of a level that are merged, and the ratio of two levels' sizes
SMALLEST = 32  # documents: segments up to FACTOR times as large are of one level
_MOST_DELETED = 1 / 3
_FEW_ROWS = 256  # of a group that is written anew, with its neighbours, instead of copied

Array = npt.NDArray[Any]


def due(documents: Sequence[int], deleted: Sequence[int]) -> tuple[int, int] | None:
    """The segments [first, last) to merge next, None when no merge is due.

    documents, deleted  of each segment: documents that are not deleted, and deleted ones
    """
    for i, (live, gone) in enumerate(zip(documents, deleted, strict=True)):
        if gone > _MOST_DELETED * (live + gone):
            return i, i + 1
    levels = [int(math.log(max(live / SMALLEST, 1), FACTOR) + 1e-9) for live in documents]
    for level in sorted(set(levels)):
        first = 0
        while first < len(levels):
            last = first
            while last < len(levels) and levels[last] <= level:
                last += 1
            of_level = [i for i in range(first, last) if levels[i] == level]
            if len(of_level) >= FACTOR:
                return of_level[0], last
            first = last + 1
    # segments before a larger one would not become one of its level otherwise
    for last in range(len(levels) - 1, 1, -1):
        first = last
        while first > 0 and levels[first - 1] < levels[last]:
            first -= 1
        if last - first > 1:
            return first, last
    return None


def merge(
    leaves: Sequence[Leaf], container: ContainerWriter, id_column: str | None, schema: Any,
    stored_words: StoredWords, memory: int, threads: int, done: Callable[[int, int], None],
    reordered: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Merge adjacent segments into a container; returns its entry in the manifest.

    Parameters
    ----------
    leaves : with a document that is not deleted
    schema : of the stored columns
    stored_words : counts the words of deleted documents
    memory : bytes for postings in progress
    done : called with the number of postings merged so far, and of all
    reordered : where the documents are to be searched in another order (index/reordering.py);
        called with the number of documents in their place, and of all

    Raises FormatError where a segment is damaged, FastseqError where the system refuses.
    """
    with writing(container.path), ThreadPoolExecutor(threads, "fastseq-merge") as pool:
        rows = list(_new_rows(leaves))
        if schema.names:
            _copy_documents(leaves, container, schema)
        if id_column is not None:
            _merge_ids(leaves, rows, container, id_column)
        found = {}
        for name in ("", *leaves[0].segment.fields):
            found[name] = _merge_field(
                leaves, rows, container, name, stored_words, memory, pool, threads,
                (lambda done, total: None) if name else done,
            )  # fmt: skip
        _copy_vectors(leaves, rows, container)
        if reordered is not None:
            write_search_order(container, threads, reordered)
    entry = found.pop("")
    documents = sum(leaf.documents for leaf in leaves)
    place = {"name": container.path.name, "documents": documents, "deleted": 0}
    order = {} if reordered is None else {"reordered": True}
    return {**place, **entry, **({"fields": found} if found else {}), **order}


def _merge_field(
    segments: Sequence[Leaf], rows: Sequence[Int32], container: ContainerWriter, name: str,
    stored_words: StoredWords, memory: int, pool: ThreadPoolExecutor, threads: int,
    done: Callable[[int, int], None],
) -> dict[str, int]:  # fmt: skip
    """Merge the inverted indexes of segments, of a field or with the name "" of the text; returns
    the numbers of tokens, terms and postings."""
    leaves = [leaf.of_field(name) if name else leaf for leaf in segments]
    prefix = layout.field_prefix(name)
    terms, numbers = _merge_terms(leaves)
    merged = _Merge(leaves, rows, numbers, len(terms), pool, threads)
    chunks = merged.chunks(memory, done)
    counts = merged.postings, merged.runs, merged.larges, merged.nbytes
    write_postings(container, prefix, *counts, chunks, merged.has_weights)
    lengths = np.concatenate([
        leaf.segment.lengths[kept >= 0] for leaf, kept in zip(leaves, rows, strict=True)
    ])  # fmt: skip
    write_terms(container, prefix, terms, lengths)
    stored = [leaf.segment for leaf in segments]
    words = merged_words(leaves, numbers, terms, name, stored, stored_words)
    if words is not None:
        write_words(container, prefix, words, len(terms))
    return {
        "tokens": int(lengths.sum(dtype=np.int64)),
        "terms": len(terms),
        "postings": merged.postings,
    }


def _new_rows(leaves: Sequence[Leaf]) -> Iterator[Int32]:
    """Of each segment int32[documents]: the merged row of each document, -1 for a deleted one."""
    first = 0
    for leaf in leaves:
        if leaf.live is None:
            rows = np.arange(first, first + leaf.documents, dtype=np.int32)
        else:
            rows = np.where(leaf.live, first - 1 + np.cumsum(leaf.live, dtype=np.int64), -1)
        yield rows.astype(np.int32)
        first += leaf.documents


def _copy_documents(leaves: Sequence[Leaf], container: ContainerWriter, schema: Any) -> None:
    """Copy the stored columns of live documents: large groups without deleted ones as they are."""
    region = container.region(layout.DOCUMENTS, np.uint8)
    parts = _parts_of(leaves)
    documents = DocumentWriter(region.append, schema, parts)
    for part, names in enumerate(parts or [schema.names]):
        for leaf in leaves:
            stored = leaf.segment.stored
            assert stored is not None
            same = None if parts is None else documents.like(stored, part)
            starts = (stored if same is None else same).starts
            for group, (first, last) in enumerate(pairwise(starts.tolist())):
                live = None if leaf.live is None else leaf.live[first:last]
                if live is not None and live.all():
                    live = None
                if same is not None and live is None and last - first >= _FEW_ROWS:
                    documents.append_group(same.group(group), int(last - first), part)
                elif live is None or live.any():
                    chosen = np.arange(first, last)
                    taken = stored.take(chosen if live is None else chosen[live != 0], names)
                    rows = conformed(taken, documents.schema)
                    if parts is None:
                        documents.append(rows)
                    else:
                        documents.append_part(rows, part)
    write_groups(container, documents)


def _parts_of(leaves: Sequence[Leaf]) -> list[list[str]] | None:
    """The columns of each part of the stored columns of merged segments: as the largest segment
    with several parts has them; None where no segment has more than a group to copy."""
    readers = [stored.parts for leaf in leaves if (stored := leaf.segment.stored) is not None]
    divided = max(readers, key=lambda parts: (len(parts), sum(part.num_rows for part in parts)))
    if len(divided) > 1 or any(len(part.starts) > 2 for part in divided):
        return [part.columns for part in divided]
    return None


def _copy_vectors(
    leaves: Sequence[Leaf], rows: Sequence[Int32], container: ContainerWriter
) -> None:
    """Copy the vectors of the documents that are not deleted, where segments have vectors."""
    every = [leaf.segment.vectors for leaf in leaves]
    first = every[0]
    if first is None:
        return
    documents = sum(leaf.documents for leaf in leaves)
    has_codes = first.codes is not None
    regions = VectorRegions(container, first.raw.dtype, first.size, documents, has_codes)
    missing = []
    for leaf, vectors, new in zip(leaves, every, rows, strict=True):
        if vectors is None or vectors.size != first.size:
            raise leaf.segment.damaged(layout.VECTORS, f"not vectors of {first.size} numbers")
        for start in range(0, len(new), ROWS):
            kept = new[start : start + ROWS] >= 0
            vectors.verify(start, start + len(kept))
            some = vectors.raw[start : start + len(kept)]
            regions.append(some if kept.all() else some[kept])
        there = new[vectors.missing]
        missing.append(there[there >= 0].astype(np.uint32))
    container.array(layout.NO_VECTOR, np.concatenate(missing))


def _merge_ids(
    leaves: Sequence[Leaf], rows: Sequence[Int32], container: ContainerWriter, id_column: str
) -> None:
    hashes, places = [], []
    for leaf, new in zip(leaves, rows, strict=True):
        known, at = leaf.segment.id_table(id_column)
        kept = new[at] >= 0
        hashes.append(known[kept].astype(np.uint64) << np.uint64(32))
        places.append(new[at][kept].astype(np.uint32))
    write_ids(container, *layout.sorted_ids(np.concatenate(hashes), np.concatenate(places)))


def _merge_terms(leaves: Sequence[Leaf]) -> tuple[Texts, list[Int32]]:
    """(terms, of each segment int32[terms]: the merged number of its terms, -1 for one that only
    deleted documents have)."""
    table = ByteTable(max(leaf.segment.terms for leaf in leaves), 0, 0)
    numbers = []
    for leaf in leaves:
        texts, kept = leaf.segment.vocabulary, leaf.df > 0
        data, offsets = texts.data, texts.offsets
        if not kept.all():
            counts = np.diff(offsets)[kept]
            data, offsets = data[ranges(offsets[:-1][kept], counts)], offsets_of(counts)
        padded = np.concatenate([data, np.zeros(PADDING, np.uint8)])
        of_leaf = np.full(leaf.segment.terms, -1, np.int32)
        of_leaf[kept] = table.register(padded, offsets, 0)
        numbers.append(of_leaf)
    return Texts(*table.texts()), numbers


class _Merge:
    """The merge of the postings of segments: first counted, then placed, in chunks of terms.

    postings  the number of postings
    runs      int32[V]: windows in which each merged term occurs
    larges    the number of frequencies of 15 and more, and of 255 and more
    nbytes    bytes of all positions; None where a segment has none
    has_weights  whether postings have weights
    """

    def __init__(
        self, leaves: Sequence[Leaf], rows: Sequence[Int32], numbers: Sequence[Int32], terms: int,
        pool: ThreadPoolExecutor, threads: int,
    ) -> None:  # fmt: skip
        self._leaves, self._rows, self._pool, self._threads = leaves, rows, pool, threads
        df, nbytes = np.zeros((2, terms), np.int64)
        self.runs = np.zeros(terms, np.int32)
        larges = np.zeros(2, np.int64)
        last_window = np.full(terms, -1, np.int32)
        positions = [leaf.segment.positions for leaf in leaves]
        self._positions = [found for found in positions if found is not None]
        with_positions = None not in positions
        weights = [leaf.segment.weights for leaf in leaves]
        self._weights = [found for found in weights if found is not None]
        self.has_weights = bool(self._weights)
        # of each segment int32[terms]: its number of each merged term, -1 for none
        self._own = []
        for leaf, kept, of_leaf in zip(leaves, rows, numbers, strict=True):
            segment = leaf.segment
            segment.verify_all_postings()
            own = np.full(terms, -1, np.int32)
            known = np.flatnonzero(of_leaf >= 0)
            own[of_leaf[known]] = known
            if np.count_nonzero(own >= 0) < len(known):
                raise segment.damaged(layout.TERM_BYTES, "it has a term twice")
            self._own.append(own)
            posting = segment.postings.term_posting
            edges = chunk_edges(posting, np.zeros_like(posting), threads, 1 << 62)
            count = partial(
                self._count, df, nbytes if with_positions else None, leaf, kept, of_leaf,
                last_window,
            )  # fmt: skip
            for _, large in in_order(pool, count, pairwise(edges), threads + 1):
                larges += large
        self.larges = int(larges[0]), int(larges[1])
        self._posting, self._run = offsets_of(df), offsets_of(self.runs)
        self._position = offsets_of(nbytes)
        self.postings = int(self._posting[-1])
        self.nbytes = int(self._position[-1]) if with_positions else None

    def _count(
        self, df: Int64, nbytes: Int64 | None, leaf: Leaf, rows: Int32, numbers: Int32,
        last_window: Int32, terms: tuple[int, int],
    ) -> tuple[int, int]:  # fmt: skip
        """Count the postings of some terms of a segment; returns its numbers of frequencies of 15
        and more, and of 255 and more."""
        postings, positions = leaf.segment.postings, leaf.segment.positions
        shared = rows, numbers, *terms
        larges: tuple[int, int] = count_merged(df, self.runs, last_window, postings, *shared)
        if nbytes is not None and positions is not None:
            count_merged_positions(nbytes, postings, *positions, *shared)
        return larges

    def chunks(self, memory: int, done: Callable[[int, int], None]) -> Iterator[dict[str, Array]]:
        """Yield the merged postings in the order of terms, by `POSTING_ARRAYS`."""
        edges = chunk_edges(self._posting, self._position, self._threads, memory)

        def place(i: int) -> dict[str, Array]:
            return self._place(edges[i], edges[i + 1])

        for i, chunk in in_order(self._pool, place, range(len(edges) - 1), self._threads + 1):
            yield chunk
            done(int(self._posting[edges[i + 1]]), self.postings)

    def _place(self, first: int, last: int) -> dict[str, Array]:
        first_posting, first_run = int(self._posting[first]), int(self._run[first])
        postings = int(self._posting[last]) - first_posting
        docs, tfs = np.empty(postings, np.uint16), np.empty(postings, np.uint8)
        run_window = np.empty(int(self._run[last]) - first_run, np.uint16)
        run_count = np.empty(len(run_window), np.uint16)
        most = min(self.larges[1], postings)
        large_at, large_tf = np.empty(most, np.int64), np.empty(most, np.int32)
        posting_at, run_at = self._posting[first:last].copy(), self._run[first:last].copy()
        open_window = np.full(last - first, -1, np.int32)
        larges = 0
        for leaf, kept, own in zip(self._leaves, self._rows, self._own, strict=True):
            larges = place_merged(
                docs, tfs, run_window, run_count, large_at, large_tf, larges, posting_at, run_at,
                open_window, leaf.segment.postings, kept, own[first:last], first_posting,
                first_run,
            )  # fmt: skip
        order = np.argsort(large_at[:larges])
        return {
            "docs": docs, "tfs": tfs, "run_window": run_window, "run_count": run_count,
            "large_at": large_at[order], "large_tf": large_tf[order],
            "positions": self._place_weights(first, last)
            if self.has_weights
            else self._place_positions(first, last),
        }  # fmt: skip

    def _place_weights(self, first: int, last: int) -> UInt8:
        """The bytes of the weights."""
        at = self._posting[first:last].copy()
        first_posting = int(self._posting[first])
        weights = np.empty(int(self._posting[last]) - first_posting, np.float32)
        for leaf, own_weights, kept, own in zip(
            self._leaves, self._weights, self._rows, self._own, strict=True
        ):
            place_merged_weights(
                weights, at, leaf.segment.postings, own_weights, kept, own[first:last],
                first_posting,
            )  # fmt: skip
        return weights.view(np.uint8)

    def _place_positions(self, first: int, last: int) -> UInt8:
        first_byte = int(self._position[first])
        data = np.empty(int(self._position[last]) - first_byte, np.uint8)
        at = self._position[first:last].copy()
        if len(data):
            for leaf, positions, kept, own in zip(
                self._leaves, self._positions, self._rows, self._own, strict=True
            ):
                place_merged_positions(
                    data, at, leaf.segment.postings, *positions, kept, own[first:last], first_byte
                )
        return data
