"""Search of a collection: from queries to the rows and scores of their best documents."""

from __future__ import annotations

import itertools
import math
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fastseq import query as values
from fastseq.devices import check_device
from fastseq.errors import SettingsError, warn
from fastseq.index.collection import Collection
from fastseq.index.words import live_words
from fastseq.kernels.search import cursors
from fastseq.kernels.search import search as kernels
from fastseq.kernels.search.required import search_required
from fastseq.kernels.text.hashing import PADDING
from fastseq.search.clauses import (
    BooleanClause,
    Clause,
    GroupClause,
    MergedClause,
    PostingList,
    TermClause,
)
from fastseq.search.counting import Counter
from fastseq.search.evaluation import Evaluator, plan_of
from fastseq.search.filtering import NO_RANGES, Passing, allowed_rows
from fastseq.search.flat import FlatQuery, FlatTerms, weighed
from fastseq.search.group_batches import Group, GroupSearch
from fastseq.search.patterns import PATTERNS, pattern_match
from fastseq.search.phrase_batches import PhraseTerms, find_phrases, phrase_terms
from fastseq.search.query_words import Query, of_queries
from fastseq.search.ranking import (
    LARGEST_WEIGHT,
    Dot,
    FormulaModel,
    QueryTerms,
    QuotientModel,
    RankingModel,
    Statistics,
)
from fastseq.search.resolving import (
    MOST_WORDS,
    QueryAnalyzer,
    Resolver,
    group_terms,
    too_many_words,
)
from fastseq.search.scorer import ModelScorer, Sources
from fastseq.search.single import SingleSearch, flat_queries, flat_query
from fastseq.search.tasks import CACHED_SCRATCH, no_hits, run_tasks
from fastseq.search.term_table import TermTable
from fastseq.settings import thread_count, whole
from fastseq.text.tables import ByteTable, Column
from fastseq.text.vocabulary import SortedWords
from fastseq.types import Float32, Float64, Int32, Int64, Texts, UInt8, offsets_of

if TYPE_CHECKING:
    from fastseq.search.cuda import GpuSearch


MOST_HITS = 1 << 30  # rows × queries of one call
_BLOCK = 1024  # queries analysed at a time: on one thread, since it is mostly Python
_TASK = 16  # queries that a thread takes at a time
_GROUPED = 64  # queries with groups whose terms are gathered at a time
_CACHED_MODELS = 8
_CACHED_FILTERS = 16  # a byte for each row
_CACHED_WORDS = 1 << 13  # their lists: 112 bytes at most for each segment and cached model


@dataclass(frozen=True, slots=True)
class _FilterText:
    """The key of a filter in a cache: its text alone."""

    text: str
    threads: int | None = field(compare=False)


