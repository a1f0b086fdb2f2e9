"""The parts of BERT before and after its transformer layers (Devlin et al. 2019).

Parameters have Hugging Face's names; the layers are meant for the prefixes "embeddings", "pooler"
and "cls.predictions".
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from fastseq.errors import DataError
from fastseq.kernels.nn.dropout import drop
from fastseq.kernels.nn.rows import gather_sums
from fastseq.nn.arrays import as_numbers, as_offsets, saved_by_forward
from fastseq.nn.layer import Composite
from fastseq.nn.layers import Dense, Embedding, Gelu, LayerNorm, limit_and_scale
from fastseq.nn.losses import ProjectedCrossEntropy
from fastseq.nn.transformer import by_rows
from fastseq.settings import fraction, whole
from fastseq.threads import Team, locked
from fastseq.types import Float32, Int32, Int64

_INIT = "truncated_normal"
_SCALE = 0.02  # standard deviation of initial embeddings


@dataclass
class _Saved:
    ids: Int32
    types: Int32
    places: Int32
    x: Float32  # the sums of the embeddings
    mean: Float32
    rstd: Float32
    key: int


class BertEmbeddings(Composite):
    """The sum of a token's word, type and position embeddings, normalised.

    Parameters "word_embeddings.weight" [words, H], "position_embeddings.weight" [positions, H],
    "token_type_embeddings.weight" [types, H], "LayerNorm.weight" and "LayerNorm.bias" [H].

    Parameters
    ----------
    words, positions, types : rows of the tables, 1 or more
    size : columns of the output (H)
    dropout : rate while training
    eps : of the norm
    seed : of the initial values; None leaves zeros
    team : threads that share a batch; only the caller's without one
    """

    _embedding_type: ClassVar[Any] = Embedding
    _norm_type: ClassVar[Any] = LayerNorm

    def __init__(
        self,
        words: int,
        size: int,
        *,
        positions: int = 512,
        types: int = 2,
        dropout: float = 0.1,
        eps: float = 1e-12,
        seed: int | None = 0,
        team: Team | None = None,
    ) -> None:
        self.size = whole("size", size, 1)
        self.dropout = fraction("dropout", dropout)
        self.team = team or Team(1)
        self._saved: _Saved | None = None
        made: dict[str, Any] = {"seed": None, "team": self.team, **self.of_parts()}
        table = partial(self._embedding_type, scale=_SCALE, **made)
        self.words: Embedding = table(words, self.size)
        self.positions: Embedding = table(positions, self.size)
        self.types: Embedding = table(types, self.size)
        self._norm: LayerNorm = self._norm_type(self.size, eps=eps, **made)
        self.parts = {
            "word_embeddings": self.words,
            "position_embeddings": self.positions,
            "token_type_embeddings": self.types,
            "LayerNorm": self._norm,
        }
        super().__init__(seed)

    def forward(
        self,
        ids: npt.ArrayLike,
        offsets: npt.ArrayLike,
        types: npt.ArrayLike | None = None,
        training: bool = True,
        key: int = 0,
    ) -> Any:
        """y float32[N, H] of token ids int32[N], sequence b being ids[offsets[b]:offsets[b + 1]].

        types  int32[N], all 0 when None
        key    determines what is dropped; a new one each step

        Raises DataError where an id, a type or the offsets do not fit, a sequence is empty, or one
        has more tokens than there are positions.
        """
        self.begin(training)
        numbers = as_numbers(ids, self.words.words, "the array of ids")
        N = len(numbers)
        bounds = as_offsets(offsets, N)
        lengths = np.diff(bounds)
        if lengths.max() > self.positions.words:
            raise DataError(
                f"sequence {int(lengths.argmax())} has {int(lengths.max())} tokens, expected at "
                f"most {self.positions.words}"
            )
        kinds: Int32 | None = None
        if types is not None:
            kinds = as_numbers(types, self.types.words, "the array of types")
            if len(kinds) != N:
                raise DataError(f"{len(kinds)} types were given for {N} ids")
        return self._embed(numbers, bounds, kinds, training, key)

    def prepare(self, ids: Int32, offsets: Int64, types: Int32 | None = None) -> None:
        """Send what passes over these tokens need to the device; on the CPU nothing."""

    def _embed(
        self, ids: Int32, offsets: Int64, types: Int32 | None, training: bool, key: int
    ) -> Any:
        """`forward` of checked arguments."""
        N, H = len(ids), self.size
        places = places_of(offsets)
        kinds = np.zeros(N, np.int32) if types is None else types
        y = self.output("y", N, H, reuse=training)
        x = np.empty((N, H), np.float32) if training else y
        mean, rstd = np.empty((2, N if training else 0), np.float32)
        flat = x.reshape(-1)
        word_table, type_table, position_table = (
            part.values["weight"].reshape(-1) for part in (self.words, self.types, self.positions)
        )

        def work(first: int, last: int) -> None:
            gather_sums(
                flat, word_table, type_table, position_table, ids, kinds, places, first, last
            )
            self._norm.normalise(y, mean, rstd, x, x[:0], first, last)
            if training and self.dropout:
                self._drop(y, y, key, first, last)

        by_rows(self.team, N, work)
        if training:
            self._saved = _Saved(ids, kinds, places, x, mean, rstd, key)
        return y

    def backward(self, dy: npt.ArrayLike) -> None:
        """Add the gradients of the parameters, for dy float32[N, H]."""
        saved = saved_by_forward(self._saved)
        self._saved = None
        given = self.rows(dy, self.size, "the gradient")
        if len(given) != len(saved.x):
            raise DataError(f"a gradient of {len(given)} rows, expected {len(saved.x)}")
        self._add_gradients(given, saved)

    def _add_gradients(self, given: Any, saved: _Saved) -> None:
        """`backward` of checked arguments."""
        normed = np.empty_like(given) if self.dropout else given
        dx = np.empty_like(given)

        def work(first: int, last: int) -> None:
            if self.dropout:
                self._drop(normed, given, saved.key, first, last)
            self._norm.normalise_back(dx, normed, saved.x, saved.mean, saved.rstd, first, last)

        by_rows(self.team, len(given), work)
        self._norm.add_gradients(normed, saved.x, saved.mean, saved.rstd)
        self.words.add_gradients(dx, saved.ids)
        self.types.add_gradients(dx, saved.types)
        self.positions.add_gradients(dx, saved.places)

    def _drop(self, out: Float32, x: Float32, key: int, first: int, last: int) -> None:
        drop(
            out.reshape(-1), x.reshape(-1), np.uint64(key), *limit_and_scale(self.dropout),
            first * self.size, last * self.size,
        )  # fmt: skip


def places_of(offsets: Int64) -> Int32:
    """int32[N]: each row's place in its sequence, offsets int64[B + 1]."""
    lengths = np.diff(offsets)
    found: Int32 = (np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths)).astype(np.int32)
    return found


