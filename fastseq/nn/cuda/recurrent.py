"""LSTM, GRU and RNN layers on the device; see nn/recurrent.py."""

from __future__ import annotations

from fastseq.nn import recurrent
from fastseq.nn.cuda.stack import DeviceRecurrent


class LSTM(DeviceRecurrent, recurrent.LSTM):
    """As nn.recurrent.LSTM."""


class GRU(DeviceRecurrent, recurrent.GRU):
    """As nn.recurrent.GRU."""


class RNN(DeviceRecurrent, recurrent.RNN):
    """As nn.recurrent.RNN."""
