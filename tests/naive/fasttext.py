"""FastText one word after the other in float64, with the schedule of kernels/fasttext.py.

The random numbers are drawn in the order of tests/naive/word2vec.py. Skip-gram: the mean of a
word's rows meets its context and the negatives of the window, drawn once; a negative stands for as
many pairs as it is needed in. CBOW: a place's sum of rows is made when it comes into reach of a
window and moves with what it learns; its rows learn all of it when it has left.
"""

from __future__ import annotations

import numpy as np

from tests.naive.word2vec import Draws, sigmoid


class FastText:
    """Rows of words and of n-grams, float64, trained in place.

    grams  {word: rows of `table`}
    tree   {word: (nodes, codes)}, or None for negative sampling
    """

    def __init__(self, own, table, outputs, grams, alias, tree, window, negatives, shared):
        self.own, self.table, self.outputs = own, table, outputs
        self.grams, self.alias, self.tree = grams, alias, tree
        self.window, self.negatives, self.shared = window, negatives, shared
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
                (self.means if cbow else self.words)(kept)
        return self.seen

    def many(self, word):
        return 1 + len(self.grams[word])

    def total(self, word):
        return self.own[word] + self.table[self.grams[word]].sum(axis=0)

    def teach(self, word, delta):
        self.own[word] += delta
        np.add.at(self.table, self.grams[word], delta)

    def sample(self, many):
        return None if self.tree else [self.draws.word(self.alias) for _ in range(many)]

    def learn(self, h, chosen, labels, shares):
        """What h learns; the chosen rows learn one after the other."""
        labels, shares = np.array(labels, float), np.array(shares, float)
        products = self.outputs[chosen] @ h
        self.seen[0] += (shares * np.logaddexp(0, -(2 * labels - 1) * products)).sum()
        g = self.rate * shares * (labels - sigmoid(products))
        delta = np.zeros_like(h)
        for weight, word in zip(g, chosen, strict=True):
            delta += weight * self.outputs[word]
            self.outputs[word] += weight * h
        return delta

    def words(self, kept):
        drawn = self.sample(self.shared * self.negatives)
        for i, word in enumerate(kept):
            reach = 1 + self.draws.below(self.window)
            context = kept[max(0, i - reach) : i] + kept[i + 1 : i + reach + 1]
            h = self.total(word) / self.many(word)
            delta = np.zeros_like(h)
            if self.tree:
                for other in context:
                    nodes, codes = self.tree[other]
                    delta += self.learn(h, list(nodes), codes, np.ones(len(nodes)))
            else:
                pairs = [(w, sum(c != w for c in context)) for w in drawn]
                pairs = [(w, n) for w, n in pairs if n]
                chosen = context + [w for w, _ in pairs]
                labels = [1] * len(context) + [0] * len(pairs)
                shares = [1] * len(context) + [n / self.shared for _, n in pairs]
                if i + 1 < len(kept):
                    drawn = self.sample(self.shared * self.negatives)
                delta += self.learn(h, chosen, labels, shares)
            self.seen[1] += len(context)
            self.teach(word, delta)

    def means(self, kept):
        drawn = self.sample(self.negatives)
        sums, learned = {}, {}
        for i, word in enumerate(kept):
            for j in range(len(sums), min(len(kept), i + self.window + 1)):
                sums[j], learned[j] = self.total(kept[j]), np.zeros(self.own.shape[1])
            reach = 1 + self.draws.below(self.window)
            near = [j for j in range(max(0, i - reach), min(len(kept), i + reach + 1)) if j != i]
            h = sum(sums[j] for j in near) / sum(self.many(kept[j]) for j in near)
            if self.tree:
                chosen, labels = self.tree[word]
            else:
                chosen = [word] + [w for w in drawn if w != word]
                labels = [1] + [0] * (len(chosen) - 1)
                if i + 1 < len(kept):
                    drawn = self.sample(self.negatives)
            delta = self.learn(h, list(chosen), labels, np.ones(len(chosen)))
            self.seen[1] += 1
            for j in near:
                learned[j] += delta
                sums[j] = sums[j] + self.many(kept[j]) * delta
            if i >= self.window and i + 1 < len(kept):
                self.teach(kept[i - self.window], learned[i - self.window])
        for j in range(max(0, len(kept) - 1 - self.window), len(kept)):
            self.teach(kept[j], learned[j])
