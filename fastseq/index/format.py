"""The files of an index, format version 1.

    posting_docs      uint16[P]  document in its window of 65,536, by (term, document)
    posting_tfs       uint8[P]   term frequency; 255 when it is in large_tfs
    run_windows       uint16[R]  the windows in which each term occurs, ascending
    run_counts        uint16[R]  its postings in the window, minus one
    large_at          int64[L]   positions of the postings marked 255
    large_tfs         int32[L]   their frequencies
    term_runs         uint[V]    runs of each term
    term_bytes        uint8[…]   the concatenated terms in UTF-8
    term_lengths      uint[V]    bytes of each
    term_slots        uint32[2^n]  hash table: id + 1 of the term in each slot, 0 for none
    document_lengths  uint[N]    tokens of each document
    documents.parquet the stored columns, including the id

Terms are numbered by their first occurrence in the collection (n-gram level by level), documents
by their row. `uint` is the narrowest of uint8, 16, 32, 64 that fits. Counts are stored, not
offsets: they are smaller, and a running total of unsigned numbers whose end is checked cannot point
outside a damaged file. Frequencies are stored, not scores, so the model is chosen at search time.
"""

from __future__ import annotations

KIND = "index"
VERSION = 1

POSTING_DOCS = "posting_docs"
POSTING_TFS = "posting_tfs"
RUN_WINDOWS = "run_windows"
RUN_COUNTS = "run_counts"
LARGE_AT = "large_at"
LARGE_TFS = "large_tfs"
TERM_RUNS = "term_runs"
TERM_BYTES = "term_bytes"
TERM_LENGTHS = "term_lengths"
TERM_SLOTS = "term_slots"
DOCUMENT_LENGTHS = "document_lengths"
DOCUMENTS = "documents.parquet"

_FULLEST = 0.8  # load factor of the hash table: 3 probes on average


def slot_count(terms: int) -> int:
    """The number of slots of the hash table for so many terms, a power of two."""
    return 1 << max(int(terms / _FULLEST), 1).bit_length()
