"""Processor, available cores and versions of this machine."""

from __future__ import annotations

import os
import platform
import sys
from importlib import metadata
from pathlib import Path

PACKAGES = ("fastseq", "numba", "llvmlite", "numpy", "pyarrow", "scipy", "PyStemmer")


def core_count() -> int:
    """Logical cores that this process may run on, by its affinity."""
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return os.cpu_count() or 1


def cpu_name() -> str:
    """The processor's name, such as "AMD EPYC 9V74 80-Core Processor"."""
    try:
        for line in Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines():
            if line.lower().startswith(("model name", "hardware")):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    name = {"win32": _windows_cpu, "darwin": _mac_cpu}.get(sys.platform, str)()
    return name or platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """Versions of Python and of the main packages; "-" for one that is not installed."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name.lower()] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name.lower()] = "-"
    return found


def describe() -> dict[str, object]:
    """Processor, cores, system and versions, as JSON."""
    return {
        "cpu": cpu_name(),
        "cores": core_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "versions": versions(),
    }


def _windows_cpu() -> str:
    if sys.platform != "win32":
        return ""
    import winreg

    path = r"HARDWARE\DESCRIPTION\System\CentralProcessor\0"
    try:
        with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, path) as key:
            return str(winreg.QueryValueEx(key, "ProcessorNameString")[0]).strip()
    except OSError:
        return ""


def _mac_cpu() -> str:
    import subprocess

    try:
        found = subprocess.run(
            ["sysctl", "-n", "machdep.cpu.brand_string"], capture_output=True, text=True, timeout=5
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return found.stdout.strip()
