"""The one place that sets Numba's options, and where compiled code is cached.

`jit` decorates every kernel. Its cache differs from Numba's own in two ways: an entry is valid only
while *every* file of the package is unchanged (Numba looks at the decorated function's file alone
and misses an edit in a helper it calls), and it is in the first writable folder of
$FASTSEQ_CACHE_DIR, $NUMBA_CACHE_DIR, the package's __pycache__ and the user's cache folder; failing
all, in a temporary one of this process. Numba's global configuration is not changed.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from numba.core import caching

from fastseq.kernels.core import compiling
from fastseq.kernels.core.width import LANES, PORTABLE

HERE = Path(__file__).resolve().parents[1]  # fastseq/kernels

Kernel = TypeVar("Kernel", bound=Callable[..., Any])

_on_compile: Callable[[str], None] | None = None
_announced: set[str] = set()


def on_compile(callback: Callable[[str], None] | None) -> None:
    """Call `callback(domain)` when the first kernel of a domain ("text", "nn", …) is in no cache
    and must be compiled: once for each domain."""
    global _on_compile
    _on_compile = callback
    _announced.clear()


def jit(function: Kernel, name: str | None = None) -> Kernel:
    """Compile `function` when first called: no GIL, no bounds checks, cached on disk.

    Division by zero gives infinity, not an exception: the check would keep loops scalar.
    A factory names each kernel that it makes, since they share a line: the cache is keyed by both.
    """
    if name is not None:
        function.__name__ = function.__qualname__ = name
    kernel = compiling.kernel(function)
    kernel._cache = _KernelCache(function)
    return kernel  # type: ignore[no-any-return]


def inline(function: Kernel) -> Kernel:
    """A formula or step that only kernels call, always inlined into its caller."""
    return compiling.helper(function, forceinline=True)  # type: ignore[no-any-return]


def helper(function: Kernel) -> Kernel:
    """A step that only kernels call, inlined only where LLVM chooses to (not rare or long ones)."""
    return compiling.helper(function)  # type: ignore[no-any-return]


def optimised_helper(function: Kernel) -> Kernel:
    """A helper that is optimised before its callers are: for long loops in several kernels.

    A batch search at k = 10 takes 0.92 times as long with it as with `helper`.
    """
    return compiling.helper(function, optimised=True)  # type: ignore[no-any-return]


def shared(function: Kernel) -> Kernel:
    """A function that kernels call through its symbol: compiled and cached once, never inlined.

    Its body must be LLVM code of an intrinsic, which is not optimised further.
    """
    kernel = compiling.shared(function)
    kernel._cache = _KernelCache(function)
    return kernel  # type: ignore[no-any-return]


def cache_folder() -> Path:
    """The folder that holds the compiled kernels: the first candidate that is usable."""
    global _cache_folder
    if _cache_folder is None:
        found = next(filter(_usable, _candidates()), None)
        # no usable folder: compile in every process
        _cache_folder = found or Path(tempfile.mkdtemp(prefix="fastseq-"))
    return _cache_folder


_cache_folder: Path | None = None


def _candidates() -> Iterator[Path]:
    """Folders for compiled kernels, best first.

    Never two versions of the kernels in one folder: a compiled kernel names Python types of its
    version, and loading it with another version fails.
    """
    for name in ("FASTSEQ_CACHE_DIR", "NUMBA_CACHE_DIR"):
        if os.environ.get(name):
            yield Path(os.environ[name]) / f"fastseq-{_stamp}"
    ours = HERE / "__pycache__"
    if not (ours / f"kernels-{_stamp}").is_dir():
        for old in ours.glob("kernels-*"):
            if not old.name.startswith(f"kernels-{_digest()}"):
                shutil.rmtree(old, ignore_errors=True)
    yield ours / f"kernels-{_stamp}"
    with suppress(RuntimeError):  # no home directory
        if sys.platform == "win32":
            user = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData/Local")
        elif sys.platform == "darwin":
            user = Path.home() / "Library/Caches"
        else:
            user = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        yield user / "fastseq" / _stamp


def _usable(folder: Path) -> bool:
    """Whether the folder can be written, and by nobody else: its content is executed."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            status = folder.stat()
    except OSError:
        return False
    return not hasattr(os, "getuid") or (
        status.st_uid == os.getuid() and not status.st_mode & stat.S_IWOTH
    )


