"""Holds an engine's ranking to the reference's."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from engines import Ranking
from harness import Check
from reference import CLOSE, Reference


class Judge:
    """The reference's scores for a sample of the queries, spread over all of them."""

    def __init__(self, reference: Reference, queries: Sequence[str], sample: int) -> None:
        size = min(sample, len(queries))
        self.asked = np.unique(np.linspace(0, len(queries) - 1, size).astype(int)).tolist()
        self.scored = [reference.score(queries[at]) for at in self.asked]
        self.terms = [len(reference.terms(queries[at])) for at in self.asked]

    def exact(self, k: int, ties_in_order: bool) -> Callable[[Ranking], Check]:
        """The same scores rank by rank, each document with its own score, none twice or missing.

        Documents of equal score may change places, unless `ties_in_order`: then equal float32
        scores must stand in ascending order of their rows.
        """
        return lambda ranking: self._exact(ranking, k, ties_in_order)

    def overlap(self, k: int, least: float) -> Callable[[Ranking], Check]:
        """The mean share of the true top k that was found; `least` is needed to pass."""
        return lambda ranking: self._overlap(ranking, k, least)

    def analysis(self, counts: np.ndarray) -> Check:
        """int[Q]: the distinct terms of every query that the corpus has."""
        wrong = [at for at, n in zip(self.asked, self.terms, strict=True) if counts[at] != n]
        said = f"the known terms of {len(self.asked)} queries"
        return Check(not wrong, f"query {wrong[0]}: not its terms" if wrong else said)

    def _exact(self, ranking: Ranking, k: int, ties_in_order: bool) -> Check:
        worst = 0.0
        for at, (rows, scores) in zip(self.asked, self.scored, strict=True):
            hits = ranking.rows[at][ranking.rows[at] >= 0]
            given = ranking.scores[at][: len(hits)].astype(np.float64)
            best = np.sort(scores)[::-1][:k]
            if len(hits) != len(best) or len(np.unique(hits)) != len(hits):
                return Check(False, f"query {at}: {len(hits)} hits for {len(best)}, or one twice")
            if not np.isin(hits, rows).all():
                return Check(False, f"query {at}: a document without any query word")
            own = scores[np.searchsorted(rows, hits)]
            scale = np.maximum(1.0, best)
            off = np.max([np.abs(given - best) / scale, np.abs(given - own) / scale], initial=0.0)
            if not off <= CLOSE:
                return Check(False, f"query {at}: a score is off by {off:.2g}")
            worst = max(worst, float(off))
            drop = np.diff(ranking.scores[at][: len(hits)])
            if (drop > 0).any() or (ties_in_order and (np.diff(hits)[drop == 0] <= 0).any()):
                return Check(False, f"query {at}: hits out of order")
        return Check(
            True,
            f"the exact top {k} of {len(self.asked)} queries, scores within {worst:.1g}",
        )

    def _overlap(self, ranking: Ranking, k: int, least: float) -> Check:
        shares = []
        for at, (rows, scores) in zip(self.asked, self.scored, strict=True):
            wanted = min(k, len(scores))
            if not wanted:
                continue
            hits = np.unique(ranking.rows[at][ranking.rows[at] >= 0])
            hits = hits[np.isin(hits, rows)]
            bar = np.partition(scores, len(scores) - wanted)[len(scores) - wanted]
            own = scores[np.searchsorted(rows, hits)]
            shares.append(min(1.0, np.count_nonzero(own >= bar - CLOSE) / wanted))
        share = float(np.mean(shares)) if shares else 1.0
        return Check(
            share >= least,
            f"{share:.1%} of the true top {k} (mean of {len(shares)} queries; "
            f"at least {least:.0%} wanted)",
        )
