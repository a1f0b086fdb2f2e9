"""Choosing the device that a network computes on."""

from __future__ import annotations

from fastseq.devices import cuda_problem, require_cuda, simulated
from fastseq.errors import SettingsError
from fastseq.nn.backend import Backend
from fastseq.threads import Team

DEVICES = ("auto", "cpu", "cuda")
PRECISIONS = ("float32", "tf32", "bfloat16")


def check_place(device: str, precision: str) -> None:
    """Raise DeviceError where the device is missing, SettingsError where it does not support the
    precision. They are among DEVICES and PRECISIONS."""
    if device == "cuda":
        require_cuda()
    if precision != "float32" and _device(device) == "cpu":
        raise SettingsError(f"precision {precision} is for the device cuda; expected float32")


def backend_for(device: str, team: Team, precision: str = "float32") -> Backend:
    """The backend of a device that `check_place` accepted; "auto" is a GPU where available."""
    if _device(device) == "cpu":
        return Backend(team)
    from fastseq.nn.cuda.backend import CudaBackend

    return CudaBackend(team, precision)


def _device(device: str) -> str:
    if device == "auto":
        return "cpu" if simulated() or cuda_problem() is not None else "cuda"
    return device
