"""Whether what a caller asked to run on a GPU can run there."""

from __future__ import annotations

from fastseq.errors import DeviceError, SettingsError
from fastseq.kernels.cuda.runtime.availability import available, simulated

__all__ = ["DEVICES", "check_device", "cuda_problem", "require_cuda", "simulated"]

DEVICES = ("cpu", "cuda")


def check_device(device: object) -> None:
    """Raises SettingsError for a device that is none, DeviceError for CUDA where it cannot run."""
    if not isinstance(device, str) or device not in DEVICES:
        raise SettingsError(f"device must be one of {', '.join(DEVICES)}, not {device!r}")
    if device == "cuda":
        require_cuda()


def cuda_problem() -> str | None:
    """What CUDA lacks on this machine, in one line; None where it can be used.

    Numba's simulator (NUMBA_ENABLE_CUDASIM=1) counts as a GPU.
    """
    return available()


def require_cuda() -> None:
    """Raises DeviceError, which says what is missing, where CUDA cannot be used."""
    problem = cuda_problem()
    if problem is not None:
        raise DeviceError(problem)
