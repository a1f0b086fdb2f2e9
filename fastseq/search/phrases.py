"""The documents of a segment that have a phrase, or words near each other, and how often.

A phrase is *slots* at ascending offsets: int32 arrays of the segment's terms, of which any may be
in that place. Where positions are not stored, the stored text of the documents that have all words
is analysed again and indexed in memory, with positions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from fastseq.errors import DataError
from fastseq.index.collection import EVERY_ROW, Collection, Leaf
from fastseq.kernels.search import phrases as kernels
from fastseq.kernels.search.joining import Lists
from fastseq.kernels.search.positions import BLOCK, size_blocks
from fastseq.kernels.search.postings import WINDOW, WINDOW_BITS, Postings
from fastseq.text.lexicon import Lexicon
from fastseq.text.tables import Dictionary
from fastseq.types import Float64, Int32, Int64, Texts, UInt8, offsets_of, ranges

Slots = Sequence[Int32]
Found = tuple[Int32, Float64]  # rows, ascending, and frequencies

_UNBOUNDED = 1 << 40  # beyond the length of any match
_ROWS = 1024  # whose text is read at a time
_NO_ENTRIES = np.empty(0, np.int64)
_NO_PARTS = np.empty(0, np.float32)


class _Source(NamedTuple):
    """Postings of documents, and their positions (`Field.positions`).

    live  uint8[documents], 0 for a deleted document; uint8[0] where there is none
    """

    postings: Postings
    documents: int
    live: UInt8
    positions: tuple[UInt8, Int64]


def phrase_list(leaf: Leaf, slots: Slots, offsets: Sequence[int], slop: int = 0) -> Found:
    """The documents of a segment, or of its field, with a phrase that are not deleted.

    Parameters
    ----------
    slots : of each the terms of the segment, each once, that may be in its place; a phrase with an
        empty slot is in no document
    offsets : of the slots, ascending, none twice
    slop : 0 for an exact phrase

    Returns rows int32[n] in the segment, ascending, and tfs float64[n]: the number of occurrences;
    with a slop the sum of 1 / (1 + length) over the matches, as Lucene's SloppyPhraseMatcher finds
    them. A slot of several terms is at all of their positions. Raises DataError where the segment
    has no positions, FormatError for a damaged file.
    """
    return _phrases(_verified(leaf, slots), slots, offsets, slop)


def near_list(leaf: Leaf, terms: Int32, distance: int, in_order: bool = False) -> Found:
    """The documents of a segment, or of its field, with terms near each other that are not deleted.

    Parameters
    ----------
    terms : of the segment, at least one, -1 for one that it lacks; a term that is given twice must
        occur twice
    distance : the largest number of other positions in an interval with all terms
    in_order : whether the terms must be in the given order

    Returns as `phrase_list`, the frequency being the sum of 1 / (1 + other positions) over the
    minimal intervals, those that have no other one in them. Raises as `phrase_list`.
    """
    source = _verified(leaf, [terms[terms >= 0]])
    return _near(source, terms, distance, in_order) if terms.min() >= 0 else _concatenated([])


def conjunction(leaf: Leaf, slots: Slots) -> Int32:
    """int32[n]: the rows of a segment, ascending, that are not deleted and have a term of each
    slot. Raises FormatError for a damaged file."""
    if not all(map(len, slots)):
        return np.empty(0, np.int32)
    segment = leaf.segment
    terms, starts = _joined(slots)
    segment.verify_postings(terms)
    postings, documents = segment.postings, segment.documents
    with _scratch(len(slots), len(terms)) as scratch:
        lists, most = _lists(postings, terms, starts, documents)
        rows = np.empty(most, np.int32)
        found = kernels.documents_with_all(
            rows, lists, postings, terms, _live(leaf), documents, scratch
        )
    return rows[:found].copy()


def phrase_by_text(
    collection: Collection, leaf: Leaf, field: str, slots: Slots, offsets: Sequence[int],
    slop: int = 0,
) -> Found:  # fmt: skip
    """`phrase_list` of a segment without positions, from the stored text of the documents that have
    all words: slower, the more documents these are.

    field : of the index that `leaf` is of; "" for the text

    Raises DataError where the text is not stored or has n-grams, FormatError for a damaged file.
    """
    parts = []
    for index in _text_indexes(collection, leaf, field, slots):
        own = [index.terms(slot) for slot in slots]
        rows, tfs = _phrases(index.source, own, offsets, slop)
        parts.append((index.rows[rows], tfs))
    return _concatenated(parts)


def near_by_text(
    collection: Collection, leaf: Leaf, field: str, terms: Int32, distance: int,
    in_order: bool = False,
) -> Found:  # fmt: skip
    """`near_list` of a segment without positions; as `phrase_by_text`."""
    if terms.min() < 0:
        return _concatenated([])
    parts = []
    for index in _text_indexes(collection, leaf, field, [*terms[:, None]]):
        own = index.terms(terms)
        if len(own) == len(terms):
            rows, tfs = _near(index.source, own, distance, in_order)
            parts.append((index.rows[rows], tfs))
    return _concatenated(parts)


# ---- calling the kernels


def _verified(leaf: Leaf, slots: Slots) -> _Source:
    """The postings and positions of a segment, those of some terms verified."""
    segment = leaf.segment
    positions = segment.unverified_positions
    if positions is None:
        raise DataError(
            "this index has no positions, which phrases need; build the index again with "
            "positions=True"
        )
    for slot in slots:
        segment.verify_positions(slot)
    return _Source(segment.postings, segment.documents, _live(leaf), positions)


def _live(leaf: Leaf) -> UInt8:
    return EVERY_ROW if leaf.live is None else leaf.live


def _phrases(source: _Source, slots: Slots, offsets: Sequence[int], slop: int) -> Found:
    if not all(map(len, slots)):
        return _concatenated([])
    terms, starts = _joined(slots)
    repeats = len(set(terms.tolist())) < len(terms)
    at, most_slop = np.array(offsets, np.int64), min(slop, _UNBOUNDED)
    with _scratch(len(slots), len(terms)) as scratch:
        lists, most = _lists(source.postings, terms, starts, source.documents)
        rows, tfs = np.empty(most, np.int32), np.empty(most, np.float64)
        found = kernels.phrase_documents(
            rows, tfs, lists, source.postings, *source.positions, terms, starts, at, most_slop,
            repeats, source.live, source.documents, scratch,
        )  # fmt: skip
    return rows[:found].copy(), tfs[:found].copy()


def _near(source: _Source, terms: Int32, distance: int, in_order: bool) -> Found:
    words, numbers = np.unique(terms, return_inverse=True)
    slots, starts = numbers.astype(np.int64), np.arange(len(words) + 1)
    if not in_order:
        slots.sort()
    zeros, most_others = np.zeros(len(words), np.int64), min(distance, _UNBOUNDED)
    with _scratch(len(terms), len(terms)) as scratch:
        lists, most = _lists(source.postings, words, starts, source.documents)
        rows, tfs = np.empty(most, np.int32), np.empty(most, np.float64)
        found = kernels.near_documents(
            rows, tfs, lists, source.postings, *source.positions, words, starts, slots, zeros,
            most_others, in_order, source.live, source.documents, scratch,
        )  # fmt: skip
    return rows[:found].copy(), tfs[:found].copy()


def _joined(slots: Slots) -> tuple[Int32, Int64]:
    """(the terms of all slots, where those of each begin, and the end)."""
    terms = np.concatenate(slots)
    if len(terms) == len(slots):
        return terms, np.arange(len(terms) + 1)
    return terms, offsets_of([len(slot) for slot in slots])


@contextmanager
def _scratch(slots: int, terms: int) -> Iterator[Int64]:
    """Scratch that no other thread uses."""
    if max(slots, terms) > _POOLED:
        yield kernels.make_scratch(slots, terms)
        return
    try:
        scratch = _pool.pop()
    except IndexError:
        scratch = kernels.make_scratch(_POOLED, _POOLED)
    yield scratch
    _pool.append(scratch)


_POOLED = 16  # slots and terms of the scratch in the pool, which takes 160 KB
_pool: list[Int64] = []


def _lists(postings: Postings, terms: Int32, starts: Int64, documents: int) -> tuple[Lists, int]:
    """The lists of slots, none of them empty, and an upper bound of the documents that all have."""
    slots = len(starts) - 1
    first, run, last_run = np.empty((3, slots), np.int64)
    counts = postings.term_posting.take(terms + 1) - postings.term_posting.take(terms)
    if len(terms) == slots:
        arrays = postings.docs, postings.run_window, postings.run_count
        every = first, run, last_run, _NO_ENTRIES, _NO_ENTRIES
        return Lists(*arrays, *every, _NO_PARTS, _NO_PARTS), min(counts.tolist())
    most = int(counts.sum())
    most_runs = int((postings.term_run[terms + 1] - postings.term_run[terms]).sum())
    docs, entries = np.empty(most, np.uint16), np.empty(most, np.int64)
    run_window, run_count = np.empty((2, most_runs), np.uint16)
    entry_ends = np.empty(most + 1, np.int64)
    runs, at = np.empty((2, len(terms)), np.int64)
    windows = (documents + WINDOW - 1) >> WINDOW_BITS
    places = kernels.unite_terms(
        docs, run_window, run_count, first, run, last_run, entry_ends, entries,
        np.zeros(WINDOW, np.int64), runs, at, postings, terms, starts, windows,
    )  # fmt: skip
    lists = Lists(
        docs, run_window, run_count, first, run, last_run, entry_ends, entries, _NO_PARTS, _NO_PARTS
    )
    return lists, int(np.diff(first, append=places).min())


# ---- segments without positions


class _TextIndex(NamedTuple):
    """The index of the texts of some documents.

    rows     int32[n]  of the segment, ascending
    numbers  int32[terms of the segment that are asked for]  the term in this index, -1 for none
    """

    rows: Int32
    source: _Source
    asked: Int32
    numbers: Int32

    def terms(self, terms: Int32) -> Int32:
        """Those terms of the segment that the texts have, as terms of this index."""
        found = self.numbers[np.searchsorted(self.asked, terms)]
        return found[found >= 0]


def _text_indexes(
    collection: Collection, leaf: Leaf, field: str, slots: Slots
) -> Iterator[_TextIndex]:
    """Indexes of the texts of the documents that have all words."""
    analyzer = collection.analyzer
    names = [field] if field else list(collection.folder.settings["text_columns"])
    stored = _stored_columns(collection, names)
    if analyzer.has_ngrams:
        raise DataError(
            "this index has no positions, which phrases need, since it has n-grams; build the "
            "index again without them"
        )
    if stored is None:
        raise DataError(
            "this index has no positions, which phrases need, and its text is not stored; build "
            "the index again with positions=True"
        )
    from fastseq.store.rows import Corpus

    asked = np.unique(np.concatenate([np.empty(0, np.int32), *slots]))
    vocabulary = leaf.segment.vocabulary
    starts, sizes = vocabulary.offsets[asked], np.diff(vocabulary.offsets)[asked]
    words = Texts(vocabulary.data[ranges(starts, sizes)], offsets_of(sizes))
    columns = 1 if callable(analyzer.tokenizer) else len(names)  # as where positions are stored
    lexicon = Lexicon(analyzer, gaps=True)
    candidates = conjunction(leaf, slots)
    for first in range(0, len(candidates), _ROWS):
        rows = candidates[first : first + _ROWS]
        table = collection.take(leaf.first_row + rows.astype(np.int64), stored)
        for batch in Corpus.open(table, None, names, ()).batches():
            texts = batch.text if columns == 1 else batch.columns(range(columns))
            source, terms = _index(lexicon, texts, columns)
            ids = Dictionary(lexicon.terms()).columns(words)
            numbers = np.full(len(lexicon) + 1, -1, np.int32)  # the last one is of -1
            numbers[terms] = np.arange(len(terms))
            own = rows[batch.first_row : batch.first_row + batch.rows]
            yield _TextIndex(own, source, asked, numbers[ids])


def _stored_columns(collection: Collection, names: Sequence[str]) -> list[str] | None:
    """The stored columns that text columns are, or are fields of; None where one is not stored."""
    found = []
    for name in names:
        parts = name.split(".")
        paths = [".".join(parts[:n]) for n in range(len(parts), 0, -1)]
        column = next((path for path in paths if path in collection.stored_columns), None)
        if column is None:
            return None
        found.append(column)
    return list(dict.fromkeys(found))


def _index(lexicon: Lexicon, texts: Texts, columns: int) -> tuple[_Source, Int32]:
    """(the index of documents of several texts each, the lexicon's number of each of its terms)."""
    from fastseq.index.slices import invert_with_positions  # most searches do not need it

    tokens = lexicon.encode(texts)
    inverted = invert_with_positions(tokens, len(lexicon), columns, 0, 0)
    part: Any = inverted.parts[0]
    sizes = np.zeros(len(part.docs) // BLOCK + 1, np.uint32)
    size_blocks(sizes, part.positions, part.tfs, part.large_tf, 0)
    count = len(part.terms)
    postings = Postings(
        part.docs, part.tfs, offsets_of(part.dfs), np.arange(count + 1),
        np.zeros(count, np.uint16), (part.dfs - 1).astype(np.uint16), part.large_at, part.large_tf,
    )  # fmt: skip
    positions = part.positions, offsets_of(sizes)
    return _Source(postings, len(inverted.lengths), EVERY_ROW, positions), part.terms


def _concatenated(parts: list[Found]) -> Found:
    none = np.empty(0, np.int32), np.empty(0, np.float64)
    rows, tfs = zip(none, *parts, strict=True)
    return np.concatenate(rows), np.concatenate(tfs)
