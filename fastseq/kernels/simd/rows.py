"""Products and updates of a few scattered rows: the innermost loops of word vectors.

`dots` makes the R * T products of up to R rows h of one table and T rows o of another, with the
sums in registers. `exchange` then adds to each row the weighted rows of the other side, with every
row read and written once. A single pair of rows would give one to two operations for each number
read; R = 4 and T = 6 give five to ten.

    dots      f[r, t] = h_r · o_t
    exchange  to_r += Σ_t g[r, t] o_t     o_t += Σ_r g[r, t] h_r

Rows are given by lists of addresses (int64, from `address`), a row being `vectors` whole vectors.
to_r may be h_r itself, or working memory where there is more than one block of targets: every o_t
is updated with h as it was. Sums run over the lanes in halves and over vectors in order.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types

from fastseq.kernels.core.intrinsics import I64, at, llvm, switch
from fastseq.kernels.core.jit import helper, inline
from fastseq.kernels.core.width import LANES, REGISTERS
from fastseq.kernels.simd.bytes import prefetch
from fastseq.kernels.simd.floats import fused, load, splat, spread, store
from fastseq.kernels.simd.tiles import POINTER, VECTOR, repeat

_F32 = ir.FloatType()

# The most rows and targets at a time: sums, rows and one target must fit the registers.
MOST_ROWS = 4 if REGISTERS == 32 else 2
MOST_TARGETS = 6 if REGISTERS == 32 else 5
LINE = 16  # floats of a cache line
_BLOCKS = tuple(n for n in (6, 5, 3, 2, 1) if n <= MOST_TARGETS)  # numbers of targets with code


def _pointers(builder: Any, addresses: Any, count: int) -> list[Any]:
    """The first `count` of a list of addresses, as pointers."""
    base = builder.inttoptr(addresses, I64.as_pointer())
    return [
        builder.inttoptr(builder.load(builder.gep(base, [I64(i)])), POINTER) for i in range(count)
    ]


def _load(builder: Any, pointers: list[Any], offset: Any) -> list[Any]:
    """The vector at an offset in bytes from each pointer."""
    return [builder.load(at(builder, p, offset, VECTOR), align=4) for p in pointers]


def _place(builder: Any, base: Any, row: Any, r: int, t: int) -> Any:
    """The address of element [r, t] of a float32 matrix with rows of `row` elements."""
    offset = builder.mul(builder.add(builder.mul(row, I64(r)), I64(t)), I64(4))
    return at(builder, base, offset, _F32)


def _sums(builder: Any, vectors: list[Any]) -> list[Any]:
    """The sum over the lanes of each of some vectors, LANES of them in a vector.

    A round adds the halves of two vectors: LANES vectors take LANES - 1 additions, where each
    alone would take log2(LANES).
    """
    width = LANES
    while width > 1:
        half = width // 2
        group = [lane for start in range(0, LANES, width) for lane in range(start, start + half)]
        low = [*group, *(LANES + lane for lane in group)]
        lanes = [
            ir.Constant(ir.VectorType(ir.IntType(32), LANES), picked)
            for picked in (low, [lane + half for lane in low])
        ]
        pairs = [
            (vectors[i], vectors[min(i + 1, len(vectors) - 1)]) for i in range(0, len(vectors), 2)
        ]
        vectors = [
            builder.fadd(*(builder.shuffle_vector(a, b, picked) for picked in lanes))
            for a, b in pairs
        ]
        width = half
    return vectors


def _emit_dots(builder: Any, rows: int, targets: int, arguments: Any) -> None:
    f, f_row, h, o, vectors = arguments
    hs, os = _pointers(builder, h, rows), _pointers(builder, o, targets)

    def body(state: list[Any]) -> list[Any]:
        offset, *sums = state
        left, right = _load(builder, hs, offset), _load(builder, os, offset)
        pairs = [(x, y) for x in left for y in right]
        added = [fused(builder, x, y, s) for (x, y), s in zip(pairs, sums, strict=True)]
        return [builder.add(offset, I64(LANES * 4)), *added]

    zero = ir.Constant(VECTOR, [0.0] * LANES)
    ended = repeat(builder, vectors, [I64(0), *[zero] * (rows * targets)], body)[1:]
    base = builder.inttoptr(f, POINTER)
    for i, total in enumerate(_sums(builder, ended)):
        for lane in range(min(LANES, rows * targets - i * LANES)):
            r, t = divmod(i * LANES + lane, targets)
            value = builder.extract_element(total, ir.IntType(32)(lane))
            builder.store(value, _place(builder, base, f_row, r, t))


def _emit_exchange(builder: Any, rows: int, targets: int, arguments: Any) -> None:
    g, g_row, h, to, o, vectors = arguments
    hs, os = _pointers(builder, h, rows), _pointers(builder, o, targets)
    tos = _pointers(builder, to, rows)
    base = builder.inttoptr(g, POINTER)
    weights = [
        [spread(builder, builder.load(_place(builder, base, g_row, r, t))) for t in range(targets)]
        for r in range(rows)
    ]

    def body(state: list[Any]) -> list[Any]:
        offset = state[0]
        left, new = _load(builder, hs, offset), _load(builder, tos, offset)
        for t in range(targets):
            place = at(builder, os[t], offset, VECTOR)
            value = target = builder.load(place, align=4)
            for r in range(rows):
                new[r] = fused(builder, weights[r][t], value, new[r])
                target = fused(builder, weights[r][t], left[r], target)
            builder.store(target, place, align=4)
        for pointer, vector in zip(tos, new, strict=True):
            builder.store(vector, at(builder, pointer, offset, VECTOR), align=4)
        return [builder.add(offset, I64(LANES * 4))]

    repeat(builder, vectors, [I64(0)], body)


def _intrinsic(emit: Any, parameters: int) -> Any:
    """An intrinsic (rows, targets, …), with code for each number of rows and of targets."""

    @llvm(types.void, *[types.int64] * parameters)
    def chosen(builder: Any, rows: Any, targets: Any, *rest: Any) -> None:
        which = builder.add(builder.mul(rows, I64(MOST_TARGETS + 1)), targets)
        switch(builder, which, [(r * (MOST_TARGETS + 1) + t, partial(emit, builder, r, t, rest))
                                for r in range(1, MOST_ROWS + 1) for t in _BLOCKS])  # fmt: skip

    return chosen


_dots, _exchange = _intrinsic(_emit_dots, 7), _intrinsic(_emit_exchange, 8)


@helper
def dots(rows, targets, f, h, o, vectors):
    """f[r, t] = h_r · o_t for rows up to MOST_ROWS and any number of targets.

    f     address of float32[rows, targets]
    h, o  addresses of int64[rows] and int64[targets], themselves addresses of rows
    """
    done = 0
    while done < targets:
        size = block(targets - done)
        _dots(rows, size, f + 4 * done, targets, h, o + 8 * done, vectors)
        done += size


@helper
def exchange(rows, targets, g, h, to, o, vectors):
    """to_r += Σ_t g[r, t] o_t and o_t += Σ_r g[r, t] h_r.

    to  address of int64[rows], addresses of rows: those of h only where one `block` takes all
        targets, since every o_t is updated with h as it was
    """
    done = 0
    while done < targets:
        size = block(targets - done)
        _exchange(rows, size, g + 4 * done, targets, h, to, o + 8 * done, vectors)
        done += size


@inline
def block(left):
    """The largest number of targets with code of its own that is not more than `left`."""
    if left >= MOST_TARGETS:
        return MOST_TARGETS
    return left if left <= 3 or left == 5 else 3


@inline
def clear(array, start, width):
    """array[start:start + width] = 0, for whole vectors."""
    for k in range(0, width, LANES):
        store(array, start + k, splat(0.0))


@inline
def add(array, to, other, start, width):
    """array[to:to + width] += other[start:start + width], for whole vectors."""
    for k in range(0, width, LANES):
        store(array, to + k, load(array, to + k) + load(other, start + k))


@helper
def sum_rows(out, to, table, W, rows, first, last):
    """out[to:to + W] += the rows rows[first:last] of a table, row r being table[r * W:r * W + W].

    Four vectors of sums stay in registers over all rows, so each is read and written once.
    """
    k = 0
    while k + 4 * LANES <= W:
        a, b = load(out, to + k), load(out, to + k + LANES)
        c, d = load(out, to + k + 2 * LANES), load(out, to + k + 3 * LANES)
        for r in range(first, last):
            at = np.int64(rows[r]) * W + k
            a = a + load(table, at)
            b = b + load(table, at + LANES)
            c = c + load(table, at + 2 * LANES)
            d = d + load(table, at + 3 * LANES)
        store(out, to + k, a)
        store(out, to + k + LANES, b)
        store(out, to + k + 2 * LANES, c)
        store(out, to + k + 3 * LANES, d)
        k += 4 * LANES
    while k < W:
        a = load(out, to + k)
        for r in range(first, last):
            a = a + load(table, np.int64(rows[r]) * W + k)
        store(out, to + k, a)
        k += LANES


@helper
def add_to_rows(table, W, rows, first, last, given, start):
    """table[r * W:r * W + W] += given[start:start + W] for each row of rows[first:last], one after
    the other, since a row may come twice."""
    k = 0
    while k + 4 * LANES <= W:
        a, b = load(given, start + k), load(given, start + k + LANES)
        c, d = load(given, start + k + 2 * LANES), load(given, start + k + 3 * LANES)
        for r in range(first, last):
            at = np.int64(rows[r]) * W + k
            store(table, at, load(table, at) + a)
            store(table, at + LANES, load(table, at + LANES) + b)
            store(table, at + 2 * LANES, load(table, at + 2 * LANES) + c)
            store(table, at + 3 * LANES, load(table, at + 3 * LANES) + d)
        k += 4 * LANES
    while k < W:
        a = load(given, start + k)
        for r in range(first, last):
            at = np.int64(rows[r]) * W + k
            store(table, at, load(table, at) + a)
        k += LANES


@helper
def fetch_rows(table, W, rows, first, last):
    """Prefetch the rows rows[first:last] of a table."""
    for r in range(first, last):
        at = np.int64(rows[r]) * W
        for k in range(0, W, LINE):
            prefetch(table, np.uint64(at + k))


@inline
def scale(array, start, share, width):
    """array[start:start + width] *= share, for whole vectors."""
    many = splat(np.float32(share))
    for k in range(0, width, LANES):
        store(array, start + k, load(array, start + k) * many)
