"""The networks that are fine-tuned: a BERT encoder, what a task takes of its output, dropout and a
dense layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, SupportsFloat

import numpy as np

from fastseq.models.bert.checkpoint import Checkpoint
from fastseq.models.bert.config import BertConfig
from fastseq.models.bert.inference import make_encoder, pool_rows
from fastseq.models.bert.parameters import EMBEDDINGS, NORM, POOLER
from fastseq.models.data.batches import Batch
from fastseq.models.scoring import LabelNetwork
from fastseq.nn.backend import Backend
from fastseq.nn.bert import Pooler
from fastseq.nn.encoder import Encoder
from fastseq.nn.layer import Layer, Parameters
from fastseq.seeds import mixed_key
from fastseq.types import Float32, Float64, Int32, Int64, ranges

CLS = "cls"
_SMALLEST = 1e-12  # norm that a vector is divided by
# names of parameters, as in transformers
PREFIX, HEAD, SPAN_HEAD = "bert", "classifier", "qa_outputs"


class BertBody(LabelNetwork):
    """embeddings -> transformer layers, whose output `read` returns, dropout and a dense layer.

    Parameters
    ----------
    outputs : of the dense layer
    dropout : all rates; None: those of `config`
    weights : float32[K], of each label in the loss; None: all 1
    pooler : the layer that the dense one follows, of BERT's pooler; None without
    head : prefix of the dense layer's parameters; None: there is no such layer
    inputs : of the dense layer; None: the size of the tokens' vectors

    Parameters of the layers have the names of transformers' BertFor… classes. Only those of the
    pooler and of the dense layer have initial values; the others are zeros until `load` or
    Parameters.load_state_dict.
    """

    def __init__(
        self,
        config: BertConfig,
        outputs: int,
        dropout: float | None,
        backend: Backend,
        seed: int,
        weights: Float32 | None = None,
        *,
        pooler: Pooler | None = None,
        head: str | None = HEAD,
        inputs: int | None = None,
    ) -> None:
        H = config.hidden
        rate = config.dropout if dropout is None else dropout
        attention = config.attention_dropout if dropout is None else dropout
        made: dict[str, Any] = {"eps": config.epsilon, "seed": None}
        self.weights = weights
        self._config = config
        self._packed: Encoder | None = None  # while it is held
        self.embeddings = backend.bert_embeddings(
            config.words, H, positions=config.positions, types=config.types, dropout=rate, **made
        )
        self.encoder = backend.transformer(
            config.layers, H, config.heads, config.intermediate, dropout=rate,
            attention_dropout=attention, activation=config.activation, **made,
        )  # fmt: skip
        layers: dict[str, Layer] = {
            f"{PREFIX}.{EMBEDDINGS}": self.embeddings,
            f"{PREFIX}.encoder": self.encoder,
        }
        if pooler is not None:
            layers[f"{PREFIX}.pooler"] = pooler
        self._drop = backend.dropout(rate)
        if head is not None:
            made = {"init": "truncated_normal", "seed": mixed_key(seed, 3)}
            self.output = layers[head] = backend.dense(inputs or H, outputs, **made)
        super().__init__(layers, backend)

    def load(self, checkpoint: Checkpoint) -> None:
        """Take the weights of a checkpoint, those of its pooler where it has one of this size."""
        views, others = self.parameters.views, checkpoint.others
        for name, array in checkpoint.weights.items():
            views[f"{PREFIX}.{name}"][...] = array
        names = [f"{POOLER}.{part}" for part in ("weight", "bias")]
        own = [views.get(f"{PREFIX}.{name}") for name in names]
        for view, name in zip(own, names, strict=True):
            if view is not None and name in others and others[name].shape == view.shape:
                view[...] = others[name]
        self.parameters.push()

    def prepare(self, batch: Batch, training: bool) -> None:
        self.embeddings.prepare(batch.values, batch.offsets)
        self.encoder.prepare_batch(batch.offsets)

    def read(self, batch: Batch, training: bool = False, key: int = 0) -> Any:
        """float32[N, H]: the vectors of the tokens; with `training` saves what `backward` needs."""
        if not training and self._packs:
            rows = np.empty((len(batch.values), self._config.hidden), np.float32)

            def use(numbers: Int64, hidden: Float32, offsets: Int64) -> None:
                rows[ranges(batch.offsets[numbers], np.diff(offsets))] = hidden

            self._encode(batch, use)
            return rows
        if training:
            self._packed = None  # the weights are about to change
        x = self.embeddings.forward(
            batch.values, batch.offsets, types_of(batch), training, mixed_key(key, 0)
        )
        return self.encoder.forward(x, batch.offsets, training, mixed_key(key, 1))

    @property
    def _packs(self) -> bool:
        """Whether passes without training are those of an nn.encoder.Encoder, on the CPU."""
        return self.backend.device == "cpu"

    def hold(self) -> None:
        """Pack the weights for all passes without training until the next one with it."""
        if self._packed is None and self._packs:
            prefix = f"{PREFIX}."
            weights = {
                name.removeprefix(prefix): view for name, view in self.parameters.views.items()
            }
            self._packed = make_encoder(weights, self._config, self.backend.team)

    @contextmanager
    def held(self) -> Iterator[None]:
        """A context in which weights do not change: packed once for all passes without training."""
        was_held = self._packed is not None
        self.hold()
        try:
            yield
        finally:
            if not was_held:
                self._packed = None

    def _encode(self, batch: Batch, use: Callable[[Int64, Float32, Int64], None]) -> None:
        """`Encoder.encode` of the sequences of a batch."""
        types = types_of(batch)
        with self.held():
            assert self._packed is not None
            more = [] if types is None else [types]
            self._packed.encode(batch.values, batch.offsets, use, *more)

    def read_back(self, rows: Any) -> None:
        """Add the gradients of parameters for that of the vectors, float32[N, H]."""
        self.embeddings.backward(self.encoder.backward(rows))


class BertNetwork(BertBody):
    """body -> pooling -> dropout -> dense: a row of scores for each sequence.

    pooling  "mean" or "max" of the tokens' vectors, or "cls": BERT's pooler, a dense layer with
             tanh over the vector of [CLS]
    others   as of BertBody
    """

    def __init__(
        self,
        config: BertConfig,
        outputs: int,
        pooling: str,
        dropout: float | None,
        backend: Backend,
        seed: int,
        weights: Float32 | None = None,
    ) -> None:
        self.pooler: Pooler | None = None
        self._pooling_name = pooling
        if pooling == CLS:
            self.pooler = backend.pooler(config.hidden, seed=mixed_key(seed, 2))
        else:
            self._pooling = backend.pooling(pooling, config.hidden)
        self._firsts: Any = None
        self._rows = 0
        super().__init__(config, outputs, dropout, backend, seed, weights, pooler=self.pooler)

    def prepare(self, batch: Batch, training: bool) -> None:
        super().prepare(batch, training)
        if self.pooler is None:
            self._pooling.prepare(batch.offsets)

    def scores(self, batch: Batch, training: bool = False, key: int = 0) -> Any:
        if not training and self._packs:
            return self.output.forward(self._pooled(batch), training=False)
        firsts, rows = batch.offsets[:-1], self.read(batch, training, key)
        if self.pooler is None:
            pooled = self._pooling.forward(rows, batch.offsets, training)
        else:
            pooled = self.pooler.forward(self.backend.rows(rows, firsts), training)
        if training:
            self._firsts, self._rows = firsts, len(rows)
        # not in place: the pooler keeps its output
        pooled = self._drop.forward(pooled, training, mixed_key(key, 2))
        return self.output.forward(pooled, training)

    def _pooled(self, batch: Batch) -> Float32:
        """float32[B, H] of a batch, without training."""
        out = np.empty((len(batch.offsets) - 1, self._config.hidden), np.float32)

        def use(numbers: Int64, hidden: Float32, offsets: Int64) -> None:
            out[numbers] = pool_rows(hidden, offsets, self._pooling_name)

        self._encode(batch, use)
        return out if self.pooler is None else self.pooler.forward(out, training=False)

    def backward(self) -> None:
        dy = self._drop.backward(self.output.backward(self._taken_gradients()))
        if self.pooler is None:
            rows = self._pooling.backward(dy)
        else:
            rows = self.backend.sum_rows(self.pooler.backward(dy), self._firsts, self._rows)
        self.read_back(rows)


class NumberNetwork(LabelNetwork):
    """A network with one score for each example, trained by the squared error."""

    def loss(self, scores: Any, batch: Batch, training: bool) -> tuple[SupportsFloat, float]:
        assert batch.scores is not None
        loss = self.backend.squared_error(scores, batch.scores[:, None], training)
        self._gradients = scores if training else None
        return loss, float(len(batch))


class BertScorer(NumberNetwork, BertNetwork):
    """A number for each sequence."""


class BertRankNetwork(BertNetwork):
    """A score for each candidate of the examples, which begin at the words of a batch.

    Trained by the binary cross-entropy of the batch's scores, or, without them, by the softmax over
    the candidates of each example, of which the first is the right one.
    """

    def scores(self, batch: Batch, training: bool = False, key: int = 0) -> Any:
        assert batch.words is not None
        offsets = np.append(batch.words, len(batch.values))
        return super().scores(replace(batch, offsets=offsets), training, key)

    def loss(self, scores: Any, batch: Batch, training: bool) -> tuple[SupportsFloat, float]:
        assert batch.words is not None
        B, found = len(batch), scores[:, 0].astype(np.float64)
        starts = np.searchsorted(batch.words, batch.offsets[:-1])
        if batch.scores is not None:
            wanted = batch.scores.astype(np.float64)
            loss = (np.logaddexp(0, found) - wanted * found).mean()
            gradient = 1 / (1 + np.exp(-found)) - wanted
        else:
            counts = np.diff(np.append(starts, len(found)))
            found -= np.repeat(np.maximum.reduceat(found, starts), counts)
            gradient = np.exp(found)
            totals = np.add.reduceat(gradient, starts)
            loss = (np.log(totals) - found[starts]).mean()
            gradient /= np.repeat(totals, counts)
            gradient[starts] -= 1
        if training:
            self._gradients = (gradient / B).astype(np.float32)[:, None]
        return loss, float(B)


class BertWordNetwork(BertBody):
    """body -> dropout -> dense: a row of scores for each word, by its first piece."""

    _words: Int64
    _rows: int = 0

    def scores(self, batch: Batch, training: bool = False, key: int = 0) -> Any:
        rows = self.read(batch, training, key)
        assert batch.words is not None
        if training:
            self._words, self._rows = batch.words, len(rows)
        own = rows[batch.words]
        own = self._drop.forward(own, training, mixed_key(key, 2), out=own)
        return self.output.forward(own, training)

    def backward(self) -> None:
        dy = self._drop.backward(self.output.backward(self._taken_gradients()))
        rows = np.zeros((self._rows, dy.shape[1]), np.float32)
        rows[self._words] = dy
        self.read_back(rows)


class BertSpanNetwork(BertBody):
    """body -> dense: the scores of each token as the first and as the last of an answer, trained by
    the mean cross-entropy of both over the tokens of a sequence."""

    def __init__(
        self, config: BertConfig, dropout: float | None, backend: Backend, seed: int
    ) -> None:
        super().__init__(config, 2, dropout, backend, seed, head=SPAN_HEAD)

    def scores(self, batch: Batch, training: bool = False, key: int = 0) -> Any:
        return self.output.forward(self.read(batch, training, key), training)

    def loss(self, scores: Any, batch: Batch, training: bool) -> tuple[SupportsFloat, float]:
        assert batch.spans is not None
        starts, lengths = batch.offsets[:-1], np.diff(batch.offsets)
        exact = scores.astype(np.float64)
        exact -= np.repeat(np.maximum.reduceat(exact, starts), lengths, axis=0)
        shares = np.exp(exact)
        totals = np.add.reduceat(shares, starts)
        at, sides = starts[:, None] + batch.spans, np.arange(2)
        loss = (np.log(totals) - exact[at, sides]).mean()
        if training:
            shares /= np.repeat(totals, lengths, axis=0)
            shares[at, sides] -= 1
            self._gradients = (shares / (2 * len(batch))).astype(np.float32)
        return loss, float(len(batch))

    def backward(self) -> None:
        self.read_back(self.output.backward(self._taken_gradients()))


class TwoTextNetwork(BertBody):
    """body -> pooling: a vector of each of the two texts of an example.

    pooling  "mean" or "max" of the tokens' vectors, or "cls", the vector of [CLS]
    others   as of BertBody
    """

    def __init__(
        self, config: BertConfig, pooling: str, dropout: float | None, backend: Backend, seed: int,
        *, head: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__(config, 1, dropout, backend, seed, head=head, inputs=1)
        self._name = pooling
        self._pooling = None if pooling == CLS else backend.pooling(pooling, config.hidden)
        self._firsts: Any = None
        self._rows = 0

    def vectors(self, batch: Batch, training: bool = False, key: int = 0) -> Any:
        """float32[2 B, H]: the vectors of the first and the second text of each example."""
        assert batch.seconds is not None
        starts = np.stack([batch.offsets[:-1], batch.offsets[:-1] + batch.seconds], axis=1)
        offsets = np.append(starts.reshape(-1), len(batch.values))
        texts = replace(batch, offsets=offsets, seconds=None)
        if not training:
            out = np.empty((len(offsets) - 1, self._config.hidden), np.float32)

            def use(numbers: Int64, hidden: Float32, own: Int64) -> None:
                out[numbers] = pool_rows(hidden, own, self._name)

            self._encode(texts, use)
            return out
        rows = self.read(texts, True, key)
        self._firsts, self._rows = offsets[:-1], len(rows)
        if self._pooling is None:
            return rows[self._firsts]
        return self._pooling.forward(rows, offsets)

    def vectors_back(self, directions: tuple[Float64, Float64], gradients: Float64) -> None:
        """Add the gradients of parameters for those of the directions of the vectors, which are
        `_units` of these."""
        units, norms = directions
        across = gradients - (gradients * units).sum(1, keepdims=True) * units
        dy = (across / norms).astype(np.float32)
        if self._pooling is None:
            self.read_back(self.backend.sum_rows(dy, self._firsts, self._rows))
        else:
            self.read_back(self._pooling.backward(dy))


class BertEmbeddingNetwork(TwoTextNetwork):
    """Vectors of two texts, trained by the cross-entropy of the cosines of a first text with all
    second ones of the batch.

    temperature  what cosines are divided by
    others       as of TwoTextNetwork
    """

    def __init__(
        self, config: BertConfig, pooling: str, temperature: float, dropout: float | None,
        backend: Backend, seed: int,
    ) -> None:  # fmt: skip
        super().__init__(config, pooling, dropout, backend, seed)
        self._temperature = temperature
        self._directions: Any = None

    def scores(self, batch: Batch, training: bool = False, key: int = 0) -> Any:
        return self.vectors(batch, training, key)

    def cosines(self, vectors: Any) -> Float64:
        """float64[B, B]: of first texts (rows) with second ones."""
        units, _ = _units(vectors)
        return units[0::2] @ units[1::2].T

    def loss(self, scores: Any, batch: Batch, training: bool) -> tuple[SupportsFloat, float]:
        B = len(batch)
        units, norms = _units(scores)
        first, second = units[0::2], units[1::2]
        logits = first @ second.T / self._temperature
        logits -= logits.max(1, keepdims=True)
        totals = np.log(np.exp(logits).sum(1))
        own = np.arange(B)
        loss = (totals - logits[own, own]).mean()
        if training:
            shares = np.exp(logits - totals[:, None])
            shares[own, own] -= 1
            shares /= B * self._temperature
            self._gradients = np.empty_like(units)
            self._gradients[0::2], self._gradients[1::2] = shares @ second, shares.T @ first
            self._directions = units, norms
        return loss, float(B)

    def backward(self) -> None:
        self.vectors_back(self._directions, self._taken_gradients())


class BertCosineNetwork(NumberNetwork, TwoTextNetwork):
    """A number for each two texts: a linear function of the cosine of their vectors."""

    def __init__(
        self, config: BertConfig, pooling: str, dropout: float | None, backend: Backend, seed: int
    ) -> None:
        super().__init__(config, pooling, dropout, backend, seed, head=HEAD)
        self._directions: Any = None

    def scores(self, batch: Batch, training: bool = False, key: int = 0) -> Any:
        directions = _units(self.vectors(batch, training, key))
        if training:
            self._directions = directions
        return self.output.forward(_cosines(directions[0]).astype(np.float32), training)

    def cosines(self, batch: Batch) -> Float64:
        """float64[B], without training."""
        return _cosines(_units(self.vectors(batch))[0])[:, 0]

    def backward(self) -> None:
        units, _ = self._directions
        dy = self.output.backward(self._taken_gradients()).astype(np.float64)
        gradients = np.empty_like(units)
        gradients[0::2], gradients[1::2] = dy * units[1::2], dy * units[0::2]
        self.vectors_back(self._directions, gradients)


def _cosines(units: Float64) -> Float64:
    """float64[B, 1]: of the first and the second text of each example."""
    found: Float64 = (units[0::2] * units[1::2]).sum(1, keepdims=True)
    return found


def _units(vectors: Any) -> tuple[Float64, Float64]:
    """(float64[N, H], float64[N, 1]) of vectors: their directions and Euclidean norms."""
    exact = vectors.astype(np.float64)
    norms = np.maximum(np.sqrt((exact * exact).sum(1, keepdims=True)), _SMALLEST)
    return exact / norms, norms


def types_of(batch: Batch) -> Int32 | None:
    """int32[N]: 0 for the first text of a pair, 1 for the second; None without pairs."""
    if batch.seconds is None:
        return None
    lengths = np.diff(batch.offsets)
    places = np.arange(len(batch.values)) - np.repeat(batch.offsets[:-1], lengths)
    return (places >= np.repeat(batch.seconds, lengths)).astype(np.int32)


def without_decay(parameters: Parameters) -> list[str]:
    """The names of the biases and the parameters of norms, which have no weight decay."""
    return [name for name in parameters if name.endswith(".bias") or f".{NORM}." in name]
