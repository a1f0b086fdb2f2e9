"""Exact nearest neighbours by cosine: every word is looked at, none is missed.

Unit vectors are packed once, for products of blocks of queries with blocks of words; threads take
ranges of words. What comes out has the same bits on any number of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastseq.errors import DataError
from fastseq.kernels.core.arrays import aligned_zeros
from fastseq.kernels.simd import gemm
from fastseq.kernels.vectors import nearest as kernels
from fastseq.settings import thread_count, whole
from fastseq.threads import Team
from fastseq.types import Float32, Int32, Int64
from fastseq.vectors.folder import check_finite

_PACKED = 4096  # words made unit vectors of and packed at a time, about
_SMALL = 1 << 20  # multiply-adds below which a second thread costs more than it brings
_SCORES = 1 << 17  # made before they are looked through: 512 KB, which the second-level cache holds
_ROWS = 192  # queries whose scores are made together
_KEYS = 1 << 23  # of all queries at work: 64 MB
_QUERIES = 4096


def unit_rows(vectors: Float32, name: str = "vectors") -> Float32:
    """float32[n, d]: the rows divided by their length; a row of zeros stays one.

    Raises DataError, naming the row, for a number that is not finite.
    """
    squares = np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64)
    if not np.isfinite(squares).all():
        check_finite(name, vectors)
    scale = np.zeros(len(squares))
    np.divide(1.0, np.sqrt(squares), out=scale, where=squares > 0)
    units: Float32 = (vectors * scale[:, None]).astype(np.float32)
    return units


class Nearest:
    """Word vectors packed for the search of neighbours.

    Parameters
    ----------
    vectors : float32[V, d]; a row of zeros has the cosine 0 with everything

    Raises
    ------
    DataError
        A vector holds a number that is not finite.
    """

    def __init__(self, vectors: Float32, threads: int | None = None) -> None:
        self.words, self.dimensions = vectors.shape
        self._panels = aligned_zeros(gemm.packed_size(self.dimensions, self.words))
        step = _multiple(_PACKED, gemm.WIDTH)
        starts = range(0, self.words, step)

        def pack(part: int) -> None:
            first = starts[part]
            units = unit_rows(vectors[first : first + step], f"vectors from {first} on")
            panels = self._panels[first * self.dimensions :]
            gemm.pack_transposed(panels, units, 0, len(units))

        Team(thread_count(threads)).run(pack, len(starts))

    def search(
        self,
        queries: Float32,
        k: int,
        excluded: Int32 | None = None,
        most: int | None = None,
        threads: int | None = None,
    ) -> tuple[Int32, Float32]:
        """The k words nearest to each query.

        Parameters
        ----------
        queries : float32[Q, d], of any length
        excluded : int32[Q, E], words that are not to be found, -1 for none; None: no word
        most : only so many of the words, the first; None: all
        threads : None: every core

        Returns
        -------
        rows : int32[Q, min(k, V)], the nearest first, of equals the first; -1 past the last, and
            for a query of zeros, which is near to nothing
        cosines : float32, of the same shape; 0 past the last

        Raises
        ------
        DataError
            Queries of another dimension, or that hold a number that is not finite.
        SettingsError
            k, most or threads below 1.
        """
        units = unit_rows(self._checked(queries), "queries")
        rows, cosines = self._best(len(units), k, excluded, most, threads, (units, None, False))
        nothing = ~units.any(axis=1)
        rows[nothing], cosines[nothing] = -1, 0.0
        return rows, np.clip(cosines, -1.0, 1.0)

    def analogies(
        self,
        vectors: Float32,
        questions: Int32,
        excluded: Int32,
        k: int = 1,
        multiply: bool = False,
        most: int | None = None,
        threads: int | None = None,
    ) -> tuple[Int32, Float32]:
        """The k best answers to each question "a is to b as c is to ?".

        The products are of the words that questions are made of, each once, and not of the
        questions: of a set that asks for the same words again and again, a small part of the work.

        Parameters
        ----------
        vectors : float32[U, d] of these words
        questions : int32[Q, 3], rows of `vectors`: a, b, c
        excluded : int32[Q, E], as in `search`: a, b and c themselves, mostly
        multiply : False: 3CosAdd; True: 3CosMul (kernels.keep_analogies has the formulas)

        Returns
        -------
        rows : int32[Q, min(k, V)], as in `search`
        scores : float32, of the same shape: the cosine with b - a + c, or 3CosMul's product

        Raises
        ------
        DataError, SettingsError
            As `search`.
        """
        units = unit_rows(self._checked(vectors), "vectors")
        asked = (units, questions, multiply)
        rows, scores = self._best(len(questions), k, excluded, most, threads, asked)
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
        self,
        Q: int,
        k: int,
        excluded: Int32 | None,
        most: int | None,
        threads: int | None,
        asked: tuple[Float32, Int32 | None, bool],
    ) -> tuple[Int32, Float32]:
        """Rows and scores of all queries, block after block; what is excluded is looked for too,
        and left out at the end."""
        team = Team(thread_count(threads))
        words = self.words if most is None else min(self.words, whole("most", most, 1))
        k = min(whole("k", k, 1), words)
        further = 0 if excluded is None else excluded.shape[1]
        found = min(k + further, words)
        rows, scores = np.empty((Q, found), np.int32), np.empty((Q, found), np.float32)
        step = max(1, min(_QUERIES, _KEYS // (team.threads * _capacity(found))))
        vectors, questions, multiply = asked
        for start in range(0, Q, step):
            some = slice(start, min(Q, start + step))
            if questions is None:
                job = self._rows_of(vectors[some], found)
                size = some.stop - start
            else:
                used, inverse = np.unique(questions[some], return_inverse=True)
                places: Int32 = inverse.reshape(-1, 3).astype(np.int32)
                job = self._questions_of(vectors[used], places, found, multiply)
                size = len(used)
            least = max(gemm.WIDTH, _SMALL // (size * self.dimensions))
            parts = team.split(words, least, gemm.WIDTH)
            _search_parts(team, parts, job, rows[some], scores[some])
        return (rows, scores) if excluded is None else _without(rows, scores, excluded, k)

    def _rows_of(self, units: Float32, k: int) -> _Job:
        """The work of one range of words on queries."""
        rows = min(_ROWS, len(units))
        step = _words_for(rows)

        def work(keys: Any, counts: Int64, limits: Float32, first: int, last: int) -> None:
            products = self._products(rows, step)
            for start in range(first, last, step):
                words = min(step, last - start)
                for q in range(0, len(units), rows):
                    some = slice(q, q + rows)
                    block = products(units[some], start, words)
                    kernels.keep_best(
                        keys[some], counts[some], limits[some], block, words, start, k
                    )

        return work

    def _questions_of(self, units: Float32, questions: Int32, k: int, multiply: bool) -> _Job:
        """The work of one range of words on questions, rows of `units`."""
        step = _words_for(len(units))

        def work(keys: Any, counts: Int64, limits: Float32, first: int, last: int) -> None:
            products = self._products(len(units), step)
            sums = aligned_zeros(step)
            for start in range(first, last, step):
                words = min(step, last - start)
                block = products(units, start, words)
                kernels.keep_analogies(
                    keys, counts, limits, sums, block, questions, words, start, k, multiply
                )

        return work

    def _products(self, rows: int, words: int) -> Callable[[Float32, int, int], Float32]:
        """A function that gives the products of up to `rows` units with a run of up to `words`
        words, a multiple of WIDTH: float32[rows, whole vectors], in the same memory each time."""
        room = aligned_zeros(rows * words)
        bias = np.zeros(words, np.float32)
        scratch = np.empty(gemm.scratch_size(), np.float32)

        def products(units: Float32, first: int, count: int) -> Float32:
            # whole panels, also where not all words of the last are asked for
            whole_panels = -(-count // gemm.WIDTH) * gemm.WIDTH
            width = min(whole_panels, gemm.padded(self.words) - first)
            block = room[: len(units) * width].reshape(len(units), width)
            panels = self._panels[first * self.dimensions :]
            gemm.multiply_panels(block, units, panels, bias, False, scratch, 0, len(units))
            return block

        return products


# keys [Q, C], counts [Q], limits [Q], the words from first to last
_Job = Callable[[Any, Int64, Float32, int, int], None]


def _search_parts(
    team: Team, parts: list[tuple[int, int]], job: _Job, rows: Int32, scores: Float32
) -> None:
    """The best of every range of words, and of these the best, into rows and scores."""
    Q, k = rows.shape
    capacity = _capacity(k)
    keys = np.empty((len(parts), Q, capacity), np.uint64)
    counts = np.zeros((len(parts), Q), np.int64)
    limits = np.full((len(parts), Q), -np.inf, np.float32)
    team.run(lambda r: job(keys[r], counts[r], limits[r], *parts[r]), len(parts))
    scratch = np.empty((2, len(parts) * capacity), np.uint64)
    kernels.best_of(rows, scores, keys, counts, scratch[0], scratch[1])


def _without(rows: Int32, scores: Float32, excluded: Int32, k: int) -> tuple[Int32, Float32]:
    """The first k that are not excluded."""
    keep = ~(rows[:, :, None] == excluded[:, None, :]).any(axis=2)
    order = np.argsort(~keep, axis=1, kind="stable")[:, :k]
    kept = np.take_along_axis(keep, order, axis=1)
    rows = np.where(kept, np.take_along_axis(rows, order, axis=1), np.int32(-1))
    scores = np.where(kept, np.take_along_axis(scores, order, axis=1), np.float32(0))
    return rows, scores


def _capacity(k: int) -> int:
    """Keys held for a query: k, and so many more that cutting back to k is rare."""
    return 2 * k + 64


def _words_for(rows: int) -> int:
    """Words whose scores with `rows` queries are made together."""
    return _multiple(min(max(_SCORES // rows, 128), 1 << 14), gemm.WIDTH)


def _multiple(n: int, of: int) -> int:
    return n // of * of
