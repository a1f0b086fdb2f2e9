"""FastText's classifier one text after the other in float64, with the schedule of
kernels/vectors/fasttext_labels.py, and the hashes of its n-grams.

Of a text with several labels one is drawn first, then the negatives, each again while it is the
right label. All products are taken before anything moves; then the targets learn one after the
other, so that of a label drawn twice the second sees what the first has learned.
"""

from __future__ import annotations

import numpy as np

from tests.naive.subwords import fnv1a
from tests.naive.word2vec import Draws, sigmoid


def ngrams_of(words, longest, buckets):
    """The buckets of the n-grams of 2 to `longest` words, by where they begin."""
    signed = [h - (1 << 32) if h >= 1 << 31 else h for h in map(fnv1a, words)]
    found = []
    for i in range(len(words)):
        h = signed[i] % (1 << 64)
        for j in range(i + 1, min(i + longest, len(words))):
            h = (h * 116049371 + signed[j]) % (1 << 64)
            found.append(h % buckets)
    return found


def tree_of(counts):
    """{label: (inner nodes, codes)} by the plainest Huffman: of what weighs the same, inner nodes
    come before labels, the older before the younger, and later labels before earlier ones."""
    K = len(counts)
    rank = sorted(range(K), key=lambda label: -counts[label])
    pool = [(counts[label], 1, -place, ("leaf", label)) for place, label in enumerate(rank)]
    ways = {label: ([], []) for label in range(K)}

    def add(tree, node, code):
        if tree[0] == "leaf":
            ways[tree[1]][0].append(node)
            ways[tree[1]][1].append(code)
        else:
            for child in tree[1:]:
                add(child, node, code)

    for node in range(K - 1):
        pool.sort(key=lambda entry: entry[:3])
        first, second = pool[:2]
        add(first[3], node, 0.0)
        add(second[3], node, 1.0)
        merged = ("node", first[3], second[3])
        pool = [*pool[2:], (first[0] + second[0], 0, node, merged)]
    return ways


def loss_of(hidden, outputs, targets, marks, softmax):
    """In nats: of the softmax over all outputs (marks: the right one), or of each by itself."""
    products = outputs[targets] @ hidden
    if softmax:
        return np.logaddexp.reduce(products) - products[marks]
    return np.logaddexp(0, -(2 * np.asarray(marks) - 1) * products).sum()


def learn(inputs, outputs, rows, targets, marks, softmax, rate):
    """One text learns; its loss as it was before."""
    hidden = inputs[rows].mean(axis=0)
    loss = loss_of(hidden, outputs, targets, marks, softmax)
    products = outputs[targets] @ hidden
    if softmax:
        g = -np.exp(products - np.logaddexp.reduce(products))
        g[marks] += 1
    else:
        g = np.asarray(marks) - sigmoid(products)
    to = np.zeros_like(hidden)
    for weight, target in zip(rate * g, targets, strict=True):
        to += weight * outputs[target]
        outputs[target] += weight * hidden
    for row in rows:
        inputs[row] += to / len(rows)
    return loss


def train(
    inputs, outputs, texts, labels, sizes, order, loss, alias, tree, negatives, rates, seed,
    loss_every=1,
):  # fmt: skip
    """Train float64 `inputs` and `outputs` in place; (words, texts, summed loss, of how many).

    texts   lists of rows; labels lists of labels; sizes of each text, for the learning rate
    tree    as tree_of has it
    """
    draws = Draws(seed)
    total, done = sum(sizes[t] for t in order), 0
    seen = np.zeros(4)
    for t in order:
        rate = rates[0] + (rates[1] - rates[0]) * done / max(total, 1)
        done += sizes[t]
        seen[0] += sizes[t]
        if not texts[t] or not labels[t]:
            continue
        measured = loss == "softmax" or int(seen[1]) % loss_every == 0
        seen[1] += 1
        label = labels[t][0]
        if loss != "ova" and len(labels[t]) > 1:
            label = labels[t][draws.below(len(labels[t]))]
        targets, marks = list(range(len(outputs))), label
        if loss == "hierarchical":
            targets, marks = tree[label]
        elif loss == "negative":
            targets, marks = [label], [1.0] + [0.0] * negatives
            for _ in range(negatives):
                drawn = draws.word(alias)
                while drawn == label:
                    drawn = draws.word(alias)
                targets.append(drawn)
        elif loss == "ova":
            marks = [float(k in labels[t]) for k in targets]
        found = learn(inputs, outputs, texts[t], targets, marks, loss == "softmax", rate)
        if measured:
            seen[2:] += found, 1
    return seen
