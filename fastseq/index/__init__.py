"""Building, changing and opening of indexes.

Nothing is imported here: describing an index needs only its kind and versions.
"""

from collections.abc import Mapping
from typing import Any

KIND = "index"
VERSION = 3
IMPACTS_VERSION = 4  # of an index of impacts, which earlier versions would read as one of text
DIVIDED_VERSION = 5  # where columns of long strings have groups of their own in some segment
DENSE_VERSION = 6  # of an index with vectors, which earlier versions would lose in a merge
GRAPHS_VERSION = 7  # where vectors have graphs, which earlier versions would lose in a merge
VERSIONS = (1, 2, 3, 4, 5, 6, 7)  # that can be read


def format_version(settings: Mapping[str, Any], is_divided: bool) -> int:
    """The format version of an index that is written with these settings.

    is_divided : whether stored columns of a segment are in several parts
    """
    if dense := settings.get("dense"):
        return GRAPHS_VERSION if "graph" in dense else DENSE_VERSION
    if is_divided:
        return DIVIDED_VERSION
    return IMPACTS_VERSION if settings.get("impacts") else VERSION
