"""The maxima of a product over the rows of sequences, of which only a panel exists at a time."""

from __future__ import annotations

from fastseq.kernels.core.jit import jit
from fastseq.kernels.core.width import LANES
from fastseq.kernels.nn.rows import store_row
from fastseq.kernels.simd.floats import load, maximum
from fastseq.kernels.simd.gemm import DEPTH, ROWS, WIDTH, panel_vectors
from fastseq.kernels.simd.tiles import address, tiles


@jit
def projected_maxima(out, x, panels, bias, offsets, block):
    """out[b, c] = the largest of (x · B + bias)[n, c] over the rows n of sequence b.

    out      float32[B, N]
    x        float32[M, K], sequence b in the rows offsets[b] to offsets[b + 1] - 1, none empty
    panels   B [K, N], packed (gemm.py)
    bias     float32[padded(N)]
    offsets  int64[B + 1], from 0
    block    float32[M · WIDTH], working memory
    """
    M, K = x.shape
    sequences, N = out.shape
    flat = out.reshape(out.size)
    for column in range(0, N, WIDTH):
        vectors = panel_vectors(column, N)
        width = vectors * LANES
        for row in range(0, M, ROWS):
            rows = min(ROWS, M - row)
            for k in range(0, K, DEPTH):
                c = address(block, row * width)
                init, init_row = (c, width) if k else (address(bias, column), 0)
                tiles(
                    vectors, c, width, init, init_row, address(x, row * K + k), K, 1,
                    address(panels, column * K + k * width), width, min(DEPTH, K - k), 1, 0, 0,
                    rows,
                )  # fmt: skip
        for sequence in range(sequences):
            first, last = offsets[sequence] * width, offsets[sequence + 1] * width
            for lane in range(0, min(width, N - column), LANES):
                best = load(block, first + lane)
                for at in range(first + width, last, width):
                    best = maximum(best, load(block, at + lane))
                store_row(flat, sequence * N + column + lane, best, N - column - lane)
