"""Where the words of a query match in a text, in plain Python.

Words are runs of word characters, lower-cased; all weigh 1. A query is a tuple: ("term", word),
("prefix", text), ("phrase", words), ("sloppy", words, slop), ("near", words, distance, in_order),
("any", queries), ("but", query, query): the first without regard to the second.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import product
from typing import Any

REPEATED = 0.25


def tokens(text: str) -> list[tuple[str, int, int]]:
    return [(found[0].lower(), *found.span()) for found in re.finditer(r"\w+", text)]


def places(words: list[str], wanted: tuple[str, ...]) -> list[list[int]]:
    return [[at for at, word in enumerate(words) if word == one] for one in wanted]


def combinations(positions: list[list[int]]) -> Iterator[tuple[int, ...]]:
    """One position of each word, none twice."""
    return (match for match in product(*positions) if len(set(match)) == len(match))


def sloppy(positions: list[list[int]], offsets: list[int], slop: int) -> set[tuple[int, ...]]:
    def length(match: tuple[int, ...]) -> int:
        moved = [at - offset for at, offset in zip(match, offsets, strict=True)]
        return max(moved) - min(moved)

    return {match for match in combinations(positions) if length(match) <= slop}


def near(positions: list[list[int]], distance: int, in_order: bool) -> set[tuple[int, int]]:
    """The intervals (first, last) that have every word, in order or not, with no smaller one inside
    of them and at most `distance` other positions."""
    every = {
        (min(match), max(match)) for match in combinations(positions)
        if not in_order or list(match) == sorted(match)
    }  # fmt: skip
    smallest = {
        (a, b) for a, b in every
        if not any((c, d) != (a, b) and a <= c and d <= b for c, d in every)
    }  # fmt: skip
    return {(a, b) for a, b in smallest if b - a + 1 - len(positions) <= distance}


def occurrences(text: str, query: Any) -> list[tuple[Any, int, int, float]]:
    """(clause, start, end, weight) of each match of words and phrases, in code points."""
    found, words = tokens(text), [word for word, _, _ in tokens(text)]
    match query:
        case ("term", word):
            return [(query, a, b, 1.0) for one, a, b in found if one == word]
        case ("prefix", prefix):
            return [(query, a, b, 1.0) for one, a, b in found if one.startswith(prefix)]
        case ("phrase", wanted):
            size = len(wanted)
            return [
                (query, found[at][1], found[at + size - 1][2], float(size))
                for at in range(len(words) - size + 1)
                if tuple(words[at : at + size]) == wanted
            ]
        case ("any", queries):
            return [one for each in queries for one in occurrences(text, each)]
        case ("but", positive, _):
            return occurrences(text, positive)
    raise AssertionError(query)


def best_score(found: list[tuple[Any, int, int, float]], length: int) -> float:
    """The most weight of a passage."""
    best = 0.0
    for _, start, _, _ in found:
        inside = sorted(
            (one for one in found if start <= one[1] < start + length
             and min(one[2], one[1] + length) <= start + length),
            key=lambda one: one[1:3],
        )  # fmt: skip
        counts: dict[Any, int] = {}
        score = 0.0
        for clause, _, _, weight in inside:
            score += weight * REPEATED ** counts.get(clause, 0)
            counts[clause] = counts.get(clause, 0) + 1
        best = max(best, score)
    return best