def _digest() -> str:
    """A digest of all source files of the package."""
    paths: list[str] = []
    for folder, folders, names in os.walk(HERE):  # pathlib takes 3 ms more of every process
        folders[:] = [name for name in folders if name != "__pycache__"]
        paths += [os.path.join(folder, name) for name in names if name.endswith(".py")]
    seen = hashlib.sha256()
    for path in sorted(paths):
        with open(path, "rb") as file:
            content = file.read()
        seen.update(os.path.relpath(path, HERE).replace(os.sep, "/").encode() + b"\0" + content)
    return seen.hexdigest()[:16]


# what is forced by $FASTSEQ_LANES and $FASTSEQ_WORDS has folders of its own
_stamp = f"{_digest()}-{LANES}{'-portable' if PORTABLE else ''}"


def _defer_scipy_linalg() -> None:
    """Let Numba load its array functions, for compiling, without importing scipy.linalg at once.

    It does so only to learn whether it may offer np.dot, which costs 0.17 s. With SciPy installed
    it may; compiling np.dot still runs the real check.
    """
    if "numba.np.arraymath" in sys.modules:
        return
    from numba.np import linalg

    check = getattr(linalg, "ensure_blas", None)
    if check is None or importlib.util.find_spec("scipy") is None:
        return
    linalg.ensure_blas = lambda: None  # type: ignore[attr-defined]
    try:
        arraymath = importlib.import_module("numba.np.arraymath")
    finally:
        linalg.ensure_blas = check  # type: ignore[attr-defined]
    if hasattr(arraymath, "ensure_blas"):
        arraymath.ensure_blas = check  # type: ignore[attr-defined]


class _Locator(caching._CacheLocator):  # type: ignore[misc]
    def __init__(self, function: Callable[..., Any]) -> None:
        self._line = function.__code__.co_firstlineno

    def get_cache_path(self) -> str:
        return str(cache_folder())

    def get_source_stamp(self) -> str:
        return _stamp

    def get_disambiguator(self) -> str:
        return str(self._line)

    def ensure_cache_path(self) -> None:
        cache_folder()

    @classmethod
    def from_function(cls, function: Callable[..., Any], path: str) -> _Locator:
        return cls(function)


class _Impl(caching.CompileResultCacheImpl):  # type: ignore[misc]
    _locator_classes = [_Locator]  # type: ignore[list-item]  # noqa: RUF012


class _KernelCache(caching.FunctionCache):  # type: ignore[misc]
    _impl_class = _Impl

    def _index_key(self, sig: Any, codegen: Any) -> Any:
        """Numba's key, but for the closure of a factory's kernel: functions in it have no stable
        hash, and the name tells the instances apart."""
        if "<locals>" in self._py_func.__qualname__:
            return super()._index_key(sig, codegen)
        return sig, codegen.magic_tuple()

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Numba's method would load everything that compiling needs, for 0.1 s of every process."""
        try:
            loaded = self._load_overload(sig, target_context)
        except Exception:  # a damaged file can raise any exception: compile again
            loaded = None
        if loaded is None:
            _defer_scipy_linalg()
            target_context.refresh()
        module = self._py_func.__module__
        domain = module.split(".")[2] if module.startswith("fastseq.kernels.") else module
        if loaded is None and _on_compile is not None and domain not in _announced:
            _announced.add(domain)
            _on_compile(domain)
        return loaded

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            super().save_overload(sig, data)
        except Exception:
            # a damaged index file: start a new one; a full disk: do not cache
            with suppress(Exception):
                self.flush()
                super().save_overload(sig, data)
