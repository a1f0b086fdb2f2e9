"""Plans of recurrent layers distributed over the multiprocessors: see grid_persistent.py."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from fastseq.kernels.cuda.recurrent.persistent import registers_of
from fastseq.kernels.cuda.runtime.target import SIMULATED, WARP, blocks_for

SIDE = 4  # rows and columns of a thread's sums
LEAST_THREADS = WARP if SIMULATED else 256
MOST_THREADS = 512
MOST_ROWS = 16  # of a chunk of a row tile
CHUNK = 8 if SIMULATED else 128  # of the depth of a product
WORDS = 8 if SIMULATED else 64  # of a row staged at a time for tensor cores
MOST_WORK = 64  # rows of a row tile: with more, the library's products step by step are as fast
_WAITING = 1500  # clock cycles: two memory round trips, four barriers


@dataclass(frozen=True, slots=True)
class Plan:
    """How one pass is distributed.

    cell       as recurrent.py names it
    units      H
    gates      columns of the product for each unit forwards, rows of the weight for each backwards
    back       whether it is the backward pass
    own        units of a part, a multiple of four
    rows       sequences at a time, a multiple of four
    precision  what the factors of products are rounded to: "float32" in this class
    """

    cell: str
    units: int
    gates: int
    back: bool
    own: int
    rows: int
    precision: str = "float32"

    @property
    def name(self) -> str:
        """Name of its kernel."""
        return f"{self.units}_{self.own}x{self.rows}_{self.precision}"

    @property
    def inner(self) -> int:
        """Factors in each of the product's sums."""
        return self.gates * self.units if self.back else self.units

    @property
    def parts(self) -> int:
        """Blocks of a row tile."""
        return blocks_for(self.units, self.own)

    @property
    def columns(self) -> int:
        """Columns of the product."""
        return self.own if self.back else self.gates * self.own

    @property
    def depth(self) -> int:
        """Depth of the product, in whole chunks."""
        return blocks_for(self.inner, CHUNK) * CHUNK

    @property
    def tiles(self) -> int:
        """Tiles of four by four numbers of the product."""
        return self.rows * self.columns // SIDE**2

    @property
    def threads(self) -> int:
        """Threads of a block: at least one for each unit of each row, and for each tile."""
        wanted = max(LEAST_THREADS, self.own * self.rows, self.tiles)
        return blocks_for(wanted, WARP) * WARP

    @property
    def registers(self) -> int:
        """Registers that a thread may have."""
        return registers_of(self.threads)

    @property
    def shares(self) -> int:
        """Threads that share a tile."""
        return max(1, min(self.threads // self.tiles, CHUNK))

    @property
    def stage(self) -> int:
        """Index of the rows of a chunk in shared memory: after the weights."""
        return self.depth * self.columns

    @property
    def shared(self) -> int:
        """Bytes of shared memory."""
        sums = self.shares * self.rows * self.columns
        return 4 * (self.stage + max(2 * CHUNK * self.rows, sums))

    def exchange_of(self, rows: int) -> tuple[int, int]:
        """The pitch of the exchange for `rows` sequences, and the size of half of it."""
        return rows, self.depth * rows

    def cost(self, batch: int, multiprocessors: int) -> float:
        """Approximate clock cycles of a step: multiply-adds or reads of shared memory, 128 numbers
        and 128 bytes a clock, whichever take longer; the exchange, 32 bytes a clock; and the
        latencies of a chunk of rows (estimated, not measured)."""
        across = self.columns // SIDE
        of_weights, of_rows = min(WARP, across), blocks_for(WARP, across)
        reads = blocks_for(of_weights, 8) + blocks_for(of_rows, 8)  # of 16 bytes a tile
        sums = self.tiles * self.depth * max(SIDE * SIDE / 128, reads / WARP)
        moved = self.rows * self.depth * 4 / 32
        chunks = blocks_for(self.tile_rows(batch, multiprocessors), self.rows)
        return chunks * (sums + moved + _WAITING)

    def tile_rows(self, batch: int, multiprocessors: int) -> int:
        """Sequences of a row tile, a multiple of four."""
        most = min(multiprocessors // self.parts, blocks_for(batch, SIDE))
        return blocks_for(blocks_for(batch, most), SIDE) * SIDE


@dataclass(frozen=True, slots=True)
class TensorPlan(Plan):
    """The same for tensor cores: factors are words, of two bfloat16 or one tf32. A warp has 16
    columns of the product and part of its depth, for all of 8 or 16 rows.

    The weights of a column, and the numbers of a row, are adjacent; WORDS of each are staged at a
    time. Rows are four words longer than a multiple of 32, so that the eight rows and four words
    that a warp reads at once are in 32 banks.
    """

    @property
    def words(self) -> int:
        """Words of a row of the exchange, in whole chunks."""
        each = 2 if self.precision == "bfloat16" else 1
        return blocks_for(self.inner, each * WORDS) * WORDS

    @property
    def columns(self) -> int:
        own = self.own if self.back else self.gates * self.own
        return blocks_for(own, 16) * 16

    @property
    def tiles(self) -> int:
        """Tiles of 16 columns: at least a warp each."""
        return self.columns // 16

    @property
    def threads(self) -> int:
        wanted = max(LEAST_THREADS, self.own * self.rows, WARP * self.tiles)
        return blocks_for(wanted, WARP) * WARP

    @property
    def shares(self) -> int:
        """Warps that share a tile."""
        return max(1, min(self.threads // WARP // self.tiles, WORDS // 8))

    @property
    def stage(self) -> int:
        return (self.words + 4) * self.columns

    @property
    def shared(self) -> int:
        sums = self.shares * self.rows * self.columns
        return 4 * (self.stage + max(2 * self.rows * (WORDS + 4), sums))

    def exchange_of(self, rows: int) -> tuple[int, int]:
        return self.words, rows * self.words

    def cost(self, batch: int, multiprocessors: int) -> float:
        """Approximate clock cycles of a step: reads of shared memory by warps, four for the
        columns and two for each eight rows of a product of 16 by 8 by 8 words; the exchange;
        latencies."""
        reads = self.tiles * self.words // 8 * (4 + 2 * (self.rows // 8))
        moved = self.rows * self.words * 4 / 32
        chunks = blocks_for(self.tile_rows(batch, multiprocessors), self.rows)
        return chunks * (reads + moved + _WAITING)


@lru_cache(1024)
def plan_of(
    cell: str, units: int, gates: int, back: bool, batch: int, multiprocessors: int, shared: int,
    precision: str = "float32",
) -> Plan | None:  # fmt: skip
    """The cheapest plan; None where the weights do not fit, or where a row tile would be so large
    that running step by step is as fast.

    shared  bytes that a block may have
    """
    kind, step = (Plan, SIDE) if precision == "float32" else (TensorPlan, 2 * SIDE)
    found = (
        kind(cell, units, gates, back, own, rows, precision)
        for own in range(SIDE, blocks_for(units, SIDE) * SIDE + 1, SIDE)
        if blocks_for(units, own) <= multiprocessors
        for rows in range(step, MOST_ROWS + 1, step)
    )
    fitting = [
        plan
        for plan in found
        if plan.threads <= MOST_THREADS
        and plan.shared <= shared
        and plan.tile_rows(batch, multiprocessors) <= MOST_WORK
    ]
    return min(fitting, key=lambda plan: plan.cost(batch, multiprocessors), default=None)
