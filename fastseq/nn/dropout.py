"""Dropout: activations or weights set to zero at random while training."""

from __future__ import annotations

import numpy as np

from fastseq.kernels.nn.dropout import drop
from fastseq.nn.checks import kept_by_forward
from fastseq.nn.layer import Layer
from fastseq.settings import fraction
from fastseq.threads import Team
from fastseq.types import Float32

_LEAST = 1 << 18  # elements that are worth a thread
_64_BITS = (1 << 64) - 1


class Dropout(Layer):
    """Each element becomes 0 with probability `rate`, else x / (1 - rate), while training.

    Srivastava et al. 2014, in the inverted form: prediction is the identity. Which elements are
    dropped follows from `key` and their number alone (a hash), so it is the same on any number
    of threads and on any processor, and nothing but the key is kept for the backward pass.

    Parameters
    ----------
    rate : 0 <= rate < 1
        SettingsError otherwise.
    team : threads to share large arrays; the caller alone without one
    """

    def __init__(self, rate: float, team: Team | None = None) -> None:
        self.rate = fraction("rate", rate)
        self.team = team or Team(1)
        self._key: int | None = None
        super().__init__()

    def forward(
        self, x: Float32, training: bool = True, key: int = 0, out: Float32 | None = None
    ) -> Float32:
        """The output, of x's shape: written to `out` (which may be x) when given.

        x is contiguous float32. `key` must differ from step to step and layer to layer: see
        `mixed_key`. At rate 0 or without training this is x itself, not a copy.
        """
        if training:
            self._key = key
        if not training or not self.rate:
            return x
        out = np.empty_like(x) if out is None else out
        dropped(out, x, self.rate, key, self.team)
        return out

    def backward(self, dy: Float32, out: Float32 | None = None) -> Float32:
        """dx, of dy's shape: written to `out` (which may be dy) when given."""
        key = kept_by_forward(self._key)
        self._key = None
        if not self.rate:
            return dy
        out = np.empty_like(dy) if out is None else out
        dropped(out, dy, self.rate, key, self.team)
        return out


def dropped(out: Float32, x: Float32, rate: float, key: int, team: Team | None = None) -> None:
    """out = x / (1 - rate) where the key's mask keeps the element, else 0.

    out, x : contiguous float32 arrays of one shape, which may be the same array
    key : any whole number; its low 64 bits count
    """
    limit, scale = limit_and_scale(rate)
    number = np.uint64(key & _64_BITS)
    target, source = out.reshape(-1), x.reshape(-1)

    def part(i: int) -> None:
        drop(target, source, number, limit, scale, *ranges[i])

    team = team or Team(1)
    ranges = team.split(source.size, _LEAST, 16)
    team.run(part, len(ranges))


def dropout_mask(out: Float32, rate: float, key: int, team: Team | None = None) -> None:
    """out (contiguous float32, any shape) = 0 with probability `rate`, else 1 / (1 - rate).

    For dropout of a weight, which is drawn once and used at every step (Merity et al. 2018,
    Regularizing and Optimizing LSTM Language Models, section 2).
    """
    out.fill(1)
    dropped(out, out, fraction("rate", rate), key, team)


def limit_and_scale(rate: float) -> tuple[np.int32, np.float32]:
    """What the kernels know of a rate: the least hash that is kept, and 1 / (1 - rate)."""
    limit = np.int32(min(round(rate * 2**32), 2**32 - 1) - 2**31)
    return limit, np.float32(1 / (1 - rate))
