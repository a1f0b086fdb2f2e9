"""The norm of all gradients, and clipping by norm or by value.

Pascanu, Mikolov and Bengio 2013, "On the difficulty of training recurrent neural networks".
"""

from __future__ import annotations

import math
from collections.abc import Collection

import numpy as np

from fastseq.kernels.core.arrays import ALIGNED
from fastseq.nn.parameters import Parameters
from fastseq.settings import real
from fastseq.threads import Team

_LEAST = 65536  # gradients that are worth a thread of their own

LEAST = 1e-20  # of a limit: less would scale every gradient to zero


def gradient_norm(parameters: Parameters, team: Team, frozen: Collection[str] = ()) -> float:
    """√Σ g² over the gradients of all parameters but those whose names are in `frozen`.

    Summed in float64, in an order that does not depend on the number of threads. Infinite or NaN
    where a gradient is.
    """
    sums = [parameters.square_sum(start, stop, team) for start, stop in parameters.ranges(frozen)]
    return math.sqrt(math.fsum(value for part in sums for value in part))


def clip_norm(
    parameters: Parameters, limit: float, team: Team, frozen: Collection[str] = ()
) -> float:
    """Scale the gradients by limit / (norm + 1e-6) where that is below 1; returns the norm before.

    A norm that is infinite or NaN is returned and nothing is scaled: the caller should stop.
    Raises SettingsError when `limit` is below 1e-20.
    """
    _check(limit)
    norm = gradient_norm(parameters, team, frozen)
    factor = limit / (norm + 1e-6)
    if math.isfinite(norm) and factor < 1:
        narrow = np.float32(factor)
        parts = _parts(parameters, team, frozen)

        def work(part: int) -> None:
            parameters.kernels.scale(parameters.gradients, *parts[part], narrow)

        team.run(work, len(parts))
    return norm


def clip_value(
    parameters: Parameters, limit: float, team: Team, frozen: Collection[str] = ()
) -> None:
    """Bring every gradient into [-limit, limit]; one that is NaN stays NaN.

    Raises SettingsError when `limit` is below 1e-20.
    """
    _check(limit)
    narrow = np.float32(limit)
    parts = _parts(parameters, team, frozen)

    def work(part: int) -> None:
        parameters.kernels.clamp(parameters.gradients, *parts[part], narrow)

    team.run(work, len(parts))


def _parts(parameters: Parameters, team: Team, frozen: Collection[str]) -> list[tuple[int, int]]:
    return [
        (start + low, start + high)
        for start, stop in parameters.ranges(frozen)
        for low, high in team.split(stop - start, _LEAST, ALIGNED)
    ]


def _check(limit: float) -> None:
    real("the limit of clipping", limit, lambda n: n >= LEAST, f"a number of at least {LEAST}")
