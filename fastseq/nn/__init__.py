"""Layers, losses and optimisers of sequence models, over plain NumPy arrays.

lstm = fastseq.nn.LSTM(input_size=64, hidden_size=128, bidirectional=True)
y, (h, c) = lstm.forward(x, lengths)
dx = lstm.backward(dy)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastseq.nn.bert import BertEmbeddings, MaskedWordHead, Pooler
    from fastseq.nn.crf import CRF
    from fastseq.nn.initialisers import initialiser
    from fastseq.nn.layer import Parameters, joined
    from fastseq.nn.layers import Dense, Dropout, Embedding, Gelu, LayerNorm
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
    from fastseq.nn.transformer import SelfAttention, TransformerEncoder, TransformerLayer

_MODULES = {
    "bert": ("BertEmbeddings", "MaskedWordHead", "Pooler"),
    "crf": ("CRF",),
    "initialisers": ("initialiser",),
    "layer": ("Parameters", "joined"),
    "layers": ("Dense", "Dropout", "Embedding", "Gelu", "LayerNorm"),
    "losses": ("ProjectedCrossEntropy", "mean_squared_error", "softmax", "softmax_cross_entropy"),
    "optimisers": (
        *("Adagrad", "Adam", "AdamW", "RMSprop", "SGD"),
        *("optimiser", "clip_norm", "clip_value"),
    ),
    "pooling": ("Pooling",),
    "recurrent": ("GRU", "LSTM", "RNN"),
    "schedules": ("schedule",),
    "transformer": ("SelfAttention", "TransformerEncoder", "TransformerLayer"),
}
_HOMES = {name: f"fastseq.nn.{module}" for module, names in _MODULES.items() for name in names}

__all__ = [
    "CRF",
    "GRU",
    "LSTM",
    "RNN",
    "SGD",
    "Adagrad",
    "Adam",
    "AdamW",
    "BertEmbeddings",
    "Dense",
    "Dropout",
    "Embedding",
    "Gelu",
    "LayerNorm",
    "MaskedWordHead",
    "Parameters",
    "Pooler",
    "Pooling",
    "ProjectedCrossEntropy",
    "RMSprop",
    "SelfAttention",
    "TransformerEncoder",
    "TransformerLayer",
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