class Searcher:
    """Searches a collection. Any number of threads may call it at once."""

    def __init__(self, collection: Collection) -> None:
        self.collection = collection
        self._table = TermTable(collection)
        self._scratch: list[cursors.Memory] = []
        self._gpu_lock = threading.Lock()
        # of the most recent models, as many as fit in the device's memory
        self._gpu: dict[ModelScorer, GpuSearch] = {}
        # the numbers of documents that match queries
        self.counter = counter = Counter(collection)
        self._scorer = lru_cache(_CACHED_MODELS)(
            lambda model: ModelScorer(collection, model, counter.searched_bits)
        )
        self._latest: tuple[RankingModel | None, ModelScorer | None] = None, None
        self._every_row = Passing(collection)
        self._filtered = lru_cache(_CACHED_FILTERS)(
            lambda key: Passing(collection, allowed_rows(collection, key.text, key.threads))
        )
        self._single = SingleSearch(collection)
        self._fields: dict[str, Searcher] = {}

    @cached_property
    def analyzer(self) -> QueryAnalyzer:
        """The analysis of queries that are values."""
        return QueryAnalyzer(self.collection.analyzer)

    @cached_property
    def words(self) -> tuple[SortedWords, Int64]:
        """(the words as they are written, the documents with the term of each)."""
        leaves = self.collection.leaves
        if len(leaves) == 1:
            words, terms = leaves[0].segment.sorted_words
            own_df = leaves[0].df
            return words, own_df if terms is None else own_df[terms]
        every_word, every_term = ByteTable(1, 1 << 10, 0), ByteTable(1, 1 << 10, 0)
        df, term_of = Column(np.int64), Column(np.int32)
        for leaf in leaves:
            texts, own = leaf.segment.words()
            numbers = _registered(every_term, leaf.segment.vocabulary)
            df.append(np.zeros(len(every_term) - df.size, np.int64))
            df.values[numbers] += leaf.df
            places = _registered(every_word, texts)
            term_of.append(np.zeros(len(every_word) - term_of.size, np.int32))
            term_of.values[places] = numbers[own]
        return SortedWords(Texts(*every_word.texts())), df.values[term_of.values]

    def has_word(self, word: str) -> bool:
        """Whether a document that is not deleted has a word as it is written. Raises FormatError
        for a damaged file."""
        raw = word.encode()
        for leaf in self.collection.leaves:
            words, _ = leaf.segment.sorted_words
            ids = words.range(raw, raw)
            if len(ids) and live_words(self.collection, leaf, ids).any():
                return True
        return False

    def of_field(self, name: str) -> Searcher:
        """The same of a field."""
        found = self._fields.get(name)
        if found is None:
            found = self._fields[name] = Searcher(self.collection.of_field(name))
        return found

    def term(self, term: str, grouped: bool = True) -> TermClause | MergedClause:
        """The clause of a term as in the index; if `grouped`, a single character of a script that
        is indexed as bigrams stands for all with it."""
        table = self.table
        number = table.add(Texts.from_strings([term]))
        df = int(table.df[number[0]])
        group = table.groups.get(int(number[0]))
        if group is not None and not grouped:
            ids = table.ids(number)[:, 0]
            both = zip(self.collection.leaves, ids, strict=True)
            df = sum(int(leaf.counts_of(np.array([id]))[0]) for leaf, id in both)
            return TermClause(self.collection, term.encode(), ids, df)
        if group is not None:
            return MergedClause(self.collection, term.encode(), group.postings, df)
        return TermClause(self.collection, term.encode(), table.ids(number)[:, 0], df)

    def search(
        self, queries: Sequence[Query], k: int, model: RankingModel, threads: int | None,
        device: str = "cpu", filter: Any = None,
    ) -> tuple[Int32, Float32]:  # fmt: skip
        """rows int32[Q, k] and scores float32[Q, k] of each query's k best documents.

        Ordered by descending score, then ascending row; row -1 and score 0 past the last hit. The
        result does not depend on the number of threads or on the device.

        device : "cpu", or "cuda" for an NVIDIA GPU; `threads` are then for queries that run on the
            CPU: those with a weight of zero or less, and all where k is more than 4,096; with a
            warning also all where there is a filter, the index is reordered, or has several
            segments or deleted documents, or the model is not BM25, TF-IDF or BoW
        filter : as of `allowed_rows`; None for all documents

        Raises SettingsError when k is below 1 or too large to hold, for a query or model of
        another type, for a weight that is not a number from -1e20 to 1e20, and for another device;
        what allowed_rows raises; DeviceError where there is no such GPU, or its memory is full;
        FormatError where the index is damaged.
        """
        k = whole("k", k, 1, below=1 << 128)
        if k * max(len(queries), 1) > MOST_HITS:
            raise SettingsError(f"k of {k} for {len(queries)} queries does not fit in memory")
        if not isinstance(model, QuotientModel | FormulaModel):
            raise SettingsError(f"model must be a ranking model such as BM25(), not {model!r}")
        check_device(device)
        passing = self.passing(filter, threads)
        threads = min(thread_count(threads), max(len(queries), 1))
        collection = self.collection
        n, depth = len(queries), min(k, collection.documents)
        rows, scores = no_hits(n, k)
        scorer = self.scorer(model)
        gpu = self._on_gpu(scorer, depth, filter) if device == "cuda" else None
        with ThreadPoolExecutor(threads, "fastseq-search") as pool:
            for first in range(0, n, _BLOCK):
                block = slice(first, first + _BLOCK)
                hits = rows[block], scores[block]
                table = self.table
                terms = self._query_terms(table, queries[block])
                if not depth:
                    continue
                if model.uses_cf:
                    terms = replace(terms, cf=table.cf(terms.terms))
                terms = model.weigh(collection, terms)
                if gpu is None or table.has_group(terms.terms).any():
                    self._score(*hits, terms, table, scorer, passing, pool, threads)
                    continue
                local = replace(terms, terms=table.ids(terms.terms)[0])
                if len(left := gpu.search(*hits, depth, local)):
                    some = hits[0][left], hits[1][left]
                    self._score(*some, terms.take(left), table, scorer, passing, pool, threads)
                    hits[0][left], hits[1][left] = some
        return rows, scores

    def find(
        self, queries: Sequence[Query | values.Query], k: int, model: RankingModel,
        threads: int | None, device: str = "cpu", filter: Any = None,
        fields: Mapping[str, float] | None = None, operator: str = "or",
        most: int | None = MOST_WORDS,
    ) -> tuple[Int32, Float32, list[str]]:  # fmt: skip
        """(rows, scores, notices) of queries of any kind; rows and scores as `search` returns them.

        fields    the weights of the fields in which words without a field are looked up; None for
                  the text
        operator  "or" or "and": how the words of a text are joined
        most      terms of a pattern that is scored; None for all
        """
        k = whole("k", k, 1, below=1 << 128)
        if k * max(len(queries), 1) > MOST_HITS:
            raise SettingsError(f"k of {k} for {len(queries)} queries does not fit in memory")
        if fields is not None and any(isinstance(query, Mapping) for query in queries):
            raise SettingsError("a mapping of terms to weights cannot be searched in fields")
        if len(queries) == 1 and type(device) is str and device == "cpu" and fields is None:
            thread_count(threads)
            notices: list[str] = []
            one = self.find_one(queries[0], k, model, filter, operator, notices, most)
            if one is not None:
                return *one, notices
        kinds = {*map(type, queries)}  # few, whatever the number of queries
        chosen_kinds: tuple[type, ...] = (values.Query,)
        if fields is not None or operator == "and":
            chosen_kinds = values.Query, str
        kinds = {kind for kind in kinds if issubclass(kind, chosen_kinds)}
        structured = [q for q, query in enumerate(queries) if type(query) in kinds] if kinds else []
        if not structured:
            return *self.search(queries, k, model, threads, device, filter), []  # type: ignore[arg-type]
        check_device(device)
        if device == "cuda":
            _warn_of_cpu("only plain words and mappings are searched on a GPU, any of the words")
        n = len(queries)
        rows, scores = no_hits(n, k)
        chosen = set(structured)
        plain = [q for q in range(n) if q not in chosen]
        if plain:
            own = self.search([queries[q] for q in plain], k, model, threads, device, filter)  # type: ignore[misc]
            rows[plain], scores[plain] = own
        asked = [queries[q] for q in structured]
        given = [values.Term(query) if isinstance(query, str) else query for query in asked]
        left = list(range(len(given)))
        notices = []
        if fields is None:
            flat = partial(self._find_flat, operator=operator)
            groups = partial(self._find_groups, notices, most)
            for find in (self._find_phrases, flat, groups):
                some = [given[i] for i in left]
                at = [structured[i] for i in left]
                others = find(rows, scores, at, some, k, model, threads, filter)  # type: ignore[arg-type]
                left = [left[i] for i in others]
        if left:
            places = [structured[i] for i in left]
            some = [given[i] for i in left]
            rows[places], scores[places] = self._evaluate(
                some, k, model, threads, filter, fields, operator, notices, most  # type: ignore[arg-type]
            )
        return rows, scores, list(dict.fromkeys(notices))

    def _find_phrases(
        self, rows: Int32, scores: Float32, places: Sequence[int], queries: Sequence[values.Query],
        k: int, model: RankingModel, threads: int | None, filter: Any,
    ) -> list[int]:  # fmt: skip
        """Fill in the hits of the queries that are exact phrases; returns the numbers of the
        others."""
        every, table, leaves = list(range(len(queries))), self.table, self.collection.leaves
        if not isinstance(model, QuotientModel) or not self.collection.documents:
            return every
        if not any(issubclass(kind, values.Phrase) for kind in {*map(type, queries)}):
            return every
        if any(leaf.segment.unverified_positions is None for leaf in leaves):
            return every
        own = [phrase_terms(query, table.tokens_of, table.groups.__contains__) for query in queries]
        chosen = [i for i in every if own[i] is not None]
        if not chosen:
            return every
        phrases = [phrase for phrase in own if phrase is not None]
        *hits, left = find_phrases(
            self.collection, table, self.scorer(model), phrases, k, model,
            thread_count(threads), self.allowed(filter, threads), self.counter.bits,
        )  # fmt: skip
        to = [places[i] for i in chosen]
        rows[to], scores[to] = hits
        others = {chosen[i] for i in left}
        return [i for i in every if own[i] is None or i in others]

    def count(
        self, queries: Sequence[Query | values.Query], model: RankingModel, filter: Any = None,
        fields: Mapping[str, float] | None = None, operator: str = "or",
        notices: list[str] | None = None,
    ) -> list[int]:  # fmt: skip
        """The number of documents that match each of several queries of any kind; `notices` gets
        those of each."""
        if len(queries) == 1 and fields is None:
            one = self._count_flat(queries[0], filter, operator)
            if one is not None:
                return [one]
        counts, table = [-1] * len(queries), self.table
        flat: list[FlatQuery] = []
        flat_places: list[int] = []
        phrases: list[PhraseTerms] = []
        phrase_places: list[int] = []
        for i, query in enumerate(queries if fields is None else ()):
            if isinstance(query, Mapping):
                continue
            if isinstance(query, values.Phrase) and self._single.has_positions:
                phrase = phrase_terms(query, table.tokens_of, table.groups.__contains__)
                if phrase is not None:
                    phrases.append(phrase)
                    phrase_places.append(i)
                    continue
            found = flat_query(query, table, operator)
            if found is None or (table.groups and not table.groups.keys().isdisjoint(found.words)):
                continue
            (only,) = found.words if len(found.words) == 1 else (None,)
            if only is not None and filter is None:
                counts[i] = int(table.df[only])
            else:
                flat.append(found)
                flat_places.append(i)
        if flat:
            own = self.counter.count_flat(table, flat, self.passing(filter).bits).tolist()
            for i, count in zip(flat_places, own, strict=True):
                counts[i] = count
        if phrases:
            own = self.counter.count_phrases(table, phrases, self.allowed(filter)).tolist()
            for i, count in zip(phrase_places, own, strict=True):
                counts[i] = count
        for i, query in enumerate(queries):
            if counts[i] < 0:
                counts[i] = self._count_clause(query, model, filter, fields, operator, notices)
        return counts

    def _count_flat(
        self, query: Query | values.Query, filter: Any, operator: str
    ) -> int | None:  # fmt: skip
        """The number of documents that match a flat query; None for others."""
        if type(query) is not str and not isinstance(query, (values.Boolean, values.Term)):
            return None  # a phrase of one word too: it is counted as phrases are
        table = self.table
        found = flat_query(query, table, operator)
        if found is None or (table.groups and not table.groups.keys().isdisjoint(found.words)):
            return None
        if filter is None and len(found.scored) == 1 and not found.excluded:
            return int(table.df[found.scored[0]])
        return self.counter.count_one(table, found, self.passing(filter).bits)

    def _count_clause(
        self, query: Query | values.Query, model: RankingModel, filter: Any,
        fields: Mapping[str, float] | None, operator: str, notices: list[str] | None,
    ) -> int:  # fmt: skip
        """The number of documents that match a query of any kind."""
        notices = [] if notices is None else notices
        clause = self._clause(query, model, fields, operator, notices, None)
        if clause is None:
            return 0
        if isinstance(clause, GroupClause) and clause.view is self.collection:
            ids = [own for own, _ in clause.terms]
            return self.counter.count_any(ids, self.passing(filter).bits)
        matched = self.evaluator(model, filter).matched(plan_of(clause))
        return int(np.count_nonzero(matched))

    def find_one(
        self, query: Any, k: int, model: RankingModel, filter: Any, operator: str,
        notices: list[str], most: int | None = MOST_WORDS,
    ) -> tuple[Int32, Float32] | None:  # fmt: skip
        """`find` for one query, without the preparation of a batch; None where that is needed."""
        return self._single.find(self, query, k, model, filter, operator, notices, most)

    @cached_property
    def groups(self) -> GroupSearch:
        """The search for patterns."""
        return GroupSearch(self.collection)

    def _find_flat(
        self, rows: Int32, scores: Float32, places: Sequence[int], queries: Sequence[values.Query],
        k: int, model: RankingModel, threads: int | None, filter: Any, operator: str,
    ) -> list[int]:  # fmt: skip
        """Fill in the hits of the queries that are flat; returns the numbers of the others."""
        collection, table = self.collection, self.table
        depth = min(k, collection.documents)
        if not isinstance(model, QuotientModel) or not depth:
            return list(range(len(queries)))
        own = flat_queries(queries, table, operator)
        chosen = [i for i, query in enumerate(own) if query is not None]
        if not chosen:
            return list(range(len(queries)))
        terms, refused = weighed(
            [query for query in own if query is not None], table.counted,
            partial(model.weigh, collection), table.df,
        )  # fmt: skip
        if table.has_group(terms.terms).any():
            return list(range(len(queries)))
        others = {chosen[i] for i in refused}
        hits = no_hits(len(chosen), k)
        threads = thread_count(threads)
        sources = self.scorer(model).sources(table, terms.terms)
        with ThreadPoolExecutor(threads, "fastseq-search") as pool:
            passing = self.passing(filter, threads)
            self._run(*hits, terms, sources, passing, pool, threads, terms.roles)
        to = [places[i] for i in chosen]
        rows[to], scores[to] = hits
        return [i for i in range(len(queries)) if own[i] is None or i in others]

    def _find_groups(
        self, notices: list[str], most: int | None, rows: Int32, scores: Float32,
        places: Sequence[int], queries: Sequence[values.Query], k: int, model: RankingModel,
        threads: int | None, filter: Any,
    ) -> list[int]:  # fmt: skip
        """Fill in the hits of the queries that are patterns; returns the numbers of the others."""
        every, collection = list(range(len(queries))), self.collection
        if not isinstance(model, QuotientModel) or isinstance(model, Dot):
            return every
        if not collection.documents:
            return every
        chosen: list[int] = []
        groups: list[Group] = []
        for i, query in enumerate(queries):
            if not isinstance(query, PATTERNS) or query.field is not None:
                continue
            match = pattern_match(query, self.analyzer.splitter)
            if match is None:
                continue
            terms, total = group_terms(collection, collection, match, most)
            if most is not None and total > most:
                notices.append(too_many_words(query, total))
            chosen.append(i)
            groups.append(terms)
        if not chosen:
            return every
        *hits, left = self.groups.find(
            self.scorer(model), groups, k, model, thread_count(threads),
            self.allowed(filter, threads),
        )  # fmt: skip
        to = [places[i] for i in chosen]
        rows[to], scores[to] = hits
        others = set(every) - {*chosen} | {chosen[i] for i in left}
        return sorted(others)

    def _evaluate(
        self, queries: Sequence[values.Query], k: int, model: RankingModel, threads: int | None,
        filter: Any, fields: Mapping[str, float] | None, operator: str, notices: list[str],
        most: int | None = MOST_WORDS,
    ) -> tuple[Int32, Float32]:  # fmt: skip
        """The hits of queries, clause by clause; `notices` gets those of each."""
        collection = self.collection
        n, depth = len(queries), min(k, collection.documents)
        rows, scores = no_hits(n, k)
        evaluator = self.evaluator(model, filter)
        noticed: list[list[str]] = [[] for _ in range(n)]  # in the order of the queries

        def work(q: int) -> None:
            resolver = Resolver(self, model, fields, operator, noticed[q], most)
            clause = resolver.resolve(queries[q])
            if clause is None or not depth:
                return
            plan = plan_of(clause)
            if not plan.scored and plan.condition is None:
                return
            weights, base = evaluator.weights(plan)
            table, lists, _kept = evaluator.sources(plan)
            m = len(lists)
            scratch = self.take_scratch(depth, m)
            weights = np.concatenate([weights, np.zeros(m - len(weights), np.float32)])
            kernels.search(
                rows[q : q + 1], scores[q : q + 1], table, lists, scratch.addresses,
                np.array([0, m]), np.arange(m, dtype=np.int32), weights,
                np.array([base], np.float32), evaluator.allowed(plan), NO_RANGES, depth,
            )  # fmt: skip
            self.give_back(scratch)

        threads = min(thread_count(threads), n)
        if threads <= 1:
            for q in range(n):
                work(q)
        else:
            with ThreadPoolExecutor(threads, "fastseq-search") as pool:
                list(pool.map(work, range(n)))
        notices += itertools.chain(*noticed)
        return rows, scores

    def matched(
        self, query: Query | values.Query, model: RankingModel, filter: Any = None,
        fields: Mapping[str, float] | None = None, operator: str = "or",
        most: int | None = None,
    ) -> UInt8:  # fmt: skip
        """uint8[rows]: 1 for every document that matches a query of any kind; `most` as of
        `find`."""
        clause = self._clause(query, model, fields, operator, [], most)
        if clause is None:
            return np.zeros(self.collection.rows, np.uint8)
        return self.evaluator(model, filter).matched(plan_of(clause))

    def _clause(
        self, query: Query | values.Query, model: RankingModel,
        fields: Mapping[str, float] | None, operator: str, notices: list[str],
        most: int | None,
    ) -> Clause | None:  # fmt: skip
        """The clause of a query of any kind; None where it has no words."""
        if isinstance(query, Mapping):
            if fields is not None:
                raise SettingsError("a mapping of terms to weights cannot be searched in fields")
            _weights_of(query)
            terms: list[Clause] = [self.term(term) for term in _terms_of(query)]
            return BooleanClause(self.collection, (), terms, (), (), 1) if terms else None
        value = values.Term(query) if isinstance(query, str) else query
        return Resolver(self, model, fields, operator, notices, most).resolve(value)

    def evaluator(self, model: RankingModel, filter: Any = None) -> Evaluator:
        """The evaluation of queries clause by clause."""

        def parts(view: Collection, s: int, found: PostingList, own: Statistics) -> Float32:
            searcher = self if view.field is None else self.of_field(view.field)
            return searcher.scorer(model).list_parts(s, *found, own)

        return Evaluator(self.collection, model, self.allowed(filter), parts)

    def allowed(self, filter: Any, threads: int | None = None) -> UInt8:
        """uint8[rows]: 1 for those that a filter lets pass; uint8[0] for None."""
        return self.passing(filter, threads).rows

    def passing(self, filter: Any, threads: int | None = None) -> Passing:
        """The rows that a filter lets pass; all for None. That of a text is cached.

        threads : that read the columns; default: all cores
        """
        if filter is None:
            return self._every_row
        if isinstance(filter, str):
            return self._filtered(_FilterText(filter, threads))
        return Passing(self.collection, allowed_rows(self.collection, filter, threads))

    def scorer(self, model: RankingModel) -> ModelScorer:
        """The weights and impacts of a model."""
        latest, scorer = self._latest
        if latest is not model or scorer is None:  # to hash a model costs .6 µs
            scorer = self._scorer(model)
            self._latest = model, scorer
        return scorer

    def contains(self, terms: Texts) -> npt.NDArray[np.bool_]:
        """bool[n]: whether a document has each term."""
        table = self.table
        numbers = table.add(terms)
        return table.df[numbers] > 0

    @property
    def table(self) -> TermTable:
        """The terms of recent queries."""
        table = self._table
        if table.size > _CACHED_WORDS or table.is_stale:
            table = self._table = TermTable(self.collection)
        return table

    def _on_gpu(self, scorer: ModelScorer, depth: int, filter: Any) -> GpuSearch | None:
        """The search on the device for a model; None where it must run on the CPU."""
        if not scorer.has_positive_parts:
            _warn_of_cpu("only BM25, TF-IDF and BoW are searched on a GPU")
            return None
        if filter is not None:
            _warn_of_cpu("only searches without a filter run on a GPU")
            return None
        leaves = self.collection.leaves
        if len(leaves) != 1 or leaves[0].live is not None:
            _warn_of_cpu(
                "the index has several segments or deleted documents",
                " (compact makes it one segment)",
            )
            return None
        if leaves[0].segment.search_order is not None:
            _warn_of_cpu("the index is reordered")
            return None
        from fastseq.search.cuda import MOST_HITS, GpuSearch, capacity

        if depth > MOST_HITS:
            return None
        segment = leaves[0].segment
        with self._gpu_lock:
            if scorer not in self._gpu:
                all_fit = capacity(segment) == len(segment.postings.docs)
                if len(self._gpu) == _CACHED_MODELS or not all_fit:
                    self._gpu.clear()  # frees their memory before more is allocated
                self._gpu[scorer] = GpuSearch(segment, partial(scorer.impacts, 0))
            return self._gpu[scorer]

    def _score(
        self, rows: Int32, scores: Float32, queries: QueryTerms, table: TermTable,
        scorer: ModelScorer, passing: Passing, pool: ThreadPoolExecutor, threads: int,
    ) -> None:  # fmt: skip
        """Fill in the hits of queries, on all threads."""
        grouped = table.has_group(queries.terms)
        if grouped.any():
            has_group = np.zeros(len(queries), bool)
            has_group[queries.owners[grouped]] = True
            parts = [np.flatnonzero(~has_group)]
            those = np.flatnonzero(has_group)
            parts += [those[at : at + _GROUPED] for at in range(0, len(those), _GROUPED)]
            for part in parts:
                if len(part):
                    some, hits = queries.take(part), (rows[part], scores[part])
                    found = scorer.gathered if has_group[part[0]] else scorer.sources
                    self._run(*hits, some, found(table, some.terms), passing, pool, threads)
                    rows[part], scores[part] = hits
            return
        sources = scorer.sources(table, queries.terms)
        self._run(rows, scores, queries, sources, passing, pool, threads)

    def _run(
        self, rows: Int32, scores: Float32, queries: QueryTerms | FlatTerms, sources: Sources,
        passing: Passing, pool: ThreadPoolExecutor, threads: int, roles: UInt8 | None = None,
    ) -> None:  # fmt: skip
        """Fill in the hits of queries, on all threads; of flat ones with the roles of the terms."""
        # the kernel leaves the columns from k on: a part of each row would be another type to Numba
        k = min(rows.shape[1], self.collection.documents)
        longest = int(np.diff(queries.starts).max())
        n = len(rows)
        step = n if threads == 1 else _TASK
        ranges = passing.search_ranges if sources.is_reordered else passing.ranges

        def work(waiting: Iterator[int]) -> None:
            scratch = self.take_scratch(k, longest)
            for first in waiting:
                stop = min(first + step, n)
                given = (
                    rows[first:stop], scores[first:stop], sources.table, sources.lists,
                    scratch.addresses, queries.starts[first : stop + 1], sources.rows,
                    queries.weights,
                )  # fmt: skip
                rest = queries.base[first:stop], passing.rows, ranges, k
                if roles is None:
                    kernels.search(*given, *rest)
                else:
                    search_required(*given, roles, *rest)
            self.give_back(scratch)

        run_tasks(work, range(0, n, step), threads, pool)

    def _query_terms(self, table: TermTable, queries: Sequence[Query]) -> QueryTerms:
        """The distinct terms of the queries that are in the index, with their occurrences."""
        for query in queries:
            if not isinstance(query, str | Mapping):
                raise SettingsError(
                    f"a query must be a string or a mapping of terms to weights, not {query!r}"
                )
        if any(isinstance(query, Mapping) for query in queries):
            parts = [
                self._given(table, query)
                if isinstance(query, Mapping)
                else self._query_terms(table, [query])
                for query in queries
            ]
            return QueryTerms(
                offsets_of([len(part.terms) for part in parts]),
                np.concatenate([part.terms for part in parts]),
                np.concatenate([part.df for part in parts]),
                np.concatenate([part.weights for part in parts]),
                np.zeros(len(queries), np.float32),
            )
        with of_queries():
            found = table.of_short(queries[0]) if len(queries) == 1 else None  # type: ignore[arg-type]
            if found is not None:
                numbers, offsets = np.array(found, np.int32), np.array([0, len(found)], np.int64)
            else:
                numbers, offsets = table.of(Texts.from_strings(queries))  # type: ignore[arg-type]
        return table.counted(numbers, offsets)

    def _given(self, table: TermTable, query: Mapping[str, float]) -> QueryTerms:
        """The terms of a query given as a mapping from terms, as in the index, to weights.

        Raises SettingsError unless the weights are finite numbers and the terms strings.
        """
        weights = _weights_of(query)
        numbers = table.add(Texts.from_strings(_terms_of(query)))
        # counted gives the order of addition; each term occurs once
        found = table.counted(numbers, np.array([0, len(numbers)], np.int64))
        given = dict(zip(numbers.tolist(), weights.tolist(), strict=True))
        ordered = np.array([given[term] for term in found.terms.tolist()], np.float32)
        return replace(found, weights=ordered)

    def take_scratch(self, k: int, terms: int) -> cursors.Memory:
        """Scratch memory that is large enough, reused (list.pop and append are atomic)."""
        try:
            if cursors.fits(scratch := self._scratch.pop(), k, terms):
                return scratch
        except IndexError:
            pass
        return cursors.make_scratch(k, max(terms, 32))

    def give_back(self, scratch: cursors.Memory) -> None:
        if len(self._scratch) < CACHED_SCRATCH:
            self._scratch.append(scratch)


def _warn_of_cpu(why: str, remedy: str = "") -> None:
    warn(f"{why}: searched on the CPU{remedy}")


def _registered(table: ByteTable, texts: Texts) -> Int32:
    """int32[n]: the numbers of texts in a table."""
    data = np.concatenate([texts.data, np.zeros(PADDING, np.uint8)])
    numbers: Int32 = table.register(data, texts.offsets, 0)
    return numbers


def _weights_of(query: Mapping[str, float]) -> Float64:
    weights = np.array([_number(weight) for weight in query.values()], np.float64)
    wrong = np.flatnonzero(~(np.abs(weights) <= LARGEST_WEIGHT))
    if len(wrong):
        term, weight = list(query.items())[wrong[0]]
        raise SettingsError(
            f"the weight of the query term {term!r:.80} must be a finite number from "
            f"-{LARGEST_WEIGHT:g} to {LARGEST_WEIGHT:g}, not {weight!r:.80}"
        )
    return weights


def _number(value: Any) -> float:
    """A value as a number; NaN for another one."""
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def _terms_of(query: Mapping[str, float]) -> list[str]:
    if not all(isinstance(term, str) for term in query):
        raise SettingsError("a query's terms must be strings")
    return list(query)