class Pooler(Composite):
    """tanh(W x + b) of the first token's row ([CLS]) of each sequence.

    Parameters "dense.weight" [H, H] and "dense.bias" [H].
    """

    _dense_type: ClassVar[Any] = Dense

    def __init__(self, size: int, *, seed: int | None = 0, team: Team | None = None) -> None:
        made = self.of_parts()
        self._dense: Dense = self._dense_type(size, size, init=_INIT, seed=None, team=team, **made)
        self._y: Any = None
        self.parts = {"dense": self._dense}
        super().__init__(seed)

    def forward(self, x: npt.ArrayLike, training: bool = True) -> Any:
        """y float32[B, H] of the first rows x float32[B, H]."""
        self.begin(training)
        y = self._dense.forward(x, training)
        self._tanh(y)
        if training:
            self._y = y
        return y

    def backward(self, dy: npt.ArrayLike) -> Any:
        """dx float32[B, H] of dy float32[B, H]; adds the gradients of the parameters."""
        y = saved_by_forward(self._y)
        self._y = None
        given = self.rows(dy, y.shape[1], "the gradient")
        if len(given) != len(y):
            raise DataError(f"a gradient of {len(given)} rows, expected {len(y)}")
        return self._dense.backward(self._tanh_gradient(given, y))

    def _tanh(self, y: Any) -> None:
        np.tanh(y, out=y)

    def _tanh_gradient(self, dy: Any, y: Any) -> Any:
        return dy * (1 - y * y)


class MaskedWordHead(Composite):
    """Scores of all words for rows of masked tokens: LN(gelu(W x + b)) · wordsᵀ + bias.

    The word embeddings are the weights of the scores. Parameters "transform.dense.weight" [H, H],
    "transform.dense.bias" [H], "transform.LayerNorm.weight" and "transform.LayerNorm.bias" [H], and
    "bias" [words].

    Parameters
    ----------
    words : the embedding of the words
    activation : see Gelu
    eps : of the norm
    seed : of the initial values; None leaves zeros
    team : threads that share a batch; only the caller's without one
    """

    _dense_type: ClassVar[Any] = Dense
    _gelu_type: ClassVar[Any] = Gelu
    _norm_type: ClassVar[Any] = LayerNorm
    _loss_type: ClassVar[Any] = ProjectedCrossEntropy

    def __init__(
        self,
        words: Embedding,
        *,
        activation: str = "gelu",
        eps: float = 1e-12,
        seed: int | None = 0,
        team: Team | None = None,
    ) -> None:
        size = words.size
        of_all: dict[str, Any] = {"team": team, **self.of_parts()}
        made: dict[str, Any] = {"seed": None, **of_all}
        self._dense: Dense = self._dense_type(size, size, init=_INIT, **made)
        self._gelu: Gelu = self._gelu_type(activation, **of_all)
        self._norm: LayerNorm = self._norm_type(size, eps=eps, **made)
        self._scores: Dense = self._dense_type(size, words.words, weight_of=words, **made)
        self._loss: ProjectedCrossEntropy = self._loss_type()
        self.parts = {
            "transform.dense": self._dense,
            "transform.LayerNorm": self._norm,
            "": self._scores,
        }
        super().__init__(seed)

    def forward(self, x: npt.ArrayLike) -> Any:
        """Scores float32[M, words] of rows x float32[M, H], before a softmax."""
        return self._scores.forward(self._transform(x, training=False), training=False)

    @locked
    def loss(
        self, x: npt.ArrayLike, targets: npt.ArrayLike, training: bool = True, share: float = 1.0
    ) -> Any:
        """The mean cross-entropy of words int32[M] given rows x float32[M, H], M >= 1, times
        `share`, where they are a part of the rows of a mean.

        With `training` the gradients of the scores' parameters are added to at once, and the rest
        is kept for `backward`. A row whose target is negative is left out.
        """
        rows = self._transform(x, training)
        return self._loss.loss(rows, self._scores, targets, None, training, share)

    @locked
    def backward(self) -> Any:
        """dx float32[M, H], the gradient of the last loss with training=True."""
        return self._dense.backward(self._gelu.backward(self._norm.backward(self._loss.backward())))

    def _transform(self, x: npt.ArrayLike, training: bool) -> Any:
        self.begin(training)
        y = self._gelu.forward(self._dense.forward(x, training), training)
        return self._norm.forward(y, training)
