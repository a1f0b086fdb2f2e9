"""Objects with columns, recognised without pyarrow: Arrow tables and streams, frames, dicts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def is_arrow(values: Any) -> bool:
    """Whether an object has Arrow's array or stream interface."""
    return hasattr(values, "__arrow_c_stream__") or hasattr(values, "__arrow_c_array__")


def is_table(values: Any) -> bool:
    """Whether an Arrow object has columns: a data frame or table, or a stream with a schema."""
    return is_arrow(values) and (hasattr(values, "columns") or hasattr(values, "schema"))


def are_rows(values: Any) -> bool:
    """Whether a list has rows with columns: dicts, tables or data frames."""
    if not isinstance(values, list | tuple) or not values:
        return False
    return isinstance(values[0], Mapping) or is_table(values[0]) or is_lazy_frame(values[0])


def is_lazy_frame(values: Any) -> bool:
    """Whether an object is a lazy frame of polars, which has columns once it is collected."""
    return type(values).__module__.startswith("polars.") and hasattr(values, "collect")
