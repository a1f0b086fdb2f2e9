"""Commits of several segments and of deletions in formats 2 and 3, and indexes of version 1.

Nothing of fastseq is imported.
"""

from __future__ import annotations

import json
import shutil
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from tests.naive import inverted


def combine(target: Path, sources: Sequence[Path], deleted: Sequence[Sequence[int]] = ()) -> None:
    """Make an index whose segments are those of other indexes, of one segment each.

    deleted : the rows of each segment to delete; default: none
    """
    data = target / "data-000001"
    data.mkdir(parents=True)
    files: dict[str, Any] = {}
    segments: list[dict[str, Any]] = []
    bitmaps = b""
    for number, source in enumerate(sources):
        manifest = json.loads((source / "manifest.json").read_text("ascii"))
        ((path, entry),) = manifest["files"].items()
        (segment,) = manifest["statistics"]["segments"]
        name = f"segment-000001-{number}" if number else "segment-000001"
        shutil.copyfile(source / path, data / name)
        files[f"data-000001/{name}"] = entry
        gone = {*(deleted[number] if deleted else ())}
        (content,) = inverted.read_segments(source)
        lengths = content.inverted.lengths
        segment |= {"name": name, "deleted": len(gone), "tokens": _tokens(content.inverted, gone)}
        for field, own in content.fields.items():
            segment["fields"][field]["tokens"] = _tokens(own, gone)
        segments.append(segment)
        if gone:
            bits = sum(1 << row for row in gone)
            bitmaps += bits.to_bytes(-(-len(lengths) // 8), "little")
    statistics: dict[str, Any] = {
        "documents": sum(one["documents"] - one["deleted"] for one in segments),
        **{name: sum(one[name] for one in segments) for name in ("terms", "postings", "tokens")},
        "segments": segments,
    }
    if "commit" in manifest["statistics"]:
        statistics["commit"] = 1
    if bitmaps:
        statistics["deleted"] = "deleted-000001"
        (data / "deleted-000001").write_bytes(bitmaps)
        files["data-000001/deleted-000001"] = {"bytes": len(bitmaps), "crc32": zlib.crc32(bitmaps)}
    write_manifest(target, {**manifest, "statistics": statistics, "files": files})


def _tokens(of: inverted.Inverted, deleted: set[int]) -> int:
    """The tokens of the documents that are not deleted."""
    return sum(length for row, length in enumerate(of.lengths) if row not in deleted)


def as_version_1(source: Path, target: Path) -> None:
    """Write an index of one segment in format version 1: a file for each array."""
    manifest = json.loads((source / "manifest.json").read_text("ascii"))
    ((path, entry),) = manifest["files"].items()
    (segment,) = inverted.read_segments(source)
    data = target / "data-000001"
    data.mkdir(parents=True)
    files: dict[str, Any] = {}
    arrays = inverted.read_container(source / path, entry)
    tfs = inverted.frequencies(segment.inverted)
    large = [at for at, tf in enumerate(tfs) if tf >= 255]
    arrays["posting_tfs"] = np.array([min(tf, 255) for tf in tfs], np.uint8)
    arrays["large_at"] = np.array(large, np.int64)
    arrays["large_tfs"] = np.array([tfs[at] for at in large], np.int32)
    for name in inverted.POSTINGS:
        raw = arrays[name].tobytes()
        (data / name).write_bytes(raw)
        shape = {"dtype": arrays[name].dtype.str, "shape": [len(arrays[name])]}
        files[f"data-000001/{name}"] = {"bytes": len(raw), "crc32": zlib.crc32(raw), **shape}
    if segment.documents is not None:
        path = data / "documents.parquet"
        pq.write_table(segment.documents, path, row_group_size=4096, write_page_checksum=True)
        raw = path.read_bytes()
        files["data-000001/documents.parquet"] = {"bytes": len(raw), "crc32": zlib.crc32(raw)}
    new = ("schema", "store_named", "positions", "fields")
    settings = {name: value for name, value in manifest["settings"].items() if name not in new}
    names = ("documents", "terms", "postings", "tokens")
    statistics = {name: manifest["statistics"][name] for name in names}
    content = {"format_version": 1, "settings": settings, "statistics": statistics, "files": files}
    write_manifest(target, {**manifest, **content})


def write_manifest(folder: Path, content: dict[str, Any]) -> None:
    """Write a manifest with its checksum."""
    content = {name: value for name, value in content.items() if name != "crc32"}
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    content["crc32"] = zlib.crc32(canonical.encode("ascii"))
    (folder / "manifest.json").write_text(json.dumps(content, indent=1) + "\n", "ascii")
