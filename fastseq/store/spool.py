"""A growing array that moves to a temporary file when it becomes large.

spool = Spool(np.int32, memory=1 << 30)
spool.append(values)
array = spool.finish()          # in memory, or a mapped file that goes with the array
"""

from __future__ import annotations

import os
import tempfile
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from fastseq.errors import FastseqError

MEMORY = 1 << 30  # bytes, unless said


class Spool:
    """Appends arrays of one type, in memory up to a limit and in a file beyond.

    dtype   of the elements
    memory  bytes to hold in memory
    folder  where the temporary file goes; None: the system's place for those

    The file has no name, or goes with its last user, so a killed process leaves nothing. All
    methods raise FastseqError where the system refuses to write.
    """

    def __init__(
        self,
        dtype: npt.DTypeLike,
        memory: int = MEMORY,
        folder: str | os.PathLike[str] | None = None,
    ) -> None:
        self._dtype = np.dtype(dtype)
        self._memory = memory
        self._folder = folder
        self._parts: list[npt.NDArray[Any]] = []
        self._held = 0
        self._file: IO[bytes] | None = None
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def append(self, values: npt.NDArray[Any]) -> None:
        """Add elements at the end. The array must not be changed afterwards."""
        if not len(values):
            return
        part = np.ascontiguousarray(values, self._dtype)
        self._parts.append(part)
        self._held += part.nbytes
        self._size += len(part)
        if self._held > self._memory:
            self._spill()

    def finish(self) -> npt.NDArray[Any]:
        """All elements as one writable array. The spool is empty then."""
        parts, self._parts, self._held = self._parts, [], 0
        size, self._size = self._size, 0
        if self._file is None:
            return np.concatenate(parts) if parts else np.empty(0, self._dtype)
        self._parts = parts
        self._spill()
        file, self._file = self._file, None
        try:
            with file:  # the mapping keeps the file
                mapped = np.memmap(file, self._dtype, "r+", shape=(size,))
        except OSError as error:
            raise FastseqError(f"cannot map a temporary file: {error.strerror}") from error
        # a plain array, whose type is the one that kernels are compiled for
        return np.asarray(mapped)

    def _spill(self) -> None:
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(  # noqa: SIM115 (closed by `finish`)
                    dir=self._folder, prefix="fastseq-"
                )
            for part in self._parts:
                self._file.write(part.data)
            self._file.flush()
        except OSError as error:
            place = self._folder or tempfile.gettempdir()
            raise FastseqError(
                f"cannot write a temporary file in {place}: {error.strerror}"
            ) from error
        self._parts, self._held = [], 0
