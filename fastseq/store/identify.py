"""What stands at a path: which kind of output fastseq wrote there, or what else it is.

Outputs of fastseq are known by a mark: folders by their manifest, Parquet by an entry of the file's
metadata, .npz by the archive's comment, TREC runs by their tag, pictures by their metadata. Other
formats (.tsv, .vec, .bin) have no place for one.
"""

from __future__ import annotations

import json
import os
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from fastseq.store.manifest import MANIFEST, is_ours

TAG = "fastseq"  # the last column of a TREC run
NPZ_COMMENT = b"fastseq: matrix"
# suffix -> matplotlib's metadata of a picture: the mark, and no time of drawing
PICTURES: dict[str, dict[str, str | None]] = {
    ".png": {"Source": "fastseq"},
    ".svg": {"Source": "fastseq", "Date": None},
    ".pdf": {"Keywords": "fastseq", "CreationDate": None},
}
_PICTURE_MARKS = (b"tEXtSource\0fastseq", b"<dc:source>fastseq</dc:source>", b"/Keywords (fastseq)")
_ENDS = 1 << 16  # bytes of the beginning and of the end of a file that are looked at

# kind -> what messages call it
KINDS = {
    "index": "an index",
    "model": "a model",
    "checkpoint": "the checkpoint of a model",
    "vectors": "a folder of word vectors",
    "vectors checkpoint": "the checkpoint of word vectors",
    "features": "a saved feature extractor",
    "run": "a run of fastseq",
    "matrix": "a document-term matrix of fastseq",
    "terms": "the terms of a document-term matrix",
    "predictions": "predictions of fastseq",
    "word vectors": "word vectors of fastseq in Parquet",
    "fastText model": "a fastText model of fastseq",
    "gradient flow": "the gradient flow of a training",
    "picture": "a picture of fastseq",
    "sample": "a sample corpus of fastseq",
}
# the first bytes of other files -> what they are
_FORMATS = {
    b"PAR1": "Parquet file",
    b"\xba\x16\x4f\x2f": "fastText model",
    b"PK": "zip archive",
    b"\x1f\x8b": "gzip file",
    b"\x89PNG": "PNG picture",
    b"%PDF": "PDF document",
    b"\x93NUMPY": "NumPy array",
    b"\x80\x02": "pickle",
    b"\x80\x04": "pickle",
}


def kind_of(path: str | os.PathLike[str]) -> str | None:
    """The kind of output that fastseq wrote at `path`, of KINDS; None where nothing says so."""
    with suppress(OSError):
        if os.path.isdir(path):
            content = _manifest(Path(path))
            return str(content["kind"]) if content is not None else None
        if not os.path.isfile(path):  # a pipe, say, that opening would wait for
            return None
        with open(path, "rb") as file:
            head = file.read(_ENDS)
            file.seek(max(file.seek(0, os.SEEK_END) - _ENDS, 0))
            tail = file.read()
        if head.startswith(b"PAR1"):
            return _parquet_kind(path)
        if head.startswith(b"PK"):
            with suppress(zipfile.BadZipFile), zipfile.ZipFile(path) as archive:
                return "matrix" if archive.comment == NPZ_COMMENT else None
        if head.startswith((b"\x89PNG", b"%PDF", b"<?xml")):
            marked = any(mark in part for mark in _PICTURE_MARKS for part in (head, tail))
            return "picture" if marked else None
        if all(_is_of_run(part) for part in (head.partition(b"\n")[0], tail.rstrip(b"\n"))):
            return "run"
    return None


def described(path: str | os.PathLike[str]) -> str:
    """What stands at `path`, as a message calls it: "an index", "a Parquet file", …"""
    kind = kind_of(path)
    if kind is not None:
        return KINDS.get(kind, f"of the kind {kind!r}")
    with suppress(OSError):
        if os.path.isdir(path):
            inner = kind_of(Path(path) / "checkpoint")
            if inner is not None:
                return f"{KINDS.get(inner, inner)} of an unfinished training"
            return f"a folder without {MANIFEST}" if os.listdir(path) else "an empty folder"
        if not os.path.isfile(path):
            return "a device or a pipe" if os.path.lexists(path) else "no such file or folder"
        with open(path, "rb") as file:
            head = file.read(8)
        found = next((name for start, name in _FORMATS.items() if head.startswith(start)), None)
        if found is None:
            return "a file of another program" if head else "an empty file"
        return f"a {found}"
    return "a file that cannot be read"


def _manifest(folder: Path) -> dict[str, Any] | None:
    with suppress(OSError, ValueError, RecursionError):
        content = json.loads((folder / MANIFEST).read_bytes())
        return content if is_ours(content) else None
    return None


def _parquet_kind(path: str | os.PathLike[str]) -> str | None:
    import pyarrow as pa

    from fastseq.store.parquet import KEY, parquet_file

    with suppress(pa.ArrowException, ValueError, AttributeError), parquet_file(path) as file:
        mark = json.loads((file.metadata.metadata or {}).get(KEY, b"{}"))
        # the first terms files did not name their kind
        kind = mark.get("kind", "terms" if "settings" in mark else None)
        return kind if isinstance(kind, str) else None
    return None


def _is_of_run(lines: bytes) -> bool:
    fields = lines.rpartition(b"\n")[2].split()
    return len(fields) == 6 and fields[1] == b"Q0" and fields[5] == TAG.encode()
