"""Search by vectors and its fusion with the hits of words, by definition, in float64."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Vector = Sequence[float] | np.ndarray
Ranking = Sequence[tuple[Any, float]]


def cosine(a: Vector, b: Vector) -> float:
    x, y = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return float(x @ y / np.sqrt((x @ x) * (y @ y)))


def ranked(documents: Mapping[Any, Vector | None], query: Vector) -> list[tuple[Any, float]]:
    """(id, cosine) of each document with a vector, the best first, ties in their order."""
    if not np.any(query):
        return []
    found = [
        (id, cosine(vector, query))
        for id, vector in documents.items()
        if vector is not None and np.any(vector)
    ]
    return sorted(found, key=lambda hit: -hit[1])


def reciprocal_ranks(near: Ranking, words: Ranking, weight: float) -> dict[Any, float]:
    """The score of each document of two rankings."""
    found: dict[Any, float] = {}
    for ranking, factor in ((near, 2 * weight), (words, 2 * (1 - weight))):
        for rank, (id, _) in enumerate(ranking, 1):
            found[id] = found.get(id, 0.0) + factor / (60 + rank)
    return found


def scaled_sum(near: Ranking, words: Ranking, weight: float) -> dict[Any, float]:
    found: dict[Any, float] = {}
    for ranking, factor in ((near, weight), (words, 1 - weight)):
        scores = [score for _, score in ranking]
        for id, score in ranking:
            low, high = min(scores), max(scores)
            own = 1.0 if low == high else (score - low) / (high - low)
            found[id] = found.get(id, 0.0) + factor * own
    return found
