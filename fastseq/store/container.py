"""Containers: data files of several named arrays, with a checksum for every chunk of each.

    array, array, …   each begins at a multiple of 64 bytes; zeros in between
    uint32[C]         CRC-32 of every chunk of 16 KB of each array, in the order of the directory
    directory         JSON: {"arrays": {name: [dtype, offset, elements]}}
    uint32            bytes of the directory

The last three are the footer, whose size and CRC-32 are in the manifest. A chunk is verified before
it is first used, so a damaged file is an error and never a wrong result, and opening an index does
not read its postings.
"""

from __future__ import annotations

import json
import math
import mmap
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from fastseq.errors import FormatError
from fastseq.store import disk
from fastseq.types import Int64, distinct, ranges

CHUNK = 1 << 14
_ALIGNMENT = 64
_LENGTH = np.dtype("<u4")  # of the directory's length, and of checksums

Array = npt.NDArray[Any]


class Region:
    """An array of a container being written, from one thread at a time.

    `append` is its only method for callers; `count` elements must be appended before the container
    is finished, or any number where it is None.
    """

    def __init__(
        self, file: BinaryIO, name: str, dtype: npt.DTypeLike, offset: int, count: int | None
    ) -> None:
        self.name, self.dtype, self.offset, self.count = name, np.dtype(dtype), offset, count
        self.nbytes = 0
        self.checksums: list[int] = []
        self._file = file
        self._crc32 = 0

    def append(self, data: Array | bytes | bytearray | memoryview) -> None:
        """Append an array of the region's dtype, or bytes. Raises OSError where the system refuses,
        TypeError for another dtype."""
        if isinstance(data, np.ndarray):
            if data.dtype != self.dtype:
                raise TypeError(f"{self.name}: {data.dtype} appended to {self.dtype}")
            data = np.ascontiguousarray(data).reshape(-1).view(np.uint8).data
        view = memoryview(data).cast("B")
        disk.write(self._file, view, self.offset + self.nbytes)
        while len(view):
            filled = self.nbytes % CHUNK
            part = view[: CHUNK - filled]
            self._crc32 = zlib.crc32(part, self._crc32 if filled else 0)
            if filled:
                self.checksums[-1] = self._crc32
            else:
                self.checksums.append(self._crc32)
            self.nbytes += len(part)
            view = view[len(part) :]


