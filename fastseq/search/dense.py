"""Search by vectors: the documents whose vectors have the largest cosine with a query's, and their
fusion with the hits of words.

The search is exact, unless the index has graphs, which find candidates that are scored exactly. It
is also where vectors have codes of bytes: those give an upper bound of each score from a quarter of
the memory, and only documents whose bound is large enough are scored. Documents
are looked at block by block (kernels/vectors/dense.py), on all threads; each has the best of its
own documents. What a filter leaves out, deleted documents and those without a vector are skipped,
or where many are, left out of the product. A score depends on nothing but the two vectors, so hits
have the same bits for any segments and threads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

import numpy as np

from fastseq.errors import DataError, SettingsError
from fastseq.index.collection import Collection, Leaf
from fastseq.index.dense import WITH_CODES, DenseModel, DenseSettings
from fastseq.index.graphs import Graph
from fastseq.index.segment import Vectors
from fastseq.kernels.core.arrays import aligned_zeros
from fastseq.kernels.core.width import WORD_INSTRUCTIONS
from fastseq.kernels.nn.words import as_steps
from fastseq.kernels.simd import gemm
from fastseq.kernels.vectors.dense import (
    scan_codes,
    scan_few_codes,
    scan_vectors,
    unit_rows,
    widen_halves,
)
from fastseq.kernels.vectors.nearest import best_of
from fastseq.search.hits import Asked, Hits, scaled
from fastseq.search.requests import least_depth
from fastseq.search.searcher import MOST_HITS, Searcher
from fastseq.search.tasks import no_hits
from fastseq.settings import flag, one_of, real, strings, thread_count, whole
from fastseq.threads import Team
from fastseq.types import Float32, Int32, Int64, UInt8

FUSIONS = ("rrf", "sum")
_OF_WORDS = ("model", "expand", "feedback", "fields", "syntax", "operator", "synonyms")
RRF_K = 60  # of reciprocal rank fusion; Cormack, Clarke & Büttcher 2009
_QUERIES = 256  # scored together
_KEYS = 1 << 23  # of all queries at a time: 64 MB
_SCORES = 1 << 17  # computed before they are compared: 512 KB
_ROWS = 384  # documents whose scores are computed together, at most
_DIRECT = 1 << 14  # documents in a block, at most
_COPIED = 1 << 19  # numbers that are copied at a time where they are not
_SMALL = 1 << 20  # multiply-adds below which a second thread costs more than it saves
_SHARES = 4  # blocks of a thread, at least, so that all have about as many documents
_CANDIDATES, _LEAST_CANDIDATES, _MORE = 16, 256, 4  # by codes: of each hit, of a query, then times
_FEW_QUERIES = 4  # searched together by one document after the other
_ROUNDING = 3e-7  # of an operation: what sums of float32 may be wrong by
_OPERATIONS = 8  # of a score, besides those of its dimensions
_FOUND, _VISITED = 128, 16  # documents that a graph finds, at least; visited for each of them
_FEW = 4  # where at most one in so many documents is searched, their vectors are gathered


class _Block(NamedTuple):
    """Documents [first, last) of a segment, and the rows of the collection of those searched."""

    leaf: Leaf
    vectors: Vectors
    first: int
    last: int


def dense_settings(collection: Collection) -> DenseSettings:
    """The setting of the vectors of an index. Raises SettingsError for one without vectors."""
    found = collection.dense
    if found is None:
        raise SettingsError(
            f"{collection.path}: the index has no vectors: build it with dense=…, an encoder, or "
            "dense_column=…"
        )
    return found


def query_vectors(collection: Collection, queries: Any, encoder: Any) -> Float32:
    """float32[Q, H]: unit vectors of queries, zeros for one without a vector.

    queries : strings, or a float array [Q, H]
    encoder : of strings: see DenseModel

    Raises SettingsError for an index without vectors, or those of another model, for strings
    without an encoder, and arrays of another shape; DataError for numbers that are not finite.
    """
    settings = dense_settings(collection)
    if isinstance(queries, np.ndarray):
        if encoder is not None:
            raise SettingsError("queries that are vectors need no encoder")
        if (
            queries.ndim != 2
            or queries.shape[1] != settings.size
            or queries.dtype.kind not in "fiu"
        ):
            raise SettingsError(
                f"queries must be numbers of shape [n, {settings.size}], as the vectors of the "
                f"index, not {queries.dtype}{list(queries.shape)}"
            )
        vectors = np.ascontiguousarray(queries, np.float32)
    else:
        if encoder is None:
            made = "" if settings.model is None else f", {settings.model}"
            raise SettingsError(
                f"queries that are texts need encoder=…, the model of the index{made}"
            )
        model = DenseModel(encoder)
        model.check(settings)
        if not len(queries):
            return np.empty((0, settings.size), np.float32)
        vectors = model.queries(queries)
        model.check(settings, vectors.shape[1])
    units: Float32 | None = unit_rows(vectors)
    if units is None:
        query = int(np.argmin(np.isfinite(vectors).all(axis=1)))
        raise DataError(f"the vector of query {query} (from 0) has a number that is not finite")
    return units


def find_nearest(
    collection: Collection, units: Float32, k: int, allowed: UInt8, threads: int | None = None,
    exact: bool = False,
) -> tuple[Int32, Float32]:  # fmt: skip
    """(rows int32[Q, k], cosines float32[Q, k]) of the documents nearest to queries: descending,
    ties by row; row -1 and 0 past the last. A query of zeros has none.

    units : of `query_vectors`
    allowed : uint8[rows] of `allowed_rows`, or uint8[0] for all
    exact : do not use graphs

    Raises FormatError where the index is damaged, MissingExtraError for graphs without usearch.
    """
    rows, scores = no_hits(len(units), k)
    asked = np.flatnonzero(units.any(axis=1))
    depth = min(k, collection.documents)
    if not len(asked) or not depth:
        return rows, scores
    search = _compared if exact or dense_settings(collection).graph is None else _by_graphs
    found = search(
        collection, collection.leaves, units[asked], depth, allowed, thread_count(threads)
    )
    rows[asked, :depth], scores[asked, :depth] = found
    return rows, scores


def _compared(
    collection: Collection, leaves: Sequence[Leaf], units: Float32, depth: int, allowed: UInt8,
    threads: int,
) -> tuple[Int32, Float32]:  # fmt: skip
    """The best `depth` of some segments of each query, with their scores."""
    documents = sum(leaf.segment.documents for leaf in leaves)
    team = Team(min(threads, max(units.size * documents // _SMALL, 1)))
    size = min(max(documents // (_SHARES * team.threads), _ROWS), _DIRECT)
    parts = _shares(_blocks(collection, leaves, size), team.threads)
    scan = _Scan(collection, leaves, parts, allowed, team)
    has_codes = dense_settings(collection).dtype == WITH_CODES
    if has_codes and (len(units) <= _FEW_QUERIES or "bytes" in WORD_INSTRUCTIONS):
        return _by_codes(scan, units, depth)
    return scan.best(_Queries, units, depth)


def _by_graphs(
    collection: Collection, leaves: Sequence[Leaf], units: Float32, depth: int, allowed: UInt8,
    threads: int,
) -> tuple[Int32, Float32]:  # fmt: skip
    """`_compared`, but of the documents that the graphs of segments find. Segments without a graph
    are compared, and those that have too few documents for it, or that pass."""
    candidates: list[list[Int32]] = [[] for _ in range(len(units))]
    settings = dense_settings(collection)

    def compare(leaves: Sequence[Leaf], queries: Sequence[int]) -> None:
        some = units[np.array(queries, np.int64)]
        found, _ = _compared(collection, leaves, some, depth, allowed, threads)
        for query, own in zip(queries, found, strict=True):
            candidates[query].append(own[own >= 0])

    others = []
    for leaf in leaves:
        _vectors_of(leaf, settings)
        graph = leaf.segment.vector_graph
        if graph is None:
            others.append(leaf)
            continue
        found = _in_graph(graph, leaf, units, depth, allowed, threads)
        for query, rows in found.items():
            candidates[query].append(rows)
        if left := [query for query in range(len(units)) if query not in found]:
            compare([leaf], left)
    if others:
        compare(others, range(len(units)))
    rows, scores = no_hits(len(units), depth)
    for query, every in enumerate(candidates):
        some = np.sort(np.concatenate(every))
        rows[query], scores[query] = _exact(collection, units[query], some, depth)
    return rows, scores


def _in_graph(
    graph: Graph, leaf: Leaf, units: Float32, depth: int, allowed: UInt8, threads: int
) -> dict[int, Int32]:
    """At least `depth` of the documents of a segment nearest to each query that are not deleted and
    allowed, by their rows in the collection. A query is missing for which the graph would visit
    about as many documents as there are."""
    own = allowed[leaf.first_row : leaf.first_row + leaf.segment.documents]
    passing = leaf.live
    if len(allowed):
        passing = own if passing is None else own & passing
    documents = leaf.segment.documents
    passed = documents if passing is None else int(np.count_nonzero(passing))
    found: dict[int, Int32] = {}
    left = np.arange(len(units))
    count = max(_FOUND, 2 * depth) * documents // max(passed, 1)  # of which as many pass
    while len(left) and count * _VISITED < passed:
        step = max(1, min(_QUERIES, _KEYS // count))
        for start in range(0, len(left), step):
            queries = left[start : start + step]
            nearest = graph.search(units[queries], count, threads)
            for query, rows in zip(queries.tolist(), nearest, strict=True):
                kept = rows if passing is None else rows[passing[rows] != 0]
                if len(kept) >= depth:
                    found[query] = (leaf.first_row + kept).astype(np.int32)
        left = np.array([query for query in left.tolist() if query not in found], np.int64)
        count *= 2
    return found


def _by_codes(scan: _Scan, units: Float32, depth: int) -> tuple[Int32, Float32]:
    """The best `depth` of each query, found by codes: the documents with the largest upper bounds
    are scored, until the least bound of those is below the score of the last hit."""
    rows, scores = no_hits(len(units), depth)
    left, candidates = np.arange(len(units)), max(_CANDIDATES * depth, _LEAST_CANDIDATES)
    while len(left):
        if candidates * _FEW >= scan.documents:  # as long as to score all
            rows[left], scores[left] = scan.best(_Queries, units[left], depth)
            break
        found, bounds = scan.best(_CodedQueries, units[left], candidates)
        open_ = np.ones(len(left), np.bool_)
        for place, query in enumerate(left):
            some = np.sort(found[place][found[place] >= 0])
            rows[query], scores[query] = _exact(scan.collection, units[query], some, depth)
            # all there are, or no other can be a hit
            enough = scores[query, -1] > bounds[place, -1] and rows[query, -1] >= 0
            open_[place] = len(some) == candidates and not enough
        left, candidates = left[open_], candidates * _MORE
    return rows, scores


def _exact(collection: Collection, unit: Float32, some: Int32, depth: int) -> tuple[Int32, Float32]:
    """The best `depth` of the documents `some`, rows in ascending order, with their scores."""
    vectors = np.empty((len(some), len(unit)), np.float32)
    for leaf in collection.leaves:
        own = slice(
            *np.searchsorted(some, [leaf.first_row, leaf.first_row + leaf.segment.documents])
        )
        if own.start < own.stop:
            there = some[own].astype(np.int64) - leaf.first_row
            stored = leaf.segment.vectors
            assert stored is not None  # see _vectors_of
            stored.verify_rows(there)
            vectors[own] = stored.raw[there]
    products = _Queries(unit[None], depth, depth + 1, 1)
    products.scan_rows(0, vectors, some)
    rows, scores = products.best()
    return rows[0], scores[0]


class _Scan:
    """What is searched: blocks of documents, by parts for the threads.

    allowed    as of `find_nearest`
    documents  of the segments, without deleted ones
    """

    def __init__(
        self, collection: Collection, leaves: Sequence[Leaf], parts: list[Sequence[_Block]],
        allowed: UInt8, team: Team,
    ) -> None:  # fmt: skip
        self.collection, self._parts, self._allowed, self._team = collection, parts, allowed, team
        self.documents = sum(leaf.documents for leaf in leaves)

    def best(self, kind: type[_Queries], units: Float32, depth: int) -> tuple[Int32, Float32]:
        """The `depth` documents with the largest scores, or bounds, of each query."""
        rows, scores = no_hits(len(units), depth)
        parts, capacity = self._parts, 2 * depth + 64
        step = max(1, min(_QUERIES, _KEYS // (len(parts) * capacity)))
        for start in range(0, len(units), step):
            group = kind(units[start : start + step], depth, capacity, len(parts))

            def work(part: int, group: _Queries = group) -> None:
                group.scan(parts[part], part, self._allowed)

            self._team.run(work, len(parts))
            own = slice(start, start + step)
            rows[own], scores[own] = group.best()
        return rows, scores


class _Queries:
    """Some queries that are searched together.

    units     float32[Q, H]
    depth     hits of each
    capacity  keys of each, for every part
    """

    def __init__(self, units: Float32, depth: int, capacity: int, parts: int) -> None:
        queries = len(units)
        self._depth, self._queries, self._width = depth, queries, gemm.padded(queries)
        self._pack(units)
        self._keys = np.empty((parts, queries, capacity), np.uint64)
        self._counts = np.zeros((parts, queries), np.int64)

    def _pack(self, units: Float32) -> None:
        self._panels = aligned_zeros(gemm.packed_size(units.shape[1], self._width))
        gemm.pack_transposed(self._panels, units, 0, self._queries)

    def scan(self, blocks: Sequence[_Block], part: int, allowed: UInt8) -> None:
        """Find the best of some blocks of documents."""
        scanner = self._scanner(part)
        buffer = np.empty(0, np.float32)
        for block in blocks:
            rows, found = _searched(block, allowed)
            if not found:
                continue
            vectors = block.vectors
            vectors.verify(block.first, block.last)
            raw = vectors.raw[block.first : block.last]
            few = found * _FEW <= len(rows)
            if not few and raw.dtype == np.float32:
                scanner(raw, rows)
                continue
            if few:
                chosen = np.flatnonzero(rows >= 0)
                raw, rows = raw[chosen], rows[chosen]
            at_a_time = max(_COPIED // vectors.size, 1)
            if buffer.size < at_a_time * vectors.size:
                buffer = np.empty(at_a_time * vectors.size, np.float32)
            for start in range(0, len(rows), at_a_time):
                piece = raw[start : start + at_a_time]
                values = piece.astype(np.float32, copy=False)
                if piece.dtype == np.float16:
                    flat = buffer[: piece.size]
                    widen_halves(flat, flat.view(np.uint32), piece.reshape(-1).view(np.uint16))
                    values = flat.reshape(piece.shape)
                scanner(values, rows[start : start + at_a_time])

    def scan_rows(self, part: int, vectors: Float32, rows: Int32) -> None:
        """Find the best of vectors float32[D, H] of the documents `rows`."""
        self._scanner(part)(vectors, rows)

    def _scanner(self, part: int) -> Callable[[Float32, Int32], None]:
        limits, products, bias, scratch = self._space()

        def scan(vectors: Float32, rows: Int32) -> None:
            scan_vectors(
                self._keys[part], self._counts[part], limits, vectors, rows, self._panels,
                products, bias, scratch, self._depth,
            )  # fmt: skip

        return scan

    def _space(self) -> tuple[Float32, Float32, Float32, Float32]:
        """The limits, products, bias and scratch of a scan."""
        limits = np.full(self._width, np.inf, np.float32)
        limits[: self._queries] = -np.inf
        height = min(max(_SCORES // self._width, 1), _ROWS)
        products = aligned_zeros(height * self._width)
        bias, scratch = np.zeros(self._width, np.float32), np.empty(gemm.scratch_size(), np.float32)
        return limits, products.reshape(-1, self._width), bias, scratch

    def best(self) -> tuple[Int32, Float32]:
        """The best of all parts."""
        rows, scores = no_hits(self._queries, self._depth)
        spare = np.empty((2, self._keys.shape[0] * self._keys.shape[2]), np.uint64)
        best_of(rows, scores, self._keys, self._counts, spare[0], spare[1])
        return rows, scores


class _CodedQueries(_Queries):
    """Queries of which upper bounds are found, by the codes of documents."""

    def _pack(self, units: Float32) -> None:
        words, steps, sums = as_steps(units)
        rounded = steps[:, None] * words.view(np.int8)[:, : units.shape[1]].astype(np.float64)
        distances = np.sqrt(np.square(units - rounded).sum(1))
        distances += _ROUNDING * (units.shape[1] + _OPERATIONS)
        self._steps = np.zeros((3, self._width), np.float32)
        self._steps[:, : self._queries] = steps, sums, distances
        self._words = words
        self._panels = aligned_zeros(gemm.packed_size(words.shape[1], self._width))
        gemm.pack_transposed(self._panels, words, 0, self._queries)

    def scan(self, blocks: Sequence[_Block], part: int, allowed: UInt8) -> None:
        limits, products, bias, scratch = self._space()
        best = self._keys[part], self._counts[part], limits
        for block in blocks:
            rows, found = _searched(block, allowed)
            codes = block.vectors.codes
            if not found or codes is None:
                continue
            block.vectors.verify_codes(block.first, block.last)
            words, steps = (
                codes.words[block.first : block.last],
                codes.steps[block.first : block.last],
            )
            if found * _FEW <= len(rows):
                chosen = np.flatnonzero(rows >= 0)
                words, steps, rows = words[chosen], steps[chosen], rows[chosen]
            if self._queries <= _FEW_QUERIES:
                own = words, steps, rows, self._words
                scan_few_codes(*best, *own, self._steps, self._depth)
            else:
                scan_codes(
                    *best, words, steps, rows, self._panels, self._steps, products, bias, scratch,
                    self._depth,
                )  # fmt: skip


def _blocks(collection: Collection, leaves: Sequence[Leaf], size: int) -> Sequence[_Block]:
    """The documents of some segments in blocks of at most `size`. Raises FormatError for a damaged
    index."""
    settings = dense_settings(collection)
    found = []
    for leaf in leaves:
        vectors = _vectors_of(leaf, settings)
        for first in range(0, leaf.segment.documents, size):
            found.append(_Block(leaf, vectors, first, min(first + size, leaf.segment.documents)))
    return found


def _vectors_of(leaf: Leaf, settings: DenseSettings) -> Vectors:
    """The vectors of a segment. Raises FormatError where they are not as the index has them."""
    segment = leaf.segment
    vectors = segment.vectors
    kind = settings.size, settings.stored
    if vectors is None or (vectors.size, str(vectors.raw.dtype)) != kind:
        raise segment.damaged("vectors", f"not {settings.size} numbers of {settings.stored}")
    if settings.dtype == WITH_CODES and vectors.codes is None:
        raise segment.damaged("vector_codes", "missing")
    return vectors


def _shares(blocks: Sequence[_Block], parts: int) -> list[Sequence[_Block]]:
    """Adjacent blocks with about as many documents for each part, in order."""
    ends = [0, *accumulate(block.last - block.first for block in blocks)]
    edges = np.searchsorted(ends, np.linspace(0, ends[-1], parts + 1)).tolist()
    shares = [blocks[a:b] for a, b in pairwise(edges)]
    return [share for share in shares if share]


def _searched(block: _Block, allowed: UInt8) -> tuple[Int32, int]:
    """(the rows of the collection of a block's documents, -1 for those that are not searched; the
    number of the others)."""
    leaf, first, last = block.leaf, block.first, block.last
    base = leaf.first_row
    rows = np.arange(base + first, base + last, dtype=np.int32)
    if leaf.live is not None:
        rows[leaf.live[first:last] == 0] = -1
    if len(allowed):
        rows[allowed[base + first : base + last] == 0] = -1
    missing: Any = block.vectors.missing
    if len(missing):
        low, high = np.searchsorted(missing, [first, last])
        rows[missing[low:high].astype(np.int64) - first] = -1
    return rows, int(np.count_nonzero(rows >= 0))


def dense_hits(
    searcher: Searcher, queries: Any, k: int, encoder: Any, filter: Any, threads: int | None,
    exact: bool = False,
) -> Hits:  # fmt: skip
    """The hits of `Index.search_dense`."""
    collection, exact = searcher.collection, flag("exact", exact)
    dense_settings(collection)
    is_vectors = isinstance(queries, np.ndarray)
    given = queries if is_vectors else list(strings("queries", queries))
    k = least_depth(whole("k", k, 1, below=1 << 128), len(given), collection)
    if k * max(len(given), 1) > MOST_HITS:
        raise SettingsError(f"k of {k} for {len(given)} queries does not fit in memory")
    units = query_vectors(collection, given, encoder)
    allowed = searcher.allowed(filter, threads)
    rows, scores = find_nearest(collection, units, k, allowed, threads, exact)
    return Hits(rows, scores, collection, (), (), None if is_vectors else _asked(given))


def _asked(queries: Sequence[str]) -> Asked:
    return Asked(tuple(queries), None, {})


# ---- fusion


def check_hybrid(
    query: Any, k: Any, vectors: Any, fusion: Any, weight: Any, depth: Any,
    lexical: Mapping[str, Any], documents: int,
) -> tuple[list[str], int]:  # fmt: skip
    """(the queries, the documents of each ranking) of `Index.search_hybrid`. Raises SettingsError
    as there."""
    one_of("fusion", fusion, FUSIONS)
    real("weight", weight, lambda w: 0 <= w <= 1, "a number from 0 to 1")
    for name in lexical:
        one_of("an option of search", name, _OF_WORDS)
    texts = list(strings("query", query))
    k, depth = whole("k", k, 1, below=1 << 128), whole("depth", depth, 1)
    if vectors is not None and len(vectors) != len(texts):
        raise SettingsError(f"{len(vectors)} vectors for {len(texts)} queries")
    if k * max(len(texts), 1) > MOST_HITS:
        raise SettingsError(f"k of {k} for {len(texts)} queries does not fit in memory")
    return texts, min(max(k, depth), max(documents, 1))


def fused_hits(
    near: Hits, words: Hits, texts: Sequence[str], k: int, fusion: str, weight: float
) -> Hits:
    """The fusion of the hits of vectors and of words."""
    collection = words._collection
    k = least_depth(k, len(texts), collection)
    rows, scores = fused([(hits.rows, hits.scores) for hits in (near, words)], k, fusion, weight)
    return Hits(rows, scores, collection, words.notices, (), _asked(texts))


def fused(
    parts: Sequence[tuple[Int32, Float32]], k: int, fusion: str, weight: float
) -> tuple[Int32, Float32]:
    """(rows int32[Q, k], scores float32[Q, k]) of the fusion of two rankings of the same queries,
    of vectors and of words.

    parts : rows and scores of each, best first, -1 past the last
    fusion : "rrf": the sum over the rankings of 1 / (60 + rank); "sum": that of the scores, brought
        to 0 to 1 by the least and the largest in each ranking, times the weights
    weight : of the ranking by vectors; that of words is 1 - weight, and for rrf both are doubled
    """
    queries = len(parts[0][0])
    rows, scores = no_hits(queries, k)
    weights = (weight, 1 - weight)
    for q in range(queries):
        found: list[tuple[Int64, Any]] = []
        for (own_rows, own_scores), factor in zip(parts, weights, strict=True):
            hits = np.flatnonzero(own_rows[q] >= 0)
            if fusion == "rrf":
                values = 2 * factor / (RRF_K + 1.0 + np.arange(len(hits)))
            else:
                values = factor * scaled(own_scores[q, hits].astype(np.float64))
            found.append((own_rows[q, hits].astype(np.int64), values))
        every = np.concatenate([own for own, _ in found])
        distinct, places = np.unique(every, return_inverse=True)
        totals = np.zeros(len(distinct))
        start = 0
        for own, values in found:  # the vectors' first: a sum of two numbers has no order
            totals[places[start : start + len(own)]] += values
            start += len(own)
        order = np.argsort(-totals.astype(np.float32), kind="stable")[:k]
        rows[q, : len(order)] = distinct[order]
        scores[q, : len(order)] = totals[order]
    return rows, scores
