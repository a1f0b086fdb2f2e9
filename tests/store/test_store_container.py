"""Containers: arrays in any order of writing, checksums of chunks, damage found where it is."""

from __future__ import annotations

import json
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastseq.errors import FastseqError, FormatError
from fastseq.store import disk
from fastseq.store.container import CHUNK, Container, ContainerWriter
from fastseq.store.folder import Folder, verify
from fastseq.store.writer import FolderWriter
from tests.naive import inverted

Arrays = dict[str, np.ndarray]


def opened(path: Path, writer: ContainerWriter, raw: bytes | None = None) -> Container:
    """A container in memory that can be written to; nothing of it is verified yet."""
    raw = path.read_bytes() if raw is None else raw
    return Container(path, bytearray(raw), writer.footer, writer.crc32)


def written(path: Path, arrays: Arrays) -> ContainerWriter:
    writer = ContainerWriter(path)
    for name, values in arrays.items():
        writer.array(name, values)
    writer.finish()
    return writer


def some_arrays() -> Arrays:
    """Arrays of less than a chunk, of whole chunks, and of a part of one more."""
    chance = np.random.default_rng(5)
    return {
        "short": chance.integers(0, 256, 100, np.uint8),
        "none": np.zeros(0, np.int64),
        "whole": chance.integers(0, 1 << 30, 3 * CHUNK // 4, np.int32),
        "longer": chance.integers(0, 1 << 60, 2 * CHUNK // 8 + 1, np.int64),
        "reals": chance.random(CHUNK // 2, np.float32),
        "last": np.zeros(0, np.uint16),
    }


@pytest.fixture
def arrays() -> Arrays:
    return some_arrays()


# ---- round trip

dtypes = st.sampled_from(["u1", "<u2", "<i4", "<u4", "<i8", "<f4", "<f8"])
sizes = st.integers(0, 9) | st.sampled_from([CHUNK // 8, CHUNK, CHUNK + 1, 2 * CHUNK + 7])


@settings(deadline=None, max_examples=150)
@given(st.lists(st.tuples(dtypes, sizes, st.booleans()), max_size=6), st.data())
def test_round_trip(planned: list[tuple[str, int, bool]], data: st.DataObject) -> None:
    """Arrays of known size in parts and interleaved, of unknown size one after the other."""
    chance = np.random.default_rng(len(planned))
    arrays = {
        f"array{n}": chance.integers(0, 256, size * np.dtype(dtype).itemsize, np.uint8).view(dtype)
        for n, (dtype, size, _) in enumerate(planned)
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "container"
        writer = ContainerWriter(path)
        later = []
        for (name, values), (_, _, known) in zip(arrays.items(), planned, strict=True):
            region = writer.region(name, values.dtype, len(values) if known else None)
            cuts = data.draw(st.lists(st.integers(0, len(values)), max_size=3))
            parts = np.split(values, sorted(cuts))
            if known:
                later.append([region, parts])
            else:
                for part in parts:
                    region.append(part)
        while later:
            which = data.draw(st.integers(0, len(later) - 1))
            region, parts = later[which]
            region.append(parts.pop(0))
            if not parts:
                del later[which]
        writer.finish()
        assert writer.closed
        entry = {"bytes": writer.bytes, "crc32": writer.crc32, "footer": writer.footer}
        independent = inverted.read_container(path, entry)
        container = opened(path, writer)
        assert container.is_intact()
        assert independent.keys() == arrays.keys()
        for name, values in arrays.items():
            assert name in container
            found = container.array(name, values.dtype)
            assert found.dtype == values.dtype
            assert found.flags.writeable
            for read in (found, independent[name], container.unverified(name)):
                assert read.tobytes() == values.tobytes()
        assert "other" not in container


def test_bytes_do_not_depend_on_the_order_of_writing(tmp_path: Path, arrays: Arrays) -> None:
    written(tmp_path / "a", arrays)
    writer = ContainerWriter(tmp_path / "b")
    regions = [writer.region(name, a.dtype, len(a)) for name, a in arrays.items()]
    for region, values in reversed([*zip(regions, arrays.values(), strict=True)]):
        region.append(values[:7])
        region.append(values[7:].tobytes())
    writer.finish()
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_arrays_begin_at_multiples_of_64_bytes_after_zeros(tmp_path: Path, arrays: Arrays) -> None:
    writer = written(tmp_path / "container", arrays)
    raw = (tmp_path / "container").read_bytes()
    length = int.from_bytes(raw[-4:], "little")
    directory = json.loads(raw[-4 - length : -4])["arrays"]
    end = 0
    for name, (dtype, offset, count) in directory.items():
        assert offset == -(-end // 64) * 64
        assert raw[end:offset] == bytes(offset - end)
        assert (np.dtype(dtype), count) == (arrays[name].dtype, len(arrays[name]))
        end = offset + arrays[name].nbytes
    chunks = sum(-(-a.nbytes // CHUNK) for a in arrays.values())
    assert writer.footer == len(raw) - end == 4 * chunks + length + 4
    assert writer.bytes == len(raw)


def test_no_arrays_and_empty_arrays(tmp_path: Path) -> None:
    for number, names in enumerate(((), ("a",), ("a", "b"))):
        path = tmp_path / str(number)
        writer = written(path, {name: np.zeros(0, np.int32) for name in names})
        container = opened(path, writer)
        assert container.is_intact()
        assert all(len(container.array(name, np.int32)) == 0 for name in names)


def test_unknown_names_and_types(tmp_path: Path, arrays: Arrays) -> None:
    container = opened(tmp_path / "f", written(tmp_path / "f", arrays))
    with pytest.raises(FormatError, match="f: has no array 'other'"):
        container.array("other")
    with pytest.raises(FormatError, match="f: whole is int32, expected uint32"):
        container.array("whole", np.uint32)


# ---- writing wrong


def test_arrays_of_another_size_or_type_are_refused(tmp_path: Path) -> None:
    for number, count in enumerate((2, 4)):
        writer = ContainerWriter(tmp_path / str(number))
        writer.region("a", np.int32, 3).append(np.zeros(count, np.int32))
        with pytest.raises(ValueError, match=f"a: {count} elements of 3"):
            writer.finish()
        assert not writer.closed
        writer.close()
        writer.close()
        assert writer.closed
    writer = ContainerWriter(tmp_path / "c")
    region = writer.region("a", np.int32)
    with pytest.raises(TypeError, match="a: int64 appended to int32"):
        region.append(np.zeros(1, np.int64))
    region.append(np.zeros(2, np.int32))
    writer.array("b", np.zeros(1, np.uint8))
    region.append(np.zeros(1, np.int32))  # b has begun where it ended
    with pytest.raises(ValueError, match="a: 3 elements of 2"):
        writer.finish()
    writer.close()
    with pytest.raises(FileExistsError):
        ContainerWriter(tmp_path / "c")


# ---- damage


def places(arrays: Arrays) -> list[tuple[str, int, int, int]]:
    """(array, chunk, first element, element after the last) of every chunk."""
    found = []
    for name, values in arrays.items():
        per = CHUNK // values.itemsize
        for chunk, first in enumerate(range(0, len(values), per)):
            found.append((name, chunk, first, min(first + per, len(values))))
    return found


@pytest.mark.parametrize("place", places(some_arrays()), ids=lambda place: f"{place[0]}{place[1]}")
def test_damage_is_found_when_its_chunk_is_first_used(
    tmp_path: Path, arrays: Arrays, place: tuple[str, int, int, int]
) -> None:
    name, chunk, first, stop = place
    path = tmp_path / "f"
    writer = written(path, arrays)
    raw = path.read_bytes()
    directory = json.loads(raw[-4 - int.from_bytes(raw[-4:], "little") : -4])["arrays"]
    start = directory[name][1] + first * arrays[name].itemsize
    said = f"f: damaged: the checksum of {name} is wrong, in its chunk {chunk}$"
    for at in (start, start + (stop - first) * arrays[name].itemsize - 1):
        damaged = bytearray(raw)
        damaged[at] ^= 0x10
        container = opened(path, writer, damaged)
        for other, values in arrays.items():
            if other != name:
                assert container.array(other).tobytes() == values.tobytes()
        size = len(arrays[name])
        container.verify(name, 0, first)
        container.verify(name, stop, size)
        container.verify(name, first, first)
        container.verify_ranges(name, np.array([0, stop]), np.array([first, size]))
        for low, high in ((first, first + 1), (stop - 1, stop), (0, size), (first, stop)):
            with pytest.raises(FormatError, match=said):
                container.verify(name, low, high)
            with pytest.raises(FormatError, match=said):
                container.verify_ranges(name, np.array([0, low]), np.array([0, high]))
        with pytest.raises(FormatError, match=said):
            container.array(name)
        assert len(container.unverified(name)) == size
        assert not container.is_intact()


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 3 * CHUNK), st.integers(0, 9000)), max_size=5), st.data())
def test_ranges_verify_the_chunks_that_they_touch(
    ranges: list[tuple[int, int]], data: st.DataObject
) -> None:
    values = np.arange(3 * CHUNK, dtype=np.uint16)  # six chunks
    wrong = data.draw(st.sets(st.integers(0, 5)))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "f"
        writer = written(path, {"a": values})
        damaged = bytearray(path.read_bytes())
        for chunk in wrong:
            damaged[chunk * CHUNK + 11] ^= 1
        container = opened(path, writer, damaged)
    starts = np.array([start for start, _ in ranges], np.int64)
    lengths = np.array([length for _, length in ranges], np.int64)
    stops = np.minimum(starts + lengths, len(values))
    touched = {
        at * 2 // CHUNK
        for start, stop in zip(starts.tolist(), stops.tolist(), strict=True)
        for at in range(start, stop)
    }
    if touched & wrong:
        with pytest.raises(FormatError, match=f"chunk {min(touched & wrong)}$"):
            container.verify_ranges("a", starts, stops)
    else:
        container.verify_ranges("a", starts, stops)


def test_a_chunk_is_verified_once(
    tmp_path: Path, arrays: Arrays, monkeypatch: pytest.MonkeyPatch
) -> None:
    container = opened(tmp_path / "f", written(tmp_path / "f", arrays))
    seen = []
    crc32 = zlib.crc32
    monkeypatch.setattr(zlib, "crc32", lambda part: seen.append(len(part)) or crc32(part))
    per = CHUNK // 4
    container.verify("whole", per, per + 1)
    assert seen == [CHUNK]
    container.verify("whole", per - 1, per + 1)
    assert seen == [CHUNK] * 2
    container.array("whole")
    container.array("whole")
    container.verify_ranges("whole", np.array([0, 5]), np.array([9, 3 * per]))
    assert seen == [CHUNK] * 3


def test_damaged_padding_changes_no_array(tmp_path: Path, arrays: Arrays) -> None:
    path = tmp_path / "f"
    writer = written(path, arrays)
    raw = path.read_bytes()
    for at in range(100, 128):  # after `short`
        damaged = bytearray(raw)
        damaged[at] = 1
        container = opened(path, writer, damaged)
        for name, values in arrays.items():
            assert container.array(name).tobytes() == values.tobytes()
        assert not container.is_intact()


def test_bytes_before_the_footer_are_zero(tmp_path: Path, arrays: Arrays) -> None:
    path = tmp_path / "f"
    writer = written(path, arrays)
    raw = path.read_bytes()
    body, footer = raw[: -writer.footer], raw[-writer.footer :]
    assert opened(path, writer, body + b"\0\0" + footer).is_intact()
    assert not opened(path, writer, body + b"\0\1" + footer).is_intact()


def test_any_changed_bit_of_a_footer_is_found(tmp_path: Path) -> None:
    path = tmp_path / "f"
    writer = written(path, {"a": np.arange(30), "b": np.zeros(0, np.uint8)})
    raw = path.read_bytes()
    for bit in range(8 * (len(raw) - writer.footer), 8 * len(raw)):
        damaged = bytearray(raw)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(FormatError, match="f: damaged: the checksum of its directory"):
            opened(path, writer, damaged)


@pytest.mark.parametrize("cut", [1, 4, 100, None])
def test_truncated_containers(tmp_path: Path, arrays: Arrays, cut: int | None) -> None:
    path = tmp_path / "f"
    writer = written(path, arrays)
    for raw in (path.read_bytes()[: -cut if cut else 0], path.read_bytes() + b"\0" * (cut or 1)):
        with pytest.raises(FormatError, match="f: damaged: the checksum of its directory"):
            opened(path, writer, raw)


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.update(arrays=[]),
        lambda d: d.pop("arrays"),
        lambda d: d["arrays"].update(a=["<i4", 0]),
        lambda d: d["arrays"].update(a=["<i4", -64, 100]),
        lambda d: d["arrays"].update(a=["<i4", 64, 100]),
        lambda d: d["arrays"].update(a=["<i4", 0, 10**30]),
        lambda d: d["arrays"].update(a=["<i4", 0, -1]),
        lambda d: d["arrays"].update(a=["<i4", 0.0, 100]),
        lambda d: d["arrays"].update(a=["|O", 0, 50]),
        lambda d: d["arrays"].update(a=["nonsense", 0, 100]),
        lambda d: d["arrays"].update(a=["i4,i4", 0, 50]),
        lambda d: d["arrays"].update(a=[None, 0, 50]),
        lambda d: d["arrays"].update(b=["<i4", 0, 100]),
        lambda d: d["arrays"].clear(),
    ],
)
def test_invalid_directories(tmp_path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """With a correct checksum: a file that was written wrong."""
    path = tmp_path / "f"
    writer = written(path, {"a": np.zeros(100, np.int32)})
    raw = path.read_bytes()
    length = int.from_bytes(raw[-4:], "little")
    directory = json.loads(raw[-4 - length : -4])
    change(directory)
    content = json.dumps(directory).encode()
    footer = raw[-writer.footer : -4 - length] + content + len(content).to_bytes(4, "little")
    with pytest.raises(FormatError, match="f: damaged: "):
        Container(path, bytearray(raw[: -writer.footer] + footer), len(footer), zlib.crc32(footer))


# ---- in a folder


def test_containers_in_folders(tmp_path: Path, arrays: Arrays) -> None:
    with FolderWriter(tmp_path, "index", 1) as writer:
        container = writer.container("all")
        for name, values in arrays.items():
            container.array(name, values)
        writer.array("one", arrays["whole"])
        with pytest.raises(ValueError, match="plain file name"):
            writer.container("all")
        writer.commit({}, {})  # which completes it
    folder = Folder.open(tmp_path, "index", {1})
    entry = json.loads((tmp_path / "manifest.json").read_text())["files"]["data-000001/all"]
    read = inverted.read_container(tmp_path / "data-000001" / "all", entry)
    container = folder.container("all")
    for name, values in arrays.items():
        assert read[name].tobytes() == container.array(name).tobytes() == values.tobytes()
    with pytest.raises(FormatError, match="one: not a container"):
        folder.container("one")
    with pytest.raises(FormatError, match="all: not an array"):
        folder.array("all")
    with pytest.raises(FormatError, match="no file 'other'"):
        folder.container("other")
    assert verify(tmp_path) == folder.damaged() == []


@pytest.mark.parametrize("at", [50, 110, CHUNK, -3])
def test_verify_reads_every_byte(tmp_path: Path, arrays: Arrays, at: int) -> None:
    with FolderWriter(tmp_path, "index", 1) as writer:
        container = writer.container("all")
        for name, values in arrays.items():
            container.array(name, values)
        writer.commit({}, {})
    path = tmp_path / "data-000001" / "all"
    raw = bytearray(path.read_bytes())
    raw[at] ^= 1
    path.write_bytes(raw)
    assert verify(tmp_path) == ["data-000001/all"]
    folder = Folder.open(tmp_path, "index", {1})  # the size is right
    assert folder.damaged() == ["data-000001/all"]


def test_full_disk_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(file: Any, data: Any, at: int | None = None) -> None:
        raise OSError(28, "No space left on device")

    def write() -> None:
        with FolderWriter(tmp_path / "index", "index", 1) as writer:
            writer.container("all")
            monkeypatch.setattr(disk, "write", full)
            writer.commit({}, {})

    with pytest.raises(FastseqError, match="all: No space left on device"):
        write()
    assert not (tmp_path / "index").exists()
