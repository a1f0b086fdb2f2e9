"""Register tiles: the innermost loop of every matrix product.

A tile is a block of C, `rows` rows by V vectors, whose sums stay in registers while the loop runs
over k: V loads from B, one broadcast from A for each row, rows * V fused multiply-adds. LLVM keeps
all sums in registers only if each is a separate value, so the loop is LLVM code with one phi node
a sum, for each number of rows.

    C[r, v] = init[r, v] + sum over k of A[r, k] * B[k, v]

Arguments are addresses (of a float32, from `address`) and strides in elements, so that one tile
serves A by rows (`a_step` 1), A transposed (`a_row` 1), and sums that start from zeros or a bias
(`init_row` 0) or from C itself. k runs over `outer` blocks of `inner`; after each block A advances
by `a_jump` and B by `b_jump` elements.

Each element's sum runs over k in order in any tile: results do not depend on how rows are cut into
tiles or shared between threads.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from llvmlite import ir
from numba import types

from fastseq.kernels.core.intrinsics import I64, at, data, llvm, request, switch
from fastseq.kernels.core.jit import shared
from fastseq.kernels.core.width import LANES, REGISTERS
from fastseq.kernels.simd.dots import BFLOAT16, BYTES, FLOAT32, Dot
from fastseq.kernels.simd.floats import spread

_I32 = ir.IntType(32)
VECTOR = ir.VectorType(ir.FloatType(), LANES)
_WORDS = ir.VectorType(_I32, LANES)
POINTER = ir.PointerType(ir.IntType(8))

_WIDE = 1024  # columns of a result that is taken for large

# Most rows of a tile of 1, 2, 3 and 4 vectors: sums, one row of B and a broadcast of A must fit the
# registers. 24 sums of 32 registers reach the peak; 6 x 4 does so with fewest loads.
MOST_ROWS = {1: 12, 2: 8, 3: 8, 4: 6} if REGISTERS == 32 else {1: 8, 2: 6, 3: 4, 4: 3}


@llvm(types.int64, data, types.int64)
def address(builder: Any, array: Any, index: Any) -> Any:
    """The address of element `index` of an array, taken as one row."""
    return builder.ptrtoint(builder.gep(array, [index]), I64)


def _emit(builder: Any, dot: Dot, rows: int, vectors: int, arguments: Any) -> None:
    """The loop over k of one size of tile."""
    c, c_row, init, init_row, a, a_row, a_step, b, b_step, inner, outer, a_jump, b_jump = arguments
    sums = [(r, v) for r in range(rows) for v in range(vectors)]
    unroll = max(1, 8 // (rows * vectors))

    def bytes_of(elements: Any) -> Any:
        return builder.mul(elements, I64(4))

    def place(base: Any, row: Any, r: int, v: int) -> Any:
        """The address of the sum (r, v), for rows `row` elements apart."""
        start = builder.gep(builder.inttoptr(base, POINTER), [builder.mul(bytes_of(row), I64(r))])
        return at(builder, start, I64(v * LANES * 4), dot.sums)

    a_next, b_next, a_skip, b_skip = map(bytes_of, (a_step, b_step, a_jump, b_jump))
    row_offsets = [builder.mul(bytes_of(a_row), I64(r)) for r in range(rows)]

    def step(state: list[Any]) -> list[Any]:
        """One k: the products of a column of A and a row of B, added."""
        a_at, b_at, *values = state
        for phase in dot.phases:
            row = [
                phase.b(
                    builder, builder.load(at(builder, b_at, I64(v * LANES * 4), _WORDS), align=4)
                )
                for v in range(vectors)
            ]
            for r in range(rows):
                word = builder.load(at(builder, a_at, row_offsets[r], _I32), align=4)
                many = phase.a(builder, spread(builder, word))
                for v in range(vectors):
                    number = r * vectors + v
                    values[number] = phase.add(builder, many, row[v], values[number])
        return [builder.gep(a_at, [a_next]), builder.gep(b_at, [b_next]), *values]

    def steps(state: list[Any]) -> list[Any]:
        for _ in range(unroll):
            state = step(state)
        return state

    def block(state: list[Any]) -> list[Any]:
        if unroll > 1:  # a short tile: the loop counter would cost as much as the products
            state = repeat(builder, builder.udiv(inner, I64(unroll)), state, steps)
            state = repeat(builder, builder.urem(inner, I64(unroll)), state, step)
        else:
            state = repeat(builder, inner, state, step)
        return [builder.gep(state[0], [a_skip]), builder.gep(state[1], [b_skip]), *state[2:]]

    # The next tile's rows of C, where they are unlikely to be in a near cache: a sum over 256 k of
    # a weight's gradient takes .9 to .97 of the time, bytes of 1,536 rows into 1,536 columns .82.
    # Small results would take 1.04.
    is_far = builder.or_(
        builder.icmp_signed("==", init, c), builder.icmp_signed(">=", c_row, I64(_WIDE))
    )
    with builder.if_then(is_far):
        for r, v in sums:
            request(builder, builder.bitcast(place(c, c_row, rows + r, v), POINTER))
    started = [builder.load(place(init, init_row, r, v), align=4) for r, v in sums]
    pointers = [builder.inttoptr(a, POINTER), builder.inttoptr(b, POINTER)]
    ended = repeat(builder, outer, [*pointers, *started], block)[2:]
    for (r, v), value in zip(sums, ended, strict=True):
        builder.store(value, place(c, c_row, r, v), align=4)


def repeat(
    builder: Any, count: Any, state: list[Any], body: Callable[[list[Any]], list[Any]]
) -> list[Any]:
    """state = body(state), `count` times, every value of the state in a phi node."""
    before = builder.block
    head, inside, after = (builder.append_basic_block() for _ in range(3))
    builder.branch(head)
    builder.position_at_end(head)
    counter, *phis = (builder.phi(kind) for kind in (I64, *(value.type for value in state)))
    builder.cbranch(builder.icmp_signed("<", counter, count), inside, after)
    builder.position_at_end(inside)
    next_state = [builder.add(counter, I64(1)), *body(phis)]
    first_state = [I64(0), *state]
    for phi, first, again in zip((counter, *phis), first_state, next_state, strict=True):
        phi.add_incoming(first, before)
        phi.add_incoming(again, builder.block)
    builder.branch(head)
    builder.position_at_end(after)
    return phis


def _emit_rows(builder: Any, dot: Dot, vectors: int, arguments: Any, rows: Any) -> None:
    """`rows` rows in tiles of nearly equal size."""
    c, c_row, init, init_row, a, a_row, *rest = arguments
    most = I64(MOST_ROWS[vectors])
    one = I64(1)
    before = builder.block
    tiles = builder.udiv(builder.add(rows, builder.sub(most, one)), most)
    head, several, sized, done = (builder.append_basic_block() for _ in range(4))
    builder.branch(head)
    builder.position_at_end(head)
    first, left = builder.phi(I64), builder.phi(I64)
    remain = builder.sub(rows, first)
    ways = builder.switch(left, several)
    ways.add_case(I64(0), done)
    ways.add_case(one, sized)
    builder.position_at_end(several)
    share = builder.udiv(builder.add(remain, builder.sub(left, one)), left)
    builder.branch(sized)
    builder.position_at_end(sized)
    size = builder.phi(I64)
    size.add_incoming(remain, head)
    size.add_incoming(share, several)
    starts = [
        builder.add(base, builder.shl(builder.mul(first, row), I64(2)))
        for base, row in ((c, c_row), (init, init_row), (a, a_row))
    ]
    places = [starts[0], c_row, starts[1], init_row, starts[2], a_row, *rest]
    switch(builder, size, [(r, partial(_emit, builder, dot, r, vectors, places))
                           for r in range(1, MOST_ROWS[vectors] + 1)])  # fmt: skip
    after = builder.block
    first.add_incoming(I64(0), before)
    first.add_incoming(builder.add(first, size), after)
    left.add_incoming(tiles, before)
    left.add_incoming(builder.sub(left, one), after)
    builder.branch(head)
    builder.position_at_end(done)


def _variant(dot: Dot) -> Any:
    @llvm(types.void, *[types.int64] * 15)
    def emitted(builder: Any, vectors: Any, *arguments: Any) -> None:
        *rest, rows = arguments
        cases = [(v, partial(_emit_rows, builder, dot, v, rest, rows)) for v in MOST_ROWS]
        switch(builder, vectors, cases)

    return emitted


_tiles, _tiles_bfloat16, _tiles_bytes = map(_variant, (FLOAT32, BFLOAT16, BYTES))


@shared
def tiles(
    vectors, c, c_row, init, init_row, a, a_row, a_step, b, b_step, inner, outer, a_jump, b_jump,
    rows,
):  # fmt: skip
    _tiles(
        vectors, c, c_row, init, init_row, a, a_row, a_step, b, b_step, inner, outer, a_jump,
        b_jump, rows,
    )  # fmt: skip


# the same of words of two bfloat16, and of four bytes with sums in int32


@shared
def tiles_bfloat16(
    vectors, c, c_row, init, init_row, a, a_row, a_step, b, b_step, inner, outer, a_jump, b_jump,
    rows,
):  # fmt: skip
    _tiles_bfloat16(
        vectors, c, c_row, init, init_row, a, a_row, a_step, b, b_step, inner, outer, a_jump,
        b_jump, rows,
    )  # fmt: skip


@shared
def tiles_bytes(
    vectors, c, c_row, init, init_row, a, a_row, a_step, b, b_step, inner, outer, a_jump, b_jump,
    rows,
):  # fmt: skip
    _tiles_bytes(
        vectors, c, c_row, init, init_row, a, a_row, a_step, b, b_step, inner, outer, a_jump,
        b_jump, rows,
    )  # fmt: skip
