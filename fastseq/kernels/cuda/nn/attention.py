"""Multi-head attention over packed ragged sequences, without padding: the GPU counterpart of
kernels/nn/attention.py (Vaswani et al. 2017; Dao et al. 2022).

A block has a tile of T query rows of a sequence and a head. It takes the sequence's keys T at a
time: the scores [T, T] are a product of tiles in shared memory, become exponentials with the
largest score so far, and are multiplied by the values; when the largest score grows, the sums so
far are scaled. So no array grows with n². The forward pass keeps the logarithm of each row's sum of
exponentials, from which the backward pass computes the probabilities again: one kernel has a tile
of keys and takes all queries (dK, dV), another a tile of queries and takes all keys (dQ), so that
nothing is added by two blocks and every sum has one order.

A thread has 4 × 4 numbers of a product, in registers. T is 64, or less for narrow heads and where
shared memory is too small. Heads of more than T columns are cut into blocks of T of the result.

Dropout's mask is that of the CPU: a key for each row and head, a number for each key of the
sequence.

Sizes: N rows of all sequences, H = heads · D columns. Everywhere:

    qkv     float32[N, 3H]     queries, keys and values, each head after head
    lse     float32[N, heads]  logarithm of each row's sum of exponentials
    delta   float32[N, heads]  Σ dout · out of each row and head
    items   int32[·, 3]        of each tile of rows: its sequence's first row and the row after the
                               last, and the tile's first row
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import float32, int32

from fastseq.kernels.cuda.nn.dropout import mask_bits, row_key
from fastseq.kernels.cuda.nn.gemm import (
    NO_SUMS,
    add_dots,
    add_outer,
    pick,
    scale_rows,
)
from fastseq.kernels.cuda.nn.layer_norm import Dropping
from fastseq.kernels.cuda.nn.softmax import LOWEST
from fastseq.kernels.cuda.runtime import memory, target
from fastseq.kernels.cuda.runtime.instructions import exp, maximum
from fastseq.kernels.cuda.runtime.target import (
    blocks_for,
    cuda,
    device_function,
    kernel,
    typed_function,
)

TILES = (64, 32, 16, 8)  # rows of a tile
THREADS = (TILES[0] // 4) ** 2
MOST_SHARED = 163 << 10  # bytes of a block, on any GPU
_GAP = 4  # floats after a row of T, so that rows are spread over the banks
_PARTS = THREADS // TILES[0]  # threads of a row in the softmax, at most
ZERO, INFINITE = np.float32(0), np.float32(np.inf)

Int32 = npt.NDArray[np.int32]


def shared_bytes(tile: int, size: int) -> int:
    """Dynamic shared memory of each kernel, for heads of `size` columns."""
    wide, row = -(-size // 4) * 4, tile + _GAP
    turned, straight, scores = wide * row, tile * wide, tile * row
    forward = turned + 2 * straight + scores + (4 + 2 * _PARTS) * tile
    back = 2 * turned + 2 * straight + scores + max(straight, scores) + 2 * tile
    return 4 * (max(forward, back) + 2 * tile)


def tile_of(size: int, most: int | None = None) -> int:
    """Rows of a tile for heads of `size` columns; 0 where a block's shared memory is too small.

    most  bytes of shared memory of a block, by default those of the current device
    """
    most = min(MOST_SHARED, target.most_shared()) if most is None else most
    for tile in TILES:
        fits = shared_bytes(tile, size) <= most
        if fits and (tile // 2 < size or tile == TILES[-1]):
            return tile
    return 0


def tiles_of(offsets: npt.NDArray[np.integer], tile: int) -> Int32:
    """int32[·, 3]: `items` of the sequences of offsets [B + 1], the longest sequences first."""
    lengths = np.diff(offsets)
    order = np.argsort(-lengths, kind="stable")
    counts = -(-lengths[order] // tile)
    sequences = np.repeat(order, counts)
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    numbers = np.arange(len(sequences)) - np.repeat(starts, counts)
    first = offsets[:-1][sequences]
    found = np.stack([first, offsets[1:][sequences], first + tile * numbers], axis=1)
    return np.ascontiguousarray(found, np.int32)


# ---- in kernels. Threads of a row of tiles, T / 4, read neighbouring columns.


@typed_function
def _load_rows(shared, to, array, first, count, stride, column, size, wide, tile):
    """shared[to + r · wide + c] = array[(first + r) · stride + column + c] for r < count and c <
    size, else 0; r < tile, c < wide."""
    side = tile >> 2
    lane, line = cuda.threadIdx.x % side, cuda.threadIdx.x // side
    for r in range(line, tile, side):
        for c in range(lane, wide, side):
            value = ZERO
            if r < count and c < size:
                value = array[(first + r) * stride + column + c]
            shared[to + r * wide + c] = value


@typed_function
def _load_turned(shared, to, array, first, count, stride, column, size, wide, tile):
    """shared[to + c · (tile + _GAP) + r] = the same."""
    side, row = tile >> 2, tile + _GAP
    lane, line = cuda.threadIdx.x % side, cuda.threadIdx.x // side
    for r in range(line, tile, side):
        for c in range(lane, wide, side):
            value = ZERO
            if r < count and c < size:
                value = array[(first + r) * stride + column + c]
            shared[to + c * row + r] = value


@device_function
def _dots(sums, shared, a, a_row, b, b_row, depth):
    """sums + the product of four rows from a on and four columns from b on, `depth` a multiple of
    four."""
    for k in range(0, depth, 4):
        sums = add_dots(sums, shared, a + k, a_row, shared, b + k * b_row, b_row)
    return sums


@device_function
def _outer(sums, shared, a, a_row, b, b_row, depth):
    """The same of four columns from a on, `depth` rows of them."""
    for k in range(depth):
        sums = add_outer(sums, shared, a + k * a_row, shared, b + k * b_row)
    return sums


@typed_function
def _store(out, first, rows, stride, column, columns, i, j, sums):
    """out[(first + r) · stride + column + c] = the thread's sums, of r < rows and c < columns."""
    for r in range(4):
        if i + r < rows:
            for c in range(4):
                if j + c < columns:
                    at = (first + i + r) * stride + column + j + c
                    out[at] = pick(sums, 4 * r + c)


