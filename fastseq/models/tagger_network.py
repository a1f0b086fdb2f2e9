"""The layers of a tagger, and words read character by character."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, SupportsFloat

import numpy as np

from fastseq.models.data.batches import Batch
from fastseq.models.data.characters import WordCharacters
from fastseq.models.data.ragged import offsets_of, places
from fastseq.models.scoring import ScoringNetwork
from fastseq.nn.backend import Backend
from fastseq.nn.crf import CRF, Constraints
from fastseq.nn.layer import Layer
from fastseq.nn.layers import Dense, Embedding
from fastseq.nn.recurrent import Recurrent
from fastseq.seeds import mixed_key
from fastseq.types import Int32, Int64


class CharacterWords:
    """Character-level word vectors: an embedding, a bidirectional recurrent layer and the last
    output of each direction. Every distinct word of a batch is read once.

    cell  name of the layer, which `kind` makes
    size  dimensions of a word's vector
    """

    def __init__(
        self,
        cell: str,
        kind: Callable[..., Recurrent],
        table: Embedding,
        hidden: int,
        seed: int,
        backend: Backend,
    ) -> None:
        self._kit = backend
        self._table = table
        self._recurrent = kind(table.size, hidden, bidirectional=True, seed=seed)
        self.size = self._recurrent.output_size
        self._ends = backend.pooling("last", self.size, bidirectional=True)
        self._inverse: Int64 | None = None
        self._distinct = 0
        self.layers: dict[str, Layer] = {
            "characters.embedding": table,
            f"characters.{cell}": self._recurrent,
        }

    def prepare(self, words: WordCharacters) -> None:
        """Send to the device what a pass over the words needs."""
        index = self._table.prepare(words.values, True)
        self._recurrent.prepare(words.offsets, index)
        self._ends.prepare(words.offsets)

    def forward(self, words: WordCharacters, training: bool, key: int) -> Any:
        """[N, size]: a vector for each word of the batch."""
        x, index = self._table.forward_distinct(words.values, training)
        y, _ = self._recurrent.forward_ragged(
            x, words.offsets, training=training, key=key, index=index
        )
        distinct = self._ends.forward(y, words.offsets, training)
        if training:
            self._inverse, self._distinct = words.inverse, len(distinct)
        return self._kit.rows(distinct, words.inverse)

    def backward(self, dy: Any) -> None:
        """Add the gradients of parameters, given that of the vectors, dy [N, size]."""
        assert self._inverse is not None, "backward without a forward pass"
        gradients = self._kit.sum_rows(dy, self._inverse, self._distinct)
        dx = self._recurrent.backward_ragged(self._ends.backward(gradients))
        assert dx is not None
        self._table.backward(dx)


class TaggerNetwork(ScoringNetwork):
    """embedding (and characters) -> dropout -> recurrent -> dropout -> dense (-> CRF).

    constraints  what the CRF must not predict; it is trained without, see SequenceTagger
    """

    constraints: Constraints | None = None

    def __init__(
        self,
        cell: str,
        embedding: Embedding,
        words: CharacterWords | None,
        recurrent: Recurrent,
        output: Dense,
        crf: CRF | None,
        dropout: float,
        backend: Backend,
    ) -> None:
        self.words = words
        self.crf = crf
        layers: dict[str, Layer] = {"embedding": embedding, cell: recurrent, "output": output}
        if words is not None:
            layers |= words.layers
        if crf is not None:
            layers["crf"] = crf
        super().__init__(embedding, recurrent, output, dropout, layers, backend)

    def prepare(self, batch: Batch, training: bool) -> None:
        super().prepare(batch, training)
        if self.words is not None:
            assert batch.characters is not None
            self.words.prepare(batch.characters)

    def _shares(self, training: bool) -> bool:
        return self.words is None and super()._shares(training)

    def _extended(self, x: Any, batch: Batch, training: bool, key: int) -> Any:
        if self.words is None:
            return x
        assert batch.characters is not None
        words = self.words.forward(batch.characters, training, mixed_key(key, 3))
        return self.backend.concat_columns(x, words)

    def scores(self, batch: Batch, training: bool = False, key: int = 0) -> Any:
        y = self.read(batch, training, key)
        y = self._drop_out.forward(y, training, mixed_key(key, 2), out=y)
        return self.output.forward(y, training)

    def loss(self, scores: Any, batch: Batch, training: bool) -> tuple[SupportsFloat, float]:
        targets = batch.targets
        assert targets is not None
        if self.crf is None:
            loss = self.backend.cross_entropy(scores, targets, None, training)
            self._gradients = scores if training else None
            return loss, float(np.count_nonzero(targets >= 0))
        if training:  # where no tag is unseen
            likelihood = self.crf.loss(scores, targets, batch.offsets)
            self._gradients = self.crf.backward()
            return likelihood, float(len(targets))
        known = np.logical_and.reduceat(targets >= 0, batch.offsets[:-1])
        lengths = np.diff(batch.offsets)[known]
        if not len(lengths):
            return 0.0, 0.0
        at = places(batch.offsets[:-1][known], lengths)
        offsets = offsets_of(lengths)
        chosen = scores if len(at) == len(targets) else self.backend.rows(scores, at)
        return self.crf.loss(chosen, targets[at], offsets, training=False), float(len(at))

    def backward(self) -> None:
        assert self._gradients is not None, "backward without a loss"
        gradients, self._gradients = self._gradients, None
        dy = self.output.backward(gradients)
        dy = self._drop_out.backward(dy, out=dy)
        learns = self.words is not None or not self.embedding.frozen
        dx = self.recurrent.backward_ragged(dy, want_dx=learns)
        if dx is None:
            return
        below = self._drop_in.backward(dx, out=dx)
        if self.words is None:
            self.embedding.backward(below)
        else:
            size = self.embedding.size
            self.embedding.backward(self.backend.columns(below, 0, size))
            self.words.backward(self.backend.columns(below, size, below.shape[1]))

    def best(self, scores: Any, batch: Batch) -> Int32:
        if self.crf is None:
            return super().best(scores, batch)
        return self.crf.decode(scores, batch.offsets, self.constraints)[0]
