"""Register tiles: the innermost loop of every matrix product.

A tile is a block of C, `rows` rows by V vectors, whose sums stay in registers while the loop runs
over k: V loads from B, one broadcast from A for each row, rows * V fused multiply-adds. LLVM keeps
as many sums in registers as there are only when it is told so, one value each; so the loop is
written here as LLVM code, with one phi node a sum, for each number of rows.

    C[r, v] = init[r, v] + sum over k of A[r, k] * B[k, v]

Everything is given by address (of a float32, from `address`) and by strides in elements, so that
one tile serves rows of A that lie one after the other (`a_step` 1), A transposed (`a_row` 1), and
sums that start from zeros or a bias (`init_row` 0) or from C itself. k runs over `outer` blocks
of `inner`; between two blocks A moves on by `a_jump` and B by `b_jump` elements.

Each element's sum runs over k in order, whatever the tile it falls in: results do not depend on
how rows are cut into tiles or shared between threads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fastseq.kernels.core.jit import shared
from fastseq.kernels.core.width import LANES, REGISTERS
from fastseq.kernels.simd.floats import fused, spread

_F32, _I64 = ir.FloatType(), ir.IntType(64)
_VECTOR = ir.VectorType(_F32, LANES)

# The most rows of a tile of 1, 2, 3 and 4 vectors: sums, one row of B and a broadcast of A must
# fit the registers. 24 sums of 32 registers reach the peak; 6 x 4 does so with fewest loads.
MOST_ROWS = {1: 12, 2: 8, 3: 8, 4: 6} if REGISTERS == 32 else {1: 8, 2: 6, 3: 4, 4: 3}


@intrinsic
def address(typing_context: Any, array: Any, index: Any) -> Any:
    """The address of element `index` of an array, counted as if it had one dimension."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        return builder.ptrtoint(builder.gep(data, [arguments[1]]), _I64)

    return types.int64(array, types.int64), codegen


