"""Tiled products compared with NumPy, and cuBLAS's arguments with a column-major product."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fastseq.kernels.cuda.nn import gemm
from fastseq.kernels.cuda.runtime import memory
from fastseq.kernels.cuda.runtime.target import SIMULATED

Float32 = NDArray[np.float32]


WAYS = pytest.mark.parametrize("multiply", [gemm.multiply, gemm.multiply_by_tiles])


def drawn(*shape: int, seed: int = 0) -> Float32:
    return np.random.default_rng(seed + sum(shape)).normal(size=shape).astype(np.float32)


@WAYS
@pytest.mark.parametrize("transpose_a", [False, True])
@pytest.mark.parametrize("transpose_b", [False, True])
@pytest.mark.parametrize(("M", "N", "K"), [(3, 5, 7), (65, 2, 3)])
def test_products_match_numpy(
    multiply: Any, transpose_a: bool, transpose_b: bool, M: int, N: int, K: int
) -> None:
    a = drawn(K, M) if transpose_a else drawn(M, K)
    b = drawn(N, K, seed=1) if transpose_b else drawn(K, N, seed=1)
    out = memory.zeros((M, N))
    multiply(out, memory.put(a), memory.put(b), transpose_a=transpose_a, transpose_b=transpose_b)
    expected = (a.T if transpose_a else a) @ (b.T if transpose_b else b)
    np.testing.assert_allclose(memory.get(out), expected, atol=1e-5)


@WAYS
def test_strided_products_with_bias_and_accumulation(multiply: Any) -> None:
    a, b, bias, before = drawn(4, 6), drawn(9, 5), drawn(3), drawn(4, 8, seed=2)
    out = memory.put(before)
    left = gemm.window(memory.put(a), 1, 5)
    right = gemm.window(memory.put(b[:4].copy()), 2, 5)
    multiply(gemm.window(out, 2, 5), left, right, bias=memory.put(bias))
    product = a[:, 1:5] @ b[:4, 2:5]
    expected = before.copy()
    expected[:, 2:5] = product + bias
    np.testing.assert_allclose(memory.get(out), expected, atol=1e-5)
    multiply(gemm.window(out, 2, 5), left, right, add=True)
    expected[:, 2:5] += product
    np.testing.assert_allclose(memory.get(out), expected, atol=1e-5)


def test_split_sums_are_added_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gemm, "parts_of", lambda *sizes: 3)
    a, b = drawn(40, 2), drawn(40, 3, seed=1)
    out = memory.put(np.ones((2, 3), np.float32))
    gemm.multiply_by_tiles(out, memory.put(a), memory.put(b), transpose_a=True, add=True)
    np.testing.assert_allclose(memory.get(out), a.T @ b + 1, atol=1e-5)
    gemm.multiply_by_tiles(out, memory.put(a), memory.put(b), transpose_a=True)
    np.testing.assert_allclose(memory.get(out), a.T @ b, atol=1e-5)


def test_rows_are_filled_with_the_bias() -> None:
    out = memory.zeros((3, 4))
    gemm.fill_rows(gemm.window(out, 1, 3), memory.put(np.array([5, 6], np.float32)))
    assert memory.get(out).tolist() == [[0, 5, 6, 0]] * 3


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ({}, "times"),
        ({"transpose_b": True, "precision": "half"}, "precision"),
        ({"transpose_b": True, "add": True, "bias": 2}, "bias"),
    ],
)
def test_mismatched_arguments_are_rejected(call: dict[str, object], message: str) -> None:
    if "bias" in call:
        call = {**call, "bias": memory.zeros(2)}
    with pytest.raises(ValueError, match=message):
        gemm.multiply(memory.zeros((2, 2)), memory.zeros((2, 3)), memory.zeros((2, 3)), **call)


def by_columns(op: int, memory_of: Float32, stride: int, rows: int, columns: int) -> Float32:
    """What cuBLAS sees: op of the matrix whose column j begins at j times stride."""
    shape = (columns, rows) if op else (rows, columns)
    seen = np.array([[memory_of[j * stride + i] for j in range(shape[1])] for i in range(shape[0])])
    return seen.T if op else seen


@pytest.mark.parametrize("transpose_a", [False, True])
@pytest.mark.parametrize("transpose_b", [False, True])
def test_cublas_arguments_describe_the_product(transpose_a: bool, transpose_b: bool) -> None:
    M, N, K = 2, 3, 4
    a = drawn(K, M) if transpose_a else drawn(M, K)
    b = drawn(N, K, seed=1) if transpose_b else drawn(K, N, seed=1)
    first, second, rows, columns, inner = gemm.cublas_arguments(M, N, K, transpose_a, transpose_b)
    left = by_columns(first, b.reshape(-1), b.shape[1], rows, inner)
    right = by_columns(second, a.reshape(-1), a.shape[1], inner, columns)
    expected = (a.T if transpose_a else a) @ (b.T if transpose_b else b)
    np.testing.assert_allclose(left @ right, expected.T, atol=1e-6)


@pytest.mark.skipif(not SIMULATED, reason="a GPU may have the library")
def test_missing_cublas_is_detected() -> None:
    assert gemm._cublas() is None
