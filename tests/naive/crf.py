"""A linear-chain CRF in float64: by enumeration of all paths, and by the recursions.

emissions [T, K] of one sequence, transitions [K, K] (from, to), start [K], end [K].
"""

from __future__ import annotations

from itertools import pairwise, product

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def path_score(
    emissions: Array, path: tuple[int, ...], transitions: Array, start: Array, end: Array
) -> float:
    score = start[path[0]] + end[path[-1]]
    score += sum(emissions[t, tag] for t, tag in enumerate(path))
    return float(score + sum(transitions[a, b] for a, b in pairwise(path)))


def all_paths(
    emissions: Array, transitions: Array, start: Array, end: Array
) -> dict[tuple[int, ...], float]:
    """{path: score} of all K^T paths."""
    steps, k = emissions.shape
    return {
        path: path_score(emissions, path, transitions, start, end)
        for path in product(range(k), repeat=steps)
    }


def by_enumeration(
    emissions: Array, transitions: Array, start: Array, end: Array
) -> tuple[float, Array, tuple[int, ...], float]:
    """(log Z, marginals [T, K], best path, its score); ties to the lower tag from the end."""
    scores = all_paths(emissions, transitions, start, end)
    highest = max(scores.values())
    z = sum(np.exp(score - highest) for score in scores.values())
    marginals = np.zeros_like(emissions)
    for path, score in scores.items():
        for t, tag in enumerate(path):
            marginals[t, tag] += np.exp(score - highest) / z
    best = min((path for path, s in scores.items() if s == highest), key=lambda p: p[::-1])
    return highest + float(np.log(z)), marginals, best, highest


def _log_sum(values: Array, axis: int) -> Array:
    top = values.max(axis=axis, keepdims=True)
    return np.log(np.exp(values - top).sum(axis=axis)) + top.squeeze(axis)


def log_forward(emissions: Array, transitions: Array, start: Array) -> Array:
    alpha = np.empty_like(emissions)
    alpha[0] = start + emissions[0]
    for t in range(1, len(emissions)):
        alpha[t] = _log_sum(alpha[t - 1][:, None] + transitions, 0) + emissions[t]
    return alpha


def log_backward(emissions: Array, transitions: Array, end: Array) -> Array:
    beta = np.empty_like(emissions)
    beta[-1] = end
    for t in range(len(emissions) - 2, -1, -1):
        beta[t] = _log_sum(transitions + (emissions[t + 1] + beta[t + 1])[None, :], 1)
    return beta


def loss(
    emissions: Array, path: tuple[int, ...], transitions: Array, start: Array, end: Array
) -> float:
    """Negative log-likelihood of one path."""
    alpha = log_forward(emissions, transitions, start)
    z = float(_log_sum(alpha[-1] + end, 0))
    return z - path_score(emissions, path, transitions, start, end)


def gradients(
    emissions: Array, path: tuple[int, ...], transitions: Array, start: Array, end: Array
) -> tuple[Array, Array, Array, Array]:
    """Of the loss: (demissions, dtransitions, dstart, dend)."""
    alpha = log_forward(emissions, transitions, start)
    beta = log_backward(emissions, transitions, end)
    z = _log_sum(alpha[-1] + end, 0)
    demissions = np.exp(alpha + beta - z)
    dstart, dend = demissions[0].copy(), demissions[-1].copy()
    dtransitions = np.zeros_like(transitions)
    for t in range(1, len(emissions)):
        ahead = emissions[t] + beta[t]
        dtransitions += np.exp(alpha[t - 1][:, None] + transitions + ahead[None, :] - z)
        dtransitions[path[t - 1], path[t]] -= 1
    for t, tag in enumerate(path):
        demissions[t, tag] -= 1
    dstart[path[0]] -= 1
    dend[path[-1]] -= 1
    return demissions, dtransitions, dstart, dend


def viterbi_score(emissions: Array, transitions: Array, start: Array, end: Array) -> float:
    best = start + emissions[0]
    for t in range(1, len(emissions)):
        best = (best[:, None] + transitions).max(axis=0) + emissions[t]
    return float((best + end).max())
