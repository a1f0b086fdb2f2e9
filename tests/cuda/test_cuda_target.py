"""Declaring and launching kernels, memory, scalar functions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bench.common.loops import over_array
from fastseq.kernels.cuda.runtime import memory, target
from fastseq.kernels.cuda.runtime.instructions import (
    absolute,
    exp,
    fma,
    maximum,
    minimum,
    sigmoid,
    tanh,
)
from fastseq.kernels.cuda.runtime.target import cuda, kernel
from fastseq.kernels.simd import vmath
from tests.cubin.compiling import undeclared


@kernel("float32[::1], float32[::1], int64", threads=32, registers=32)
def three(out, x, n):
    i = cuda.grid(1)
    if i < n:
        out[i] = exp(x[i])
        out[n + i] = sigmoid(x[i])
        out[2 * n + i] = tanh(x[i])


@kernel("float32[::1], float32[::1], float32[::1]", threads=32, registers=32)
def others(out, x, y):
    i = cuda.grid(1)
    if i < len(x):
        out[i] = minimum(x[i], y[i])
        out[len(x) + i] = maximum(x[i], y[i])
        out[2 * len(x) + i] = absolute(y[i])
        out[3 * len(x) + i] = fma(x[i], y[i], x[i])


def test_elementary_functions_match_the_cpu() -> None:
    some = np.random.default_rng(0).normal(0, 20, 50)
    x = np.concatenate([some, [0, -0.0, 1e-30, 90, -110, np.inf, -np.inf, np.nan]]).astype("f4")
    n = len(x)
    out = memory.empty(3 * n)
    three(target.blocks_for(n, 32), out, memory.put(x), n)
    found = memory.get(out).reshape(3, n)
    for row, function in zip(found, (vmath.exp, vmath.sigmoid, vmath.tanh), strict=True):
        expected = np.empty_like(x)
        over_array(function)(expected, x)
        np.testing.assert_allclose(row, expected, rtol=1e-6, atol=1e-44)


def test_minimum_maximum_absolute_and_fma() -> None:
    x = np.array([1, 3, 2, 1.0000001], np.float32)
    y = np.array([2, -1, np.nan, 1.0000001], np.float32)
    out = memory.empty(16)
    others(1, out, memory.put(x), memory.put(y))
    least, most, size, fused = memory.get(out).reshape(4, 4)
    assert least[:2].tolist() == [1, -1]
    assert most[:2].tolist() == [2, 3]
    assert np.isnan(least[2])
    assert np.isnan(most[2])
    assert size[:2].tolist() == [2, 1]
    exact = np.float64(x[3]) * np.float64(y[3]) + np.float64(x[3])
    assert fused[3] == np.float32(exact)


def test_kernels_are_registered_by_name() -> None:
    assert any(each.name == "test_cuda_target.three" for each in target.kernels())


@pytest.mark.parametrize("blocks", [0, (0, 1, 1), (3, 0, 2)])
def test_empty_grid_is_not_launched(blocks: object) -> None:
    three(blocks, None, None, 0)


def test_arrays_round_trip_to_the_device() -> None:
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    there = memory.put(x.T)
    assert (memory.get(there) == x.T).all()
    memory.put(x.T + 1, there)
    assert (memory.get(there) == x.T + 1).all()
    again = memory.zeros((3, 2))
    memory.copy(again, there)
    into = np.empty((3, 2), np.float32)
    assert memory.get(again, into) is into
    assert (into == x.T + 1).all()
    assert memory.get(memory.zeros(0)).size == 0


def test_scratch_is_reused_while_large_enough() -> None:
    first = memory.scratch("a test's", 8)
    memory.put(np.full(8, 5, np.float32), first)
    assert memory.get(memory.scratch("a test's", 4))[0] == 5
    assert memory.scratch("a test's", 100).size == 100
    memory.synchronize()


@pytest.mark.parametrize(
    "arguments",
    [
        (np.zeros(2, np.float64), np.float32(1), 1),
        (np.zeros(2, np.float32), "1", 1),
        (np.zeros(2, np.float32), np.float32(1), 1.5),
        (np.zeros(2, np.float32), np.float32(1)),
    ],
)
def test_launch_arguments_match_the_declaration(arguments: tuple[Any, ...]) -> None:
    with undeclared():

        @kernel("float32[::1], float32, int64", threads=1, registers=16)
        def filled(out, value, n):
            out[n] = value

        found = memory.zeros(2)
        filled(1, found, np.float32(3), 1)
        assert memory.get(found).tolist() == [0, 3]
        rows = memory.zeros((2, 2))  # an array is a vector, a number gets the declared type
        filled(1, rows, 3, True)
        assert memory.get(rows).tolist() == [[0, 3], [0, 0]]
        with pytest.raises(TypeError, match=r"declared|not |argument"):
            filled(1, memory.put(arguments[0]), *arguments[1:])
        with pytest.raises(ValueError, match="shared memory, 0 are declared"):
            filled(1, found, np.float32(1), 1, shared=4)


@pytest.mark.skipif(target.SIMULATED, reason="arrays of the simulator are the host's")
def test_host_array_is_rejected() -> None:
    with undeclared():

        @kernel("float32[::1]", threads=1, registers=16)
        def zeroed(out):
            out[0] = 0

        with pytest.raises(TypeError, match="an argument is ndarray, not an array on the device"):
            zeroed(1, np.ones(1, np.float32))
        every_other = memory.put(np.ones(4, np.float32))[::2]
        with pytest.raises(TypeError, match="it is not contiguous"):
            zeroed(1, every_other)


@pytest.mark.skipif(target.SIMULATED, reason="the simulator packs nothing")
def test_arguments_are_aligned() -> None:
    with undeclared():

        @kernel("float32, float32[::1], int32, float64, float32, int64", threads=1, registers=32)
        def listed(a, out, b, c, d, e):
            out[0], out[1], out[2], out[3], out[4] = a, b, c, d, e

        found = memory.zeros(5)
        listed(1, 1.5, found, -2, 3.25, 4.5, -5)
        assert memory.get(found).tolist() == [1.5, -2, 3.25, 4.5, -5]
