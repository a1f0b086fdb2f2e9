"""Products of a few scattered rows with a few others, and what they learn from each other: the
innermost loops of word vectors.

Up to R rows h of one table meet up to T rows o of another. `dots` makes all R * T products with
their sums in registers; `exchange` then adds to each row what the others of the opposite side
give it, weighted, again with every row read and written once. One pair of rows by itself
would be one to two operations for each number read; R = 4 and T = 6 make it five to ten.

    dots      f[r, t] = h_r · o_t
    exchange  to_r += Σ_t g[r, t] o_t     o_t += Σ_r g[r, t] h_r

Rows are given by lists of addresses (int64, from `address`), a row being `vectors` whole vectors.
to_r may be h_r itself, or working memory where the targets come in more than one block: every o_t
learns from h as it was. Sums run over the lanes in halves and over vectors in order.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fastseq.kernels.core.jit import helper, inline
from fastseq.kernels.core.width import LANES, REGISTERS
from fastseq.kernels.simd.bytes import prefetch
from fastseq.kernels.simd.floats import fused, load, splat, spread, store
from fastseq.kernels.simd.tiles import repeat

_F32, _I64 = ir.FloatType(), ir.IntType(64)
_VECTOR = ir.VectorType(_F32, LANES)
_POINTER = ir.PointerType(ir.IntType(8))

# The most rows and targets at a time: sums, rows and one target must fit the registers.
MOST_ROWS = 4 if REGISTERS == 32 else 2
MOST_TARGETS = 6 if REGISTERS == 32 else 5
LINE = 16  # floats of a cache line
_BLOCKS = tuple(n for n in (6, 5, 3, 2, 1) if n <= MOST_TARGETS)  # targets that have code


def _number(value: int) -> Any:
    return ir.Constant(_I64, value)


def _rows(builder: Any, addresses: Any, count: int) -> list[Any]:
    """The first `count` of a list of addresses, as pointers."""
    base = builder.inttoptr(addresses, _I64.as_pointer())
    return [
        builder.inttoptr(builder.load(builder.gep(base, [_number(i)])), _POINTER)
        for i in range(count)
    ]


def _at(builder: Any, base: Any, offset: Any, kind: Any) -> Any:
    return builder.bitcast(builder.gep(base, [offset]), kind.as_pointer())


def _sums(builder: Any, vectors: list[Any]) -> list[Any]:
    """The sum over the lanes of each of some vectors, LANES of them in a vector.

    A round adds the halves of what is left of two vectors side by side: LANES vectors take
    LANES - 1 additions, where each by itself would take log2(LANES).
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
    hs, os = _rows(builder, h, rows), _rows(builder, o, targets)
    step = _number(LANES * 4)

    def body(state: list[Any]) -> list[Any]:
        at, *sums = state
        left = [builder.load(_at(builder, p, at, _VECTOR), align=4) for p in hs]
        found = []
        right = [builder.load(_at(builder, p, at, _VECTOR), align=4) for p in os]
        for r in range(rows):
            for t in range(targets):
                found.append(fused(builder, left[r], right[t], sums[r * targets + t]))
        return [builder.add(at, step), *found]

    zero = ir.Constant(_VECTOR, [0.0] * LANES)
    ended = repeat(builder, vectors, [_number(0), *[zero] * (rows * targets)], body)[1:]
    base = builder.inttoptr(f, _POINTER)
    for i, total in enumerate(_sums(builder, ended)):
        for lane in range(min(LANES, rows * targets - i * LANES)):
            r, t = divmod(i * LANES + lane, targets)
            place = builder.mul(builder.add(builder.mul(f_row, _number(r)), _number(t)), _number(4))
            value = builder.extract_element(total, ir.Constant(ir.IntType(32), lane))
            builder.store(value, _at(builder, base, place, _F32))


def _emit_exchange(builder: Any, rows: int, targets: int, arguments: Any) -> None:
    g, g_row, h, to, o, vectors = arguments
    hs, os = _rows(builder, h, rows), _rows(builder, o, targets)
    tos = _rows(builder, to, rows)
    base = builder.inttoptr(g, _POINTER)
    weights = []
    for r in range(rows):
        for t in range(targets):
            place = builder.mul(builder.add(builder.mul(g_row, _number(r)), _number(t)), _number(4))
            weights.append(spread(builder, builder.load(_at(builder, base, place, _F32))))

    def body(state: list[Any]) -> list[Any]:
        at = state[0]
        left = [builder.load(_at(builder, p, at, _VECTOR), align=4) for p in hs]
        new = [builder.load(_at(builder, p, at, _VECTOR), align=4) for p in tos]
        for t in range(targets):
            place = _at(builder, os[t], at, _VECTOR)
            value = target = builder.load(place, align=4)
            for r in range(rows):
                new[r] = fused(builder, weights[r * targets + t], value, new[r])
                target = fused(builder, weights[r * targets + t], left[r], target)
            builder.store(target, place, align=4)
        for r in range(rows):
            builder.store(new[r], _at(builder, tos[r], at, _VECTOR), align=4)
        return [builder.add(at, _number(LANES * 4))]

    repeat(builder, vectors, [_number(0)], body)


def _cases(emit: Any) -> Any:
    """Code for every number of rows and of targets that has some, chosen when it runs."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        rows, targets, *rest = arguments
        after = builder.append_basic_block("done")
        which = builder.add(builder.mul(rows, _number(MOST_TARGETS + 1)), targets)
        choice = builder.switch(which, after)
        for r in range(1, MOST_ROWS + 1):
            for t in _BLOCKS:
                case = builder.append_basic_block(f"rows{r}targets{t}")
                choice.add_case(_number(r * (MOST_TARGETS + 1) + t), case)
                builder.position_at_end(case)
                emit(builder, r, t, rest)
                builder.branch(after)
        builder.position_at_end(after)
        return context.get_dummy_value()

    return codegen


@intrinsic
def _dots(
    typing_context: Any, rows: Any, targets: Any, f: Any, f_row: Any, h: Any, o: Any, vectors: Any
) -> Any:
    return types.void(*[types.int64] * 7), _cases(_emit_dots)


@intrinsic
def _exchange(
    typing_context: Any,
    rows: Any,
    targets: Any,
    g: Any,
    g_row: Any,
    h: Any,
    to: Any,
    o: Any,
    vectors: Any,
) -> Any:
    return types.void(*[types.int64] * 8), _cases(_emit_exchange)


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
        targets, since every o_t learns from h as it was
    """
    done = 0
    while done < targets:
        size = block(targets - done)
        _exchange(rows, size, g + 4 * done, targets, h, to, o + 8 * done, vectors)
        done += size


@inline
def block(left):
    """The largest number of targets, of those that have code, that is not more than `left`."""
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

    Four vectors stay in registers while all rows pass, so sums are read and written once.
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
    """Ask for the rows rows[first:last] of a table before they are needed."""
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
