"""The words of one short query as terms with weights.

In Python, dicts and NumPy calls for that cost 8 µs a query, and this kernel .7.
"""

from __future__ import annotations

import numpy as np

from fastseq.kernels.core.jit import jit

WEIGHED, UNKNOWN, TIED = range(3)
ABSENT = -1.0  # instead of the weight of a term that no document has


@jit
def weigh_words(starts, terms, weights, numbers, known):
    """The distinct terms of the words of a query that documents have, in the order of the words,
    with their weights: those of a term that occurs once, times its occurrences.

    starts   int64[2]    the second becomes the number of the terms
    terms    int32[n]
    weights  float32[n]
    numbers  int32[n]    of the words' terms
    known    float64[N]  by number, the weight of a term that occurs once, or ABSENT; NaN where it
                         is not known, as those from N on are not

    Returns WEIGHED, TIED where weights are equal, or UNKNOWN where one is, without results.
    """
    count = np.uint64(0)
    for i in range(np.uint64(len(numbers))):
        number = np.uint64(numbers[i])
        if number >= np.uint64(len(known)) or known[number] != known[number]:
            return UNKNOWN
        if known[number] == ABSENT:
            continue
        at = np.uint64(0)
        while at < count and terms[at] != numbers[i]:
            at += np.uint64(1)
        if at == count:
            terms[at] = numbers[i]
            weights[at] = 0.0
            count += np.uint64(1)
        weights[at] += np.float32(1.0)
    status = WEIGHED
    for i in range(count):
        weights[i] = np.float32(known[np.uint64(terms[i])] * np.float64(weights[i]))
        for j in range(i):
            if weights[j] == weights[i]:
                status = TIED
    starts[1] = np.int64(count)
    return status
