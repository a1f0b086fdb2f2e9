from __future__ import annotations

import errno
import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from fastseq.errors import FastseqError
from fastseq.store import memory
from fastseq.store.files import SpillFile


def test_arrow_allocates_from_the_system_until_the_last_block_is_left() -> None:
    before = pa.default_memory_pool().backend_name
    if before == "system":
        pytest.skip("ARROW_DEFAULT_MEMORY_POOL is the system's")
    inside, left = threading.Event(), threading.Event()

    def other() -> None:
        with memory.system_allocator():
            inside.set()
            assert left.wait(10)

    thread = threading.Thread(target=other)
    with memory.system_allocator():
        thread.start()
        assert inside.wait(10)
        array = pa.array(range(1000))
    assert pa.default_memory_pool().backend_name == "system"
    left.set()
    thread.join(10)
    assert pa.default_memory_pool().backend_name == before
    assert array.to_pylist() == [*range(1000)]
    with pytest.raises(KeyError), memory.system_allocator():
        raise KeyError
    assert pa.default_memory_pool().backend_name == before


class Arrow:
    """Stands for pyarrow: with a real allocator of the caller's own, arrays would outlive it."""

    class Pool:
        def __init__(self, backend_name: str) -> None:
            self.backend_name = backend_name

    system = Pool("system")

    def __init__(self) -> None:
        self.current = self.Pool("mimalloc")

    def default_memory_pool(self) -> Pool:
        return self.current

    def system_memory_pool(self) -> Pool:
        return self.system

    def set_memory_pool(self, pool: Pool) -> None:
        self.current = pool


def test_an_allocator_that_the_caller_sets_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    arrow = Arrow()
    before = arrow.current
    monkeypatch.setattr(memory, "pa", arrow)
    with memory.system_allocator():
        assert arrow.current is arrow.system
    assert arrow.current is before
    own = arrow.Pool("jemalloc")
    with memory.system_allocator():
        arrow.set_memory_pool(own)
    assert arrow.current is own


def test_memory_is_given_back_where_the_c_library_can(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    monkeypatch.setattr(memory, "_trim", lambda: calls.append)
    memory.release_memory()
    assert calls == [0]
    monkeypatch.setattr(memory, "_trim", lambda: None)
    memory.release_memory()
    monkeypatch.undo()
    memory.release_memory()


# ---- arrays in a file


class ShortReads:
    """A file that reads and writes at most three bytes at a time."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def write(self, data: memoryview) -> int:
        written: int = self._file.write(data[:3])
        return written

    def readinto(self, data: memoryview) -> int:
        read: int = self._file.readinto(data[:3])
        return read

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


class Unreadable(ShortReads):
    def readinto(self, data: memoryview) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))


@pytest.mark.parametrize("whole", [True, False])
def test_spilled_arrays_are_read_in_any_order(tmp_path: Path, whole: bool) -> None:
    file = SpillFile(tmp_path / "arrays")
    if not whole:
        file._file = ShortReads(file._file)  # type: ignore[assignment]
    arrays = [np.arange(n, 3 * n, dtype=np.int32) for n in (5, 0, 300, 1)]
    arrays.append(np.arange(7, dtype=np.uint8))
    starts = [file.append(array) for array in arrays]
    for start, array in [*zip(starts, arrays, strict=True)][::-1]:
        assert file.read(start, array.dtype, len(array)).tolist() == array.tolist()
    assert file.read(starts[2] + 4 * 10, np.dtype(np.int32), 2).tolist() == [310, 311]
    file.close()


def test_a_spill_file_that_the_system_refuses_or_cuts(tmp_path: Path) -> None:
    with pytest.raises(FastseqError, match=r"^cannot write .*nowhere.*: No such file"):
        SpillFile(tmp_path / "nowhere" / "arrays")
    file = SpillFile(tmp_path / "arrays")
    start = file.append(np.arange(100))
    os.truncate(tmp_path / "arrays", 10)
    with pytest.raises(FastseqError, match=r"^cannot read .*arrays: it ends too early$"):
        file.read(start, np.dtype(np.int64), 100)
    file._file = Unreadable(file._file)  # type: ignore[assignment]
    with pytest.raises(FastseqError, match=r"^cannot read .*arrays: Input/output error$"):
        file.read(start, np.dtype(np.int64), 100)
    file.close()