@kernel(
    "float32[::1], float32[::1], float32[::1], int32[::1], int64, int64, int64, float32, int64, "
    "int64, int64, float32, int64",
    threads=THREADS, registers=176, shared=MOST_SHARED,
)  # fmt: skip
def attend(out, lse, qkv, items, heads, size, tile, factor, drops, key, limit, scale, saves):
    """See `attention_forward`: block (x, y, z) has the tile of item x, head y, and the z-th T
    columns of it. Dynamic shared memory: `shared_bytes`."""
    shared = cuda.shared.array(0, float32)
    halves = cuda.shared.array(0, int32)
    thread, threads, head = cuda.threadIdx.x, cuda.blockDim.x, np.int64(cuda.blockIdx.y)
    item, left = 3 * cuda.blockIdx.x, np.int64(cuda.blockIdx.z) * tile
    begin, end, start = np.int64(items[item]), np.int64(items[item + 1]), np.int64(items[item + 2])
    rows = min(tile, end - start)
    side, row, wide = tile >> 2, tile + _GAP, (size + 3) & ~3
    i, j = thread // side * 4, thread % side * 4
    H, column = heads * size, head * size
    queries = 0
    keys = queries + tile * wide
    values = keys + wide * row
    scores = values + tile * wide
    largest = scores + tile * row
    highest = largest + tile
    totals = highest + tile
    changes = totals + tile
    partial = changes + tile
    other = partial + _PARTS * tile
    first = other + _PARTS * tile
    second = first + tile
    part, parts = thread // tile, max(1, threads // tile)
    _load_rows(shared, queries, qkv, start, rows, 3 * H, column, size, wide, tile)
    for r in range(thread, tile, threads):
        shared[largest + r] = LOWEST
        shared[totals + r] = ZERO
        if drops:
            halves[first + r], halves[second + r] = row_key(key, (start + r) * heads + head)
    sums = NO_SUMS
    for at in range(begin, end, tile):
        count = min(tile, end - at)
        cuda.syncthreads()
        _load_turned(shared, keys, qkv, at, count, 3 * H, H + column, size, wide, tile)
        _load_rows(shared, values, qkv, at, count, 3 * H, 2 * H + column, size, wide, tile)
        cuda.syncthreads()
        found = _dots(NO_SUMS, shared, queries + i * wide, wide, keys + j, row, wide)
        for r in range(4):
            for c in range(4):
                shared[scores + (j + c) * row + i + r] = pick(found, 4 * r + c)
        cuda.syncthreads()
        for r in range(thread % tile, tile, threads):
            top = LOWEST
            for k in range(part, count, parts):
                top = maximum(top, shared[scores + k * row + r])
            shared[partial + part * tile + r] = top
        cuda.syncthreads()
        for r in range(thread % tile, tile, threads):
            top = shared[largest + r]
            for p in range(parts):
                top = maximum(top, shared[partial + p * tile + r])
            total = ZERO
            one, two = np.int64(halves[first + r]), np.int64(halves[second + r])
            for k in range(part, count, parts):
                place = scores + k * row + r
                value = exp((shared[place] - top) * factor)
                total += value
                if drops:
                    bits = mask_bits(at - begin + k, one, two)
                    if bits < limit:
                        value = ZERO
                shared[place] = value
            shared[other + part * tile + r] = total
            if part == 0:
                shared[highest + r] = top
        cuda.syncthreads()
        for r in range(thread, tile, threads):
            total = ZERO
            for p in range(parts):
                total += shared[other + p * tile + r]
            change = exp((shared[largest + r] - shared[highest + r]) * factor)
            shared[totals + r] = shared[totals + r] * change + total
            shared[changes + r] = change
            shared[largest + r] = shared[highest + r]
        cuda.syncthreads()
        if left + j < wide:
            sums = scale_rows(sums, shared, changes + i)
            sums = _outer(sums, shared, scores + i, row, values + left + j, wide, count)
    for r in range(4):
        if i + r < rows:
            times = scale / shared[totals + i + r]
            for c in range(4):
                if left + j + c < size:
                    to = (start + i + r) * H + column + left + j + c
                    out[to] = pick(sums, 4 * r + c) * times
    if saves and left == 0:
        for r in range(thread, rows, threads):
            total = np.float32(math.log(shared[totals + r]))
            lse[(start + r) * heads + head] = shared[largest + r] * factor + total


