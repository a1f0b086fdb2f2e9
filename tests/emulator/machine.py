"""A GPU on the CPU: PTX run by NumPy, all threads that are at the same place at once.

Of the places where threads stand the first in the text is run first, so that threads that parted
meet again; with a seed any, and often for some warps only. The order must not matter: that is a
test. Copies that need not wait are done when they are waited for.

    launch(program(ptx), (blocks, 1, 1), threads, dynamic_bytes, arguments, device, seed)

Not emulated: what the assembler does to PTX, time, and caches but for one thing: spaces.Watch.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from types import CodeType
from typing import Any

import numpy as np

from tests.emulator.reading import BYTES, Program, read
from tests.emulator.spaces import U8, FaultError, Space, Watch
from tests.emulator.translating import Translator

WARP = 32
WINDOW = 1 << 56  # where generic addresses of shared memory begin
AT_ONCE = 4096  # threads of blocks that do not wait for one another
MOST_SPINS = 20_000


@lru_cache(None)
def program(ptx: str) -> tuple[Program, CodeType]:
    made = read(ptx)
    return made, Translator(made).code()


class Device:
    """Its memory: `allocate` and `free` give addresses out, which are the host's."""

    def __init__(self, size: int = 1 << 30) -> None:
        self._raw = np.zeros(size + 512, np.uint8)
        start = -self._raw.ctypes.data % 256
        self.space = Space(self._raw[start : start + size], self._raw.ctypes.data + start, "device")
        self.space.usable = np.zeros(size, bool)
        self.space.watch = Watch(size // 4)
        self._sizes: dict[int, int] = {}
        self._free: dict[int, list[int]] = {}
        self._end = 256
        self.threads = 1  # that were launched so far

    def allocate(self, size: int) -> int:
        """Bytes at a multiple of 256, initialised to NaN."""
        room = -(-max(size, 1) // 256) * 256 + 256
        kept = self._free.get(room)
        if kept:
            offset = kept.pop(0)
        else:
            offset, self._end = self._end, self._end + room
            if self._end > self.space.size:
                raise MemoryError("the emulated device is full")
        self._sizes[offset] = size
        self.space.usable[offset : offset + size] = True
        self.space.raw[offset : offset + size] = 0xFF
        return self.space.first + offset

    def free(self, address: int) -> None:
        offset = address - self.space.first
        size = self._sizes.pop(offset)
        self.space.usable[offset : offset + size] = False
        self._free.setdefault(-(-max(size, 1) // 256) * 256 + 256, []).append(offset)

    @property
    def taken(self) -> int:
        return sum(self._sizes.values())


def launch(
    kernel: tuple[Program, CodeType],
    grid: Sequence[int],
    threads: int,
    dynamic: int,
    arguments: Sequence[int],
    device: Device,
    seed: int | None = None,
) -> None:
    """Run a kernel to its end; raises FaultError.

    arguments  the bits of each parameter
    seed       of the order in which threads run, where it is not by place
    """
    made, code = kernel
    if threads > made.threads:
        raise FaultError(f"{made.name}: {threads} threads a block, {made.threads} are its most")
    if len(arguments) != len(made.parameters):
        raise FaultError(f"{made.name}: {len(arguments)} arguments of {len(made.parameters)}")
    if max(grid[1:]) > 65535 or min(grid) < 1 or grid[0] >= 1 << 31:
        raise FaultError(f"{made.name}: a grid of {tuple(grid)}")
    blocks = int(np.prod(grid))
    together = blocks if made.waits_for_blocks else max(1, AT_ONCE // threads)
    base = device.threads
    device.threads += blocks * threads + 1
    for first in range(0, blocks, together):
        some = np.arange(first, min(first + together, blocks))
        Launch(made, code, some, grid, threads, dynamic, arguments, device, base, seed).run()


class Launch:
    """The running blocks of a grid."""

    def __init__(
        self, made: Program, code: CodeType, blocks: Any, grid: Sequence[int], threads: int,
        dynamic: int, arguments: Sequence[int], device: Device, base: int, seed: int | None,
    ) -> None:  # fmt: skip
        n = self.n = blocks.size * threads
        self.made, self.base, self.of_block = made, base, threads
        self.several = base + int(np.prod(grid)) * threads  # no thread's number
        self.everyone = np.arange(n)
        self.block = np.repeat(np.arange(blocks.size), threads)
        self._numbers = base + np.repeat(blocks, threads) * threads + self.everyone % threads
        self._epochs = np.zeros(n, np.int32)
        self.meeting = made.waits_for_blocks
        self.random = None if seed is None else np.random.default_rng(seed)
        self.live = np.ones(n, bool)
        self.pending: list[tuple[Any, Any, Any]] = []  # copies under way
        self.shared_bytes = made.static + dynamic
        part = -(-max(self.shared_bytes, 16) // 16) * 16
        self.shared = Space(np.full(part * blocks.size, 0xFF, np.uint8), 0, "shared")
        self.shared.parts = self.block.astype(U8) * U8(part)
        self.shared.watch = Watch(part * blocks.size // 4)
        self.device = device.space
        self.shared.launch = self.device.launch = self
        x, y, _ = grid
        names: dict[str, Any] = {
            "tid": self.everyone % threads, "lane": self.everyone % threads % WARP,
            "ctaid_x": blocks[self.block] % x, "ctaid_y": blocks[self.block] // x % y,
            "ctaid_z": blocks[self.block] // (x * y),
        }  # fmt: skip
        sizes = {
            "ntid": threads, "nctaid_x": x, "nctaid_y": y, "nctaid_z": grid[2], "dynamic": dynamic,
            "zero": 0, "one": 1,
        }  # fmt: skip
        names |= {name: np.full(n, value) for name, value in sizes.items()}
        names = {name: value.astype(np.uint32) for name, value in names.items()}
        names |= FUNCTIONS
        names |= {
            "device": self.device, "shared": self.shared, "WINDOW": U8(WINDOW), "only": self._only,
            "copy_later": self._copy_later, "arrive": self._arrive, "shuffled": self._shuffled,
            "matrices": self._matrices,
        }  # fmt: skip
        for (name, kind), given in zip(made.parameters, arguments, strict=True):
            raw = np.array([given], np.uint64).view(np.uint8)[: BYTES[kind]].copy()
            for letter in "uif":
                if letter != "f" or BYTES[kind] >= 4:
                    names[f"{name}_{letter}"] = raw.view(f"{letter}{BYTES[kind]}")[0]
        rubbish = np.random.default_rng(n)
        for register, kind in made.registers.items():
            name = "R_" + register.lstrip("%").replace("$", "_")
            if kind == "pred":
                names[name] = np.zeros(n, bool)
                continue
            size = BYTES[kind]
            own = np.full(n, rubbish.integers(1 << 8 * size - 1), f"u{size}")
            for letter in "uif":
                if letter != "f" or size >= 4:
                    names[name + letter] = own.view(f"{letter}{size}")
        exec(code, names)  # defines a function for each block of instructions
        self.functions = [names[f"block_{i}"] for i in range(len(made.blocks))]

    # what Space asks

    def threads(self, at_work: Any) -> Any:
        return self.everyone[at_work]

    def numbers(self, at_work: Any) -> Any:
        return self._numbers[at_work]

    def epochs(self, at_work: Any) -> Any:
        return self._epochs[at_work]

    def block_of(self, numbers: Any) -> Any:
        return (numbers - self.base) // self.of_block

    def who(self, thread: int) -> str:
        block, of = divmod(int(self._numbers[thread]) - self.base, self.of_block)
        return f"thread {of} of block {block} of {self.made.name[:60]}"

    # running

    def run(self) -> None:
        with np.errstate(all="ignore"):
            self._run()

    def _run(self) -> None:
        made = self.made
        ready: dict[int, list[Any]] = {0: [self.everyone]}
        later: dict[int, list[Any]] = {}
        held: dict[int, list[Any]] = {}  # at an instruction that waits for others
        spins = 0
        while ready or later:
            if not ready:
                ready, later = later, {}
                spins += 1
                if spins > MOST_SPINS:
                    raise FaultError(f"{made.name}: blocks wait for one another for ever")
            at = self._next(ready)
            threads = self._taken(ready, at)
            block = made.blocks[at] if at < len(made.blocks) else None
            if block is None or not block.instructions:
                self.live[threads] = False
                continue
            first, last = block.first, block.instructions[-1]
            if first.startswith(("bar", "shfl", "mma")):
                threads = self._met(held, at, threads, WARP if first[0] != "b" else 0)
                if not threads.size:
                    continue
            goes = self.functions[at](slice(None) if threads.size == self.n else threads)
            if first.startswith("bar"):
                self._epochs[threads] += 1
            if last.words[0] == "bra":
                to = made.labels[last.operands[0]]
                if goes is None:
                    ready.setdefault(to, []).append(threads)
                    continue
                for place, some in ((to, threads[goes]), (at + 1, threads[~goes])):
                    if some.size:
                        ready.setdefault(place, []).append(some)
            elif last.words[0] in ("ret", "exit"):
                if goes is None:
                    goes = np.ones(threads.size, bool)
                self.live[threads[goes]] = False
                if not goes.all():
                    ready.setdefault(at + 1, []).append(threads[~goes])
            elif "acquire" in last.words:  # it looks at what others do: let them do it
                later.setdefault(at + 1, []).append(threads)
            else:
                ready.setdefault(at + 1, []).append(threads)
        if held:
            at, some = next(iter(held.items()))
            text = made.blocks[at].instructions[0].text
            raise FaultError(f"{self.who(int(some[0][0]))} waits for ever at {text}")
        if self.pending:
            raise FaultError(f"{made.name}: ends with copies under way")

    def _next(self, ready: dict[int, list[Any]]) -> int:
        if self.random is None:
            return min(ready)
        return sorted(ready)[int(self.random.integers(len(ready)))]

    def _taken(self, ready: dict[int, list[Any]], at: int) -> Any:
        parts = ready.pop(at)
        threads = np.sort(np.concatenate(parts)) if len(parts) > 1 else parts[0]
        if self.random is not None and self.random.random() < 0.5:  # some warps only
            warps = self._warps(threads)
            chosen = self.random.random(int(warps.max()) + 1) < 0.5
            some = chosen[warps]
            if some.any() and not some.all():
                ready[at] = [threads[~some]]
                threads = threads[some]
        return threads

    def _warps(self, threads: Any) -> Any:
        of_block = -(-self.of_block // WARP)
        return self.block[threads] * of_block + threads % self.of_block // WARP

    def _met(self, held: dict[int, list[Any]], at: int, threads: Any, warp: int) -> Any:
        """Of those that wait at an instruction, the threads of whole warps, or blocks."""
        waiting = np.sort(np.concatenate([*held.pop(at, []), threads]))
        group = self._warps if warp else (lambda some: self.block[some])
        living = np.flatnonzero(self.live)
        if warp:
            expected = np.bincount(group(self.everyone))  # all of a warp, ended or not
        else:
            expected = np.bincount(group(living), minlength=int(self.block[-1]) + 1)
        arrived = np.bincount(group(waiting), minlength=expected.size)
        whole = (arrived == expected)[group(waiting)]
        if not whole.all():
            held[at] = [waiting[~whole]]
        return waiting[whole]

    # instructions that concern several threads

    def _only(self, at_work: Any, guard: Any) -> Any:
        return self.everyone[at_work][guard]

    def _copy_later(self, at_work: Any, to: Any, source: Any) -> None:
        lanes = self.threads(at_work)
        self.shared._places(at_work, to, 16)
        self.device._places(at_work, source, 16)
        self.pending.append((lanes, np.array(to), np.array(source)))

    def _arrive(self, at_work: Any) -> None:
        """Copies are done as late as they may be."""
        mine = np.zeros(self.n, bool)
        mine[self.threads(at_work)] = True
        rest = []
        for lanes, to, source in self.pending:
            now = mine[lanes]
            if now.any():
                threads = lanes[now]
                words = self.device.load(threads, source[now], 4, 4, fresh=True)
                self.shared.store(threads, to[now], 4, words)
            if not now.all():
                rest.append((lanes[~now], to[~now], source[~now]))
        self.pending = rest

    def _shuffled(
        self, at_work: Any, mode: str, value: Any, by: Any, clamp: Any, mask: Any
    ) -> tuple[Any, Any]:
        lanes = self.threads(at_work)
        of = np.broadcast_to(mask, lanes.shape)
        if (of != np.uint32(0xFFFFFFFF)).any() or self.of_block % WARP:
            raise FaultError(f"{self.who(int(lanes[0]))} shuffles without its whole warp")
        values = np.broadcast_to(value, lanes.shape).reshape(-1, WARP)
        by = np.broadcast_to(by, lanes.shape).reshape(-1, WARP).astype(np.int64)
        lane = np.arange(WARP)
        limit = np.broadcast_to(clamp, lanes.shape).reshape(-1, WARP).astype(np.int64)
        segment = limit >> 8
        furthest = lane & segment | limit & 31 & ~segment
        source = {"bfly": lane ^ by, "down": lane + by, "up": lane - by,
                  "idx": lane & segment | by & 31 & ~segment}[mode]  # fmt: skip
        there = source >= furthest if mode == "up" else source <= furthest
        source = np.where(there, source, lane)
        return np.take_along_axis(values, source, 1).reshape(-1), there.reshape(-1)

    def _matrices(
        self, at_work: Any, kind: str, a: list[Any], b: list[Any], c: list[Any]
    ) -> list[Any]:
        """mma.sync of 16 by 8 sums, with fragments as PTX ISA 9.7.15.5 has them."""
        lanes = self.threads(at_work)
        group, place = np.arange(WARP) // 4, np.arange(WARP) % 4

        def warps(values: list[Any]) -> Any:
            return np.stack([np.broadcast_to(v, lanes.shape).reshape(-1, WARP) for v in values])

        left, right, sums = warps(a), warps(b), warps(c).view(np.float32)
        two = kind == "bf16"
        depth = 16 if two else 8
        A = np.zeros((left.shape[1], 16, depth))
        B = np.zeros((left.shape[1], depth, 8))
        for register in range(4):
            row = group + 8 * (register % 2)
            column = place * (2 if two else 1) + (depth // 2) * (register // 2)
            for half in range(2 if two else 1):
                A[:, row, column + half] = _float(left[register], kind, half)
        for register in range(2):
            row = place * (2 if two else 1) + (depth // 2) * register
            for half in range(2 if two else 1):
                B[:, row + half, group] = _float(right[register], kind, half)
        product = A @ B
        return [
            (sums[i] + product[:, group + 8 * (i // 2), 2 * place + i % 2]).astype(np.float32)
            .reshape(-1)
            for i in range(4)
        ]  # fmt: skip


def _float(words: Any, kind: str, half: int) -> Any:
    """What a tensor core takes of a register: a half of it, or all but 13 bits of the fraction."""
    if kind == "tf32":
        return (words & np.uint32(0xFFFFE000)).view(np.float32)
    return (words << np.uint32(16) if half == 0 else words & np.uint32(0xFFFF0000)).view(np.float32)


def _quotient(a: Any, b: Any) -> Any:
    _not_zero(b)
    found = a // b
    if np.issubdtype(np.asarray(found).dtype, np.signedinteger):
        found = found + ((a % b != 0) & ((a < 0) != (b < 0)))
    return found


def _remainder(a: Any, b: Any) -> Any:
    _not_zero(b)
    return np.fmod(a, b)


def _not_zero(b: Any) -> None:
    if (np.asarray(b) == 0).any():
        raise FaultError("a whole number divided by zero")


def _high(a: Any, b: Any, kind: str) -> Any:
    wide = np.asarray(a).astype(object) * np.asarray(b).astype(object)
    return np.atleast_1d(np.asarray(wide >> 64)).astype(kind)


FUNCTIONS: dict[str, Any] = {
    "quotient": _quotient, "remainder": _remainder, "high": _high, "where": np.where,
    "minimum": np.minimum, "maximum": np.maximum, "fmin": np.fmin, "fmax": np.fmax,
    "isnan": np.isnan, "absolute": np.abs, "root": np.sqrt, "trunc": np.trunc, "rint": np.rint,
    "bit_count": np.bitwise_count, "ascontiguous": np.ascontiguousarray, "boolean": np.bool_,
    "u1": np.uint8, "u2": np.uint16, "u4": np.uint32, "u8": np.uint64, "i1": np.int8,
    "i2": np.int16, "i4": np.int32, "i8": np.int64, "f4": np.float32, "f8": np.float64,
}  # fmt: skip
