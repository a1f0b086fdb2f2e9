"""The layers of a tagger, and words read character by character."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fastseq.kernels.embedding import gather, scatter_add
from fastseq.models.data.batches import Batch
from fastseq.models.data.characters import WordCharacters
from fastseq.models.data.ragged import offsets_of, places
from fastseq.models.scoring import ScoringNetwork
from fastseq.nn.crf import CRF, Constraints
from fastseq.nn.dense import Dense
from fastseq.nn.dropout import Dropout
from fastseq.nn.embedding import Embedding
from fastseq.nn.layer import Layer
from fastseq.nn.losses import softmax_cross_entropy
from fastseq.nn.pooling import Pooling
from fastseq.nn.recurrent import Recurrent
from fastseq.seeds import mixed_key
from fastseq.threads import Team
from fastseq.types import Float32, Int32, Int64


class CharacterWords:
    """Words by their characters: an embedding, a recurrent layer in both directions, and what
    each direction has read at its end. Every distinct word of a batch is read once.

    cell  its name, and `kind` the class of the layer
    size  of a word's vector
    """

    def __init__(
        self,
        cell: str,
        kind: Callable[..., Recurrent],
        table: Embedding,
        hidden: int,
        seed: int,
        team: Team,
    ) -> None:
        self._table = table
        self._recurrent = kind(table.size, hidden, bidirectional=True, seed=seed, team=team)
        self.size = self._recurrent.output_size
        self._ends = Pooling("last", self.size, bidirectional=True, team=team)
        self._inverse: Int32 | None = None
        self._distinct = 0
        self.layers: dict[str, Layer] = {
            "characters.embedding": table,
            f"characters.{cell}": self._recurrent,
        }

    def forward(self, words: WordCharacters, training: bool, key: int) -> Float32:
        """float32[N, size], a vector for each word of the batch."""
        x, index = self._table.forward_distinct(words.values, training)
        y, _ = self._recurrent.forward_ragged(
            x, words.offsets, training=training, key=key, index=index
        )
        distinct = self._ends.forward(y, words.offsets, training)
        inverse = words.inverse.astype(np.int32)
        out = np.empty((len(inverse), self.size), np.float32)
        gather(out.reshape(-1), distinct.reshape(-1), inverse, 0, len(inverse))
        if training:
            self._inverse, self._distinct = inverse, len(distinct)
        return out

    def backward(self, dy: Float32) -> None:
        """Add to the gradients what dy float32[N, size] gives."""
        assert self._inverse is not None, "backward without a forward pass"
        slopes = np.zeros((self._distinct, self.size), np.float32)
        scatter_add(slopes.reshape(-1), dy.reshape(-1), self._inverse, 0, self.size)
        dx = self._recurrent.backward_ragged(self._ends.backward(slopes))
        assert dx is not None
        self._table.backward(dx)


class TaggerNetwork(ScoringNetwork):
    """embedding (and characters) -> dropout -> recurrent -> dropout -> dense (-> CRF).

    constraints  what the CRF may not predict; it learns without them, so that data which breaks
        them has a finite loss
    """

    def __init__(
        self,
        cell: str,
        embedding: Embedding,
        words: CharacterWords | None,
        recurrent: Recurrent,
        output: Dense,
        crf: CRF | None,
        constraints: Constraints | None,
        dropout: float,
        team: Team,
    ) -> None:
        self.embedding = embedding
        self.words = words
        self.recurrent = recurrent
        self.output = output
        self.crf = crf
        self.constraints = constraints
        self._drop_in = Dropout(dropout, team)
        self._drop_out = Dropout(dropout, team)
        self._slopes: Float32 | None = None
        layers: dict[str, Layer] = {"embedding": embedding, cell: recurrent, "output": output}
        if words is not None:
            layers |= words.layers
        if crf is not None:
            layers["crf"] = crf
        super().__init__(layers, team)

    def read(self, batch: Batch, training: bool = False, key: int = 0) -> Float32:
        index: Int64 | None = None
        if self.by_step or self.words is not None or (training and self._drop_in.rate):
            x = self.embedding.forward(batch.values, training)
        else:
            x, index = self.embedding.forward_distinct(batch.values, training)
        if self.words is not None:
            assert batch.characters is not None
            spelt = self.words.forward(batch.characters, training, mixed_key(key, 3))
            x = np.concatenate([x, spelt], axis=1)
        x = self._drop_in.forward(x, training, mixed_key(key, 0), out=x)
        y, _ = self.recurrent.forward_ragged(
            x, batch.offsets, training=training, key=mixed_key(key, 1), index=index
        )
        return y

    def scores(self, batch: Batch, training: bool = False, key: int = 0) -> Float32:
        y = self.read(batch, training, key)
        y = self._drop_out.forward(y, training, mixed_key(key, 2), out=y)
        return self.output.forward(y, training)

    def loss(self, scores: Float32, batch: Batch, training: bool) -> tuple[float, float]:
        targets = batch.targets
        assert targets is not None
        if self.crf is None:
            loss = softmax_cross_entropy(scores, targets, None, self.team, training)
            self._slopes = scores if training else None
            return loss, float(np.count_nonzero(targets >= 0))
        if training:  # where no tag is unseen
            loss = self.crf.loss(scores, targets, batch.offsets)
            self._slopes = self.crf.backward()
            return loss, float(len(targets))
        known = np.logical_and.reduceat(targets >= 0, batch.offsets[:-1])
        lengths = np.diff(batch.offsets)[known]
        if not len(lengths):
            return 0.0, 0.0
        at = places(batch.offsets[:-1][known], lengths)
        offsets = offsets_of(lengths)
        return self.crf.loss(scores[at], targets[at], offsets, training=False), float(len(at))

    def backward(self) -> None:
        assert self._slopes is not None, "backward without a loss"
        slopes, self._slopes = self._slopes, None
        dy = self.output.backward(slopes)
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
            self.embedding.backward(np.ascontiguousarray(below[:, :size]))
            self.words.backward(np.ascontiguousarray(below[:, size:]))

    def best(self, scores: Float32, batch: Batch) -> Int32:
        if self.crf is None:
            best: Int32 = np.argmax(scores, 1).astype(np.int32)
            return best
        return self.crf.decode(scores, batch.offsets, self.constraints)[0]
