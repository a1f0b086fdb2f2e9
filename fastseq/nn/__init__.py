"""Layers, losses and optimisers of sequence models, over plain NumPy arrays.

lstm = fastseq.nn.LSTM(input_size=64, hidden_size=128, bidirectional=True)
y, (h, c) = lstm.forward(x, lengths)
dx = lstm.backward(dy)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastseq.nn.crf import CRF
    from fastseq.nn.initialisers import initialiser
    from fastseq.nn.layer import Parameters, joined
    from fastseq.nn.layers import Dense, Dropout, Embedding
    from fastseq.nn.losses import (
        ProjectedCrossEntropy,
        mean_squared_error,
        softmax,
        softmax_cross_entropy,
    )
    from fastseq.nn.optimisers import (
        SGD,
        Adagrad,
        Adam,
        AdamW,
        RMSprop,
        clip_norm,
        clip_value,
        optimiser,
    )
    from fastseq.nn.pooling import Pooling
    from fastseq.nn.recurrent import GRU, LSTM, RNN
    from fastseq.nn.schedules import schedule

_HOMES = {
    "Adagrad": "fastseq.nn.optimisers",
    "Adam": "fastseq.nn.optimisers",
    "AdamW": "fastseq.nn.optimisers",
    "CRF": "fastseq.nn.crf",
    "Dense": "fastseq.nn.layers",
    "Dropout": "fastseq.nn.layers",
    "Embedding": "fastseq.nn.layers",
    "GRU": "fastseq.nn.recurrent",
    "LSTM": "fastseq.nn.recurrent",
    "Parameters": "fastseq.nn.layer",
    "Pooling": "fastseq.nn.pooling",
    "ProjectedCrossEntropy": "fastseq.nn.losses",
    "RMSprop": "fastseq.nn.optimisers",
    "RNN": "fastseq.nn.recurrent",
    "SGD": "fastseq.nn.optimisers",
    "clip_norm": "fastseq.nn.optimisers",
    "clip_value": "fastseq.nn.optimisers",
    "initialiser": "fastseq.nn.initialisers",
    "joined": "fastseq.nn.layer",
    "mean_squared_error": "fastseq.nn.losses",
    "optimiser": "fastseq.nn.optimisers",
    "schedule": "fastseq.nn.schedules",
    "softmax": "fastseq.nn.losses",
    "softmax_cross_entropy": "fastseq.nn.losses",
}

__all__ = [
    "CRF",
    "GRU",
    "LSTM",
    "RNN",
    "SGD",
    "Adagrad",
    "Adam",
    "AdamW",
    "Dense",
    "Dropout",
    "Embedding",
    "Parameters",
    "Pooling",
    "ProjectedCrossEntropy",
    "RMSprop",
    "clip_norm",
    "clip_value",
    "initialiser",
    "joined",
    "mean_squared_error",
    "optimiser",
    "schedule",
    "softmax",
    "softmax_cross_entropy",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'fastseq.nn' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
