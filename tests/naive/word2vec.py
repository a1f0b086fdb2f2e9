"""Word2Vec one word after the other in float64, with the schedule of kernels/vectors/word2vec.py.

The random numbers (splitmix64) are drawn in the same order: of every sentence first which words
stay, then the negatives of the first word, then for each word its window and the negatives of the
word behind it. Context words learn in blocks of `block` at a time, each block from the vectors as
the block before it left them.
"""

from __future__ import annotations

import numpy as np

ALL = (1 << 64) - 1


class Draws:
    """splitmix64 from a seed."""

    def __init__(self, seed):
        self.state = seed

    def bits(self):
        self.state = (self.state + 0x9E3779B97F4A7C15) & ALL
        z = self.state
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & ALL
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB & ALL
        return z ^ (z >> 31)

    def below(self, n):
        return ((self.bits() >> 32) * n) >> 32

    def word(self, alias):
        bits = self.bits()
        column = ((bits >> 32) * len(alias)) >> 32
        entry = int(alias[column])
        return column if (bits & 0xFFFFFFFF) < (entry & 0xFFFFFFFF) else entry >> 32


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def loss_of(products, labels):
    """The mean over rows of -Σ log of the chance given to each label."""
    signs = 2 * labels - 1
    return np.logaddexp(0, -signs * products).sum(axis=1).mean()


def exchange(h, outputs, chosen, labels, rate):
    """What rows h [R, d] learn; the rows `chosen` of `outputs` learn from them, one after the
    other, so that of a word chosen twice the second sees what the first has learned."""
    g = rate * (labels - sigmoid(h @ outputs[chosen].T))
    to_h = np.zeros_like(h)
    for t, word in enumerate(chosen):
        to_h += g[:, t, None] * outputs[word]
        outputs[word] += g[:, t] @ h
    return to_h


def train(
    inputs, outputs, sentences, keep, alias, tree, window, negatives, cbow, rates, seed, block
):
    """Train float64 `inputs` and `outputs` in place; returns the summed loss of all rows that met
    targets, and their number.

    sentences  lists of words
    tree       {word: (nodes, codes)}, or None for negative sampling
    """
    draws = Draws(seed)
    n, start = sum(map(len, sentences)), 0
    seen = np.zeros(2)
    for sentence in sentences:
        rate = rates[0] + (rates[1] - rates[0]) * start / max(n, 1)
        start += len(sentence)
        kept = [w for w in sentence if keep[w] == 0xFFFFFFFF or (draws.bits() >> 32) < int(keep[w])]
        drawn = None
        if tree is None and len(kept) > 1:
            drawn = [draws.word(alias) for _ in range(negatives)]
        for i, word in enumerate(kept):
            reach = 1 + draws.below(window)
            context = kept[max(0, i - reach) : i] + kept[i + 1 : i + reach + 1]
            if tree is None:
                chosen = [word] + [w for w in drawn or [] if w != word]
                labels = np.array([1.0] + [0.0] * (len(chosen) - 1))
                if i + 1 < len(kept):
                    drawn = [draws.word(alias) for _ in range(negatives)]
            else:
                chosen, labels = tree[word]
            if context and len(chosen):
                seen += learn(inputs, outputs, context, list(chosen), labels, rate, cbow, block)
    return seen


def learn(inputs, outputs, context, chosen, labels, rate, cbow, block):
    """One word's context against its targets; the summed loss of the rows, and their number."""
    seen = np.zeros(2)
    for rows in [context] if cbow else blocks(context, block):
        h = inputs[rows].mean(axis=0)[None] if cbow else inputs[rows]
        seen += len(h) * loss_of(h @ outputs[chosen].T, labels), len(h)
        to_h = exchange(h, outputs, chosen, labels, rate)
        np.add.at(inputs, rows, np.broadcast_to(to_h, (len(rows), to_h.shape[1])))
    return seen


def blocks(words, most):
    """The words in blocks of `most`, a block ending early at a word that it has."""
    found = [[]]
    for word in words:
        if len(found[-1]) == most or word in found[-1]:
            found.append([])
        found[-1].append(word)
    return found
