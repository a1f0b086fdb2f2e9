"""Groups of terms that are searched for as one: their postings merged, window by window."""

from __future__ import annotations

import numpy as np

from fastseq.kernels.core.jit import jit
from fastseq.kernels.search.postings import LARGE_TF, WINDOW, frequency

BEGINS, ENDS, ALONE = 0, 1, 2  # columns of the frequencies of a character's bigrams


@jit
def merge_group(
    docs, tfs, large_at, large_tf, run_window, run_count, sums, runs, at, postings, terms, roles,
    windows,
):  # fmt: skip
    """Merge the postings of the terms with a character: tf is the larger of the sums of those that
    it begins and of those that it ends, and that of the character alone.

    docs, tfs             uint16[n], uint8[n]  n, the postings of all terms, is enough
    large_at, large_tf    int64[n / LARGE_TF + 1], int32[…]
    run_window, run_count uint16[windows]
    sums                  int32[3, WINDOW]  zeroed scratch, zero again afterwards
    runs, at              int64[m]  scratch
    terms, roles          int32[m], uint8[m]  BEGINS, ENDS or ALONE
    windows               of the segment

    Returns (postings, runs, large frequencies).
    """
    for i in range(len(terms)):
        runs[i] = postings.term_run[terms[i]]
        at[i] = postings.term_posting[terms[i]]
    found = np.int64(0)
    windows_found = np.int64(0)
    larges = np.int64(0)
    for window in range(windows):
        before = found
        for i in range(len(terms)):
            run = runs[i]
            last = postings.term_run[terms[i] + 1]
            if run == last or np.int64(postings.run_window[np.uint64(run)]) != window:
                continue
            stop = at[i] + np.int64(postings.run_count[np.uint64(run)]) + 1
            for j in range(np.uint64(at[i]), np.uint64(stop)):
                sums[roles[i], postings.docs[j]] += frequency(postings, j)
            at[i] = stop
            runs[i] = run + 1
        for document in range(WINDOW):
            tf = max(sums[BEGINS, document], sums[ENDS, document]) + sums[ALONE, document]
            if tf > 0:
                docs[found] = np.uint16(document)
                if tf < LARGE_TF:
                    tfs[found] = np.uint8(tf)
                else:
                    tfs[found] = np.uint8(LARGE_TF)
                    large_at[larges] = found
                    large_tf[larges] = tf
                    larges += 1
                found += 1
                sums[BEGINS, document] = 0
                sums[ENDS, document] = 0
                sums[ALONE, document] = 0
        if found > before:
            run_window[windows_found] = np.uint16(window)
            run_count[windows_found] = np.uint16(found - before - 1)
            windows_found += 1
    return found, windows_found, larges