@kernel("float32[::1], float32[::1], float32[::1], int64", threads=256, registers=48)
def sum_products(delta, dout, out, size):
    """delta[n, h] = Σ dout · out over the columns of row n and head h, a thread each."""
    for pair in range(cuda.grid(1), len(delta), cuda.gridsize(1)):
        total = ZERO
        for at in range(pair * size, (pair + 1) * size):
            total += dout[at] * out[at]
        delta[pair] = total


@typed_function
def _load_logs(
    shared, logs, deltas, halves, first, second, lse, delta, at, rows, tile, heads, head, drops, key
):
    """A tile's logarithms (infinite past the last row: probabilities of zero), deltas and keys."""
    for r in range(cuda.threadIdx.x, tile, cuda.blockDim.x):
        there = (at + r) * heads + head
        if r < rows:
            shared[logs + r] = lse[there]
            shared[deltas + r] = delta[there]
        else:
            shared[logs + r] = INFINITE
            shared[deltas + r] = ZERO
        if drops:
            halves[first + r], halves[second + r] = row_key(key, there)


@kernel(
    "float32[::1], float32[::1], float32[::1], float32[::1], float32[::1], int32[::1], int64, "
    "int64, int64, float32, int64, int64, int64, float32",
    threads=THREADS, registers=184, shared=MOST_SHARED,
)  # fmt: skip
def attend_back_keys(
    dqkv, dout, delta, lse, qkv, items, heads, size, tile, factor, drops, key, limit, scale
):
    """dK and dV of `attention_backward`: block (x, y, z) has the tile of keys of item x, head y,
    and the z-th T columns. Dynamic shared memory: `shared_bytes`."""
    shared = cuda.shared.array(0, float32)
    halves = cuda.shared.array(0, int32)
    thread, head = cuda.threadIdx.x, np.int64(cuda.blockIdx.y)
    item, left = 3 * cuda.blockIdx.x, np.int64(cuda.blockIdx.z) * tile
    begin, end, start = np.int64(items[item]), np.int64(items[item + 1]), np.int64(items[item + 2])
    count = min(tile, end - start)
    side, row, wide = tile >> 2, tile + _GAP, (size + 3) & ~3
    i, j = thread // side * 4, thread % side * 4
    H, column = heads * size, head * size
    keys = 0
    values = keys + wide * row
    queries = values + wide * row
    gradients = queries + tile * wide
    used = gradients + tile * wide
    slopes = used + tile * row
    logs = slopes + tile * row
    deltas = logs + tile
    first = deltas + tile
    second = first + tile
    _load_turned(shared, keys, qkv, start, count, 3 * H, H + column, size, wide, tile)
    _load_turned(shared, values, qkv, start, count, 3 * H, 2 * H + column, size, wide, tile)
    dkeys, dvalues = NO_SUMS, NO_SUMS
    for at in range(begin, end, tile):
        rows = min(tile, end - at)
        cuda.syncthreads()
        _load_rows(shared, queries, qkv, at, rows, 3 * H, column, size, wide, tile)
        _load_rows(shared, gradients, dout, at, rows, H, column, size, wide, tile)
        _load_logs(
            shared, logs, deltas, halves, first, second, lse, delta, at, rows, tile, heads, head,
            drops, key,
        )  # fmt: skip
        cuda.syncthreads()
        found = _dots(NO_SUMS, shared, queries + i * wide, wide, keys + j, row, wide)
        ahead = _dots(NO_SUMS, shared, gradients + i * wide, wide, values + j, row, wide)
        for r in range(4):
            shift, mean = shared[logs + i + r], shared[deltas + i + r]
            one, two = np.int64(halves[first + i + r]), np.int64(halves[second + i + r])
            for c in range(4):
                value = exp(pick(found, 4 * r + c) * factor - shift)
                kept, slope = value, pick(ahead, 4 * r + c)
                if drops:
                    number = start - begin + j + c
                    bits = mask_bits(number, one, two)
                    kept = value * scale if bits >= limit else ZERO
                    slope = slope * scale if bits >= limit else ZERO
                shared[used + (i + r) * row + j + c] = kept
                shared[slopes + (i + r) * row + j + c] = value * (slope - mean) * factor
        cuda.syncthreads()
        if left + j < wide:
            dvalues = _outer(dvalues, shared, used + i, row, gradients + left + j, wide, rows)
            dkeys = _outer(dkeys, shared, slopes + i, row, queries + left + j, wide, rows)
    columns = size - left
    _store(dqkv, start, count, 3 * H, H + column + left, columns, i, j, dkeys)
    _store(dqkv, start, count, 3 * H, 2 * H + column + left, columns, i, j, dvalues)


