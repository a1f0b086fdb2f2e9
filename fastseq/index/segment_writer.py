"""Writing of a segment's arrays, for building and merging."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fastseq.index import segment as layout
from fastseq.kernels.search.positions import BLOCK_BITS, size_blocks
from fastseq.kernels.text import hashing
from fastseq.store.container import ContainerWriter
from fastseq.store.documents import DocumentWriter, schema_bytes
from fastseq.store.writer import FolderWriter
from fastseq.types import Int32, Int64, Texts, UInt32

Array = npt.NDArray[Any]

# Postings of a chunk, the unit of merging: enough to be worth a pass over every slice, few enough
# for all threads to get some.
SMALLEST_CHUNK = 1 << 16
CHUNKS_PER_THREAD = 4
_BYTES_PER_POSTING = 6  # of a chunk being merged, with what is read from the spill file
_POSITION_BYTES = 2  # the same of each byte of positions


def segment_name(writer: FolderWriter, number: int) -> str:
    """The name of a commit's segment with a number, unique in the index."""
    return f"segment-{writer.number:06d}" + (f"-{number}" if number else "")


def statistics_of(
    commit: int, segments: Sequence[Mapping[str, Any]], deleted: str | None = None
) -> dict[str, Any]:
    """The statistics in the manifest (index/collection.py) of a commit, by its number. `deleted`
    names the file of deletions."""
    found: dict[str, Any] = {
        "documents": sum(one["documents"] - one["deleted"] for one in segments),
        **{name: sum(one[name] for one in segments) for name in ("terms", "postings", "tokens")},
        "segments": [dict(one) for one in segments],
        "commit": commit,
    }
    if deleted is not None:
        found["deleted"] = deleted
    return found


def narrowest(counts: Array) -> Array:
    """The counts in the smallest unsigned type that holds them."""
    return counts.astype(np.min_scalar_type(int(counts.max(initial=0))))


def slot_count(terms: int) -> int:
    """The slots of a hash table of `terms` terms: a power of two, at most 80 % full."""
    return 1 << max(int(terms / 0.8), 1).bit_length()


def chunk_edges(postings: Int64, positions: Int64, threads: int, memory: int) -> list[int]:
    """The terms at which chunks of postings begin, and the number of terms.

    postings, positions  int64[V + 1], the first posting of each term and the first byte of its
                         positions, and the numbers of all
    memory    bytes for all chunks in progress
    """
    terms = len(postings) - 1
    ends = postings + positions * _POSITION_BYTES // _BYTES_PER_POSTING
    total = int(ends[-1])
    size = max(total // (threads * CHUNKS_PER_THREAD), SMALLEST_CHUNK)
    size = max(min(size, memory // (_BYTES_PER_POSTING * (threads + 1))), 1)
    edges = np.searchsorted(ends, np.arange(size, total + size, size)).tolist()
    return [0, *(min(edge, terms) for edge in edges)]


def write_postings(
    container: ContainerWriter, prefix: str, df: Int64, runs: Int32, sizes: Int64 | None,
    chunks: Iterable[Mapping[str, Array]],
) -> None:  # fmt: skip
    """Write merged postings.

    prefix    of the names of the arrays
    df, runs  postings and runs of each term
    sizes     bytes of the positions of each term; None without positions
    chunks    the arrays of POSTING_ARRAYS of some terms, in order, and their `positions`
    """
    total, run_total = int(df.sum()), int(runs.sum(dtype=np.int64))
    counts = {"docs": total, "tfs": total, "run_window": run_total, "run_count": run_total}
    regions = {
        field: container.region(prefix + layout.POSTING_ARRAYS[field][0], dtype, count)
        for field, count in counts.items()
        for dtype in [layout.POSTING_ARRAYS[field][1]]
    }
    if sizes is not None:
        nbytes = int(sizes.sum())
        regions["positions"] = container.region(prefix + layout.POSITIONS, np.uint8, nbytes)
    blocks = np.zeros((total >> BLOCK_BITS) + 1, np.uint32)
    first = 0
    # the few large frequencies, whose number is known at the end
    others: dict[str, list[Array]] = {field: [] for field in ("large_at", "large_tf")}
    for chunk in chunks:
        for field, region in regions.items():
            region.append(chunk[field])
        for field, parts in others.items():
            parts.append(chunk[field])
        if sizes is not None:
            size_blocks(blocks, chunk["positions"], chunk["tfs"], chunk["large_tf"], first)
        first += len(chunk["docs"])
    if sizes is not None:
        container.array(prefix + layout.POSITION_BLOCKS, narrowest(blocks))
    for field, parts in others.items():
        name, dtype = layout.POSTING_ARRAYS[field]
        container.array(prefix + name, np.concatenate([np.empty(0, dtype), *parts]))
    container.array(prefix + layout.TERM_RUNS, narrowest(runs))


def write_terms(container: ContainerWriter, prefix: str, terms: Texts, lengths: Int32) -> None:
    """Write the term dictionary and the lengths of documents."""
    container.array(prefix + layout.TERM_BYTES, terms.data)
    container.array(prefix + layout.TERM_LENGTHS, narrowest(np.diff(terms.offsets)))
    slots = np.zeros(slot_count(len(terms)), np.uint32)
    hashing.build_slots(slots, terms.data, terms.offsets)
    container.array(prefix + layout.TERM_SLOTS, slots)
    container.array(prefix + layout.DOCUMENT_LENGTHS, narrowest(lengths))


def write_groups(container: ContainerWriter, documents: DocumentWriter) -> None:
    """End the stored columns, whose groups are in the container's last region."""
    documents.end_group()
    container.array(layout.DOCUMENT_SCHEMA, schema_bytes(documents.schema))
    container.array(layout.GROUP_ROWS, narrowest(np.array(documents.rows, np.int64)))
    container.array(layout.GROUP_BYTES, narrowest(np.array(documents.sizes, np.int64)))


def write_ids(container: ContainerWriter, hashes: UInt32, rows: UInt32) -> None:
    """Write the table of ids."""
    container.array(layout.ID_HASHES, hashes)
    container.array(layout.ID_ROWS, rows)
