"""FastText one word after the other in float64, with the schedule of kernels/vectors/fasttext.py.

The random numbers are drawn in the order of tests/naive/word2vec.py. The vector of a place of a
sentence is made when it comes into reach of a window and moves with what it learns; its rows learn
all of it when it has left.
"""

from __future__ import annotations

import numpy as np

from tests.naive.word2vec import Draws, exchange, loss_of


class FastText:
    """Rows of words and of n-grams, float64, trained in place.

    grams  {word: rows of `table`}
    tree   {word: (nodes, codes)}, or None for negative sampling
    block  places of a context that learn at a time, with skip-gram
    """

    def __init__(self, own, table, outputs, grams, alias, tree, window, negatives, block):
        self.own, self.table, self.outputs = own, table, outputs
        self.grams, self.alias, self.tree = grams, alias, tree
        self.window, self.negatives, self.block = window, negatives, block
        self.seen = np.zeros(2)

    def train(self, sentences, keep, cbow, rates, seed):
        """The summed loss, and the number of pairs (of means, with CBOW) that it is of."""
        self.draws = Draws(seed)
        n, start = sum(map(len, sentences)), 0
        for sentence in sentences:
            self.rate = rates[0] + (rates[1] - rates[0]) * start / max(n, 1)
            start += len(sentence)
            kept = [
                w
                for w in sentence
                if keep[w] == 0xFFFFFFFF or (self.draws.bits() >> 32) < int(keep[w])
            ]
            if len(kept) > 1:
                self.sentence(kept, cbow)
        return self.seen

    def many(self, word):
        return 1 + len(self.grams[word])

    def mean(self, word):
        return (self.own[word] + self.table[self.grams[word]].sum(axis=0)) / self.many(word)

    def teach(self, word, delta):
        self.own[word] += delta
        np.add.at(self.table, self.grams[word], delta)

    def sample(self):
        return None if self.tree else [self.draws.word(self.alias) for _ in range(self.negatives)]

    def learn(self, h, chosen, labels):
        """What the vectors h [R, d] learn; the chosen rows learn from them."""
        self.seen += len(h) * loss_of(h @ self.outputs[chosen].T, labels), len(h)
        return exchange(h, self.outputs, chosen, labels, self.rate)

    def sentence(self, kept, cbow):
        drawn = self.sample()
        vectors, learned = [], []
        for i, word in enumerate(kept):
            for j in range(len(vectors), min(len(kept), i + self.window + 1)):
                vectors.append(self.mean(kept[j]))
                learned.append(np.zeros(self.own.shape[1]))
            reach = 1 + self.draws.below(self.window)
            near = [j for j in range(max(0, i - reach), min(len(kept), i + reach + 1)) if j != i]
            if self.tree:
                chosen, labels = list(self.tree[word][0]), np.array(self.tree[word][1], float)
            else:
                chosen = [word] + [w for w in drawn if w != word]
                labels = np.array([1.0] + [0.0] * (len(chosen) - 1))
                if i + 1 < len(kept):
                    drawn = self.sample()
            if chosen and cbow:
                many = np.array([self.many(kept[j]) for j in near], float)
                h = many @ np.array([vectors[j] for j in near]) / many.sum()
                delta = self.learn(h[None], chosen, labels)[0]
                for j in near:
                    learned[j] += delta
                    vectors[j] = vectors[j] + delta
            elif chosen:
                for start in range(0, len(near), self.block):
                    part = near[start : start + self.block]
                    deltas = self.learn(np.array([vectors[j] for j in part]), chosen, labels)
                    for j, delta in zip(part, deltas, strict=True):
                        learned[j] += delta
                        vectors[j] = vectors[j] + delta
            if i >= self.window and i + 1 < len(kept):
                self.teach(kept[i - self.window], learned[i - self.window])
        for j in range(max(0, len(kept) - 1 - self.window), len(kept)):
            self.teach(kept[j], learned[j])
