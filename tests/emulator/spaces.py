"""Memory of the emulated GPU, and who touched it: what is out of bounds or misaligned is an error,
and so is a word that two threads use with nothing between them that puts one before the other."""

from __future__ import annotations

from typing import Any

import numpy as np

U8 = np.uint64


class FaultError(Exception):
    """What a GPU would stop at, or would give another result for on another day."""


class Watch:
    """Who wrote and read each word of four bytes since when.

    Threads have numbers of their own in all launches, so what is older than a launch has smaller
    ones; a number more than its threads, `several`, stands for more than one of them. The epoch of
    a block is the number of its barriers so far. Where blocks meet, what another block wrote in the
    same launch may be read past the cache only, which may have an older line. Of readers in several
    blocks the last are known, so that a write after them is not always found out.
    """

    def __init__(self, words: int) -> None:
        self.writer = np.zeros(words, np.int64)
        self.written = np.zeros(words, np.int32)
        self.reader = np.zeros(words, np.int64)
        self.read_in = np.zeros(words, np.int32)


class Space:
    """A memory of bytes.

    bytes   uint8[size], of a multiple of 16; `first` is the address of the first one
    usable  bool[size], what may be touched; None: all of it, up to `limit` in each part
    """

    def __init__(self, raw: Any, first: int, name: str) -> None:
        self.name, self.first, self.size = name, first, raw.size
        self.raw = raw
        self.views = {1: raw, 2: raw.view(np.uint16), 4: raw.view(np.uint32),
                      8: raw.view(np.uint64)}  # fmt: skip
        self.usable: Any = None
        self.watch: Watch | None = None
        self.launch: Any = None  # the running threads: numbers and epochs, see machine.Launch
        self.parts: Any = None  # of each thread, the part of this memory that is its block's

    def _places(self, at_work: Any, addresses: Any, size: int) -> Any:
        """Offsets into `raw` of so many bytes for each thread, checked."""
        threads = self.launch.threads(at_work)
        at = np.broadcast_to(np.asarray(addresses, U8), threads.shape) - U8(self.first)
        end = self.size if self.parts is None else self.launch.shared_bytes
        self._refuse(at_work, at, (at > U8(max(0, end - size))) | (end < size), "outside,")
        self._refuse(at_work, at, (at & U8(size - 1)) != 0, "misaligned,")
        if self.parts is not None:
            return at + self.parts[threads]
        usable = self.usable[at] & self.usable[at + U8(size - 1)]
        self._refuse(at_work, at, ~usable, "outside,")
        return at

    def _refuse(self, at_work: Any, at: Any, wrong: Any, what: str) -> None:
        """Raise FaultError where there is something wrong."""
        if wrong.any():
            i = int(np.argmax(wrong))
            who = self.launch.who(int(self.launch.threads(at_work)[i]))
            raise FaultError(f"{what} byte {int(at[i])} of {self.name} memory, by {who}")

    def load(
        self, at_work: Any, addresses: Any, size: int, count: int, *, fresh: bool = False
    ) -> list[Any]:
        """The bits of `count` numbers of so many bytes that lie one after the other; `fresh` past
        the multiprocessor's own cache."""
        at = self._places(at_work, addresses, size * count)
        if self.watch is not None and not (fresh and self.launch.meeting):
            self._reads(self.watch, at_work, at, size * count)
        index = (at // U8(size)).astype(np.int64)
        view = self.views[size]
        return [view[index + i] for i in range(count)]

    def store(self, at_work: Any, addresses: Any, size: int, values: list[Any]) -> None:
        """Likewise; the values are of that size and of any type."""
        at = self._places(at_work, addresses, size * len(values))
        index = (at // U8(size)).astype(np.int64)
        view = self.views[size]
        changed = np.zeros(index.shape, bool)
        for i, value in enumerate(values):
            bits = np.ascontiguousarray(np.broadcast_to(value, index.shape)).view(f"u{size}")
            changed |= view[index + i] != bits
            view[index + i] = bits
            if self.watch is not None:
                lost = view[index + i] != bits
                self._refuse(at_work, at, lost, "a race: two threads write different numbers to")
        if self.watch is not None:
            self._writes(self.watch, at_work, at, size * len(values), changed)

    def atomic(self, at_work: Any, addresses: Any, operation: str, kind: str, value: Any) -> Any:
        size = int(kind[1])
        at = self._places(at_work, addresses, size)
        index = (at // U8(size)).astype(np.int64)
        view = self.views[size].view(kind)
        values = np.broadcast_to(np.asarray(value, kind), index.shape)
        found = np.empty(index.shape, kind)
        for n, (i, each) in enumerate(zip(index.tolist(), values, strict=True)):
            found[n] = view[i]
            view[i] = view[i] + each if operation == "add" else (
                max(view[i], each) if operation == "max" else min(view[i], each))  # fmt: skip
        return found

    def _reads(self, watch: Watch, at_work: Any, at: Any, size: int) -> None:
        launch = self.launch
        threads, epochs = launch.numbers(at_work), launch.epochs(at_work)
        for word in range(max(1, size // 4)):
            index = ((at >> U8(2)) + U8(word)).astype(np.int64)
            other = (watch.writer[index] >= launch.base) & (watch.writer[index] != threads)
            same_block = launch.block_of(watch.writer[index]) == launch.block_of(threads)
            wrong = other & ~(same_block & (watch.written[index] < epochs))
            self._refuse(at_work, at, wrong, "a race: another thread wrote, and this one reads")
            before = watch.reader[index]
            others = (before >= launch.base) & (before != threads)
            others &= watch.read_in[index] == epochs
            watch.reader[index] = np.where(others, launch.several, threads)
            again = watch.reader[index] != threads  # several, maybe at this very instruction
            watch.reader[index[again]] = launch.several
            watch.read_in[index] = epochs

    def _writes(self, watch: Watch, at_work: Any, at: Any, size: int, changed: Any) -> None:
        """A word that is written as it was (by several threads, the same) harms nobody."""
        launch = self.launch
        threads, epochs = launch.numbers(at_work), launch.epochs(at_work)
        for word in range(max(1, size // 4)):
            index = ((at >> U8(2)) + U8(word)).astype(np.int64)
            wrong = np.zeros(index.shape, bool)
            for who, when in ((watch.writer, watch.written), (watch.reader, watch.read_in)):
                other = (who[index] >= launch.base) & (who[index] != threads)
                ordered = (launch.block_of(who[index]) == launch.block_of(threads)) | (
                    who[index] == launch.several
                )
                if launch.meeting:  # blocks come before one another by flags, not known here
                    other &= ordered
                wrong |= other & ~(ordered & (when[index] < epochs))
            wrong &= changed & (size >= 4)
            self._refuse(at_work, at, wrong, "a race: another thread used, and this one writes")
            watch.writer[index] = threads
            watch.written[index] = epochs
