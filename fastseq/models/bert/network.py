"""The network that is fine-tuned: a BERT encoder, pooling, dropout and a dense layer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
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
from fastseq.types import Float32, Int32, Int64

CLS = "cls"
PREFIX, HEAD = "bert", "classifier"  # names of parameters, as in transformers


class BertNetwork(LabelNetwork):
    """embeddings -> transformer layers -> pooling -> dropout -> dense: a row of scores for each
    sequence.

    Parameters
    ----------
    outputs : scores of a sequence
    pooling : "mean" or "max" of the tokens' vectors, or "cls": BERT's pooler, a dense layer with
        tanh over the vector of [CLS]
    dropout : all rates; None: those of `config`
    weights : float32[K], of each label in the loss; None: all 1

    Parameters of the layers have the names of transformers' BertForSequenceClassification. Only
    those of the pooler and of the dense layer have initial values; the others are zeros until
    `load` or Parameters.load_state_dict.
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
        H = config.hidden
        rate = config.dropout if dropout is None else dropout
        attention = config.attention_dropout if dropout is None else dropout
        made: dict[str, Any] = {"eps": config.epsilon, "seed": None}
        self.weights = weights
        self._config, self._pooling_name = config, pooling
        self._encoder: Encoder | None = None  # while it is held
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
        self.pooler: Pooler | None = None
        if pooling == CLS:
            self.pooler = backend.pooler(H, seed=mixed_key(seed, 2))
            layers[f"{PREFIX}.pooler"] = self.pooler
        else:
            self._pooling = backend.pooling(pooling, H)
        self._drop = backend.dropout(rate)
        self.output = backend.dense(H, outputs, init="truncated_normal", seed=mixed_key(seed, 3))
        layers[HEAD] = self.output
        self._firsts: Any = None
        self._rows = 0
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
        if self.pooler is None:
            self._pooling.prepare(batch.offsets)

    def scores(self, batch: Batch, training: bool = False, key: int = 0) -> Any:
        if not training and self._packs:
            with self.held():
                return self.output.forward(self._pooled(batch), training=False)
        offsets, firsts = batch.offsets, batch.offsets[:-1]
        x = self.embeddings.forward(
            batch.values, offsets, types_of(batch), training, mixed_key(key, 0)
        )
        rows = self.encoder.forward(x, offsets, training, mixed_key(key, 1))
        if self.pooler is None:
            pooled = self._pooling.forward(rows, offsets, training)
        else:
            pooled = self.pooler.forward(self.backend.rows(rows, firsts), training)
        if training:
            self._encoder = None  # the weights are about to change
            self._firsts, self._rows = firsts, len(rows)
        # not in place: the pooler keeps its output
        pooled = self._drop.forward(pooled, training, mixed_key(key, 2))
        return self.output.forward(pooled, training)

    @property
    def _packs(self) -> bool:
        """Whether passes without training are those of an nn.encoder.Encoder, on the CPU."""
        return self.backend.device == "cpu"

    def hold(self) -> None:
        """Pack the weights for all passes without training until the next one with it."""
        if self._encoder is None and self._packs:
            prefix = f"{PREFIX}."
            weights = {
                name.removeprefix(prefix): view for name, view in self.parameters.views.items()
            }
            self._encoder = make_encoder(weights, self._config, self.backend.team)

    @contextmanager
    def held(self) -> Iterator[None]:
        """A context in which weights do not change: packed once for all passes without training."""
        was_held = self._encoder is not None
        self.hold()
        try:
            yield
        finally:
            if not was_held:
                self._encoder = None

    def _pooled(self, batch: Batch) -> Float32:
        """float32[B, H] of a batch, without training."""
        encoder = self._encoder
        assert encoder is not None  # held
        out = np.empty((len(batch), encoder.size), np.float32)

        def use(numbers: Int64, hidden: Float32, offsets: Int64) -> None:
            out[numbers] = pool_rows(hidden, offsets, self._pooling_name)

        types = types_of(batch)
        encoder.encode(batch.values, batch.offsets, use, *([] if types is None else [types]))
        return out if self.pooler is None else self.pooler.forward(out, training=False)

    def backward(self) -> None:
        dy = self._drop.backward(self.output.backward(self._taken_gradients()))
        if self.pooler is None:
            rows = self._pooling.backward(dy)
        else:
            rows = self.backend.sum_rows(self.pooler.backward(dy), self._firsts, self._rows)
        self.embeddings.backward(self.encoder.backward(rows))


class BertScorer(BertNetwork):
    """A network with one score for each sequence, trained by the squared error."""

    def loss(self, scores: Any, batch: Batch, training: bool) -> tuple[SupportsFloat, float]:
        assert batch.scores is not None
        loss = self.backend.squared_error(scores, batch.scores[:, None], training)
        self._gradients = scores if training else None
        return loss, float(len(batch))


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
