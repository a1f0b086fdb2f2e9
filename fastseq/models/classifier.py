"""SequenceClassifier: one label for a text.

model = SequenceClassifier(hidden=64, embedding=64, bidirectional=True, epochs=4)
model.fit("train.parquet", valid="valid.parquet")
model.predict(["How far is it?"])
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from fastseq.estimator import Choice, Flag, Weights, Whole, parameter
from fastseq.models.base import TextClassifier, training_parameter
from fastseq.models.data.examples import Encoder, Examples
from fastseq.models.scoring import (
    LS,
    LabelModel,
    ScoringModel,
    ScoringNetwork,
    ScoringState,
    scored,
)
from fastseq.nn.backend import Backend
from fastseq.nn.pooling import KINDS
from fastseq.seeds import mixed_key
from fastseq.types import Float32


class NetworkClassifier(LabelModel[LS], TextClassifier[LS]):
    """A classifier of texts with a network."""

    measures: ClassVar[Mapping[str, bool]] = {"accuracy": True, "loss": False, "macro_f1": True}

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

        A label unseen in training counts as wrong, and not in the loss.

        Raises DataError for data that cannot be read, or whose labels are all unseen.
        """
        columns = {"text_column": text_column, "label_column": label_column}
        measures, evaluation = self._evaluate(examples, y, **columns)
        self.confusion_ = evaluation.labels.confusion(self.classes_)
        return measures

    def _probabilities(self, learned: LS, texts: Examples) -> Float32:
        """float32[D, K] of examples whose rows are 0 to D - 1."""
        network = learned.network
        out = np.empty((len(texts), network.output.outputs), np.float32)
        for batch, scores in scored(network, texts):
            out[texts.rows[batch.rows]] = network.backend.softmax(scores)
        return out


class SequenceClassifier(ScoringModel, NetworkClassifier[ScoringState]):
    """Text classification: a label for each text.

    Attributes
    ----------
    classes_ : array[K], the labels in ascending order, of their own type
    vocabulary_, history_, report_, gradient_flow_, n_parameters_
    confusion_ : of the last `evaluate`
    """

    kind: ClassVar[str] = "classifier"
    reading: ClassVar[tuple[str, ...]] = ("max_length",)

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
    class_weights: str | Mapping[Any, float] | None = training_parameter(
        default=None, check=Weights(), none="equal weights", metavar="W",
        help='Weight of each class in the loss: "balanced" or weights by label.',
    )  # fmt: skip
    dropout: float = 0.3

    def _network(self, encoder: Encoder, size: int, backend: Backend) -> ScoringNetwork:
        assert encoder.labels is not None
        embedding = self._embedding(encoder.vocabulary, size, backend)
        layer = self._recurrent(size, self.bidirectional, backend)
        width, seed = layer.output_size, mixed_key(self.seed, 2)
        pooling = backend.pooling(self.pooling, width, bidirectional=self.bidirectional, seed=seed)
        output = backend.dense(width, len(encoder.labels), seed=mixed_key(self.seed, 3))
        weights = encoder.labels.weights(self.class_weights)
        return ScoringNetwork(
            self.cell, embedding, layer, output, self.dropout, backend, pooling=pooling,
            weights=weights,
        )  # fmt: skip
