"""GloVe in float64, one pair after the other, and counting by brute force.

The order of pairs is that of kernels/vectors/glove.py: tiles as given, each in an order drawn with
splitmix64 from the key and the tile's number.
"""

from __future__ import annotations

import math

import numpy as np

ALL = (1 << 64) - 1


class Draws:
    """splitmix64 from a seed."""

    def __init__(self, seed):
        self.state = seed & ALL

    def below(self, n):
        self.state = (self.state + 0x9E3779B97F4A7C15) & ALL
        z = self.state
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & ALL
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB & ALL
        return (((z ^ (z >> 31)) >> 32) * n) >> 32


def count(sentences, words, window, symmetric=True, weighted=True):
    """float64[V, V]: how often word j stands in the window of word i."""
    found = np.zeros((words, words))
    for sentence in sentences:
        for p, word in enumerate(sentence):
            for q in range(max(0, p - window), p):
                weight = 1 / (p - q) if weighted else 1.0
                found[word, sentence[q]] += weight
                if symmetric:
                    found[sentence[q], word] += weight
    return found


class Model:
    """W, C float64[V, d], b, c float64[V], and the sum of squared gradients of each."""

    def __init__(self, w, c, b, bc):
        self.numbers = [np.array(a, np.float64) for a in (w, c, b, bc)]
        self.squares = [np.ones_like(a) for a in self.numbers]


def loss(w, c, b, bc, x, x_max, alpha):
    """f(x) (w · c + b + b' - log x)² of one pair."""
    return weight(x, x_max, alpha) * (w @ c + b + bc - math.log(x)) ** 2


def weight(x, x_max, alpha):
    return min(1.0, (x / x_max) ** alpha)


def gradients(w, c, b, bc, x, x_max, alpha):
    """Of half the loss, by w, c, b and b'."""
    g = weight(x, x_max, alpha) * (w @ c + b + bc - math.log(x))
    return g * c, g * w, g, g


def learn(model, i, j, x, x_max, alpha, rate):
    """One step of AdaGrad; returns the loss before it."""
    rows = (i, j, i, j)
    here = [numbers[r] for numbers, r in zip(model.numbers, rows, strict=True)]
    told = loss(*here, x, x_max, alpha)
    found = gradients(*here, x, x_max, alpha)
    for numbers, squares, r, g in zip(model.numbers, model.squares, rows, found, strict=True):
        move = rate * np.asarray(g)
        numbers[r] = numbers[r] - move / np.sqrt(squares[r])
        squares[r] = squares[r] + move**2
    return told


def tiles(matrix, block, symmetric):
    """[(first row, first column, [(i, j, x), …])] of the tiles that are not empty; of a symmetric
    matrix the half from the diagonal on."""
    V = len(matrix)
    found = []
    for row in range(0, V, block):
        for column in range(0, V, block):
            pairs = [
                (i, j, matrix[i, j])
                for i in range(row, min(row + block, V))
                for j in range(column, min(column + block, V))
                if matrix[i, j] > 0 and (not symmetric or j >= i)
            ]
            if pairs:
                found.append((row, column, pairs))
    return found


def train(model, cut, order, symmetric, x_max, alpha, rate, key):
    """Learn from the tiles of `cut` in this order; the summed loss, and of how many pairs."""
    told, count = 0.0, 0
    for t in order:
        pairs = cut[t][2]
        draws = Draws(key ^ (t * 0x9E3779B97F4A7C15 & ALL))
        shuffled = []
        for n in range(len(pairs)):
            k = draws.below(n + 1)
            shuffled.append(n)
            shuffled[n] = shuffled[k]
            shuffled[k] = n
        for n in shuffled:
            i, j, x = pairs[n]
            for a, b in [(i, j), (j, i)] if symmetric and i != j else [(i, j)]:
                told += learn(model, a, b, x, x_max, alpha, rate)
                count += 1
    return told, count
