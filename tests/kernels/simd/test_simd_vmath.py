"""exp, tanh, sigmoid, log and erf against float64, over all exponents and the special values.

bench/vmath.py --sweep measures the errors over all 2^32 inputs; here a sample is held to the
bounds that the docstrings state. test_simd_widths.py runs this file for each other width.
"""

from __future__ import annotations

import math
import re
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from bench.common.loops import over_array
from fastseq.kernels.core.jit import helper
from fastseq.kernels.core.width import LANES
from fastseq.kernels.simd import vmath
from fastseq.kernels.simd.floats import fma, load, store

REFERENCE: dict[str, Callable[[Any], Any]] = {
    "exp": np.exp,
    "tanh": np.tanh,
    "sigmoid": special.expit,
    "log": np.log,
    "erf": special.erf,
}
BOUNDS = {"exp": 1.03, "tanh": 3.44, "sigmoid": 3.42, "log": 0.87, "erf": 3.13}  # ulp
ABSOLUTE = {"tanh": 1.5e-7, "sigmoid": 9.3e-8, "erf": 9.7e-8}
NAMES = list(REFERENCE)
LEAST, GREATEST = np.float32(2.0**-149), np.finfo(np.float32).max


@helper
def _square_less_one(out, x):  # type: ignore[no-untyped-def]
    store(out, 0, fma(load(x, 0), load(x, 0), -1.0))


def fused() -> bool:
    x, out = np.full(LANES, 1 + 2.0**-12, np.float32), np.empty(LANES, np.float32)
    _square_less_one(out, x)
    return float(out[0]) == 2.0**-11 + 2.0**-24


SLACK = 1.0 if fused() else 2.0  # the bounds stated are those with fused multiply-add


ARRAYS = {name: over_array(getattr(vmath, name)) for name in NAMES}


def of(name: str, x: Any) -> np.ndarray:
    x = np.atleast_1d(np.asarray(x, np.float32))
    out = np.empty_like(x)
    ARRAYS[name](out, x)
    return out


def reference(name: str, x: np.ndarray) -> np.ndarray:
    with np.errstate(all="ignore"):
        return REFERENCE[name](x.astype(np.float64))


