from __future__ import annotations

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
    assert before != "system"
    inside, left = threading.Event(), threading.Event()

    def other() -> None:
        with memory.system_allocator():
            inside.set()
            left.wait(10)

    thread = threading.Thread(target=other)
    with memory.system_allocator():
        thread.start()
        inside.wait(10)
        array = pa.array(range(1000))
    assert pa.default_memory_pool().backend_name == "system"
    left.set()
    thread.join(10)
    assert pa.default_memory_pool().backend_name == before
    assert array.to_pylist() == [*range(1000)]
    with pytest.raises(KeyError), memory.system_allocator():
        raise KeyError
    assert pa.default_memory_pool().backend_name == before


def test_memory_is_given_back_where_the_c_library_can(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    monkeypatch.setattr(memory, "_trim", lambda: calls.append)
    memory.give_back()
    assert calls == [0]
    monkeypatch.setattr(memory, "_trim", lambda: None)
    memory.give_back()
    monkeypatch.undo()
    memory.give_back()


# ---- arrays in a file


class Halves:
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


@pytest.mark.parametrize("whole", [True, False])
def test_spilled_arrays_are_read_in_any_order(tmp_path: Path, whole: bool) -> None:
    file = SpillFile(tmp_path / "arrays")
    if not whole:
        file._file = Halves(file._file)  # type: ignore[assignment]
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
    file.close()
