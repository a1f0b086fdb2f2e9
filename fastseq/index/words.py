"""The words of an index as they are written, and the terms that the analyzer makes of them.

Patterns (prefixes, wildcards, regular expressions, fuzzy words) match words as they are written,
which a stemmer or a normalisation may change. A segment then has a table of the words of each term:
of all terms but those that are written in one way only, as the term itself. The occurrences of each
word are counted, so that words that only deleted documents have can be left out: those of the
deleted documents, whose stored text is analysed again, are subtracted when segments are merged, or
when a pattern is looked up (`live_words`). Where the text is not stored, or was split by a function
that is not there, a word counts as long as its term does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fastseq.index.collection import Collection, Leaf
from fastseq.index.segment import Field, Segment
from fastseq.kernels.search.postings import count_occurrences, mark_documents
from fastseq.kernels.text.hashing import PADDING
from fastseq.kernels.text.raw_words import equal_strings
from fastseq.text.lexicon import Lexicon
from fastseq.text.tables import ByteTable, chosen_texts
from fastseq.types import Float64, Int32, Int64, RawWords, Texts, UInt8, distinct, offsets_of

Bools = npt.NDArray[np.bool_]

_FEW = 64  # deleted documents
_AT_A_TIME = 1 << 17  # words of several runs that are joined at a time


def joined_words(runs: Sequence[RawWords], terms: Texts) -> RawWords:
    """The words of several runs, each once with the sum of its counts, in the order of terms, those
    of a term in the order of the runs. Without those that do not occur, and those of terms whose
    only word is the term itself.

    runs : in the order of terms, with distinct words
    """
    if len(runs) == 1:
        (whole,) = runs
        kept = whole.counts > 0
    else:
        table = ByteTable(sum(map(len, runs)), sum(run.words.nbytes for run in runs), 0)
        ids = [_registered(table, run.words) for run in runs]
        counts, of_word = np.zeros(len(table), np.int64), np.empty(len(table), np.int32)
        for run, own in zip(runs, ids, strict=True):
            counts[own] += run.counts
            of_word[own] = run.terms
        order = np.argsort(of_word, kind="stable").astype(np.int32)
        words = chosen_texts(*table.texts(), 0, order)
        whole = RawWords(words, of_word[order], counts[order])
        kept = whole.counts > 0
    if not kept.all():
        whole = _chosen(whole, kept)
    same = np.empty(len(whole), np.uint8)
    words = whole.words
    equal_strings(same, words.data, words.offsets, terms.data, terms.offsets, whole.terms)
    edges = np.diff(whole.terms, prepend=-1, append=-1) != 0
    alone = edges[:-1] & edges[1:]
    return _chosen(whole, ~(alone & (same != 0)))


def _registered(table: ByteTable, words: Texts) -> Int32:
    """The ids of words in a table, to which they are added."""
    return table.register(np.append(words.data, np.zeros(PADDING, np.uint8)), words.offsets, 0)


def _chosen(words: RawWords, which: Bools) -> RawWords:
    chosen = np.flatnonzero(which).astype(np.int32)
    texts = chosen_texts(words.words.data, words.words.offsets, 0, chosen)
    return RawWords(texts, words.terms[chosen], words.counts[chosen])


# ---- building


@dataclass(frozen=True, slots=True)
class _Run:
    """The arrays of RawWords, stored."""

    terms: Any
    counts: Any
    lengths: Any
    data: Any


class WordRuns:
    """Collects the words of a lexicon, where memory is short in several runs.

    store  moves an array out of memory, and returns what reads slices of it
    """

    def __init__(self, store: Callable[[npt.NDArray[Any]], Any]) -> None:
        self._store = store
        self._runs: list[_Run] = []

    def append(self, run: RawWords) -> None:
        """Store a run: the words of a lexicon since its cache was cleared."""
        lengths = np.diff(run.words.offsets).astype(np.int32)
        arrays: list[Any] = [run.terms, run.counts, lengths, run.words.data]
        self._runs.append(_Run(*map(self._store, arrays)))

    def last(self, run: RawWords) -> RawWords | None:
        """The run, unless there are others and it is stored with them."""
        if not self._runs:
            return run
        self.append(run)
        return None

    def finish(self, last: RawWords | None, terms: Texts) -> RawWords:
        """The words to write, as `joined_words`.

        last : of the method `last`
        """
        if last is not None:
            return joined_words([last], terms)
        counts = np.zeros(len(terms), np.int64)
        for run in self._runs:
            counts += np.bincount(run.terms[:], minlength=len(terms))
        ends = offsets_of(counts)
        every = np.arange(_AT_A_TIME, ends[-1], _AT_A_TIME)
        edges = np.unique([0, *np.searchsorted(ends, every), len(terms)])
        places = []
        for run in self._runs:
            first = np.searchsorted(run.terms[:], edges)
            places.append((first.tolist(), offsets_of(run.lengths[:])[first].tolist()))
        parts = []
        for i in range(len(edges) - 1):
            both = zip(self._runs, places, strict=True)
            runs = [_part(run, *(at[i : i + 2] for at in own)) for run, own in both]
            parts.append(joined_words(runs, terms))
        return _concatenated(parts)


def _part(run: _Run, words: Sequence[int], nbytes: Sequence[int]) -> RawWords:
    """Some words of a run, from the first to the last and by their bytes."""
    own = slice(*words)
    texts = Texts(run.data[slice(*nbytes)], offsets_of(run.lengths[own]))
    return RawWords(texts, run.terms[own], run.counts[own])


def _concatenated(parts: Sequence[RawWords]) -> RawWords:
    """The words of one part after those of the other."""
    none = RawWords(Texts.from_strings([]), np.empty(0, np.int32), np.empty(0, np.int64))
    parts = [*parts, none]
    lengths = np.concatenate([np.diff(part.words.offsets) for part in parts])
    data = [part.words.data[part.words.offsets[0] : part.words.offsets[-1]] for part in parts]
    return RawWords(
        Texts(np.concatenate(data), offsets_of(lengths)),
        np.concatenate([part.terms for part in parts]),
        np.concatenate([part.counts for part in parts]),
    )


# ---- deleted documents


class StoredWords:
    """Counts the words of documents in their stored text.

    collection : the index that has them
    """

    def __init__(self, collection: Collection) -> None:
        analyzer = collection.analyzer
        settings = collection.folder.settings
        self._analyzer = analyzer
        self._columns: list[str] = settings["text_columns"]
        self._gaps = not analyzer.has_ngrams
        by_function = callable(analyzer.tokenizer)
        self._can_split = not by_function or collection.tokenizer is not None
        self._apart = bool(settings.get("positions", False)) and not by_function

    def can_count(self, segment: Segment, field: str) -> bool:
        """Whether the text of a field of a segment is stored and can be analysed."""
        from fastseq.store.stored_texts import are_stored  # imports pyarrow

        return self._can_split and are_stored(segment.stored, self._columns_of(field))

    def count(self, segment: Segment, field: str, rows: Int64) -> RawWords:
        """The words of some documents of a segment; the numbers of their terms are not those of the
        segment."""
        from fastseq.store.stored_texts import stored_texts

        assert segment.stored is not None
        lexicon = Lexicon(self._analyzer, self._gaps, counts_words=True)
        for texts in stored_texts(segment.stored, rows, self._columns_of(field), self._apart):
            lexicon.encode_levels(texts)
        return lexicon.raw_words()

    def _columns_of(self, field: str) -> list[str]:
        return [field] if field else self._columns


def _subtracted(words: RawWords, others: RawWords) -> Int64:
    """The counts of words without those that other texts have of them."""
    table = ByteTable(len(words), words.words.nbytes, 0)
    own = _registered(table, words.words)
    ids = _registered(table, others.words)
    counts = np.zeros(len(table), np.int64)
    counts[own] = words.counts
    counts[ids] -= others.counts
    return counts[own]


def _tokens(field: Field, live: UInt8, terms: Int32) -> Int64:
    """int64[n]: the occurrences of terms in the documents of which `live` is not 0."""
    field.verify_postings(terms)
    counts = np.empty(len(terms), np.int64)
    count_occurrences(counts, field.postings, live, terms)
    return counts


def live_words(collection: Collection, leaf: Leaf, words: Int32, field: str = "") -> Bools:
    """bool[n]: whether a document that is not deleted has each word, as it is written. Where the
    text is not stored, whether one has its term.

    leaf : of the collection
    words : int32[n]  numbers of words in `Field.words`
    field : the name of a field; "" for the text

    Raises FormatError for a damaged file.
    """
    doubts = _Doubts(collection, leaf, words, field)
    return doubts.settled(doubts.places)


def live_matches(
    collection: Collection, leaf: Leaf, words: Int32, factors: Float64 | None, field: str = ""
) -> Bools:
    """`live_words` for the terms of words that match a pattern: some words count as found that are
    not, but with and without them the same terms have live words among the n, and the same largest
    factors. Text is read only where a term depends on it.

    words : distinct ones
    factors : float64[n], None where all are equal
    """
    doubts = _Doubts(collection, leaf, words, field)
    asked = doubts.places
    if not len(asked):
        return doubts.found
    terms, in_table = doubts.terms, doubts.in_table >= 0
    own = np.ones(len(words)) if factors is None else factors
    is_sure = doubts.found.copy()
    is_sure[asked] = False
    best = np.zeros(doubts.field.terms)
    np.maximum.at(best, terms[is_sure], own[is_sure])
    asked = asked[best[terms[asked]] < own[asked]]
    # a term that a document has, and all of whose words match, has one of them
    table = doubts.field.word_table
    assert table is not None
    least, most = np.full(len(best), np.inf), np.zeros(len(best))
    np.minimum.at(least, terms, own)
    np.maximum.at(most, terms, own)
    others = np.bincount(table.terms, minlength=len(best))
    others -= np.bincount(terms[in_table], minlength=len(best))
    open_terms = (others > 0) | (least < most)
    return doubts.settled(asked[open_terms[terms[asked]]])


class _Doubts:
    """The words of a list that deleted documents alone may have.

    field     that has them
    terms     int32[n]    the term of each word
    in_table  int64[n]    its place in the table of words, -1 for none
    found     bool[n]     whether a live document has its term
    places    int64[m]    of the words that are in doubt
    """

    def __init__(self, collection: Collection, leaf: Leaf, words: Int32, field: str) -> None:
        own = leaf.of_field(field) if field else leaf
        self.field: Field = own.segment
        self._leaf, self._name = leaf, field
        self._counter = StoredWords(collection)
        self.terms: Int32 = self.field.words()[1][words]
        self.found: Bools = own.counts_of(self.terms) > 0
        self.places: Int64 = np.empty(0, np.int64)
        table, live = self.field.word_table, leaf.live
        if live is None or table is None:
            return
        self.in_table = self.field.places_in_table(words)
        asked = np.flatnonzero(self.found & (self.in_table >= 0))
        asked = asked[_doubtful(self.field, live, table, self.in_table[asked])]
        if len(asked) and self._counter.can_count(leaf.segment, field):
            self.places = asked

    def settled(self, places: Int64) -> Bools:
        """bool[n]: `found`, with the stored text read for the words at some places."""
        table, live = self.field.word_table, self._leaf.live
        if not len(places):
            return self.found
        assert table is not None
        assert live is not None
        stored = self.in_table[places]
        known, segment = self._leaf.live_word_counts, self._leaf.segment
        if self._name not in known:
            marks = np.zeros(self.field.documents, np.uint8)
            mark_documents(marks, self.field.postings, distinct(table.terms[stored]))
            deleted = np.flatnonzero((marks != 0) & (live == 0))
            if len(deleted) >= max(_FEW, self._leaf.deleted // 16):
                # of all, once: they are in the same groups of stored rows
                deleted = np.flatnonzero(live == 0)
                words = self._counter.count(segment, self._name, deleted)
                known[self._name] = _subtracted(table, words)
        found = self.found.copy()
        if self._name in known:
            found[places] = known[self._name][stored] > 0
            return found
        numbers, back = np.unique(stored, return_inverse=True)
        some = RawWords(
            chosen_texts(table.words.data, table.words.offsets, 0, numbers.astype(np.int32)),
            table.terms[numbers],
            table.counts[numbers],
        )
        left = _subtracted(some, self._counter.count(segment, self._name, deleted))
        found[places] = left[back] > 0
        return found


def _doubtful(field: Field, live: UInt8, table: RawWords, places: Int64) -> Bools:
    """Which words of a table may occur in deleted documents alone."""
    terms, back = np.unique(table.terms[places], return_inverse=True)
    deleted = _tokens(field, (live == 0).astype(np.uint8), terms)
    return table.counts[places] <= deleted[back]


# ---- merging


def merged_words(
    leaves: Sequence[Leaf], numbers: Sequence[Int32], terms: Texts, field: str,
    segments: Sequence[Segment], stored: StoredWords,
) -> RawWords | None:  # fmt: skip
    """The words of a segment that several are merged into, as `joined_words`; None where one of
    them does not have them.

    leaves : of a field, with the documents that are not deleted
    numbers : of each leaf int32[terms], the merged number of its terms, -1 for none
    terms : the merged ones
    segments : those of the leaves, for their stored text

    Raises FormatError for a damaged file.
    """
    tables = [leaf.segment.word_table for leaf in leaves]
    if any(table is None for table in tables):
        return None
    several = np.zeros(len(terms), bool)  # terms that a segment has words of
    for table, new in zip(tables, numbers, strict=True):
        assert table is not None
        of_table = new[table.terms]
        several[of_table[of_table >= 0]] = True
    runs = []
    for leaf, table, new, segment in zip(leaves, tables, numbers, segments, strict=True):
        assert table is not None
        counts = table.counts
        if leaf.live is not None and stored.can_count(segment, field):
            deleted = np.flatnonzero(leaf.live == 0)
            counts = _subtracted(table, stored.count(segment, field, deleted))
        kept = new[table.terms] >= 0
        known = _chosen(RawWords(table.words, new[table.terms], counts), kept)
        runs += [known, _terms_as_words(leaf, table, new, several)]
    return joined_words(runs, terms)


def _terms_as_words(leaf: Leaf, table: RawWords, numbers: Int32, several: Bools) -> RawWords:
    """Those of the terms that another segment has words of, and that this one has only as the words
    themselves."""
    index = leaf.segment
    other = numbers >= 0
    other[other] = several[numbers[other]]
    other[table.terms] = False
    chosen = np.flatnonzero(other).astype(np.int32)
    vocabulary = index.vocabulary
    words = chosen_texts(vocabulary.data, vocabulary.offsets, 0, chosen)
    live = np.ones(index.documents, np.uint8) if leaf.live is None else leaf.live
    return RawWords(words, numbers[chosen], _tokens(index, live, chosen))
