"""Hashes of the ids of documents."""

from __future__ import annotations

import numpy as np

from fastseq.kernels.core.arrays import Int64, UInt8, UInt64
from fastseq.kernels.core.jit import jit
from fastseq.kernels.text.hashing import hash_bytes


@jit
def hash_rows(out: UInt64, data: UInt8, offsets: Int64) -> None:
    """out uint64[n]: the hash of each string data[offsets[i]:offsets[i + 1]].

    data uint8, offsets int64[n + 1]
    """
    for row in range(np.uint64(len(out))):
        out[row] = hash_bytes(  # type: ignore[no-untyped-call]
            data, offsets[row], offsets[row + np.uint64(1)]
        )