def _emit(builder: Any, rows: int, vectors: int, arguments: Any) -> None:
    """The loop over k of one size of tile."""
    c, c_row, init, init_row, a, a_row, a_step, b, b_step, inner, outer, a_jump, b_jump = arguments
    pointer = ir.PointerType(ir.IntType(8))
    sums = [(r, v) for r in range(rows) for v in range(vectors)]
    unroll = max(1, 8 // (rows * vectors))

    def number(value: int) -> Any:
        return ir.Constant(_I64, value)

    def bytes_of(elements: Any) -> Any:
        return builder.mul(elements, number(4))

    def at(base: Any, offset: Any, kind: Any) -> Any:
        """A pointer to `kind`, `offset` bytes behind the pointer `base`."""
        return builder.bitcast(builder.gep(base, [offset]), kind.as_pointer())

    def place(base: Any, row: Any, r: int, v: int) -> Any:
        """Where the sum (r, v) is stored, rows being `row` elements apart."""
        start = builder.gep(
            builder.inttoptr(base, pointer), [builder.mul(bytes_of(row), number(r))]
        )
        return at(start, number(v * LANES * 4), _VECTOR)

    a_next, b_next, a_skip, b_skip = map(bytes_of, (a_step, b_step, a_jump, b_jump))
    row_offsets = [builder.mul(bytes_of(a_row), number(r)) for r in range(rows)]

    def step(state: list[Any]) -> list[Any]:
        """One k: the products of a column of A and a row of B, added."""
        a_at, b_at, *values = state
        row = [
            builder.load(at(b_at, number(v * LANES * 4), _VECTOR), align=4) for v in range(vectors)
        ]
        added = []
        for r in range(rows):
            many = spread(builder, builder.load(at(a_at, row_offsets[r], _F32), align=4))
            added += [fused(builder, many, row[v], values[r * vectors + v]) for v in range(vectors)]
        return [builder.gep(a_at, [a_next]), builder.gep(b_at, [b_next]), *added]

    def steps(state: list[Any]) -> list[Any]:
        for _ in range(unroll):
            state = step(state)
        return state

    def block(state: list[Any]) -> list[Any]:
        if unroll > 1:  # a short tile: the counting would cost as much as the products
            state = repeat(builder, builder.udiv(inner, number(unroll)), state, steps)
            state = repeat(builder, builder.urem(inner, number(unroll)), state, step)
        else:
            state = repeat(builder, inner, state, step)
        return [builder.gep(state[0], [a_skip]), builder.gep(state[1], [b_skip]), *state[2:]]

    started = [builder.load(place(init, init_row, r, v), align=4) for r, v in sums]
    pointers = [builder.inttoptr(a, pointer), builder.inttoptr(b, pointer)]
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
    counter, *phis = (builder.phi(kind) for kind in (_I64, *(value.type for value in state)))
    builder.cbranch(builder.icmp_signed("<", counter, count), inside, after)
    builder.position_at_end(inside)
    next_state = [builder.add(counter, ir.Constant(_I64, 1)), *body(phis)]
    first_state = [ir.Constant(_I64, 0), *state]
    for phi, first, again in zip((counter, *phis), first_state, next_state, strict=True):
        phi.add_incoming(first, before)
        phi.add_incoming(again, builder.block)
    builder.branch(head)
    builder.position_at_end(after)
    return phis


def _emit_rows(builder: Any, vectors: int, arguments: Any, rows: Any) -> None:
    """`rows` rows in tiles of nearly equal size."""
    c, c_row, init, init_row, a, a_row, *rest = arguments
    most = _I64(MOST_ROWS[vectors])
    one = _I64(1)
    before = builder.block
    tiles = builder.udiv(builder.add(rows, builder.sub(most, one)), most)
    head, several, sized, done = (builder.append_basic_block() for _ in range(4))
    builder.branch(head)
    builder.position_at_end(head)
    first, left = builder.phi(_I64), builder.phi(_I64)
    remain = builder.sub(rows, first)
    ways = builder.switch(left, several)
    ways.add_case(_I64(0), done)
    ways.add_case(one, sized)
    builder.position_at_end(several)
    share = builder.udiv(builder.add(remain, builder.sub(left, one)), left)
    builder.branch(sized)
    builder.position_at_end(sized)
    size = builder.phi(_I64)
    size.add_incoming(remain, head)
    size.add_incoming(share, several)
    starts = [
        builder.add(base, builder.shl(builder.mul(first, row), _I64(2)))
        for base, row in ((c, c_row), (init, init_row), (a, a_row))
    ]
    after = builder.append_basic_block()
    choice = builder.switch(size, after)
    for r in range(1, MOST_ROWS[vectors] + 1):
        case = builder.append_basic_block(f"rows{r}")
        choice.add_case(_I64(r), case)
        builder.position_at_end(case)
        _emit(builder, r, vectors, [starts[0], c_row, starts[1], init_row, starts[2], a_row, *rest])
        builder.branch(after)
    builder.position_at_end(after)
    first.add_incoming(_I64(0), before)
    first.add_incoming(builder.add(first, size), after)
    left.add_incoming(tiles, before)
    left.add_incoming(builder.sub(left, one), after)
    builder.branch(head)
    builder.position_at_end(done)


@intrinsic
def _tiles(
    typing_context, vectors, c, c_row, init, init_row, a, a_row, a_step, b, b_step, inner,
    outer, a_jump, b_jump, rows,
):  # fmt: skip
    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        vectors, *rest, rows = arguments
        after = builder.append_basic_block("done")
        choice = builder.switch(vectors, after)
        for v in MOST_ROWS:
            case = builder.append_basic_block(f"vectors{v}")
            choice.add_case(_I64(v), case)
            builder.position_at_end(case)
            _emit_rows(builder, v, rest, rows)
            builder.branch(after)
        builder.position_at_end(after)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 15), codegen


@shared
def tiles(
    vectors, c, c_row, init, init_row, a, a_row, a_step, b, b_step, inner, outer, a_jump, b_jump,
    rows,
):  # fmt: skip
    _tiles(
        vectors, c, c_row, init, init_row, a, a_row, a_step, b, b_step, inner, outer, a_jump,
        b_jump, rows,
    )  # fmt: skip
