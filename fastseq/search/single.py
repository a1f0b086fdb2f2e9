"""One query at a time.

The NumPy calls that prepare a batch cost several times as much as the search for one short query.
The numbers of its words are therefore looked up in a dict, and a kernel makes terms, weights and
roles of them in memory that is reused. For phrases and patterns the arrays that a kernel takes are
made of short lists. The hits have the bits of a batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import numpy as np

from fastseq.index.collection import Collection
from fastseq.kernels.search import cursors
from fastseq.kernels.search import search as kernels
from fastseq.kernels.search.phrase_search import (
    OFFSET,
    PhraseMemory,
    collect_phrases,
    make_memory,
    write_phrases,
)
from fastseq.kernels.search.query_words import (
    TIED,
    UNKNOWN,
    UNMATCHED,
    WEAK,
    weigh_flat,
    weigh_words,
)
from fastseq.kernels.search.required import search_required
from fastseq.query import Boolean, Phrase, Query, Term
from fastseq.search.counting import Counter
from fastseq.search.filtering import Passing
from fastseq.search.flat import FlatQuery, clause_texts, flatten, of_required_words
from fastseq.search.group_batches import GroupSearch
from fastseq.search.patterns import PATTERNS, pattern_match
from fastseq.search.phrase_batches import PhraseTerms, phrase_terms
from fastseq.search.ranking import ADDITIVE, BM25, RankingModel
from fastseq.search.resolving import MOST_WORDS, QueryAnalyzer, group_terms, too_many_words
from fastseq.search.scorer import NO_BASE, ModelScorer
from fastseq.search.tasks import CACHED_SCRATCH, no_hits
from fastseq.search.term_table import TermTable
from fastseq.types import Float32, Int32, Int64, UInt8

_MOST_TERMS = 64
_STARTS = [np.array([0, n], np.int64) for n in range(_MOST_TERMS + 1)]
_QUERIES = (str, Query)  # a union would be made at each use


class Prepared(Protocol):
    """What is kept of a collection between searches (a Searcher)."""

    collection: Collection

    @property
    def table(self) -> TermTable:
        """The terms of recent queries."""
        ...

    def scorer(self, model: RankingModel) -> ModelScorer:
        """The weights and impacts of a model."""
        ...

    @property
    def analyzer(self) -> QueryAnalyzer:
        """The analysis of queries that are values."""
        ...

    @property
    def groups(self) -> GroupSearch:
        """The search for patterns."""
        ...

    @property
    def counter(self) -> Counter:
        """The numbers of documents that match, and the bits of frequent terms."""
        ...

    def passing(self, filter: Any) -> Passing:
        """The rows that a filter lets pass; all for None."""
        ...


class _Memory(NamedTuple):
    """What the search for at most _MOST_TERMS terms needs.

    scratch  the addresses of `kept`
    others   of one query, as the kernel takes them
    """

    scratch: Int64
    starts: Int64  # [2]
    terms: Int32  # [_MOST_TERMS]
    weights: Float32  # [_MOST_TERMS]
    roles: UInt8  # [_MOST_TERMS]
    kept: cursors.Memory

    def order(self, table: TermTable) -> None:
        """Bring the terms in the order of their bytes, in which equal weights are added."""
        n = self.starts[1]
        places = table.in_order_of_bytes(self.terms[:n].tolist())
        for array in (self.terms, self.weights, self.roles):
            array[:n] = array[places]


class SingleSearch:
    """Searches a collection for one query. Any number of threads may call it at once. It does not
    refer to the searcher, which has it: both are freed, and files closed, with the last reference.

    Each method returns None for a query or a model that it does not serve: the model must be a
    variant of BM25 without a score for absent words, the query a flat one without boosts, an exact
    phrase, or a pattern.
    """

    def __init__(self, collection: Collection) -> None:
        self._leaves = collection.leaves
        self._memory: list[_Memory] = []
        self._phrase_memory: list[PhraseMemory] = []

    @cached_property
    def has_positions(self) -> bool:
        """Whether all segments have positions. Raises FormatError where they are damaged."""
        return all(leaf.segment.unverified_positions is not None for leaf in self._leaves)

    def find(
        self, searcher: Prepared, query: Any, k: int, model: RankingModel, filter: Any,
        operator: str, notices: list[str], most: int | None = MOST_WORDS,
    ) -> tuple[Int32, Float32] | None:  # fmt: skip
        """(rows int32[1, k], scores float32[1, k]) as `Searcher.find` returns them, `most` as
        there; `notices` gets those of the query."""
        if type(model) is not BM25 or model.variant not in ADDITIVE:
            return None
        if k > searcher.collection.documents or not isinstance(query, _QUERIES):
            return None
        table = searcher.table
        if type(query) is str:
            if operator == "or":
                numbers = table.numbers_of(query)
                return self._find_words(searcher, numbers, table, k, model, filter)
        elif type(query) is Boolean:  # the other tests cost more
            pass
        elif isinstance(query, PATTERNS):
            return self._find_pattern(searcher, query, k, model, filter, notices, most)
        elif isinstance(query, Phrase) and self.has_positions and model.variant != "atire":
            phrase = phrase_terms(query, table.tokens_of, table.groups.__contains__)
            if phrase is not None:
                return self._find_phrase(searcher, phrase, table, k, model, filter)
        flat = flat_query(query, table, operator)
        if flat is None or flat.boosts:
            return None
        if not flat.required and not flat.excluded:
            return self._find_words(searcher, flat.scored, table, k, model, filter)
        return self._find_flat(searcher, flat, table, k, model, filter)

    def _find_words(
        self, searcher: Prepared, numbers: list[int], table: TermTable, k: int, model: BM25,
        filter: Any,
    ) -> tuple[Int32, Float32] | None:  # fmt: skip
        """The hits of words without signs, by their numbers."""
        if len(numbers) > _MOST_TERMS:
            return None
        scorer = searcher.scorer(model)
        known = scorer.known(table)
        passing = searcher.passing(filter)
        memory = self._take_memory(k)
        starts, terms, weights = memory.starts, memory.terms, memory.weights
        given = np.array(numbers, np.int32)
        status = weigh_words(starts, terms, weights, given, known.weights)
        if status:
            if status == UNKNOWN:
                known = scorer.learn(table, numbers)
                status = weigh_words(starts, terms, weights, given, known.weights)
            if status == UNKNOWN:
                self._give_back(memory)
                return None
            if status == TIED:
                memory.order(table)
        rows, scores = np.empty((1, k), np.int32), np.empty((1, k), np.float32)
        kernels.search(
            rows, scores, known.segments, known.lists, memory.scratch, starts, terms, weights,
            NO_BASE, passing.rows, passing.search_ranges, k,
        )  # fmt: skip
        self._give_back(memory)
        return rows, scores

    def _find_flat(
        self, searcher: Prepared, query: FlatQuery, table: TermTable, k: int, model: BM25,
        filter: Any,
    ) -> tuple[Int32, Float32] | None:  # fmt: skip
        """The hits of words with signs."""
        required = query.required
        if len(required) > 1:
            required = [*dict.fromkeys(required)]
        numbers = [*query.scored, *required, *dict.fromkeys(query.excluded)]
        if len(numbers) > _MOST_TERMS:
            return None
        scorer = searcher.scorer(model)
        known = scorer.known(table)
        passing = searcher.passing(filter)
        memory = self._take_memory(k)
        starts, terms, weights = memory.starts, memory.terms, memory.weights
        given = np.array(numbers, np.int32)
        sizes = len(query.scored), len(required)
        status = weigh_flat(starts, terms, weights, memory.roles, given, *sizes, known.weights)
        if status == UNKNOWN:
            known = scorer.learn(table, numbers)
            status = weigh_flat(starts, terms, weights, memory.roles, given, *sizes, known.weights)
        if status == UNMATCHED:
            self._give_back(memory)
            return no_hits(1, k)
        if status in (UNKNOWN, WEAK):
            self._give_back(memory)
            return None
        if status == TIED:
            memory.order(table)
        rows, scores = np.empty((1, k), np.int32), np.empty((1, k), np.float32)
        search_required(
            rows, scores, known.segments, known.lists, memory.scratch, starts, terms, weights,
            memory.roles, NO_BASE, passing.rows, passing.search_ranges, k,
        )  # fmt: skip
        self._give_back(memory)
        return rows, scores

    def _find_phrase(
        self, searcher: Prepared, phrase: PhraseTerms, table: TermTable, k: int, model: BM25,
        filter: Any,
    ) -> tuple[Int32, Float32] | None:  # fmt: skip
        numbers, n = phrase.numbers, len(phrase.numbers)
        scorer = searcher.scorer(model)
        weights = scorer.term_weights(table, numbers)
        if weights is None or n > _MOST_TERMS:
            return None
        allowed = searcher.passing(filter).rows
        weight = 0.0
        for number in numbers:
            own = weights[number]
            if own is None:
                return no_hits(1, k)
            weight += own
        rows, scores = np.empty((1, k), np.int32), np.empty((1, k), np.float32)
        memory = self._take_phrase_memory(k)
        memory.begin()
        start, weighted = _STARTS[n], np.array([weight], np.float32)
        sources = scorer.phrase_sources(table, numbers)
        lists = [*zip(*searcher.counter.bits.phrase_lists(table, numbers), strict=True)]
        for source, first in zip(sources.arrays, range(0, len(lists), OFFSET), strict=True):
            asked = np.array([*lists[first : first + OFFSET], phrase.offsets], np.int64)
            collect_phrases(
                memory.addresses, source, asked, start, weighted, NO_BASE, allowed, k
            )  # fmt: skip
        overflow = memory.overflow[0]
        if not overflow:
            write_phrases(rows, scores, memory.keys, memory.counts, memory.spare, k)
        if len(self._phrase_memory) < CACHED_SCRATCH:
            self._phrase_memory.append(memory)
        return None if overflow else (rows, scores)

    def _find_pattern(
        self, searcher: Prepared, query: PATTERNS, k: int, model: BM25, filter: Any,
        notices: list[str], most: int | None,
    ) -> tuple[Int32, Float32] | None:  # fmt: skip
        collection = searcher.collection
        if query.field is not None:
            return None
        match = pattern_match(query, searcher.analyzer.splitter)
        if match is None:
            return None
        group, total = group_terms(collection, collection, match, most)
        rows, scores, refused = searcher.groups.search(
            searcher.scorer(model), [group], k, model, searcher.passing(filter).rows
        )
        if refused:
            return None
        if most is not None and total > most:
            notices.append(too_many_words(query, total))
        return rows, scores

    def _take_memory(self, k: int) -> _Memory:
        """Memory for k hits, reused (list.pop and append are atomic)."""
        try:
            memory = self._memory.pop()
        except IndexError:
            memory = None
        if memory is not None and cursors.fits(memory.kept, k, _MOST_TERMS):
            return memory
        kept = cursors.make_scratch(k, _MOST_TERMS)
        return _Memory(
            kept.addresses, np.zeros(2, np.int64), np.empty(_MOST_TERMS, np.int32),
            np.empty(_MOST_TERMS, np.float32), np.empty(_MOST_TERMS, np.uint8), kept,
        )  # fmt: skip

    def _give_back(self, memory: _Memory) -> None:
        if len(self._memory) < CACHED_SCRATCH:
            self._memory.append(memory)

    def _take_phrase_memory(self, k: int) -> PhraseMemory:
        """Memory that is large enough, reused (list.pop and append are atomic)."""
        capacity = cursors.key_capacity(k)
        try:
            memory = self._phrase_memory.pop()
        except IndexError:
            memory = None
        if memory is not None and capacity <= memory.keys.shape[1] <= 4 * capacity:
            return memory
        return make_memory(1, _MOST_TERMS, k)


def flat_query(query: str | Query, table: TermTable, operator: str) -> FlatQuery | None:
    """A query as a flat one of terms of a table; None where it is none."""
    if isinstance(query, str):
        numbers = table.numbers_of(query)
        required = list(dict.fromkeys(numbers)) if operator == "and" else []
        return FlatQuery(numbers, required, [], {})
    if operator == "and" and isinstance(query, Term) and query.field is None:
        return flat_query(query.text, table, operator)
    if operator != "or":
        return None
    found = of_required_words(query, table.words)
    if found is not None:
        return found
    if isinstance(query, Boolean) and len(query.children()) > _MOST_TERMS:
        table.learn(clause_texts([query]))  # together, which is faster than one by one
    return flatten(query, table.numbers_of)


def flat_queries(
    queries: Sequence[Query], table: TermTable, operator: str
) -> list[FlatQuery | None]:  # fmt: skip
    """`flat_query` of each; new words are looked up together."""
    if operator == "or":
        found = [of_required_words(query, table.words) for query in queries]
        left = [i for i, query in enumerate(found) if query is None]
    else:
        found, left = [None] * len(queries), [*range(len(queries))]
    if left:
        table.learn(clause_texts([queries[i] for i in left]))
        for i in left:
            found[i] = flat_query(queries[i], table, operator)
    return found
