"""How a recurrent layer lies when its weights are spread over the chip: see grid_persistent.py."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from fastseq.kernels.cuda.recurrent.persistent import registers_of
from fastseq.kernels.cuda.runtime.target import SIMULATED, WARP, blocks_for

SIDE = 4  # rows and columns that a thread adds up
LEAST_THREADS = WARP if SIMULATED else 256
MOST_THREADS = 512
MOST_ROWS = 16  # of a chunk of a row tile
CHUNK = 8 if SIMULATED else 128  # of the depth of a product
WORDS = 8 if SIMULATED else 64  # of a row that are staged at a time for tensor cores
MOST_WORK = 64  # rows of a row tile: with more, the library's products step by step are as good
_WAITING = 1500  # clocks: two trips to memory, four barriers


@dataclass(frozen=True, slots=True)
class Plan:
    """How one pass lies on the chip.

    cell    as recurrent.py names it
    units   H
    gates   columns of the product for each unit forwards, rows of the weight for each backwards
    back    the way back
    own     units of a part, a multiple of four
    rows    sequences at a time, a multiple of four
    precision  what the factors of products are rounded to: this class has "float32"
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
        """Of its kernel."""
        return f"{self.units}_{self.own}x{self.rows}_{self.precision}"

    @property
    def inner(self) -> int:
        """Factors of each of the product's sums."""
        return self.gates * self.units if self.back else self.units

    @property
    def parts(self) -> int:
        """Blocks of a row tile."""
        return blocks_for(self.units, self.own)

    @property
    def columns(self) -> int:
        """Of the product."""
        return self.own if self.back else self.gates * self.own

    @property
    def depth(self) -> int:
        """Of the product, in whole chunks."""
        return blocks_for(self.inner, CHUNK) * CHUNK

    @property
    def tiles(self) -> int:
        """Of four by four numbers of the product."""
        return self.rows * self.columns // SIDE**2

    @property
    def threads(self) -> int:
        """Of a block: one for each unit of each row at least, and for each tile."""
        wanted = max(LEAST_THREADS, self.own * self.rows, self.tiles)
        return blocks_for(wanted, WARP) * WARP

    @property
    def registers(self) -> int:
        """That a thread may have."""
        return registers_of(self.threads)

    @property
    def shares(self) -> int:
        """Threads that share a tile."""
        return max(1, min(self.threads // self.tiles, CHUNK))

    @property
    def stage(self) -> int:
        """Where in shared memory the rows of a chunk begin: behind the weights."""
        return self.depth * self.columns

    @property
    def shared(self) -> int:
        """Bytes of shared memory."""
        sums = self.shares * self.rows * self.columns
        return 4 * (self.stage + max(2 * CHUNK * self.rows, sums))

    def exchange_of(self, rows: int) -> tuple[int, int]:
        """The pitch of the exchange for so many sequences, and numbers of a half of it."""
        return rows, self.depth * rows

    def cost(self, batch: int, multiprocessors: int) -> float:
        """Clocks of a step, about: of multiply-adds or reads of shared memory, 128 numbers and 128
        bytes a clock, whichever take longer; of the exchange, 32 bytes a clock; and of what a
        chunk of rows waits for (reckoned, not measured)."""
        across = self.columns // SIDE
        of_weights, of_rows = min(WARP, across), blocks_for(WARP, across)
        reads = blocks_for(of_weights, 8) + blocks_for(of_rows, 8)  # of 16 bytes a tile
        sums = self.tiles * self.depth * max(SIDE * SIDE / 128, reads / WARP)
        moved = self.rows * self.depth * 4 / 32
        chunks = blocks_for(self.tile_rows(batch, multiprocessors), self.rows)
        return chunks * (sums + moved + _WAITING)

    def row_tiles(self, batch: int, multiprocessors: int) -> int:
        """How many there are for so many sequences."""
        return blocks_for(batch, self.tile_rows(batch, multiprocessors))

    def tile_rows(self, batch: int, multiprocessors: int) -> int:
        """Sequences of each, a multiple of four."""
        most = min(multiprocessors // self.parts, blocks_for(batch, SIDE))
        return blocks_for(blocks_for(batch, most), SIDE) * SIDE


@dataclass(frozen=True, slots=True)
class TensorPlan(Plan):
    """The same where tensor cores multiply: factors are words, of two bfloat16 or one tf32. A warp
    has 16 columns of the product and some of its depth, for all of 8 or 16 rows.

    The weights of a column, and the numbers of a row, are neighbours; WORDS of each are staged at
    a time. Rows are four words longer than a multiple of 32, so that the eight rows and four words
    that a warp reads at once fall on 32 banks.
    """

    @property
    def words(self) -> int:
        """Of a row of the exchange, in whole chunks."""
        each = 2 if self.precision == "bfloat16" else 1
        return blocks_for(self.inner, each * WORDS) * WORDS

    @property
    def columns(self) -> int:
        own = self.own if self.back else self.gates * self.own
        return blocks_for(own, 16) * 16

    @property
    def tiles(self) -> int:
        """Of 16 columns: a warp each, at least."""
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
        """Clocks of a step, about: reads of shared memory by warps, four for the columns and two
        for each eight rows of a product of 16 by 8 by 8 words; the exchange; waiting."""
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
    that step by step is as fast.

    shared  bytes that a block may have
    """
    best: Plan | None = None
    for own in range(SIDE, blocks_for(units, SIDE) * SIDE + 1, SIDE):
        if blocks_for(units, own) > multiprocessors:
            continue
        for rows in range(SIDE, MOST_ROWS + 1, SIDE):
            if precision != "float32" and rows % 8:
                continue
            kind = Plan if precision == "float32" else TensorPlan
            plan = kind(cell, units, gates, back, own, rows, precision)
            if plan.threads > MOST_THREADS or plan.shared > shared:
                continue
            if plan.tile_rows(batch, multiprocessors) > MOST_WORK:
                continue
            cost = plan.cost(batch, multiprocessors)
            if best is None or cost < best.cost(batch, multiprocessors):
                best = plan
    return best
