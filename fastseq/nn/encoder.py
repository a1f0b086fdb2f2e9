"""The forward pass of a transformer encoder for inference, on packed ragged sequences.

Weights are packed once. A thread takes some sequences through all layers, so threads do not wait
for each other, and the rows of a chunk stay in the caches from one product to the next. Every sum
runs over a row or over one sequence, in an order that depends on nothing else: the vectors of a
text have the same bits alone, in any batch and on any number of threads.

Source: Vaswani et al. 2017, "Attention Is All You Need", section 3; Devlin et al. 2019, "BERT".
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from fastseq.errors import warn
from fastseq.kernels.nn.attention import attention_forward, attention_scratch
from fastseq.kernels.nn.gelu import gelu_forward
from fastseq.kernels.nn.layer_norm import layer_norm_forward
from fastseq.kernels.nn.rows import gather_sums
from fastseq.nn.layers import limit_and_scale
from fastseq.nn.precisions import PRECISIONS, Product
from fastseq.nn.products import thread_space
from fastseq.settings import one_of
from fastseq.threads import Team
from fastseq.types import Float32, Int32, Int64, offsets_of

ROWS = 512  # tokens of a chunk, if its sequences are not longer: a multiple of the rows of a block
_NONE: Float32 = np.empty(0, np.float32)
_NO_TYPES: Int32 = np.empty(0, np.int32)


class Affine(NamedTuple):
    """weight float32[outputs, inputs] and bias float32[outputs] of x · weightᵀ + bias."""

    weight: Float32
    bias: Float32


class Norm(NamedTuple):
    """gamma and beta float32[H] of a layer normalisation."""

    gamma: Float32
    beta: Float32


class Embeddings(NamedTuple):
    """Tables float32[rows, H] of tokens, positions and types, whose sum is normalised."""

    words: Float32
    positions: Float32
    types: Float32
    norm: Norm


class EncoderLayer(NamedTuple):
    """A layer: attention and a feed-forward network, each added to its input and normalised.

    attention  queries, keys and values in one: [3H, H], each head after head
    """

    attention: Affine
    attention_output: Affine
    attention_norm: Norm
    inner: Affine
    outer: Affine
    outer_norm: Norm


class _Layer(NamedTuple):
    attention: Product
    attention_output: Product
    attention_norm: Norm
    inner: Product
    outer: Product
    outer_norm: Norm


def _product(kind: type[Product], team: Team, affine: Affine) -> Product:
    return kind(affine.weight, affine.bias, team)


def _array(name: str, *shape: int) -> Float32:
    """Working memory of the calling thread, reused."""
    return thread_space().array(("encoder", name), *shape)


class Encoder:
    """A transformer encoder with normalisation after each sublayer (BERT's).

    Parameters
    ----------
    embeddings, layers : the weights, of which the matrices are packed: a second copy, float32
    heads : attention heads of a layer
    epsilon : what layer normalisation adds to the variance
    is_tanh : whether the activation is GELU by tanh, not by erf
    team : threads that share a batch
    precision : of the products, a name of `precisions.PRECISIONS`
    """

    def __init__(
        self,
        embeddings: Embeddings,
        layers: Sequence[EncoderLayer],
        heads: int,
        epsilon: float,
        is_tanh: bool,
        team: Team,
        precision: str = "float32",
    ) -> None:
        self.precision = one_of("precision", precision, PRECISIONS)
        product = partial(_product, PRECISIONS[precision], team)
        self.size = embeddings.words.shape[1]
        self.team = team
        self._embeddings = embeddings
        self._heads = heads
        self._epsilon = epsilon
        self._is_tanh = is_tanh
        self._rows = ROWS  # tokens of a chunk, fewer where memory is too small
        self._drops_nothing = np.uint64(0), *limit_and_scale(0.0)
        packed: dict[int, _Layer] = {}

        def pack(number: int) -> None:
            layer = layers[number]
            packed[number] = _Layer(
                product(layer.attention),
                product(layer.attention_output),
                layer.attention_norm,
                product(layer.inner),
                product(layer.outer),
                layer.outer_norm,
            )

        team.run(pack, len(layers))
        self._layers = [packed[number] for number in range(len(layers))]

    def chunks(self, offsets: Int64) -> list[Int64]:
        """The numbers of B sequences with bounds `offsets`, in chunks of about ROWS rows, or
        as few as memory is enough for: of similar lengths, the longest first."""
        lengths = np.diff(offsets)
        order = np.argsort(-lengths, kind="stable")
        ends = np.cumsum(lengths[order])
        found, first = [], 0
        while first < len(order):
            before = ends[first - 1] if first else 0
            last = max(int(np.searchsorted(ends, before + self._rows, "right")), first + 1)
            found.append(order[first:last])
            first = last
        return found

    def forward(self, ids: Int32, kinds: Int32, offsets: Int64) -> Float32:
        """The last layer's float32[N, H], valid until the thread's next forward pass.

        ids      int32[N]    rows of the table of words
        kinds    int32[N]    rows of the table of types, or int32[0]: all 0
        offsets  int64[B + 1]  no sequence empty or longer than the table of positions
        """
        rows, width = len(ids), self.size
        tables = self._embeddings
        x = _array("x", rows, width)
        lengths = np.diff(offsets)
        places = (np.arange(rows) - np.repeat(offsets[:-1], lengths)).astype(np.int32)
        kinds = kinds if len(kinds) else np.zeros(rows, np.int32)
        gather_sums(
            x.reshape(-1), tables.words.reshape(-1), tables.types.reshape(-1),
            tables.positions.reshape(-1), ids, kinds, places, 0, rows,
        )  # fmt: skip
        self._normalise(x, x[:0], tables.norm)
        order = np.arange(len(offsets) - 1)
        pairs = len(order) * self._heads
        longest = int(lengths.max(initial=0))
        memory = _array("scratch", attention_scratch(longest, width // self._heads))
        lse = _NONE.reshape(0, self._heads)
        for layer in self._layers:
            qkv = _array("qkv", rows, 3 * width)
            layer.attention(qkv, x)
            attended = _array("attended", rows, width)
            attention_forward(
                attended, lse, qkv, offsets, order, self._heads, *self._drops_nothing, memory,
                0, pairs,
            )  # fmt: skip
            self._after_attention(layer, x, attended)
        return x

    def _after_attention(self, layer: _Layer, x: Float32, attended: Float32) -> None:
        """The rest of a layer, of which x is the input and the output."""
        y, inner = _array("y", *x.shape), _array("inner", len(x), layer.inner.outputs)
        layer.attention_output(y, attended)
        self._normalise(y, x, layer.attention_norm)
        layer.inner(inner, y)
        flat = inner.reshape(-1)
        gelu_forward(flat, flat, self._is_tanh, 0, len(flat))
        layer.outer(x, inner)
        self._normalise(x, y, layer.outer_norm)

    def encode(self, ids: Int32, offsets: Int64, use: Any, kinds: Int32 = _NO_TYPES) -> None:
        """Call use(numbers, hidden, bounds) for chunks of B sequences, on the team's threads.

        numbers  int64[b] of the sequences of the chunk
        hidden   float32[n, H] of their tokens, one sequence after the other, valid during the call
        bounds   int64[b + 1] of the sequences in it

        ids, kinds, offsets  as in `forward`; offsets[0] is 0

        A chunk for which memory is too small is halved, with a warning, down to one sequence, for
        which MemoryError is raised; `use` may then be called again for the same sequences.
        """
        chunks, before = self.chunks(offsets), self._rows

        def work(part: int) -> None:
            waiting = [chunks[part]]
            while waiting:
                numbers = waiting.pop()
                try:
                    encode_chunk(numbers)
                except MemoryError:
                    if len(numbers) == 1:
                        raise
                    tokens = int((offsets[numbers + 1] - offsets[numbers]).sum())
                    self._rows = min(self._rows, max(1, tokens // 2))
                    waiting += np.array_split(numbers, 2)[::-1]

        def encode_chunk(numbers: Int64) -> None:
            starts, lengths = offsets[numbers], offsets[numbers + 1] - offsets[numbers]
            bounds = offsets_of(lengths)
            rows = np.repeat(starts - bounds[:-1], lengths) + np.arange(bounds[-1])
            own_kinds = kinds[rows] if len(kinds) else kinds
            use(numbers, self.forward(ids[rows], own_kinds, bounds), bounds)

        self.team.run(work, len(chunks))
        if self._rows < before:
            warn(
                f"memory is too small for {before:,} tokens at a time on each of "
                f"{self.team.threads} threads: lowered to {self._rows:,} tokens, which changes no "
                "result"
            )

    def _normalise(self, x: Float32, residual: Float32, norm: Norm) -> None:
        """x = layer norm of x + residual."""
        layer_norm_forward(
            x, _NONE, _NONE, x, residual, norm.gamma, norm.beta, self._epsilon, 0, len(x)
        )
