"""Matrix products of float32 arrays on a team of threads.

Threads share rows or columns of the result, never a sum, so its bits do not depend on them.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

from fastseq.kernels.core.arrays import aligned_zeros
from fastseq.kernels.nn.pooling import segment_sums
from fastseq.kernels.simd import gemm
from fastseq.nn.arrays import Workspace
from fastseq.threads import Team
from fastseq.types import Float32

_LEAST_SUMMED = 1 << 17  # floats read that are worth a thread
SMALL = 1 << 20  # multiply-adds below which a second thread does not pay off


class Panels:
    """A matrix B [K, N] packed for products A B."""

    def __init__(self, depth: int, columns: int) -> None:
        self.depth = depth
        self.columns = columns
        self.data = aligned_zeros(gemm.packed_size(depth, columns))

    def pack(self, b: Float32, team: Team, transposed: bool = False) -> Panels:
        """Pack b [K, N], or [N, K] when `transposed`; returns self."""
        kernel: Any = gemm.pack_transposed if transposed else gemm.pack
        parts = team.split(self.columns, max(1, SMALL // max(1, self.depth)), gemm.WIDTH)
        team.run(lambda i: kernel(self.data, b, *parts[i]), len(parts))
        return self


def multiply_panels(
    out: Float32,
    a: Float32,
    panels: Panels,
    team: Team,
    bias: Float32 | None = None,
    add: bool = False,
) -> None:
    """out[M, N] = a[M, K] B + bias[N], added to `out` when `add`."""
    start = padded_bias(bias, panels.columns)
    parts = team.split(len(a), max(1, SMALL // max(1, panels.depth * panels.columns)))

    def work(i: int) -> None:
        gemm.multiply_panels(out, a, panels.data, start, add, scratch(), *parts[i])

    team.run(work, len(parts))


def padded_bias(bias: Float32 | None, columns: int) -> Float32:
    """A bias [N] as the kernel takes it, zeros where there is none."""
    padded = np.zeros(-(-columns // gemm.WIDTH) * gemm.WIDTH, np.float32)
    if bias is not None:
        padded[:columns] = bias
    return padded


def multiply(
    out: Float32,
    a: Float32,
    b: Float32,
    team: Team,
    *,
    transposed: bool = False,
    bias: Float32 | None = None,
    add: bool = False,
) -> None:
    """out[M, N] = a[M, K] · b[K, N] (b[N, K] when `transposed`) + bias[N]; added to when `add`."""
    depth, columns = b.shape[::-1] if transposed else b.shape
    panels = Panels(depth, columns).pack(b, team, transposed)
    multiply_panels(out, a, panels, team, bias, add)


def multiply_rows(out: Float32, a: Float32, b: Float32, team: Team) -> None:
    """out[K, N] += a[M, K]ᵀ · b[M, N]: a weight's gradient from its input and output's."""
    (M, K), N = a.shape, b.shape[1]
    by_rows = K >= N
    least = max(1, SMALL // max(1, M * (N if by_rows else K)))
    parts = team.split(K if by_rows else N, least, 1 if by_rows else gemm.WIDTH)

    def work(i: int) -> None:
        rows, columns = (parts[i], (0, N)) if by_rows else ((0, K), parts[i])
        gemm.multiply_columns(out, a, b, scratch(), *rows, *columns)

    team.run(work, len(parts))


def column_sums(a: Float32, team: Team) -> Float32:
    """float32[M], the sums over the rows of a contiguous float32[N, M], N >= 1, in their order."""
    rows, columns = a.shape
    out = np.empty(columns, np.float32)
    flat, ones, all_rows = a.reshape(-1), np.ones(rows, np.float32), np.array([0, rows], np.int64)

    ranges = team.split(columns, max(16, -(-_LEAST_SUMMED // rows)), 16)
    team.run(lambda i: segment_sums(out, flat, ones, all_rows, *ranges[i]), len(ranges))
    return out


def scratch() -> Float32:
    """Working memory of the calling thread for one product: the same array each time."""
    return thread_space().array("product", gemm.scratch_size())


def thread_space() -> Workspace:
    """Working memory of the calling thread, for work that ends before another starts."""
    found: Workspace | None = getattr(_of_thread, "space", None)
    if found is None:
        found = _of_thread.space = Workspace()
    return found


_of_thread = threading.local()
