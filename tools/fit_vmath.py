"""Fits the polynomials of fastseq/kernels/simd/vmath.py, and prints them (half a minute).

    python tools/fit_vmath.py

Each is a minimax fit on an interval by weighted least squares in float64 (Lawson's weights: after
each solution every point's weight is multiplied by its error). The coefficients are then rounded to
float32 one after the other, from the lowest power upward, those left being fitted again around
them: a later coefficient makes up for the rounding of an earlier one. Printed beside each is the
largest weighted error of the float32 coefficients in exact arithmetic. The rounding of each step
in float32 comes on top: bench.vmath --sweep measures the whole.

Source: C. L. Lawson, "Contributions to the theory of linear least maximum approximation", 1961.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy import special

Array = npt.NDArray[np.float64]
ROUNDS = 400


@dataclass(frozen=True)
class Target:
    """f(t) ≈ P(t) for t in [low, high]; `weight` is what an error of P is multiplied by before it
    is judged: where it is not given 1 / f, for the relative error."""

    name: str
    function: Callable[[Array], Array]
    low: float
    high: float
    degree: int
    fixed: dict[int, float] = field(default_factory=dict)  # coefficients known beforehand
    weight: Callable[[Array], Array] | None = None

    def weights(self, t: Array) -> Array:
        return 1.0 / np.abs(self.function(t)) if self.weight is None else self.weight(t)


def grid(low: float, high: float, size: int = 4000) -> Array:
    """Points that crowd at both ends, as the errors of a minimax fit do."""
    angles = np.linspace(0.0, np.pi, size)
    return (low + high) / 2 - (high - low) / 2 * np.cos(angles)


def solve(target: Target, t: Array, known: dict[int, float]) -> Array:
    """The coefficients, lowest power first, with some of them given."""
    wanted = target.weights(t)
    p = np.zeros(target.degree + 1)
    p[list(known)] = list(known.values())
    free = [power for power in range(target.degree + 1) if power not in known]
    right = target.function(t) - np.polyval(p[::-1], t)
    columns = t[:, None] ** np.array(free)
    lawson, least, best = np.ones_like(t), np.inf, p
    for _ in range(ROUNDS):
        weights = np.sqrt(lawson) * wanted
        weighted = columns * weights[:, None]
        scale = np.linalg.norm(weighted, axis=0)
        found = np.linalg.lstsq(weighted / scale, right * weights, rcond=None)[0] / scale
        error = np.abs((columns @ found - right) * wanted)
        if error.max() < least:
            least, best = error.max(), p.copy()
            best[free] = found
        lawson *= error
        lawson = np.maximum(lawson / lawson.mean(), 1e-12)
    return best


def fit(target: Target) -> tuple[Array, float]:
    """The float32 coefficients, lowest power first, and the largest weighted error they leave."""
    t = grid(target.low, target.high)
    known = dict(target.fixed)
    for power in range(target.degree + 1):
        if power not in known:
            known[power] = float(np.float32(solve(target, t, known)[power]))
    p = np.array([known[power] for power in range(target.degree + 1)])
    error = np.abs((np.polyval(p[::-1], t) - target.function(t)) * target.weights(t))
    return p, float(error.max())


LN2 = float(np.log(2.0))
HALF = 0.5 + 2.0**-9  # what rounding leaves of an exponent, with the rounding error of that step
SMALL = 1e-3


def twice_exp2(f: Array) -> Array:
    return 2.0 * np.exp2(f)


def half_tanh(t: Array) -> Array:
    """tanh(f ln 2 / 2) / f where f² = t."""
    f = np.sqrt(np.maximum(t, 1e-30))
    return np.where(t < 1e-12, LN2 / 2, np.tanh(f * LN2 / 2) / f)


def exp2_less_one(f: Array) -> Array:
    """(2^f - 1) / f."""
    safe = np.where(np.abs(f) < 1e-9, 1.0, f)
    return np.where(np.abs(f) < 1e-9, LN2, np.expm1(safe * LN2) / safe)


def erfc_exponent(x: Array) -> Array:
    """log2(1 - erf x) / x."""
    safe = np.maximum(x, 1e-9)
    exponent: Array = np.log2(special.erfc(safe)) / safe
    return exponent


def erfc_weight(x: Array) -> Array:
    """What an error of erfc_exponent does to erf x, as a relative error."""
    safe = np.maximum(x, 1e-9)
    weight: Array = LN2 * safe * special.erfc(safe) / special.erf(safe)
    return weight


def log_rest(f: Array) -> Array:
    """(log(1 + f) - f + f² / 2) / f³."""
    safe = np.where(np.abs(f) < SMALL, 1.0, f)
    series = 1 / 3 - f / 4 + f**2 / 5 - f**3 / 6 + f**4 / 7
    return np.where(np.abs(f) < SMALL, series, (np.log1p(safe) - safe + safe**2 / 2) / safe**3)


def log_weight(f: Array) -> Array:
    safe = np.where(f == 0.0, 1.0, f)
    return np.abs(np.where(f == 0.0, 0.0, safe**3 / np.log1p(safe)))


TARGETS = (
    Target("exp: e^r", np.exp, -HALF * LN2, HALF * LN2, 6, fixed={0: 1.0, 1: 1.0}),
    Target("sigmoid: 2 2^f", twice_exp2, -HALF, HALF, 5, fixed={0: 2.0}),
    Target("tanh: tanh(f ln 2 / 2) / f in f²", half_tanh, 0.0, HALF**2, 2),
    Target("erf: log2(1 - erf x) / x", erfc_exponent, 0.0, 3.95, 8, weight=erfc_weight),
    Target("erf: (2^f - 1) / f", exp2_less_one, -HALF, HALF, 5),
    Target(
        "log: (log(1 + f) - f + f² / 2) / f³",
        log_rest,
        np.sqrt(0.5) - 1.0,
        np.sqrt(2.0) - 1.0,
        7,
        weight=log_weight,
    ),
)


def main() -> None:
    for target in TARGETS:
        coefficients, error = fit(target)
        print(f"{target.name}, error {error:.1e}:")
        print("   ", ", ".join(str(np.float32(value)) for value in coefficients))


if __name__ == "__main__":
    main()
