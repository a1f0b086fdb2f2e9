"""Nearest neighbours, analogies, spellings, rank correlation and SIF, one at a time, in float64."""

from __future__ import annotations

import numpy as np

Array = np.ndarray


def units(vectors: Array) -> Array:
    """Rows of length 1; zeros stay."""
    return np.array([row / max(np.sqrt((row**2).sum()), 1e-300) for row in vectors.astype(float)])


def cosines(vectors: Array, query: Array) -> Array:
    """The cosine of each row with a query."""
    return units(vectors) @ units(query[None])[0]


def added(vectors: Array, a: int, b: int, c: int) -> Array:
    """3CosAdd: the cosine of each row with b - a + c."""
    u = units(vectors)
    return cosines(vectors, u[b] - u[a] + u[c])


def multiplied(vectors: Array, a: int, b: int, c: int) -> Array:
    """3CosMul of each row."""
    u = units(vectors)
    to = [(1 + u @ u[i]) / 2 for i in (a, b, c)]
    return to[1] * to[2] / (to[0] + 0.001)


def best(scores: Array, k: int, excluded: tuple[int, ...] = ()) -> list[int]:
    """The k largest, of equals the first."""
    allowed = [i for i in range(len(scores)) if i not in excluded]
    return sorted(allowed, key=lambda i: (-scores[i], i))[:k]


def edits(a: str, b: str) -> int:
    """Insertions, deletions, substitutions and swaps of neighbours (optimal string alignment)."""
    table = {(i, 0): i for i in range(len(a) + 1)} | {(0, j): j for j in range(len(b) + 1)}
    for i in range(1, len(a) + 1):
        for j in range(1, len(b) + 1):
            ways = [
                table[i - 1, j] + 1,
                table[i, j - 1] + 1,
                table[i - 1, j - 1] + (a[i - 1] != b[j - 1]),
            ]
            if i > 1 and j > 1 and a[i - 1] == b[j - 2] and a[i - 2] == b[j - 1]:
                ways.append(table[i - 2, j - 2] + 1)
            table[i, j] = min(ways)
    return table[len(a), len(b)]


def document(vectors: Array, rows: list[int], weights: Array) -> Array:
    """The weighted mean of some words' vectors; zeros for none."""
    total = np.zeros(vectors.shape[1])
    for row in rows:
        total += weights[row] * vectors[row].astype(float)
    return total / max(1, len(rows))


def without_components(rows: Array, n: int = 1) -> Array:
    """Rows less their projections on the first n right singular vectors."""
    for component in np.linalg.svd(rows.astype(float), full_matrices=False)[2][:n]:
        rows = rows - np.outer(rows @ component, component)
    return rows
