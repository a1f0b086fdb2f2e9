"""Availability of the devices that a caller asks for."""

from __future__ import annotations

from fastseq.errors import DeviceError, SettingsError
from fastseq.kernels.cuda.runtime.availability import available, simulated

__all__ = ["DEVICES", "check_device", "cuda_problem", "require_cuda", "simulated"]

DEVICES = ("cpu", "cuda")


def check_device(device: object) -> None:
    """Raise SettingsError for an unknown device, DeviceError if CUDA is not available."""
    if not isinstance(device, str) or device not in DEVICES:
        raise SettingsError(f"device must be one of {', '.join(DEVICES)}, not {device!r}")
    if device == "cuda":
        require_cuda()


def cuda_problem() -> str | None:
    """Why CUDA is not available, in one line; None if it is. Numba's simulator
    (NUMBA_ENABLE_CUDASIM=1) counts as a GPU."""
    return available()


def require_cuda() -> None:
    """Raise DeviceError, with what is missing, if CUDA is not available."""
    problem = cuda_problem()
    if problem is not None:
        raise DeviceError(problem)
