"""Everything a table of next-token probabilities can say, by trying every sequence.

A table gives p(next | sequence so far) for any sequence, in float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Table = Callable[[tuple[int, ...]], npt.NDArray[np.float64]]


def endings(
    table: Table, prompt: tuple[int, ...], length: int, stop: int | None
) -> dict[tuple[int, ...], float]:
    """{ids: log p} of every continuation: `length` ids, or fewer and then the stop token.

    The stop token is not among the ids; what a zero probability rules out is left out.
    """
    found: dict[tuple[int, ...], float] = {}

    def go_on(ids: tuple[int, ...], total: float) -> None:
        if len(ids) == length:
            found[ids] = total
            return
        for token, p in enumerate(table(prompt + ids)):
            if p == 0:
                continue
            if token == stop:
                found[ids] = total + math.log(p)
            else:
                go_on((*ids, token), total + math.log(p))

    go_on((), 0.0)
    return found


def best(
    table: Table,
    prompt: tuple[int, ...],
    length: int,
    count: int,
    stop: int | None,
    penalty: float,
) -> list[tuple[tuple[int, ...], float]]:
    """The `count` best continuations with their log p, ranked by log p / tokens^penalty."""
    found = endings(table, prompt, length, stop)

    def rank(item: tuple[tuple[int, ...], float]) -> float:
        ids, total = item
        tokens = len(ids) + (len(ids) < length)
        return -total / tokens**penalty

    return sorted(found.items(), key=rank)[:count]


def beam(
    table: Table, prompt: tuple[int, ...], length: int, beams: int, stop: int | None
) -> list[tuple[tuple[int, ...], float]]:
    """Beam search by its definition, with no early end: dictionaries and sorting."""
    going: dict[tuple[int, ...], float] = {(): 0.0}
    done: dict[tuple[int, ...], float] = {}
    for _ in range(length):
        longer: dict[tuple[int, ...], float] = {}
        for ids, total in going.items():
            for token, p in enumerate(table(prompt + ids)):
                if p > 0 and token == stop:
                    done[ids] = total + math.log(p)
                elif p > 0:
                    longer[(*ids, token)] = total + math.log(p)
        going = dict(sorted(longer.items(), key=lambda item: -item[1])[:beams])
    return sorted([*done.items(), *going.items()], key=lambda item: -item[1])[:beams]


def nucleus(p: npt.NDArray[np.float64], least: float) -> set[int]:
    """The smallest set of most probable tokens with probability of at least `least`."""
    total, kept = 0.0, set()
    for token in sorted(range(len(p)), key=lambda i: (-p[i], i)):
        kept.add(token)
        total += p[token]
        if total >= least:
            break
    return kept
