"""How data is named: formats by suffix, URIs of file systems, standard input."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from urllib.parse import unquote

STDIN = "-"
STDIN_NAME = "standard input"  # in messages
PARQUET, JSON, CSV, TSV = "Parquet", "JSON Lines", "CSV", "TSV"
FORMATS = {
    ".parquet": PARQUET, ".jsonl": JSON, ".ndjson": JSON, ".json": JSON, ".csv": CSV, ".tsv": TSV,
}  # fmt: skip
COMPRESSED = (".gz", ".zst")  # after the suffix of a text format
EXPECTED = "Parquet, JSON Lines (.jsonl, .ndjson, .json) or CSV (.csv, .tsv)"  # for messages
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")  # a drive of Windows is one letter


class Location(os.PathLike[str]):
    """A path or URI as it was written; pathlib would change the slashes of a URI."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __fspath__(self) -> str:
        return self._text

    def __str__(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return f"Location({self._text!r})"


def is_uri(path: str | os.PathLike[str]) -> bool:
    """Whether a path is the URI of a file system, such as s3://bucket/docs.parquet."""
    return _URI.match(os.fspath(path)) is not None


def local_path(path: str | os.PathLike[str]) -> Path | None:
    """The path of a file or folder of this machine; None for a URI of another, and for standard
    input."""
    text = os.fspath(path)
    if text == STDIN:
        return None
    if not is_uri(text):
        return Path(text)
    scheme, _, rest = text.partition("://")
    return Path(unquote(rest)) if scheme.lower() == "file" else None


def suffix_of(path: str | os.PathLike[str]) -> str:
    """The last suffix in lower case, without that of a compression: ".trec" of "run.TREC.gz"."""
    name = os.fspath(path).lower()
    for suffix in COMPRESSED:
        name = name.removesuffix(suffix)
    return os.path.splitext(name)[1]


def format_of(path: str | os.PathLike[str]) -> str | None:
    """The format of data by the suffix; None for another. Parquet is not compressed as a whole."""
    found = FORMATS.get(suffix_of(path))
    if found == PARQUET and os.fspath(path).lower().endswith(COMPRESSED):
        return None
    return found


def glob_matches(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether glob.glob(recursive=True) matches the components of a path."""
    if not pattern or not parts:
        return not parts and all(part == "**" for part in pattern)
    hidden = parts[0].startswith(".") and not pattern[0].startswith(".")
    if pattern[0] == "**":
        skipped = glob_matches(parts, pattern[1:])
        return skipped or (not hidden and glob_matches(parts[1:], pattern))
    matches = not hidden and fnmatchcase(parts[0], pattern[0])
    return matches and glob_matches(parts[1:], pattern[1:])
