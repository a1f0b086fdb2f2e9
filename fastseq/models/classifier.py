"""SequenceClassifier: one label for a text.

model = SequenceClassifier(hidden=64, embedding=64, bidirectional=True, epochs=4)
model.fit("train.parquet", valid="valid.parquet")
model.predict(["How far is it?"])
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, SupportsFloat

import numpy as np

from fastseq.estimator import Choice, Flag, Weights, Whole, parameter
from fastseq.models.base import recurrent
from fastseq.models.data.batches import Batch
from fastseq.models.data.examples import Encoder, Examples
from fastseq.models.prediction import TextClassifier
from fastseq.models.scoring import ScoringModel, ScoringNetwork, ScoringState, scored
from fastseq.nn.backend import Backend
from fastseq.nn.layers import Dense, Embedding
from fastseq.nn.pooling import KINDS, Pooling
from fastseq.nn.recurrent import Recurrent
from fastseq.seeds import mixed_key
from fastseq.types import Float32


class ClassifierNetwork(ScoringNetwork):
    """embedding -> dropout -> recurrent -> pooling -> dropout -> dense.

    weights  float32[K], of each label in the loss; None: all 1
    """

    def __init__(
        self,
        cell: str,
        embedding: Embedding,
        recurrent: Recurrent,
        pooling: Pooling,
        output: Dense,
        dropout: float,
        weights: Float32 | None,
        backend: Backend,
    ) -> None:
        self.pooling = pooling
        self.weights = weights
        layers = {"embedding": embedding, cell: recurrent, "attention": pooling, "output": output}
        super().__init__(embedding, recurrent, output, dropout, layers, backend)

    def prepare(self, batch: Batch, training: bool) -> None:
        super().prepare(batch, training)
        self.pooling.prepare(batch.offsets)

    def scores(self, batch: Batch, training: bool = False, key: int = 0) -> Any:
        y = self.read(batch, training, key)
        pooled = self.pooling.forward(y, batch.offsets, training)
        pooled = self._drop_out.forward(pooled, training, mixed_key(key, 2), out=pooled)
        return self.output.forward(pooled, training)

    def loss(self, scores: Any, batch: Batch, training: bool) -> tuple[SupportsFloat, float]:
        targets = batch.targets
        assert targets is not None
        loss = self.backend.cross_entropy(scores, targets, self.weights, training)
        if training:
            self._gradients = scores
        known = targets[targets >= 0]
        if self.weights is None:
            return loss, float(len(known))
        return loss, float(self.weights[known].sum(dtype=np.float64))

    def backward(self) -> None:
        assert self._gradients is not None, "backward without a loss"
        gradients, self._gradients = self._gradients, None
        pooled = self.output.backward(gradients)
        dy = self.pooling.backward(self._drop_out.backward(pooled, out=pooled))
        dx = self.recurrent.backward_ragged(dy, want_dx=not self.embedding.frozen)
        if dx is not None:
            self.embedding.backward(self._drop_in.backward(dx, out=dx))


ClassifierState = ScoringState[ClassifierNetwork]


class SequenceClassifier(ScoringModel[ClassifierNetwork], TextClassifier[ClassifierState]):
    """Text classification: a label for each text.

    Attributes
    ----------
    classes_ : array[K], the labels in ascending order, of their own type
    vocabulary_, history_, report_, gradient_flow_, n_parameters_
    confusion_ : of the last `evaluate`
    """

    kind: ClassVar[str] = "classifier"
    measures: ClassVar[Mapping[str, bool]] = {"accuracy": True, "loss": False, "macro_f1": True}

    bidirectional: bool = parameter(
        default=False, check=Flag(), help="Read in both directions.",
        flag="bidirectional/no-bidirectional",
    )  # fmt: skip
    pooling: str = parameter(
        default="max", check=Choice(KINDS), help="Pooling of the recurrent outputs."
    )
    max_length: int | None = parameter(
        default=None, check=Whole(1), none="not truncated",
        help="Truncate texts to this number of units.",
    )  # fmt: skip
    class_weights: str | Mapping[Any, float] | None = parameter(
        default=None, check=Weights(), section="Training", none="equal weights", metavar="W",
        help='Weight of each class in the loss: "balanced" or weights by label.',
    )  # fmt: skip
    dropout: float = 0.3

    # ---- prediction and evaluation

    def evaluate(
        self,
        examples: Any,
        y: Any = None,
        *,
        text_column: str | Sequence[str] | None = None,
        label_column: str | None = None,
    ) -> dict[str, float]:
        """{"accuracy", "macro_f1", "loss" in nats, "unknown_rate" of the units}; `confusion_` has
        the counts.

        A label that training did not have counts as wrong, and not in the loss.

        Raises DataError for data that cannot be read, and where every label is unseen.
        """
        columns = {"text_column": text_column, "label_column": label_column}
        measures, evaluation = self._evaluate(examples, y, **columns)
        self.confusion_ = evaluation.labels.confusion(self.classes_)
        return measures

    def _probabilities(self, learned: ClassifierState, texts: Examples) -> Float32:
        """float32[D, K] of examples whose rows are 0 to D - 1."""
        network = learned.network
        out = np.empty((len(texts), network.output.outputs), np.float32)
        for batch, scores in scored(network, texts):
            out[texts.rows[batch.rows]] = network.backend.softmax(scores)
        return out

    # ---- construction

    def _reading(self) -> dict[str, Any]:
        return {"max_length": self.max_length}

    def _network(self, encoder: Encoder, size: int, backend: Backend) -> ClassifierNetwork:
        assert encoder.labels is not None
        layer = recurrent(self, size, self.bidirectional, backend)
        width = layer.output_size
        return ClassifierNetwork(
            self.cell,
            self._embedding(encoder.vocabulary, size, backend),
            layer,
            backend.pooling(
                self.pooling,
                width,
                bidirectional=self.bidirectional,
                seed=mixed_key(self.seed, 2),
            ),
            backend.dense(width, len(encoder.labels), seed=mixed_key(self.seed, 3)),
            self.dropout,
            encoder.labels.weights(self.class_weights),
            backend,
        )
