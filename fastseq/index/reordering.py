"""The order in which the documents of a segment are searched.

A search leaves out blocks of postings and windows of documents that cannot have a hit, which it can
the more of, the more similar the documents of a block are. So documents are ordered by length, in a
few strata (short documents have the highest scores), and those of a stratum by recursive graph
bisection, which places documents with the same terms together (kernels/search/bisection.py).

Only the search for the best documents uses this order: postings are stored in the order of rows,
and those of a term are reordered when it is first searched for (kernels/search/reordered.py).
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np

from fastseq.index import segment as layout
from fastseq.kernels.search.bisection import (
    LOG_BITS,
    SMALLEST,
    Bisection,
    bisect,
    count_terms,
    first_order,
    halve,
    list_terms,
    make_bisection,
)
from fastseq.kernels.search.postings import Postings
from fastseq.store.container import ContainerWriter
from fastseq.types import Int32, UInt32, offsets_of

STRATA = 4  # of length; 16 gain less at k = 10 on wiki_simple, 1 gains less at every k
_SHARED = 2  # levels of halving whose halves are given to different threads
# Terms of fewer documents are left out, which are rarer than most of a query. By the best part of
# each term in a range of 64 documents, 275 ranges of wiki_simple may have one of the 10 best hits
# of a query; in this order 182, with the terms of 32 documents and more 205.
LEAST_DF = 32
LEAST_PART = 512  # of all documents

Done = Callable[[int, int], None]


def search_order(postings: Postings, lengths: Int32, threads: int, done: Done) -> UInt32:
    """uint32[documents]: the rows in the order of search, which does not depend on `threads`.

    lengths : of the documents
    done : called with the number of documents that have their place, and of all
    """
    documents = len(lengths)
    df = np.diff(postings.term_posting)
    kept = df >= max(LEAST_DF, documents // LEAST_PART)
    chosen = int(np.count_nonzero(kept))
    numbers = np.where(kept, np.cumsum(kept) - 1, -1).astype(np.int32)
    counts = np.zeros(documents, np.int32)
    count_terms(counts, postings, numbers)
    starts = offsets_of(counts)
    terms = np.empty(int(starts[-1]), np.int32)
    list_terms(terms, starts[:-1].copy(), postings, numbers)
    logs = np.rint(np.log2(np.arange(1, documents + 2)) * (1 << LOG_BITS)).astype(np.int32)
    order, edges = first_order(lengths, STRATA)

    def memory(first: int, last: int) -> Bisection:
        return make_bisection(starts, terms, logs, chosen, last - first)

    def split(part: tuple[int, int]) -> int:
        return int(halve(order, memory(*part), *part))

    def finish(part: tuple[int, int]) -> int:
        bisect(order, memory(*part), np.empty((64, 2), np.int64), *part)
        return part[1] - part[0]

    parts = list(pairwise(edges.tolist()))
    with ThreadPoolExecutor(threads, "fastseq-reorder") as pool:
        for _ in range(_SHARED):
            large = [part for part in parts if part[1] - part[0] > SMALLEST]
            middles = dict(zip(large, pool.map(split, large), strict=True))
            parts = [
                half
                for part in parts
                for half in pairwise(sorted({*part, middles.get(part, part[0])}))
            ]
        placed = 0
        for size in pool.map(finish, parts):
            placed += size
            done(placed, documents)
    return order


def write_search_order(container: ContainerWriter, threads: int, done: Done) -> None:
    """Compute the order of a segment of which all other arrays are written, and write it."""
    read = container.written
    lengths = read(layout.DOCUMENT_LENGTHS).astype(np.int32)
    term_run = offsets_of(read(layout.TERM_RUNS))
    names = layout.POSTING_ARRAYS
    docs, run_window, run_count = (read(names[n][0]) for n in ("docs", "run_window", "run_count"))
    postings = Postings(
        docs=docs, tfs=np.empty(0, np.uint8), run_window=run_window, run_count=run_count,
        large_at=np.empty(0, np.int64), large_tf=np.empty(0, np.int32),
        term_posting=offsets_of(run_count)[term_run] + term_run, term_run=term_run,
    )  # fmt: skip
    container.array(layout.SEARCH_ORDER, search_order(postings, lengths, threads, done))
