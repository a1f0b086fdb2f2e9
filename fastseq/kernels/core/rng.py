"""Random numbers of kernels for word vectors: subsampling, windows, negatives.

The generator is splitmix64 (Steele, Lea and Flood 2014, "Fast Splittable Pseudorandom Number
Generators"): a fixed step is added to the state, whose bits are then mixed.
"""

from __future__ import annotations

import numpy as np

from fastseq.kernels.core.jit import helper, inline

_U32 = np.uint64(32)
_LOW32 = np.uint64(0xFFFFFFFF)
_STEP = np.uint64(0x9E3779B97F4A7C15)
_M1, _M2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_U27, _U30, _U31 = np.uint64(27), np.uint64(30), np.uint64(31)


@inline
def draw(state):
    """64 random bits; updates state uint64[1]."""
    z = state[0] + _STEP
    state[0] = z
    z = (z ^ (z >> _U30)) * _M1
    z = (z ^ (z >> _U27)) * _M2
    return z ^ (z >> _U31)


@inline
def draw_below(state, n):
    """A number in [0, n), n < 2**31."""
    return np.int64(((draw(state) >> _U32) * np.uint64(n)) >> _U32)


@inline
def draw_word(state, alias):
    """A word of a distribution in Walker's form (Vose 1991).

    alias  uint64[V]: the other word of a column in the high half, and in the low half the share,
           of 2**32, that the column's own word has
    """
    bits = draw(state)
    column = ((bits >> _U32) * np.uint64(len(alias))) >> _U32
    entry = alias[column]
    if (bits & _LOW32) < (entry & _LOW32):
        return np.int64(column)
    return np.int64(entry >> _U32)


@helper
def subsample(kept, tokens, start, end, keep, state):
    """Copy randomly chosen words of the sentence tokens[start:end] to `kept`; return how many.

    keep  uint32[V]: the probability, times 2**32 - 1, that an occurrence of a word is chosen
    """
    count = 0
    for i in range(start, end):
        word = tokens[i]
        if keep[word] == np.uint32(0xFFFFFFFF) or np.uint32(draw(state) >> _U32) < keep[word]:
            kept[count] = word
            count += 1
    return count
