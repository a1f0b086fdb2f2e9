"""Building, changing and opening of indexes.

Nothing is imported here: describing an index needs only its kind and versions.
"""

from collections.abc import Mapping
from typing import Any

KIND = "index"
VERSION = 3
IMPACTS_VERSION = 4  # of an index of impacts, which earlier versions would read as one of text
VERSIONS = (1, 2, 3, 4)  # that can be read


def format_version(settings: Mapping[str, Any]) -> int:
    """The format version of an index that is written with these settings."""
    return IMPACTS_VERSION if settings.get("impacts") else VERSION
