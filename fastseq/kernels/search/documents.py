"""The terms of some documents of an inverted index."""

from __future__ import annotations

import numpy as np

from fastseq.kernels.core.jit import jit
from fastseq.kernels.search.postings import find_document, frequency


@jit
def read_documents(terms, numbers, tfs, postings, wanted, starts):
    """The postings of some documents, in the order of terms.

    The documents of each window are intersected with each term's run there: of the longer of both
    only what galloping search touches is read.

    terms, numbers, tfs  int32[n]; n, the tokens of the documents, is enough. numbers: of documents
                         in `wanted`
    wanted               uint16[D]  documents in their windows, ascending in each
    starts               int64[windows + 1]  window w has wanted[starts[w]:starts[w + 1]]

    Returns the number of postings found.
    """
    docs = postings.docs
    windows = len(starts) - 1
    found = np.int64(0)
    at = np.int64(0)
    for term in range(len(postings.term_run) - 1):
        for run in range(postings.term_run[term], postings.term_run[term + 1]):
            count = np.int64(postings.run_count[np.uint64(run)]) + 1
            window = np.int64(postings.run_window[np.uint64(run)])
            if window < windows and starts[window] < starts[window + 1]:
                first = starts[window]
                most = starts[window + 1] - first
                low = np.int64(0)
                for i in range(min(count, most)):
                    posting, number = i, i
                    if count < most:
                        document = docs[np.uint64(at + i)]
                        number = low = find_document(wanted, first, most, low, document)
                        is_there = low < most and wanted[np.uint64(first + low)] == document
                    else:
                        document = wanted[np.uint64(first + i)]
                        posting = low = find_document(docs, at, count, low, document)
                        is_there = low < count and docs[np.uint64(at + low)] == document
                    if is_there and found < len(terms):  # a damaged file may have more
                        terms[np.uint64(found)] = np.int32(term)
                        numbers[np.uint64(found)] = np.int32(first + number)
                        tfs[np.uint64(found)] = np.int32(
                            frequency(postings, np.uint64(at + posting))
                        )
                        found += 1
            at += count
    return found
