"""LSTM, GRU and RNN layers.

    lstm = LSTM(64, 128, num_layers=2, bidirectional=True)
    y, (h, c) = lstm.forward(x, lengths)        # x float32[T, B, 64], y float32[T, B, 256]
    dx = lstm.backward(dy)                      # adds to lstm.gradients()

What they share, and what their parameters mean, is in nn/stack.py: `Recurrent`.
"""

from __future__ import annotations

import numpy as np

from fastseq.nn.cells import GRUCell, LSTMCell, RNNCell
from fastseq.nn.stack import Recurrent
from fastseq.settings import one_of, real
from fastseq.threads import Team

__all__ = ["GRU", "LSTM", "RNN", "Recurrent"]


class LSTM(Recurrent):
    """Long short-term memory (Hochreiter & Schmidhuber 1997; forget gates, Gers et al. 2000).

    A state is (h, c). Parameters and errors are those of `Recurrent`, and

    forget_bias : what the forget gate's bias starts from (Jozefowicz et al. 2015)
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bidirectional: bool = False,
        dropout: float = 0.0,
        weight_dropout: float = 0.0,
        seed: int = 0,
        threads: int | None = None,
        *,
        forget_bias: float = 1.0,
        input_init: str = "xavier_uniform",
        recurrent_init: str = "orthogonal",
        team: Team | None = None,
    ) -> None:
        self.forget_bias = real("forget_bias", forget_bias, np.isfinite, "a finite number")
        super().__init__(
            LSTMCell(), input_size, hidden_size, num_layers, bidirectional, dropout, weight_dropout,
            seed, threads, input_init, recurrent_init, team,
        )  # fmt: skip

    def initialise(self, rng: np.random.Generator) -> None:
        """As all, and the forget gate's bias."""
        super().initialise(rng)
        for name, value in self.values.items():
            if name.startswith("bias_ih"):
                value[self.hidden_size : 2 * self.hidden_size] = self.forget_bias


class GRU(Recurrent):
    """Gated recurrent unit (Cho et al. 2014), its reset gate after the product as in cuDNN.

    A state is h. Parameters and errors are those of `Recurrent`.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bidirectional: bool = False,
        dropout: float = 0.0,
        weight_dropout: float = 0.0,
        seed: int = 0,
        threads: int | None = None,
        *,
        input_init: str = "xavier_uniform",
        recurrent_init: str = "orthogonal",
        team: Team | None = None,
    ) -> None:
        super().__init__(
            GRUCell(), input_size, hidden_size, num_layers, bidirectional, dropout, weight_dropout,
            seed, threads, input_init, recurrent_init, team,
        )  # fmt: skip


class RNN(Recurrent):
    """Plain recurrence (Elman 1990).

    A state is h. Parameters and errors are those of `Recurrent`, and

    nonlinearity : "tanh" or "relu"
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bidirectional: bool = False,
        dropout: float = 0.0,
        weight_dropout: float = 0.0,
        seed: int = 0,
        threads: int | None = None,
        *,
        nonlinearity: str = "tanh",
        input_init: str = "xavier_uniform",
        recurrent_init: str = "orthogonal",
        team: Team | None = None,
    ) -> None:
        self.nonlinearity = one_of("nonlinearity", nonlinearity, ("tanh", "relu"))
        super().__init__(
            RNNCell(nonlinearity == "relu"), input_size, hidden_size, num_layers, bidirectional,
            dropout, weight_dropout, seed, threads, input_init, recurrent_init, team,
        )  # fmt: skip