class ContainerWriter:
    """Writes a container. Regions of known size may be filled in any order; a region of unknown
    size must be complete before another is begun.

    Attributes
    ----------
    bytes, footer, crc32 : once finished: the size of the file and of its footer, and the footer's
        CRC-32
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.bytes = self.footer = self.crc32 = 0
        self._file = disk.create(path)
        self._regions: list[Region] = []
        self._end = 0

    @property
    def closed(self) -> bool:
        return self._file.closed

    def region(self, name: str, dtype: npt.DTypeLike, count: int | None = None) -> Region:
        """Begin an array of `count` elements, None for as many as are appended."""
        if self._regions and self._regions[-1].count is None:
            last = self._regions[-1]
            self._end = last.offset + last.nbytes
            last.count = last.nbytes // last.dtype.itemsize
        offset = -(-self._end // _ALIGNMENT) * _ALIGNMENT
        region = Region(self._file, name, dtype, offset, count)
        self._end = offset + (count or 0) * region.dtype.itemsize
        self._regions.append(region)
        return region

    def array(self, name: str, values: Array) -> None:
        """Write a one-dimensional array."""
        self.region(name, values.dtype, len(values)).append(values)

    def written(self, name: str, start: int = 0, stop: int | None = None) -> Array:
        """A copy of the elements from start to stop of an array that is complete."""
        region = next(one for one in self._regions if one.name == name)
        size = region.dtype.itemsize
        end = region.nbytes if stop is None else stop * size
        found = np.empty(end - start * size, np.uint8)
        disk.read(self._file, found, region.offset + start * size)
        return found.view(region.dtype)

    def elements(self, name: str) -> int:
        """The number of elements of an array that is complete."""
        region = next(one for one in self._regions if one.name == name)
        return region.nbytes // region.dtype.itemsize

    def finish(self) -> None:
        """Write the footer and close the file. Raises ValueError for a region that is not
        complete."""
        directory: dict[str, list[Any]] = {}
        for region in self._regions:
            count = region.nbytes // region.dtype.itemsize
            if region.count not in (None, count):
                raise ValueError(f"{region.name}: {count} elements of {region.count}")
            directory[region.name] = [region.dtype.str, region.offset, count]
        checksums = np.array([c for region in self._regions for c in region.checksums], _LENGTH)
        content = json.dumps({"arrays": directory}).encode("ascii")
        footer = checksums.tobytes() + content + np.array([len(content)], _LENGTH).tobytes()
        end = max((region.offset + region.nbytes for region in self._regions), default=0)
        disk.write(self._file, footer, end)
        self._file.close()
        self.bytes, self.footer, self.crc32 = end + len(footer), len(footer), zlib.crc32(footer)

    def close(self) -> None:
        """Close the file, unfinished; repeated calls do nothing."""
        self._file.close()


class Container:
    """The arrays of a mapped container.

    Raises FormatError for a damaged footer.
    """

    def __init__(self, path: Path, mapped: mmap.mmap | bytearray, footer: int, crc32: int) -> None:
        self.path = path
        self._mapped = mapped
        view = memoryview(mapped)
        self._end = len(view) - footer
        if not _LENGTH.itemsize <= footer <= len(view) or zlib.crc32(view[self._end :]) != crc32:
            raise FormatError(f"{path}: damaged: the checksum of its directory is wrong")
        length = int(np.frombuffer(view[-_LENGTH.itemsize :], _LENGTH)[0])
        checksums_end = len(view) - _LENGTH.itemsize - length
        content = bytes(view[max(checksums_end, 0) : -_LENGTH.itemsize])
        self._arrays: dict[str, tuple[np.dtype[Any], int, int]] = {}
        self._first_chunk: dict[str, int] = {}
        chunks = 0
        try:
            for name, (dtype, offset, count) in json.loads(content)["arrays"].items():
                kind = np.dtype(str(dtype))
                # numbers only: neither object arrays nor records
                if kind.kind not in "biuf" or type(offset) is not int or type(count) is not int:
                    raise ValueError
                if not 0 <= offset <= offset + count * kind.itemsize <= self._end:
                    raise ValueError
                self._arrays[name] = kind, offset, count
                self._first_chunk[name] = chunks
                chunks += math.ceil(count * kind.itemsize / CHUNK)
            self._checksums = np.frombuffer(view[self._end : checksums_end], _LENGTH).tolist()
        except (ValueError, TypeError, KeyError, AttributeError):
            raise FormatError(f"{path}: damaged: its directory cannot be read") from None
        if len(self._checksums) != chunks:
            raise FormatError(f"{path}: damaged: {len(self._checksums)} checksums for {chunks}")
        self._verified = bytearray(chunks)

    def __contains__(self, name: str) -> bool:
        return name in self._arrays

    def array(self, name: str, dtype: npt.DTypeLike | None = None) -> Array:
        """An array, mapped, all of its chunks verified. It is flagged writable: see Folder.array.

        Raises FormatError: there is no such array, it is not of `dtype`, or is damaged.
        """
        found = self.unverified(name, dtype)
        self.verify(name, 0, len(found))
        return found

    def unverified(self, name: str, dtype: npt.DTypeLike | None = None) -> Array:
        """An array whose parts must be verified before they are used."""
        if name not in self._arrays:
            raise FormatError(f"{self.path}: has no array {name!r}")
        kind, offset, count = self._arrays[name]
        if dtype is not None and np.dtype(dtype) != kind:
            raise FormatError(f"{self.path}: {name} is {kind}, expected {np.dtype(dtype)}")
        return np.frombuffer(self._mapped, kind, count, offset)

    def verify(self, name: str, start: int, stop: int) -> None:
        """Verify the chunks of the elements from start to stop of an array, each once. Raises
        FormatError where one is damaged."""
        self._refuse_damaged(name, self._damaged(name, self._new_chunks(name, start, stop)))

    def verify_ranges(self, name: str, starts: Int64, stops: Int64) -> None:
        """`verify` for several ranges, int64[n] each."""
        size, base = self._arrays[name][0].itemsize, self._first_chunk[name]
        some = starts < stops
        first, last = starts[some] * size // CHUNK, -(-stops[some] * size // CHUNK)
        if not len(first):
            return
        chunks = distinct(ranges(first, last - first))
        verified = np.frombuffer(self._verified, np.uint8)[base + chunks]
        self._refuse_damaged(name, self._damaged(name, chunks[verified == 0].tolist()))

    def _refuse_damaged(self, name: str, chunks: list[int]) -> None:
        if chunks:
            raise FormatError(
                f"{self.path}: damaged: the checksum of {name} is wrong, in its chunk {chunks[0]}"
            )

    def is_intact(self) -> bool:
        """Read every byte."""
        end = 0
        for name, (kind, offset, count) in sorted(self._arrays.items(), key=lambda a: a[1][1]):
            if any(memoryview(self._mapped)[end:offset]) or self._damaged(
                name, self._new_chunks(name, 0, count)
            ):
                return False
            end = max(end, offset + count * kind.itemsize)
        return not any(memoryview(self._mapped)[end : self._end])

    def _new_chunks(self, name: str, start: int, stop: int) -> Iterable[int]:
        """The chunks of some elements of an array that are not verified yet."""
        kind, _, count = self._arrays[name]
        first = start * kind.itemsize // CHUNK
        last = -(-min(stop, count) * kind.itemsize // CHUNK)
        base = self._first_chunk[name]
        if start >= stop or 0 not in self._verified[base + first : base + last]:
            return ()
        return [chunk for chunk in range(first, last) if not self._verified[base + chunk]]

    def _damaged(self, name: str, chunks: Iterable[int]) -> list[int]:
        """Those of some chunks of an array that have a wrong checksum; the others are verified."""
        kind, offset, count = self._arrays[name]
        base, end = self._first_chunk[name], offset + count * kind.itemsize
        view = memoryview(self._mapped)
        wrong = []
        for chunk in chunks:
            at = offset + chunk * CHUNK
            found = zlib.crc32(view[at : min(at + CHUNK, end)])
            if found == self._checksums[base + chunk]:
                self._verified[base + chunk] = 1
            else:
                wrong.append(chunk)
        return wrong
