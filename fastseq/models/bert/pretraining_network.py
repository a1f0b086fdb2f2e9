"""The network of pretraining: a BERT encoder with a head for masked words and one for pairs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastseq.errors import FormatError
from fastseq.models.bert.checkpoint import Checkpoint
from fastseq.models.bert.config import BertConfig
from fastseq.models.bert.parameters import EMBEDDINGS
from fastseq.models.bert.segments import MaskedBatch
from fastseq.models.sequence import Network
from fastseq.nn.backend import Backend
from fastseq.nn.bert import BertEmbeddings, MaskedWordHead, Pooler
from fastseq.nn.initialisers import truncated_normal
from fastseq.nn.layers import Dense
from fastseq.nn.losses import softmax_cross_entropy
from fastseq.nn.transformer import TransformerEncoder
from fastseq.seeds import mixed_key
from fastseq.types import Float32, Int32, Int64

PREFIX, HEAD, NEXT = "bert", "cls.predictions", "cls.seq_relationship"

_POOLER = "pooler"
_SCORES = f"{HEAD}.decoder"  # names of transformers for what is the embeddings and the bias
_SCORES_AT_ONCE = 1 << 22


class Losses(NamedTuple):
    """Sums over a batch: losses in nats, and how many predictions are right."""

    masked: float
    words: float
    right_words: float
    next: float
    pairs: float
    right_pairs: float


class PretrainingNetwork(Network):
    """embeddings -> transformer layers; of the masked tokens scores of all words, of [CLS] through
    the pooler two scores of the pair.

    dropout  all rates; None: those of `config`
    seed     of the initial values, truncated normal with a standard deviation of 0.02
    has_next  whether the loss has that of pairs; without, its parameters are `untrained`

    Parameters have the names of transformers' BertForPreTraining.
    """

    def __init__(
        self, config: BertConfig, dropout: float | None, backend: Backend, seed: int,
        has_next: bool = True,
    ) -> None:  # fmt: skip
        self.has_next = has_next
        team, H = backend.team, config.hidden
        rate = config.dropout if dropout is None else dropout
        attention = config.attention_dropout if dropout is None else dropout
        made: dict[str, Any] = {"eps": config.epsilon, "team": team}
        self.embeddings = BertEmbeddings(
            config.words, H, positions=config.positions, types=config.types, dropout=rate,
            seed=mixed_key(seed, 0), **made,
        )  # fmt: skip
        rng = np.random.default_rng(mixed_key(seed, 1))
        for table in self.embeddings.parameters().values():
            if table.ndim == 2:
                table[...] = truncated_normal(table.shape, rng)
        self.encoder = TransformerEncoder(
            config.layers, H, config.heads, config.intermediate, dropout=rate,
            attention_dropout=attention, activation=config.activation, seed=mixed_key(seed, 2),
            **made,
        )  # fmt: skip
        self.pooler = Pooler(H, seed=mixed_key(seed, 3), team=team)
        self.words = MaskedWordHead(
            self.embeddings.words, activation=config.activation, seed=mixed_key(seed, 4), **made
        )
        self.next = Dense(H, 2, init="truncated_normal", seed=mixed_key(seed, 5), team=team)
        layers = {
            f"{PREFIX}.{EMBEDDINGS}": self.embeddings,
            f"{PREFIX}.encoder": self.encoder,
            f"{PREFIX}.{_POOLER}": self.pooler,
            HEAD: self.words,
            NEXT: self.next,
        }
        super().__init__(layers, backend)

    @property
    def untrained(self) -> tuple[str, ...]:
        """Names of the parameters that no loss depends on: of the pooler and the scores of pairs,
        without `has_next`."""
        only_next = (f"{PREFIX}.{_POOLER}.", f"{NEXT}.")
        names = () if self.has_next else self.parameters.views
        return tuple(name for name in names if name.startswith(only_next))

    def load(self, checkpoint: Checkpoint) -> None:
        """Take the weights of a checkpoint, and those of its pooler and heads where it has them.

        Raises FormatError for an array of another shape, and for scores of words by other weights
        than the embeddings.
        """
        check_head(checkpoint)
        given: dict[str, npt.NDArray[Any]] = {
            f"{PREFIX}.{name}": array for name, array in checkpoint.weights.items()
        }
        others = dict(checkpoint.others)
        if f"{_SCORES}.bias" in others:
            others.setdefault(f"{HEAD}.bias", others[f"{_SCORES}.bias"])
        for name, array in others.items():
            given[f"{PREFIX}.{name}" if name.startswith(f"{_POOLER}.") else name] = array
        for name, view in self.parameters.views.items():
            if name in given:
                if given[name].shape != view.shape:
                    raise FormatError(
                        f"{checkpoint.path}: {name} is of shape {list(given[name].shape)}, "
                        f"expected {list(view.shape)}"
                    )
                view[...] = given[name]

    def learn(
        self, batch: MaskedBatch, key: int, words: int | None = None, pairs: int | None = None
    ) -> float:
        """The sum of the mean losses; adds to the gradients. A part of a batch is given the
        `words` and `pairs` of the whole one, over which its losses are means."""
        offsets, places = batch.offsets, batch.places
        of_words = len(batch.words) / (words or len(batch.words))
        of_pairs = len(batch) / (pairs or len(batch))
        x = self.embeddings.forward(batch.ids, offsets, batch.types, True, mixed_key(key, 0))
        rows = self.encoder.forward(x, offsets, True, mixed_key(key, 1))
        loss = float(self.words.loss(rows[places], batch.words, share=of_words))
        dy = np.zeros_like(rows)
        dy[places] = self.words.backward()
        if self.has_next:
            scores = self.next.forward(self.pooler.forward(rows[offsets[:-1]]))
            loss += of_pairs * softmax_cross_entropy(scores, batch.labels)  # its gradient, in place
            scores *= np.float32(of_pairs)
            dy[offsets[:-1]] += self.pooler.backward(self.next.backward(scores))
        self.embeddings.backward(self.encoder.backward(dy))
        return loss

    def rows(self, ids: Int32, types: Int32 | None, offsets: Int64) -> Float32:
        """The last layer's float32[N, H] of each token, in prediction."""
        with self.lock:
            x = self.embeddings.forward(ids, offsets, types, training=False)
            rows: Float32 = self.encoder.forward(x, offsets, training=False)
        return rows

    def measure(self, batch: MaskedBatch) -> Losses:
        """Losses and right predictions, in prediction."""
        rows = self.rows(batch.ids, batch.types, batch.offsets)
        loss, right = 0.0, 0
        step = max(1, _SCORES_AT_ONCE // self.embeddings.words.words)
        for start in range(0, len(batch.places), step):
            part = slice(start, start + step)
            scores, wanted = self.words.forward(rows[batch.places[part]]), batch.words[part]
            right += int(np.count_nonzero(scores.argmax(1) == wanted))
            loss += len(wanted) * softmax_cross_entropy(
                scores, wanted, team=self.backend.team, want_gradient=False
            )
        first = rows[batch.offsets[:-1]]
        scores = self.next.forward(self.pooler.forward(first, False), False)
        right_pairs = int(np.count_nonzero(scores.argmax(1) == batch.labels))
        next_loss = softmax_cross_entropy(scores, batch.labels, want_gradient=False)
        pairs = len(batch)
        return Losses(loss, len(batch.words), right, next_loss * pairs, pairs, right_pairs)


def check_head(checkpoint: Checkpoint) -> None:
    """Raise FormatError where words are scored by other weights than their embeddings."""
    weight = checkpoint.others.get(f"{_SCORES}.weight")
    words = checkpoint.weights[f"{EMBEDDINGS}.word_embeddings.weight"]
    if weight is not None and not np.array_equal(weight, words):
        raise FormatError(
            f"{checkpoint.path}: {_SCORES}.weight differs from the word embeddings: only tied "
            "weights are supported"
        )


def has_head(others: Mapping[str, Any]) -> bool:
    """Whether a checkpoint has the head for masked words."""
    return f"{HEAD}.transform.dense.weight" in others
