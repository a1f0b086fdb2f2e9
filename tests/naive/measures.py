"""Retrieval measures of one query, from the grades of its ranked documents, by their definitions.

ranking : document ids, best first
judged : {document id: grade}; below 0 is judged, not assessed (infAP's unjudged pool)
"""

from __future__ import annotations

import math
from collections.abc import Callable

Judged = dict[str, int]


def order(rows: list[tuple[str, float | None, float]]) -> list[str]:
    """Rank the rows (document, rank or None, score): by rank if all have one, then by descending
    score, then by descending document id."""
    left = list(rows)
    ranked = all(rank is not None for _, rank, _ in rows)
    found = []
    while left:
        best = left[0]
        for row in left[1:]:
            if ranked and row[1] != best[1]:
                better = row[1] < best[1]
            elif row[2] != best[2]:
                better = row[2] > best[2]
            else:
                better = row[0].encode() > best[0].encode()
            best = row if better else best
        found.append(best[0])
        left.remove(best)
    return found


def relevant(ranking: list[str], judged: Judged, rel: int = 1) -> list[bool]:
    return [judged.get(document, 0) >= rel for document in ranking]


def total(judged: Judged, rel: int = 1) -> int:
    return sum(grade >= rel for grade in judged.values())


def precision(ranking: list[str], judged: Judged, k: int, rel: int = 1) -> float:
    return sum(relevant(ranking[:k], judged, rel)) / k


def recall(ranking: list[str], judged: Judged, k: int, rel: int = 1) -> float:
    return sum(relevant(ranking[:k], judged, rel)) / max(total(judged, rel), 1)


def success(ranking: list[str], judged: Judged, k: int) -> float:
    return float(any(relevant(ranking[:k], judged)))


def reciprocal_rank(ranking: list[str], judged: Judged, k: int = 10**9, rel: int = 1) -> float:
    for rank, hit in enumerate(relevant(ranking[:k], judged, rel), 1):
        if hit:
            return 1 / rank
    return 0.0


def average_precision(ranking: list[str], judged: Judged, k: int = 10**9, rel: int = 1) -> float:
    hits = relevant(ranking[:k], judged, rel)
    found = sum(precision(ranking, judged, i + 1, rel) for i, hit in enumerate(hits) if hit)
    return found / max(total(judged, rel), 1)


def r_precision(ranking: list[str], judged: Judged) -> float:
    return precision(ranking, judged, total(judged)) if total(judged) else 0.0


def interpolated_precision(ranking: list[str], judged: Judged, at: float) -> float:
    hits = relevant(ranking, judged)
    if not total(judged):
        return 0.0
    # trec_eval rounds the number of relevant documents that the recall takes down, from .9 on up
    wanted = int(at * total(judged) + 0.9)
    best = 0.0
    for i in range(len(hits)):
        if sum(hits[: i + 1]) >= wanted:
            best = max(best, precision(ranking, judged, i + 1))
    return best


def dcg(grades: list[int], gain: Callable[[int], float]) -> float:
    return sum(gain(grade) / math.log2(rank + 1) for rank, grade in enumerate(grades, 1))


def ndcg(
    ranking: list[str],
    judged: Judged,
    k: int = 10**9,
    gain: Callable[[int], float] = float,
) -> float:
    grades = [max(judged.get(document, 0), 0) for document in ranking[:k]]
    ideal = sorted((max(grade, 0) for grade in judged.values()), reverse=True)[:k]
    best = dcg(ideal, gain)
    return dcg(grades, gain) / best if best else 0.0


def burges_ndcg(ranking: list[str], judged: Judged, k: int = 10**9) -> float:
    return ndcg(ranking, judged, k, lambda grade: 2.0**grade - 1)


def expected_reciprocal_rank(ranking: list[str], judged: Judged, k: int = 10**9) -> float:
    found = 0.0
    for i in range(len(ranking[:k])):
        stops = [(2 ** max(judged.get(d, 0), 0) - 1) / 16 for d in ranking[: i + 1]]
        found += stops[-1] * math.prod(1 - stop for stop in stops[:-1]) / (i + 1)
    return found


def bpref(ranking: list[str], judged: Judged) -> float:
    """Buckley and Voorhees 2004, as trec_eval bounds it."""
    r, n = total(judged), sum(grade == 0 for grade in judged.values())
    above, found = 0, 0.0
    for document in ranking:
        if judged.get(document, -1) == 0:
            above += 1
        elif judged.get(document, -1) > 0:
            found += 1 - min(above, r) / min(n, r) if above else 1
    return found / r if r else 0.0


def inferred_ap(ranking: list[str], judged: Judged) -> float:
    """Yilmaz and Aslam 2006, with trec_eval's epsilon."""
    found, epsilon = 0.0, 0.00001
    for i, document in enumerate(ranking):
        if judged.get(document, 0) < 1:
            continue
        above = [judged[d] for d in ranking[:i] if d in judged]
        good, bad = sum(g > 0 for g in above), sum(g == 0 for g in above)
        if i:
            pool = len(above) / i
            expected = pool * (good + epsilon) / (good + bad + 2 * epsilon)
            found += 1 / (i + 1) + i / (i + 1) * expected
        else:
            found += 1
    return found / max(total(judged), 1)


def judged_share(ranking: list[str], judged: Judged, k: int = 10**9) -> float:
    return sum(document in judged for document in ranking[:k]) / max(len(ranking[:k]), 1)


def compatibility(ranking: list[str], judged: Judged, p: float = 0.95) -> float:
    """Clarke et al. 2021: rank-biased overlap with the ideal ranking nearest to this one."""
    place = {document: i for i, document in enumerate(ranking)}
    ideal = [document for document, grade in judged.items() if grade > 0]
    ideal.sort(key=lambda document: (-judged[document], place.get(document, len(place))))
    depth = max(len(ranking), len(ideal))

    def overlap(other: list[str]) -> float:
        return sum(
            p**i * len(set(other[: i + 1]) & set(ideal[: i + 1])) / (i + 1) for i in range(depth)
        )

    return overlap(ranking) / overlap(ideal) if ideal else 0.0


def accuracy(ranking: list[str], judged: Judged) -> float | None:
    hits = relevant(ranking, judged)
    if True not in hits:
        return None
    pairs = [(i, j) for i, a in enumerate(hits) for j, b in enumerate(hits) if a and not b]
    return sum(i < j for i, j in pairs) / len(pairs) if pairs else 1.0


def set_precision(ranking: list[str], judged: Judged) -> float:
    return precision(ranking, judged, len(ranking)) if ranking else 0.0


def set_recall(ranking: list[str], judged: Judged) -> float:
    return recall(ranking, judged, len(ranking))


def set_relative_precision(ranking: list[str], judged: Judged) -> float:
    return sum(relevant(ranking, judged)) / max(min(len(ranking), total(judged)), 1)


def set_f(ranking: list[str], judged: Judged, beta: float = 1.0) -> float:
    p, r = set_precision(ranking, judged), set_recall(ranking, judged)
    return (1 + beta) * p * r / (beta * p + r) if p + r else 0.0


def set_ap(ranking: list[str], judged: Judged) -> float:
    return set_precision(ranking, judged) * set_recall(ranking, judged)
