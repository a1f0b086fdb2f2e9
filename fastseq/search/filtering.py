"""The rows of a collection that a filter on stored columns lets pass."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastseq.errors import SettingsError
from fastseq.index.collection import Collection
from fastseq.types import UInt8


def allowed_rows(collection: Collection, given: Any) -> UInt8:
    """uint8[rows]: 1 where a filter is true, deleted rows included.

    given : the text of a filter, a pyarrow expression (see store/filters.py), or bool[rows]

    Raises SettingsError for text that is no filter, another type, or an array of another length;
    DataError where a stored column is unknown or of another type; FormatError for a damaged file.
    """
    if isinstance(given, np.ndarray | list | tuple):
        mask = np.asarray(given)
        if mask.dtype != np.bool_ or mask.shape != (collection.rows,):
            raise SettingsError(
                f"filter must be an array of one bool for each of the {collection.rows:,} rows, "
                f"not {mask.dtype}{list(mask.shape)}"
            )
        return np.ascontiguousarray(mask).view(np.uint8)
    from fastseq.store.filters import as_filter, passing  # imports pyarrow.compute

    filter = as_filter(given, collection.schema)
    every = [passing(filter, leaf.segment.stored) for leaf in collection.leaves]
    return np.concatenate([np.zeros(0, np.bool_), *every]).view(np.uint8)
