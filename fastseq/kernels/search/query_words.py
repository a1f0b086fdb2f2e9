"""The words of queries as terms with weights and roles."""

from __future__ import annotations

import numpy as np

from fastseq.kernels.core.jit import inline, jit
from fastseq.kernels.search.cursors import TINY
from fastseq.kernels.search.required import EXCLUDED, OPTIONAL, REQUIRED

WEIGHED, UNKNOWN, TIED, UNMATCHED, WEAK = range(5)
ABSENT = -1.0  # instead of the weight of a term that no document has


@inline
def _is_known(known, number):
    """Whether a weight is known; `known` as in `weigh_words`."""
    return number < np.uint64(len(known)) and known[number] == known[number]


@inline
def _place_of(terms, count, number):
    """The place of a number among the first `count` terms; `count` where it is none."""
    at = np.uint64(0)
    while at < count and terms[at] != number:
        at += np.uint64(1)
    return at


@inline
def _weigh(terms, weights, numbers, known):
    """`weigh_words`, with the number of terms; all weights are known."""
    count = np.uint64(0)
    for i in range(np.uint64(len(numbers))):
        if known[np.uint64(numbers[i])] == ABSENT:
            continue
        at = _place_of(terms, count, numbers[i])
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
    return count, status


@jit
def weigh_words(starts, terms, weights, numbers, known):
    """The distinct terms of the words of a query that documents have, in the order of the words,
    with their weights: those of a term that occurs once, times its occurrences.

    starts   int64[2]    the second becomes the number of the terms
    terms    int32[n]
    weights  float32[n]
    numbers  int32[n]    of the words' terms
    known    float64[N]  by number, the weight of a term that occurs once, or ABSENT; NaN where it
                         is not known, as none is from N on

    Returns WEIGHED, TIED where weights are equal, or UNKNOWN where one is, without results.

    In Python, dicts and NumPy calls for that cost 8 µs a query; this costs .6, with the call.
    """
    for number in numbers:
        if not _is_known(known, np.uint64(number)):
            return UNKNOWN
    count, status = _weigh(terms, weights, numbers, known)
    starts[1] = np.int64(count)
    return status


@jit
def weigh_flat(starts, terms, weights, roles, numbers, scored, required, known):
    """`weigh_words` of a flat query: with roles, and then each excluded term that documents have.

    roles    uint8[n]
    numbers  int32[n]  of words that score, of those of them that are required, then of the excluded
    scored, required   how many of them

    Returns the same; UNMATCHED where no document can match, or WEAK where a required term has a
    weight of zero, both without results.
    """
    for number in numbers:
        if not _is_known(known, np.uint64(number)):
            return UNKNOWN
    count, status = _weigh(terms, weights, numbers[:scored], known)
    for i in range(count):
        roles[i] = OPTIONAL
    for number in numbers[scored : scored + required]:
        at = _place_of(terms, count, number)
        if at == count:
            return UNMATCHED
        if weights[at] <= TINY:
            return WEAK
        roles[at] = REQUIRED
    if count == 0:
        return UNMATCHED
    optional = count
    for number in numbers[scored + required :]:
        at = _place_of(terms, optional, number)
        if at < optional and roles[at] == REQUIRED:
            return UNMATCHED
        if known[np.uint64(number)] != ABSENT:
            terms[count] = number
            weights[count] = 0.0
            roles[count] = EXCLUDED
            count += np.uint64(1)
    starts[1] = np.int64(count)
    return status


@jit
def assign_roles(
    starts, terms, weights, roles, refused, seen, own_starts, own_terms, own_weights, required,
    required_starts, excluded, excluded_starts, df,
):  # fmt: skip
    """The terms of Q flat queries: those of the words that score, then each excluded one that
    documents have.

    starts  int64[Q + 1]  query q has terms[starts[q]:starts[q + 1]]; none where it cannot match, or
                          is refused
    terms int32[n], weights float32[n], roles uint8[n]: n is enough for all
    refused  uint8[Q]     1 for queries that are refused; becomes 1 too where a required term has a
                          weight of zero
    seen     uint8[V]     scratch, zeroed; zero again afterwards
    own_starts int64[Q + 1], own_terms int32[m], own_weights float32[m]: the distinct terms of the
                          words that score
    required int32[r], required_starts int64[Q + 1]: their words that are required
    excluded int32[e], excluded_starts int64[Q + 1]: excluded words
    df       int64[V]     documents with each term
    """
    out = np.uint64(0)
    starts[0] = 0
    for q in range(np.uint64(len(refused))):
        first = out
        need = required[required_starts[q] : required_starts[q + np.uint64(1)]]
        without = excluded[excluded_starts[q] : excluded_starts[q + np.uint64(1)]]
        possible = refused[q] == 0
        for number in need:
            seen[np.uint64(number)] = REQUIRED
            possible = possible and df[np.uint64(number)] > 0
        for number in without:
            possible = possible and seen[np.uint64(number)] != REQUIRED
        if possible:
            for i in range(np.uint64(own_starts[q]), np.uint64(own_starts[q + np.uint64(1)])):
                role = seen[np.uint64(own_terms[i])]
                if role == REQUIRED and own_weights[i] <= TINY:
                    refused[q] = 1
                terms[out] = own_terms[i]
                weights[out] = own_weights[i]
                roles[out] = role
                out += np.uint64(1)
            for number in without:
                if df[np.uint64(number)] > 0 and seen[np.uint64(number)] != EXCLUDED:
                    seen[np.uint64(number)] = EXCLUDED
                    terms[out] = number
                    weights[out] = 0.0
                    roles[out] = EXCLUDED
                    out += np.uint64(1)
        if refused[q] != 0:
            out = first
        for number in need:
            seen[np.uint64(number)] = OPTIONAL
        for number in without:
            seen[np.uint64(number)] = OPTIONAL
        starts[q + np.uint64(1)] = np.int64(out)
