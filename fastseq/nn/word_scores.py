"""The scores of all words by a masked-language model's head, reduced to maxima over texts."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fastseq.kernels.nn.gelu import gelu_forward
from fastseq.kernels.nn.layer_norm import layer_norm_forward
from fastseq.kernels.nn.maxima import projected_maxima
from fastseq.kernels.simd import gemm
from fastseq.nn.encoder import Affine, Norm
from fastseq.nn.products import Panels, padded_bias, scratch, thread_space
from fastseq.threads import Team
from fastseq.types import Float32, Int64

_NONE: Float32 = np.empty(0, np.float32)


class HeadWeights(NamedTuple):
    """The weights of scores = words · LN(gelu(W x + b)) + bias.

    transform  W and b, [H, H]
    norm       of the layer normalisation
    words      [V, H] and bias [V]
    """

    transform: Affine
    norm: Norm
    words: Affine


class WordScores:
    """A masked-language model's head for inference, whose weights are packed.

    Parameters
    ----------
    weights : of which the matrices are packed: a second copy, float32
    epsilon : what layer normalisation adds to the variance
    is_tanh : whether the activation is GELU by tanh, not by erf
    team : threads that pack
    """

    def __init__(self, weights: HeadWeights, epsilon: float, is_tanh: bool, team: Team) -> None:
        self._epsilon, self._is_tanh, self._norm = epsilon, is_tanh, weights.norm
        self._transform, self._transform_bias = _packed(weights.transform, team)
        self._words, self._bias = _packed(weights.words, team)

    def maxima(self, hidden: Float32, offsets: Int64) -> Float32:
        """float32[B, V]: the largest score of each word over the rows of each of B sequences.

        hidden   float32[N, H], sequence b in the rows offsets[b] to offsets[b + 1] - 1, none empty
        offsets  int64[B + 1], from 0
        """
        rows, space = len(hidden), thread_space()
        x = space.array(("word scores", "x"), rows, self._transform.columns)
        gemm.multiply_panels(
            x, hidden, self._transform.data, self._transform_bias, False, scratch(), 0, rows
        )
        flat = x.reshape(-1)
        gelu_forward(flat, flat, self._is_tanh, 0, len(flat))
        gamma, beta = self._norm
        layer_norm_forward(x, _NONE, _NONE, x, x[:0], gamma, beta, self._epsilon, 0, rows)
        out = np.empty((len(offsets) - 1, self._words.columns), np.float32)
        block = space.array(("word scores", "block"), rows * gemm.WIDTH)
        projected_maxima(out, x, self._words.data, self._bias, offsets, block)
        return out


def _packed(affine: Affine, team: Team) -> tuple[Panels, Float32]:
    outputs, inputs = affine.weight.shape
    panels = Panels(inputs, outputs).pack(affine.weight, team, transposed=True)
    return panels, padded_bias(affine.bias, outputs)