@kernel(
    "float32[::1], float32[::1], float32[::1], float32[::1], float32[::1], int32[::1], int64, "
    "int64, int64, float32, int64, int64, int64, float32",
    threads=THREADS, registers=168, shared=MOST_SHARED,
)  # fmt: skip
def attend_back_queries(
    dqkv, dout, delta, lse, qkv, items, heads, size, tile, factor, drops, key, limit, scale
):
    """dQ of `attention_backward`: block (x, y, z) has the tile of queries of item x, head y, and
    the z-th T columns. Dynamic shared memory: `shared_bytes`."""
    shared = cuda.shared.array(0, float32)
    halves = cuda.shared.array(0, int32)
    thread, head = cuda.threadIdx.x, np.int64(cuda.blockIdx.y)
    item, left = 3 * cuda.blockIdx.x, np.int64(cuda.blockIdx.z) * tile
    begin, end, start = np.int64(items[item]), np.int64(items[item + 1]), np.int64(items[item + 2])
    rows = min(tile, end - start)
    side, row, wide = tile >> 2, tile + _GAP, (size + 3) & ~3
    i, j = thread // side * 4, thread % side * 4
    H, column = heads * size, head * size
    turned_keys = 0
    values = turned_keys + wide * row
    queries = values + wide * row
    gradients = queries + tile * wide
    keys = gradients + tile * wide
    slopes = keys + tile * wide
    logs = slopes + tile * row
    deltas = logs + tile
    first = deltas + tile
    second = first + tile
    _load_rows(shared, queries, qkv, start, rows, 3 * H, column, size, wide, tile)
    _load_rows(shared, gradients, dout, start, rows, H, column, size, wide, tile)
    _load_logs(
        shared, logs, deltas, halves, first, second, lse, delta, start, rows, tile, heads, head,
        drops, key,
    )  # fmt: skip
    sums = NO_SUMS
    for at in range(begin, end, tile):
        count = min(tile, end - at)
        cuda.syncthreads()
        _load_turned(shared, turned_keys, qkv, at, count, 3 * H, H + column, size, wide, tile)
        _load_turned(shared, values, qkv, at, count, 3 * H, 2 * H + column, size, wide, tile)
        _load_rows(shared, keys, qkv, at, count, 3 * H, H + column, size, wide, tile)
        cuda.syncthreads()
        found = _dots(NO_SUMS, shared, queries + i * wide, wide, turned_keys + j, row, wide)
        ahead = _dots(NO_SUMS, shared, gradients + i * wide, wide, values + j, row, wide)
        for r in range(4):
            shift, mean = shared[logs + i + r], shared[deltas + i + r]
            one, two = np.int64(halves[first + i + r]), np.int64(halves[second + i + r])
            for c in range(4):
                slope = pick(ahead, 4 * r + c)
                if drops:
                    number = at - begin + j + c
                    bits = mask_bits(number, one, two)
                    slope = slope * scale if bits >= limit else ZERO
                value = ZERO
                if j + c < count:
                    value = exp(pick(found, 4 * r + c) * factor - shift) * (slope - mean) * factor
                shared[slopes + (i + r) * row + j + c] = value
        cuda.syncthreads()
        if left + j < wide:
            depth = (count + 3) & ~3
            sums = _dots(sums, shared, slopes + i * row, row, keys + left + j, wide, depth)
    _store(dqkv, start, rows, 3 * H, column + left, size - left, i, j, sums)


