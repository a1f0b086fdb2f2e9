"""Layers, losses and optimisers of sequence models, over plain NumPy arrays.

lstm = fastseq.nn.LSTM(input_size=64, hidden_size=128, bidirectional=True)
y, (h, c) = lstm.forward(x, lengths)
dx = lstm.backward(dy)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastseq.nn.recurrent import GRU, LSTM, RNN

_HOMES = {
    "GRU": "fastseq.nn.recurrent",
    "LSTM": "fastseq.nn.recurrent",
    "RNN": "fastseq.nn.recurrent",
}

__all__ = ["GRU", "LSTM", "RNN"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'fastseq.nn' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
