"""Whether an NVIDIA GPU is available, and how much of its memory is free.

The only file here that can be imported where Numba's CUDA target is not installed.
"""

from __future__ import annotations

from importlib.util import find_spec

from numba import config

INSTALL = 'CUDA needs the package numba-cuda; pip install "fastseq[cuda]"'
_NO_GPU = "no usable NVIDIA GPU"


def simulated() -> bool:
    """Whether Numba's simulator replaces the GPU."""
    return bool(config.ENABLE_CUDASIM)  # type: ignore[attr-defined]


def available() -> str | None:
    """None where kernels can run, else one line about what is missing."""
    if not simulated() and find_spec("numba_cuda") is None:
        return INSTALL
    try:
        from fastseq.kernels.cuda.runtime.target import SIMULATED, cuda
    except ImportError as error:
        return f"{INSTALL} ({_line(error)})"
    if SIMULATED:
        return None
    try:
        if not cuda.is_available():
            return f"{_NO_GPU}: {_line(cuda.cuda_error() or 'the driver says no more')}"
        cuda.current_context()
    except Exception as error:  # whatever the driver's library raises, down to its loading
        return f"{_NO_GPU}: {_line(error)}"
    return None


def free_memory() -> int | None:
    """Free bytes of the device's memory; None in the simulator, which has no limit."""
    from fastseq.kernels.cuda.runtime.target import SIMULATED, cuda

    if SIMULATED:
        return None
    context = cuda.current_context()
    context.deallocations.clear()  # memory of deleted arrays that Numba has not freed yet
    return int(context.get_memory_info().free)


def _line(error: object) -> str:
    return " ".join(str(error).split()).rstrip(".:")
