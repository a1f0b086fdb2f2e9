"""Writing of a segment's arrays, for building and merging."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fastseq.index import segment as layout
from fastseq.kernels.core.varints import MOST_BYTES, write_varints
from fastseq.kernels.search.positions import BLOCK_BITS, size_blocks
from fastseq.kernels.search.postings import pack_tfs
from fastseq.kernels.text import hashing
from fastseq.store.container import ContainerWriter
from fastseq.store.documents import DocumentWriter, schema_bytes
from fastseq.store.writer import FolderWriter
from fastseq.types import Int32, Int64, RawWords, Texts, UInt32

Array = npt.NDArray[Any]

# Postings of a chunk, the unit of merging: enough to be worth a pass over every slice, few enough
# for all threads to get some.
SMALLEST_CHUNK = 1 << 16
CHUNKS_PER_THREAD = 4
_BYTES_PER_POSTING = 6  # of a chunk being merged, with what is read from the spill file
_POSITION_BYTES = 2  # the same of each byte of positions
# Postings for each frequency that packing moves to the overflow table: its 12 bytes there, which
# are read when the index is opened, are half of what packing saves.
_POSTINGS_PER_LARGE = 48


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
    container: ContainerWriter, prefix: str, total: int, runs: Int32, larges: tuple[int, int],
    nbytes: int | None, chunks: Iterable[Mapping[str, Array]], weighted: bool = False,
) -> None:  # fmt: skip
    """Write merged postings.

    prefix    of the names of the arrays
    total     the number of postings
    runs      of each term
    larges    the number of frequencies of 15 and more, and of 255 and more
    nbytes    bytes of all positions; None without positions
    chunks    the arrays of POSTING_ARRAYS of some terms, in order, and their `positions`;
              frequencies are not packed
    weighted  whether postings have weights, float32 whose bytes are the `positions` of the chunks
    """
    run_total = int(runs.sum(dtype=np.int64))
    packed = are_packed(total, *larges)
    tfs = layout.PACKED_TFS if packed else layout.POSTING_ARRAYS["tfs"][0]
    large = larges[0] if packed else larges[1]
    counts = {
        "docs": total, "tfs": -(-total // 2) if packed else total, "run_window": run_total,
        "run_count": run_total, "large_at": large, "large_tf": large,
    }  # fmt: skip
    regions = {
        field: container.region(prefix + (tfs if field == "tfs" else name), dtype, counts[field])
        for field, (name, dtype) in layout.POSTING_ARRAYS.items()
    }
    if nbytes is not None:
        regions["positions"] = container.region(prefix + layout.POSITIONS, np.uint8, nbytes)
    if weighted:
        weights = container.region(prefix + layout.POSTING_WEIGHTS, np.float32, total)
    blocks = np.zeros((total >> BLOCK_BITS) + 1, np.uint32)
    first = 0
    rest: Array = np.empty(0, np.uint8)
    for chunk in chunks:
        if nbytes is not None:
            size_blocks(blocks, chunk["positions"], chunk["tfs"], chunk["large_tf"], first)
        written = chunk
        if packed:
            written, rest = _pack_chunk(chunk, first, rest)
        for field, region in regions.items():
            region.append(written[field])
        if weighted:
            weights.append(written["positions"].view(np.float32))
        first += len(chunk["docs"])
    if len(rest):
        regions["tfs"].append(rest)
    if nbytes is not None:
        container.array(prefix + layout.POSITION_BLOCKS, narrowest(blocks))
    container.array(prefix + layout.TERM_RUNS, narrowest(runs))


def are_packed(postings: int, packed_large: int, large: int) -> bool:
    """Whether frequencies are packed, given the numbers of postings, and of large frequencies where
    they are packed and where they are not."""
    return _POSTINGS_PER_LARGE * (packed_large - large) <= postings


def _pack_chunk(
    chunk: Mapping[str, Array], first: int, rest: Array
) -> tuple[dict[str, Array], Array]:
    """(a chunk whose frequencies are packed, the byte of the last one where it is half filled).

    first  the number of the chunk's first posting
    rest   such a byte of the chunk before
    """
    tfs = chunk["tfs"]
    data = np.empty((len(rest) + len(tfs) + 1) // 2, np.uint8)
    data[: len(rest)] = rest
    large_at, large_tf = np.empty(len(tfs), np.int64), np.empty(len(tfs), np.int32)
    count = pack_tfs(data, large_at, large_tf, tfs, chunk["large_tf"], first)
    whole = (len(rest) + len(tfs)) // 2
    own: dict[str, Array]
    own = {"tfs": data[:whole], "large_at": large_at[:count], "large_tf": large_tf[:count]}
    return {**chunk, **own}, data[whole:]


def write_terms(container: ContainerWriter, prefix: str, terms: Texts, lengths: Int32) -> None:
    """Write the term dictionary and the lengths of documents."""
    container.array(prefix + layout.TERM_BYTES, terms.data)
    container.array(prefix + layout.TERM_LENGTHS, narrowest(np.diff(terms.offsets)))
    slots = np.zeros(slot_count(len(terms)), np.uint32)
    hashing.build_slots(slots, terms.data, terms.offsets)
    container.array(prefix + layout.TERM_SLOTS, slots)
    container.array(prefix + layout.DOCUMENT_LENGTHS, narrowest(lengths))


def write_words(container: ContainerWriter, prefix: str, words: RawWords, terms: int) -> None:
    """Write the words as they are written, which are in the order of terms, of all `terms`."""
    of_term = np.bincount(words.terms, minlength=terms)
    container.array(prefix + layout.TERM_WORDS, narrowest(of_term))
    container.array(prefix + layout.WORD_BYTES, words.words.data)
    container.array(prefix + layout.WORD_LENGTHS, narrowest(np.diff(words.words.offsets)))
    packed = np.empty(MOST_BYTES * len(words), np.uint8)
    size = write_varints(packed, words.counts)
    container.array(prefix + layout.WORD_COUNTS, packed[:size])


def write_groups(container: ContainerWriter, documents: DocumentWriter) -> None:
    """End the stored columns, whose groups are in the container's last region."""
    documents.end_group()
    container.array(layout.DOCUMENT_SCHEMA, schema_bytes(documents.schema))
    container.array(layout.GROUP_ROWS, narrowest(np.array(documents.rows, np.int64)))
    container.array(layout.GROUP_BYTES, narrowest(np.array(documents.sizes, np.int64)))
    if len(documents.parts) > 1:
        container.array(layout.COLUMN_PARTS, np.array(documents.column_parts, np.uint8))
        container.array(layout.GROUP_PARTS, np.array(documents.group_parts, np.uint8))


def write_ids(container: ContainerWriter, hashes: UInt32, rows: UInt32) -> None:
    """Write the table of ids."""
    container.array(layout.ID_HASHES, hashes)
    container.array(layout.ID_ROWS, rows)
