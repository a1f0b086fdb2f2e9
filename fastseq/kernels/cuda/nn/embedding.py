"""Rows of a table by number, and gradients added to them: the twins of kernels/nn/embedding.py.

Where an id comes often its gradients are added up in the order of its places, as on the CPU: the
host sorts the ids (`groups`), and no two threads add to one number.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fastseq.kernels.cuda.nn.sequences import gather
from fastseq.kernels.cuda.nn.sums import add_rows

__all__ = ["add_rows", "gather", "groups"]

Int32 = npt.NDArray[np.int32]


def groups(ids: npt.NDArray[np.integer]) -> tuple[Int32, Int32, Int32]:
    """(targets, order, starts) of ids int[N]: the different ids, ascending, and the places of each,
    order[starts[u]:starts[u + 1]], in their order."""
    order = np.argsort(ids, kind="stable")
    ascending = np.asarray(ids)[order]
    first = np.flatnonzero(np.concatenate([[True], ascending[1:] != ascending[:-1]])[: len(ids)])
    starts = np.append(first, len(ids))
    return ascending[first].astype(np.int32), order.astype(np.int32), starts.astype(np.int32)
