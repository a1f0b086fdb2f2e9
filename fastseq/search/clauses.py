"""Clauses: the nodes of a query, resolved against an index.

A clause says in which documents of a segment it matches (`mask`). A `ListClause` also has a posting
list there, which a ranking model scores: that of a term, a phrase, or several terms as one. Deleted
documents are in neither.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastseq.index.collection import Leaf
from fastseq.kernels.search import lists as kernels
from fastseq.kernels.search.postings import WINDOW, Postings, mark_documents
from fastseq.types import Float32, Float64, Int32, UInt8, offsets_of

if TYPE_CHECKING:
    from fastseq.index.collection import Collection


class PostingList(NamedTuple):
    """Documents of a segment with the frequencies of a clause, which need not be whole numbers."""

    rows: Int32  # [n] ascending
    tfs: Float64  # [n]


NO_POSTINGS = PostingList(np.empty(0, np.int32), np.empty(0, np.float64))


class Clause(ABC):
    """A node of a query."""

    @abstractmethod
    def mask(self, s: int) -> UInt8:
        """uint8[documents]: 1 where it matches in segment s. Not to be changed. Raises FormatError
        for a damaged file."""


class ListClause(Clause):
    """A clause that the ranking model scores.

    view   the index, or one of its fields, with the statistics that the model uses
    order  decides between clauses of the same weight in which order they are added
    """

    view: Collection
    order: tuple[Any, ...]

    def __init__(self, view: Collection, order: tuple[Any, ...]) -> None:
        self.view, self.order = view, order
        self._lists: dict[int, PostingList] = {}

    def list(self, s: int) -> PostingList:
        """Its documents in segment s. Raises FormatError for a damaged file."""
        found = self._lists.get(s)
        if found is None:
            found = self._lists[s] = self._read(s)
        return found

    @abstractmethod
    def _read(self, s: int) -> PostingList:
        """`list`, computed."""

    def mask(self, s: int) -> UInt8:
        return rows_mask(self.list(s).rows, self.view.leaves[s])

    @property
    def df(self) -> int:
        """The number of documents."""
        return sum(len(self.list(s).rows) for s in range(len(self.view.leaves)))

    @property
    def cf(self) -> float:
        """The sum of its frequencies."""
        return float(sum(self.list(s).tfs.sum() for s in range(len(self.view.leaves))))

    @property
    def words(self) -> Sequence[ListClause]:
        """The clauses whose idfs add up to that of this one."""
        return [self]


class TermClause(ListClause):
    """A term.

    ids   int32[S]  in each segment, -1 where it has none
    df    its live documents
    """

    def __init__(self, view: Collection, term: bytes, ids: Int32, df: int) -> None:
        super().__init__(view, (0, term))
        self.term, self.ids, self._df = term, ids, df

    @property
    def df(self) -> int:
        return self._df

    def _read(self, s: int) -> PostingList:
        leaf, term = self.view.leaves[s], int(self.ids[s])
        if term < 0:
            return NO_POSTINGS
        segment = leaf.segment
        segment.verify_postings(self.ids[s : s + 1])
        return term_list(leaf, segment.postings, term, segment.weights)


class MergedClause(ListClause):
    """A term group of a single character (groups.py), whose postings are merged already."""

    def __init__(self, view: Collection, term: bytes, postings: Sequence[Postings], df: int):
        super().__init__(view, (0, term))
        self.term, self.postings, self._df = term, postings, df

    @property
    def df(self) -> int:
        return self._df

    def _read(self, s: int) -> PostingList:
        return term_list(self.view.leaves[s], self.postings[s], 0)


class GroupClause(ListClause):
    """Several terms as one: the sum of their frequencies, each times a factor.

    terms  of each segment (ids int32[m], factors float64[m], None where all are 1), in the same
           order in every one
    """

    def __init__(
        self, view: Collection, order: tuple[Any, ...],
        terms: Sequence[tuple[Int32, Float64 | None]],
    ) -> None:  # fmt: skip
        super().__init__(view, order)
        self.terms = terms

    def mask(self, s: int) -> UInt8:
        if s in self._lists:
            return super().mask(s)
        leaf, ids = self.view.leaves[s], self.terms[s][0]
        marks = np.zeros(leaf.segment.documents, np.uint8)
        leaf.segment.verify_postings(ids)
        mark_documents(marks, leaf.segment.postings, ids)
        return marks if leaf.live is None else marks & leaf.live

    def _read(self, s: int) -> PostingList:
        leaf, (ids, given) = self.view.leaves[s], self.terms[s]
        if not len(ids):
            return NO_POSTINGS
        factors = np.ones(len(ids)) if given is None else given
        segment = leaf.segment
        segment.verify_postings(ids)
        if segment.weights is not None:
            lists = [
                term_list(leaf, segment.postings, term, segment.weights) for term in ids.tolist()
            ]
            both = zip(lists, factors.tolist(), strict=True)
            return _summed(leaf, [PostingList(own.rows, own.tfs * f) for own, f in both])
        n = int(segment.df[ids].sum())
        rows, tfs = np.empty(n, np.int32), np.empty(n, np.float64)
        kept = kernels.merge_terms(
            rows, tfs, np.zeros(WINDOW, np.float64), np.zeros(WINDOW // 64, np.uint64),
            np.empty(len(ids), np.int64), np.empty(len(ids), np.int64), segment.postings, ids,
            factors, segment.windows, segment.documents,
        )  # fmt: skip
        return _live(leaf, rows[:kept], tfs[:kept])


class PhraseClause(ListClause):
    """Words near each other.

    read   the posting list in a segment
    words  of which it consists
    """

    def __init__(
        self, view: Collection, order: tuple[Any, ...], read: Callable[[int], PostingList],
        words: Sequence[ListClause],
    ) -> None:  # fmt: skip
        super().__init__(view, order)
        self._find, self._words = read, words

    def _read(self, s: int) -> PostingList:
        return self._find(s)

    @property
    def words(self) -> Sequence[ListClause]:
        return self._words


class SumClause(ListClause):
    """Several list clauses as one: synonyms, or the fields of BM25F.

    values  of a part's list in a segment: what its frequencies count; None for themselves
    words   of which a phrase consists; None where it is none
    """

    def __init__(
        self, view: Collection, order: tuple[Any, ...], parts: Sequence[ListClause],
        values: Sequence[Callable[[int, PostingList], Float64]] | None = None,
        words: Sequence[ListClause] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(view, order)
        self.parts, self.values, self._words = parts, values, words

    def _read(self, s: int) -> PostingList:
        lists = [part.list(s) for part in self.parts]
        if self.values is not None:
            both = zip(lists, self.values, strict=True)
            lists = [PostingList(own.rows, values(s, own)) for own, values in both]
        return _summed(self.view.leaves[s], lists)

    @property
    def words(self) -> Sequence[ListClause]:
        return super().words if self._words is None else self._words


class MaskClause(Clause):
    """A condition that is not scored by the model, such as a filter.

    read  of a segment its documents, deleted ones among them
    """

    def __init__(self, view: Collection, read: Callable[[int], UInt8]) -> None:
        self._view, self._find = view, read
        self._masks: dict[int, UInt8] = {}

    def mask(self, s: int) -> UInt8:
        found = self._masks.get(s)
        if found is None:
            live, mask = self._view.leaves[s].live, self._find(s)
            found = self._masks[s] = mask if live is None else mask & live
        return found


class ConstantClause(Clause):
    """A clause that has the same score in every document."""

    def __init__(self, clause: Clause, score: float) -> None:
        self.clause, self.score = clause, score

    def mask(self, s: int) -> UInt8:
        return self.clause.mask(s)


class BoostClause(Clause):
    """A clause whose scores are multiplied by a factor."""

    def __init__(self, clause: Clause, factor: float) -> None:
        self.clause, self.factor = clause, factor

    def mask(self, s: int) -> UInt8:
        return self.clause.mask(s)


class BooleanClause(Clause):
    """Clauses that must, should and must not match; `filters` must, and do not score.

    minimum  of the should clauses that must match
    """

    def __init__(
        self, view: Collection, must: Sequence[Clause], should: Sequence[Clause],
        must_not: Sequence[Clause], filters: Sequence[Clause], minimum: int,
    ) -> None:  # fmt: skip
        self.must, self.should, self.must_not, self.filters = must, should, must_not, filters
        self.minimum = minimum if must or filters else max(minimum, 1)
        self._view = view
        self._masks: dict[int, UInt8] = {}

    @property
    def is_disjunction(self) -> bool:
        """Whether it matches where any of its clauses does."""
        return not (self.must or self.must_not or self.filters) and self.minimum == 1

    def mask(self, s: int) -> UInt8:
        found = self._masks.get(s)
        if found is None:
            found = self._masks[s] = self._mask(s)
        return found

    def _mask(self, s: int) -> UInt8:
        # loops, no comprehensions: clauses in each other take two frames each
        documents = self._view.leaves[s].segment.documents
        if self.minimum > len(self.should):
            return np.zeros(documents, np.uint8)
        found = np.ones(documents, np.uint8)
        for clause in (*self.must, *self.filters):
            found &= clause.mask(s)
        if self.minimum:
            found &= self._enough(s, documents)
        for clause in self.must_not:
            found &= clause.mask(s) ^ 1
        return found

    def _enough(self, s: int, documents: int) -> UInt8:
        """uint8[documents]: 1 where at least `minimum` of the should clauses match."""
        if self.minimum == 1:
            any_of = np.zeros(documents, np.uint8)
            for clause in self.should:
                any_of |= clause.mask(s)
            return any_of
        counts = np.zeros(documents, np.uint32)
        for clause in self.should:
            counts += clause.mask(s)
        return (counts >= self.minimum).view(np.uint8)


def rows_mask(rows: Int32, leaf: Leaf) -> UInt8:
    """uint8[documents] of a segment: 1 for the rows."""
    mask = np.zeros(leaf.segment.documents, np.uint8)
    kernels.mark_rows(mask, rows, 1)
    return mask


def _summed(leaf: Leaf, lists: Sequence[PostingList]) -> PostingList:
    """The sum of posting lists of a segment."""
    lists = [own for own in lists if len(own.rows)]
    if len(lists) <= 1:
        return lists[0] if lists else NO_POSTINGS
    starts = offsets_of([len(own.rows) for own in lists])
    segment = leaf.segment
    rows, tfs = np.empty(starts[-1], np.int32), np.empty(starts[-1], np.float64)
    kept = kernels.merge_lists(
        rows, tfs, np.zeros(WINDOW, np.float64), np.zeros(WINDOW // 64, np.uint64),
        np.empty(len(lists), np.int64), np.concatenate([own.rows for own in lists]),
        np.concatenate([own.tfs for own in lists]), starts, segment.windows, segment.documents,
    )  # fmt: skip
    return PostingList(rows[:kept], tfs[:kept])


def term_list(
    leaf: Leaf, postings: Postings, term: int, weights: Float32 | None = None
) -> PostingList:
    """The posting list of a term, without deleted documents; its frequencies are the `weights`
    float32[postings] where these are given."""
    first, last = postings.term_posting[term : term + 2].tolist()
    rows, tfs = np.empty(last - first, np.int32), np.empty(last - first, np.float64)
    kept = kernels.read_list(rows, tfs, postings, term, leaf.segment.documents)
    if weights is not None:
        tfs[:kept] = weights[first : first + kept]
    return _live(leaf, rows[:kept], tfs[:kept])


def _live(leaf: Leaf, rows: Int32, tfs: Float64) -> PostingList:
    if leaf.live is not None:
        kept = kernels.keep_marked(rows, tfs, leaf.live, 1)
        rows, tfs = rows[:kept], tfs[:kept]
    return PostingList(rows, tfs)


def live_rows(leaf: Leaf) -> UInt8:
    """uint8[documents]: 1 for those of a segment that are not deleted."""
    if leaf.live is None:
        return np.ones(leaf.segment.documents, np.uint8)
    return leaf.live