def attention_forward(
    out: Any, lse: Any, qkv: Any, items: Any, heads: int, tile: int,
    dropping: Dropping | None = None,
) -> None:  # fmt: skip
    """out[N, H] = dropout(softmax(Q Kᵀ / √D)) V of each sequence and head.

    out, qkv  float32[N, H] and [N, 3H]
    lse       float32[N, heads], written for the backward pass; None where not needed
    items     int32[·, 3] of `tiles_of`, on the device, for tiles of `tile` rows
    """
    grid, settings, threads = _launch(out, qkv, items, heads, tile, dropping)
    attend(
        grid, out, qkv if lse is None else lse, qkv, items, *settings, lse is not None, **threads
    )


def attention_backward(
    dqkv: Any, dout: Any, out: Any, lse: Any, qkv: Any, items: Any, heads: int, tile: int,
    dropping: Dropping | None = None,
) -> None:  # fmt: skip
    """The gradient dqkv float32[N, 3H] of dout float32[N, H], with what the forward pass wrote."""
    grid, settings, threads = _launch(out, qkv, items, heads, tile, dropping)
    if dout.size != out.size or dqkv.size != qkv.size or lse.size != len(out) * heads:
        raise ValueError(f"gradients {dout.shape} and {dqkv.shape} of attention {out.shape}")
    delta = memory.scratch("attention delta", lse.size)
    sum_products.each(lse.size, delta, dout, out, out.shape[1] // heads)
    for function in (attend_back_keys, attend_back_queries):
        function(grid, dqkv, dout, delta, lse, qkv, items, *settings, **threads)


def _launch(
    out: Any, qkv: Any, items: Any, heads: int, tile: int, dropping: Dropping | None
) -> tuple[tuple[int, int, int], tuple[Any, ...], dict[str, int]]:
    """The grid, the numbers that all kernels take, and the threads with their shared memory."""
    N, H = out.shape
    if tuple(qkv.shape) != (N, 3 * H) or H % heads or tile not in TILES:
        raise ValueError(f"{heads} heads of {qkv.shape} into {out.shape}, by tiles of {tile}")
    size = H // heads
    key, limit, scale = dropping or (0, 0, 1.0)
    signed = (int(key) + (1 << 63)) % (1 << 64) - (1 << 63)
    factor = 1 / math.sqrt(size)
    numbers = heads, size, tile, factor, dropping is not None, signed, int(limit), float(scale)
    grid = items.size // 3, heads, blocks_for(size, tile)
    return grid, numbers, {"threads": (tile // 4) ** 2, "shared": shared_bytes(tile, size)}