def errors(name: str, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """In ulp and absolute; where float32 overflows, infinity counts as its first step past."""
    found, true = of(name, x).astype(np.float64), reference(name, x)
    known = ~np.isnan(true)
    np.testing.assert_array_equal(np.isnan(found), ~known)
    found, true = found[known], true[known]
    exact = np.isinf(true)
    np.testing.assert_array_equal(found[exact], true[exact])
    found, true = (np.clip(each[~exact], -(2.0**128), 2.0**128) for each in (found, true))
    exponent = np.maximum(np.frexp(true)[1] - 1, -126)
    off = np.abs(found - true)
    return off / np.ldexp(1.0, exponent - 23), off


def sample() -> np.ndarray:
    """Some 2000 of every exponent and sign, the ends of all binades, and the usual range."""
    every = np.arange(0, 1 << 32, 4099, dtype=np.uint32)
    ends = (np.arange(512, dtype=np.uint32) << 23)[:, None] + np.arange(-3, 4).astype(np.uint32)
    usual = np.linspace(-20.0, 20.0, 200_001, dtype=np.float32)
    edges = np.linspace(-104.5, -86.0, 100_001, dtype=np.float32)
    return np.concatenate(
        [every.view(np.float32), ends.ravel().view(np.float32), usual, edges, -edges]
    )


SAMPLE = sample()


@pytest.mark.parametrize("name", NAMES)
def test_errors_are_within_the_documented_bounds(name: str) -> None:
    ulp, absolute = errors(name, SAMPLE)
    x = SAMPLE[~np.isnan(SAMPLE)]
    assert ulp.max() <= SLACK * BOUNDS[name]
    assert ulp.max() > 0.5, "no float32 function has no error"
    if name in ABSOLUTE:
        assert absolute.max() <= SLACK * ABSOLUTE[name]
    assert len(x) > 1_000_000


@pytest.mark.parametrize("name", NAMES)
def test_docstring_states_the_tested_bounds(name: str) -> None:
    said = getattr(vmath, name).__doc__
    assert f"{BOUNDS[name]} ulp" in said
    if name in ABSOLUTE:
        assert f"{ABSOLUTE[name]:.1e}".replace("e-0", "e-") in said


@settings(max_examples=300, deadline=None)
@given(st.floats(width=32), st.sampled_from(NAMES))
def test_any_finite_number(x: float, name: str) -> None:
    ulp, absolute = errors(name, np.array([x], np.float32))
    assert (ulp <= SLACK * BOUNDS[name]).all()
    assert (absolute <= SLACK * ABSOLUTE.get(name, math.inf)).all()


# ---- special values -------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_every_nan_stays_nan(name: str) -> None:
    payloads = np.array(
        [0x7FC00000, 0x7F800001, 0x7FFFFFFF, 0xFFC00000, 0xFF800001, 0xFFFFFFFF, 0x7FC001FF],
        np.uint32,
    )
    assert np.isnan(of(name, payloads.view(np.float32))).all()


@pytest.mark.parametrize("name", ["tanh", "erf"])
def test_odd_functions_keep_the_sign_in_every_bit(name: str) -> None:
    x = SAMPLE[~np.isnan(SAMPLE)]
    np.testing.assert_array_equal(
        of(name, -x).view(np.uint32), of(name, x).view(np.uint32) ^ np.uint32(1 << 31)
    )
    assert of(name, [0.0, -0.0, np.inf, -np.inf]).tolist() == [0.0, -0.0, 1.0, -1.0]
    np.testing.assert_array_equal(np.signbit(of(name, [0.0, -0.0])), [False, True])
    assert np.abs(of(name, SAMPLE[~np.isnan(SAMPLE)])).max() == 1.0


def test_exp_at_its_limits() -> None:
    assert of("exp", [0.0, -0.0, -np.inf, np.inf]).tolist() == [1.0, 1.0, 0.0, np.inf]
    last = np.float32(88.72283)  # the last whose exponential a float32 holds
    assert np.isfinite(of("exp", last))[0]
    assert of("exp", np.nextafter(last, np.float32(99)))[0] == np.inf
    assert of("exp", [1e30, -1e30]).tolist() == [np.inf, 0.0]
    # underflow is gradual: down to the last denormal, and zero beyond half of it
    assert of("exp", -103.9)[0] == LEAST
    assert of("exp", -104.1)[0] == 0.0
    below = of("exp", np.linspace(-104, -87, 10_001))
    assert len(np.unique(below)) > 5000
    assert (np.diff(below) >= 0).all()


def test_sigmoid_at_its_limits() -> None:
    assert of("sigmoid", [0.0, -0.0, -np.inf, np.inf]).tolist() == [0.5, 0.5, 0.0, 1.0]
    assert of("sigmoid", [-1e30, 1e30, -104.1, -103.9]).tolist() == [0.0, 1.0, 0.0, LEAST]
    all_of_them = of("sigmoid", SAMPLE[~np.isnan(SAMPLE)])
    assert all_of_them.min() == 0.0
    assert all_of_them.max() == 1.0


def test_log_at_its_limits() -> None:
    assert of("log", [0.0, -0.0, np.inf, 1.0]).tolist() == [-np.inf, -np.inf, np.inf, 0.0]
    assert np.isnan(of("log", [-1.0, -np.inf, -LEAST, -GREATEST])).all()
    assert (
        of("log", [LEAST, GREATEST]).tolist()
        == np.log(np.array([LEAST, GREATEST], np.float64)).astype(np.float32).tolist()
    )


# ---- whole arrays ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_arrays_of_every_length_and_in_place(name: str) -> None:
    numbers = np.random.default_rng(3).uniform(0.1, 5, 4 * LANES).astype(np.float32)
    kernel, expected = ARRAYS[name], of(name, numbers)
    for size in range(3 * LANES + 2):
        out = np.full(4 * LANES, -777.0, np.float32)
        kernel(out[:size], numbers[:size].copy())
        np.testing.assert_array_equal(out[:size], expected[:size])
        assert (out[size:] == -777.0).all()
    same = numbers.copy()
    kernel(same, same)
    np.testing.assert_array_equal(same, expected)


def test_the_readmes_example_runs(tmp_path: Path) -> None:
    readme = Path(vmath.__file__).with_name("README.md").read_text("utf-8")
    (code,) = (each for each in re.findall(r"```python\n(.*?)```", readme, re.S) if "@jit" in each)
    (tmp_path / "example.py").write_text(code, "utf-8")
    example = runpy.run_path(str(tmp_path / "example.py"))["squashed_error"]
    for size in (0, 1, LANES, 3 * LANES - 1):
        x, target = np.random.default_rng(size).normal(size=(2, size)).astype(np.float32)
        out = np.empty_like(x)
        expected = ((np.tanh(x.astype(np.float64)) - target) ** 2).sum()
        assert example(out, x, target) == pytest.approx(expected, rel=1e-5)
        np.testing.assert_array_equal(out, of("tanh", x))
