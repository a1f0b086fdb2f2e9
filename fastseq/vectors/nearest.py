"""Exact nearest neighbours by cosine.

Unit vectors are packed once, for products of blocks of queries with blocks of words; threads take
ranges of words. Results have the same bits on any number of threads.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from fastseq.errors import DataError
from fastseq.kernels.core.arrays import aligned_zeros
from fastseq.kernels.simd import gemm
from fastseq.kernels.vectors import dense
from fastseq.kernels.vectors import nearest as kernels
from fastseq.settings import thread_count, whole
from fastseq.threads import Team
from fastseq.types import Float32, Int32, Int64, UInt64
from fastseq.vectors.folder import check_finite

_PACKED = 4096  # approximate number of words normalised and packed at a time
_SMALL = 1 << 20  # multiply-adds below which a second thread costs more than it saves
_SCORES = 1 << 17  # computed before they are scanned: 512 KB, which the second-level cache holds
_ROWS = 192  # queries whose scores are computed together
_KEYS = 1 << 23  # of all queries at a time: 64 MB
_QUERIES = 4096


def unit_rows(vectors: Float32, name: str = "vectors") -> Float32:
    """float32[n, d]: the rows divided by their length; rows of zeros are unchanged.

    Raises DataError, naming the row, for a number that is not finite.
    """
    units: Float32 | None = dense.unit_rows(vectors)
    if units is None:
        check_finite(name, vectors)
    assert units is not None
    return units


class Nearest:
    """Word vectors packed for the search of neighbours.

    vectors : float32[V, d]; a row of zeros has the cosine 0 with everything

    Raises DataError for a number that is not finite.
    """

    def __init__(self, vectors: Float32, threads: int | None = None) -> None:
        self.words, self.dimensions = vectors.shape
        self._panels = aligned_zeros(gemm.packed_size(self.dimensions, self.words))
        starts = range(0, self.words, _PACKED // gemm.WIDTH * gemm.WIDTH)

        def pack(part: int) -> None:
            first = starts[part]
            units = unit_rows(vectors[first : first + starts.step], f"vectors from {first} on")
            panels = self._panels[first * self.dimensions :]
            gemm.pack_transposed(panels, units, 0, len(units))

        Team(thread_count(threads)).run(pack, len(starts))

    def search(
        self, queries: Float32, k: int, excluded: Int32 | None = None, threads: int | None = None
    ) -> tuple[Int32, Float32]:
        """The k words nearest to each query.

        queries : float32[Q, d], of any length
        excluded : int32[Q, E], words to leave out, -1 for none; None: no word
        threads : None: all cores

        Returns rows, int32[Q, min(k, V)], the nearest first, of equals the first, and their
        cosines, float32. Past the last, and for a query of zeros, rows are -1 and cosines 0.

        Raises DataError for queries of another dimension or with a number that is not finite,
        SettingsError for k or threads below 1.
        """
        units = unit_rows(self._checked(queries), "queries")
        rows, cosines = self._best(units, None, k, excluded, False, threads)
        zero = ~units.any(axis=1)
        rows[zero], cosines[zero] = -1, 0.0
        return rows, np.clip(cosines, -1.0, 1.0)

    def analogies(
        self,
        vectors: Float32,
        questions: Int32,
        excluded: Int32,
        k: int = 1,
        multiply: bool = False,
        threads: int | None = None,
    ) -> tuple[Int32, Float32]:
        """The k best answers to each question "a is to b as c is to ?".

        Products are computed for the distinct words of the questions, which are far fewer than the
        questions of a set that repeats its words.

        vectors : float32[U, d] of these words
        questions : int32[Q, 3], rows of `vectors`: a, b, c
        excluded : int32[Q, E], as in `search`; usually a, b and c
        multiply : False: 3CosAdd; True: 3CosMul (kernels.keep_analogies has the formulas)

        Returns rows as `search`, and scores, float32: the cosine with b - a + c, or 3CosMul's
        product. Raises as `search`.
        """
        units = unit_rows(self._checked(vectors), "vectors")
        rows, scores = self._best(units, questions, k, excluded, multiply, threads)
        if multiply:
            return rows, scores
        for start in range(0, len(questions), _QUERIES):
            a, b, c = units[questions[start : start + _QUERIES].T]
            wanted = b - a + c
            length = np.sqrt(np.einsum("ij,ij->i", wanted, wanted, dtype=np.float64))
            some = scores[start : start + _QUERIES]
            np.divide(some, length[:, None], out=some, where=length[:, None] > 0, casting="unsafe")
        return rows, np.clip(scores, -1.0, 1.0)

    def _checked(self, vectors: Float32) -> Float32:
        if vectors.ndim != 2 or vectors.shape[1] != self.dimensions:
            raise DataError(
                f"vectors of shape {vectors.shape}, expected [n, {self.dimensions}] as the words'"
            )
        return np.ascontiguousarray(vectors, np.float32)

    def _best(
        self, units: Float32, questions: Int32 | None, k: int, excluded: Int32 | None,
        multiply: bool, threads: int | None,
    ) -> tuple[Int32, Float32]:  # fmt: skip
        """Rows and scores of all queries (`units`, or questions about them), block by block;
        excluded words are found too and removed at the end."""
        team, Q = Team(thread_count(threads)), len(units if questions is None else questions)
        k = min(whole("k", k, 1), self.words)
        found = min(k + (0 if excluded is None else excluded.shape[1]), self.words)
        rows, scores = np.empty((Q, found), np.int32), np.empty((Q, found), np.float32)
        # keys per query: `found`, and enough more that cutting back to `found` is rare
        capacity = 2 * found + 64
        step = max(1, min(_QUERIES, _KEYS // (team.threads * capacity)))
        for start in range(0, Q, step):
            some = slice(start, min(Q, start + step))
            if questions is None:
                here, places = units[some], None
            else:
                used, inverse = np.unique(questions[some], return_inverse=True)
                here, places = units[used], inverse.reshape(-1, 3).astype(np.int32)
            least = max(gemm.WIDTH, _SMALL // (len(here) * self.dimensions))
            parts = team.split(self.words, least, gemm.WIDTH)
            keys = np.empty((len(parts), some.stop - start, capacity), np.uint64)
            counts = np.zeros(keys.shape[:2], np.int64)
            limits = np.full(keys.shape[:2], -np.inf, np.float32)
            scan = partial(self._scan, here, places, found, multiply, keys, counts, limits, parts)
            team.run(scan, len(parts))
            scratch = np.empty((2, len(parts) * capacity), np.uint64)
            kernels.best_of(rows[some], scores[some], keys, counts, scratch[0], scratch[1])
        return (rows, scores) if excluded is None else _without(rows, scores, excluded, k)

    def _scan(
        self, units: Float32, questions: Int32 | None, k: int, multiply: bool, all_keys: UInt64,
        all_counts: Int64, all_limits: Float32, parts: list[tuple[int, int]], part: int,
    ) -> None:  # fmt: skip
        """Find the best of each query in a part of the words."""
        keys, counts, limits = all_keys[part], all_counts[part], all_limits[part]
        first, last = parts[part]
        rows = min(_ROWS, len(units)) if questions is None else len(units)
        step = min(max(_SCORES // rows, 128), 1 << 14) // gemm.WIDTH * gemm.WIDTH
        products, sums = aligned_zeros(rows * step), aligned_zeros(step)
        bias, scratch = np.zeros(step, np.float32), np.empty(gemm.scratch_size(), np.float32)
        for start in range(first, last, step):
            words = min(step, last - start)
            # whole panels, even if not all words of the last are used
            width = min(-(-words // gemm.WIDTH) * gemm.WIDTH, gemm.padded(self.words) - start)
            panels = self._panels[start * self.dimensions :]
            for q in range(0, len(units), rows):
                some = units[q : q + rows]
                block = products[: len(some) * width].reshape(len(some), width)
                gemm.multiply_panels(block, some, panels, bias, False, scratch, 0, len(some))
                if questions is None:
                    kernels.keep_best(
                        keys[q : q + rows], counts[q : q + rows], limits[q : q + rows], block,
                        words, start, k,
                    )  # fmt: skip
                else:
                    kernels.keep_analogies(
                        keys, counts, limits, sums, block, questions, words, start, k, multiply
                    )


def _without(rows: Int32, scores: Float32, excluded: Int32, k: int) -> tuple[Int32, Float32]:
    """The first k that are not excluded."""
    keep = ~(rows[:, :, None] == excluded[:, None, :]).any(axis=2)
    order = np.argsort(~keep, axis=1, kind="stable")[:, :k]
    kept = np.take_along_axis(keep, order, axis=1)
    rows = np.where(kept, np.take_along_axis(rows, order, axis=1), np.int32(-1))
    scores = np.where(kept, np.take_along_axis(scores, order, axis=1), np.float32(0))
    return rows, scores
