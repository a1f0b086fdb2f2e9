"""The cache of compiled kernels: its folder, when it is invalidated, one compilation per kernel."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

import fastseq
from fastseq.kernels.core import compiling
from fastseq.kernels.core import jit as module

PACKAGE = Path(fastseq.__file__).resolve().parent
VARIABLES = ("FASTSEQ_CACHE_DIR", "NUMBA_CACHE_DIR", "XDG_CACHE_HOME")


# ---- which folder


def chosen(monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(module, "_cache_folder", None)
    return module.cache_folder()


@pytest.mark.parametrize("variable", VARIABLES[:2])
def test_named_cache_folder_comes_first(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str
) -> None:
    for name in VARIABLES[:2]:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, str(tmp_path / "new" / "cache"))
    folder = chosen(monkeypatch)
    assert folder.parent == tmp_path / "new" / "cache"
    assert module._stamp in folder.name
    assert folder.is_dir()


def test_fastseq_variable_precedes_numbas(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "numba"))
    monkeypatch.setenv("FASTSEQ_CACHE_DIR", str(tmp_path / "fastseq"))
    assert chosen(monkeypatch).parent == tmp_path / "fastseq"
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FASTSEQ_CACHE_DIR", str(tmp_path / "file"))
    assert chosen(monkeypatch).parent == tmp_path / "numba"


def test_default_cache_folder_is_in_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    candidates = list(module._candidates())
    assert candidates[0].is_relative_to(PACKAGE / "kernels" / "__pycache__")
    assert all(module._stamp in str(folder) for folder in candidates)


def test_only_outdated_kernels_of_the_package_are_removed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    named, room = tmp_path / "named", tmp_path / "room"
    for folder in (named / "kernels-precious", room / "__pycache__" / "kernels-old"):
        folder.mkdir(parents=True)
    monkeypatch.setattr(module, "HERE", room)
    monkeypatch.setenv("FASTSEQ_CACHE_DIR", str(named))
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    assert len(list(module._candidates())) == 3
    assert (named / "kernels-precious").is_dir()
    assert not (room / "__pycache__" / "kernels-old").exists()


def test_named_folder_works_without_a_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(module.Path, "home", homeless)
    monkeypatch.setenv("FASTSEQ_CACHE_DIR", str(tmp_path))
    assert chosen(monkeypatch).parent == tmp_path
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    assert all(module._stamp in str(folder) for folder in module._candidates())


def test_unwritable_folder_is_skipped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    below_a_file, good = tmp_path / "file" / "cache", tmp_path / "good"
    monkeypatch.setattr(module, "_candidates", lambda: [below_a_file, tmp_path / "file", good])
    assert chosen(monkeypatch) == good
    assert module.cache_folder() is module.cache_folder()
    assert (tmp_path / "file").read_text() == "mine"
    monkeypatch.setattr(module, "_candidates", lambda: [below_a_file])
    last = chosen(monkeypatch)  # no usable folder: a temporary one
    assert last.is_dir()
    assert last.parent == Path(tempfile.gettempdir())


def test_read_only_folder_is_skipped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Permissions do not bind root, so the system's refusal is played."""
    closed, good = tmp_path / "closed", tmp_path / "good"
    closed.mkdir()
    temporary = tempfile.TemporaryFile

    def refuse(*, dir: Path) -> object:
        if dir == closed:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(dir))
        return temporary(dir=dir)

    monkeypatch.setattr(module.tempfile, "TemporaryFile", refuse)
    monkeypatch.setattr(module, "_candidates", lambda: [closed, good])
    assert chosen(monkeypatch) == good


# ---- which kernels are still good


def test_any_edit_of_a_kernel_changes_the_stamp(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert module._stamp == f"{module._digest()}-{module.LANES}"
    copy = tmp_path / "kernels"
    shutil.copytree(PACKAGE / "kernels", copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(module, "HERE", copy)
    assert module._stamp.startswith(module._digest())  # wherever it is installed
    seen = {module._digest()}
    topk = copy / "core" / "topk.py"
    topk.write_bytes(topk.read_bytes() + b"\n")
    seen.add(module._digest())
    topk.rename(copy / "top.py")
    seen.add(module._digest())
    (copy / "new.py").write_text("")
    seen.add(module._digest())
    assert len(seen) == 4


ONE_KERNEL = """
import numpy as np
from fastseq.kernels.core import jit
from fastseq.kernels.text.ngrams import count_runs

compiled = []
jit.on_compile(lambda domain: compiled.append("compiled"))
for _ in range(2):
    counts, keys = np.empty(3, np.int64), np.array([3, 3, 5], np.uint64)
    assert count_runs(counts, keys) == 2
    assert counts[:2].tolist() == [2, 1]
print(*compiled, jit.cache_folder(), sep="\\n")
"""


def test_read_only_installation_uses_the_users_cache(tmp_path: Path) -> None:
    """The kernels go to the user's cache, are found there, and are compiled again after an edit."""
    copy = tmp_path / "site" / "fastseq"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "kernels" / "__pycache__").write_text("no folder, not even for root")
    environment = {k: v for k, v in os.environ.items() if k not in VARIABLES}
    environment |= {
        "PYTHONPATH": str(tmp_path / "site"),
        "HOME": str(tmp_path),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "LOCALAPPDATA": str(tmp_path / "cache"),
    }

    def run() -> list[str]:
        ran = subprocess.run(
            [sys.executable, "-B", "-c", ONE_KERNEL],
            capture_output=True,
            text=True,
            timeout=120,
            env=environment,
            cwd=tmp_path,
        )
        assert ran.returncode == 0, ran.stderr
        return ran.stdout.split("\n")[:-1]

    said, folder = run()
    assert said == "compiled"
    assert Path(folder).is_relative_to(tmp_path)
    assert not Path(folder).is_relative_to(copy)
    assert any("count_runs" in path.name for path in Path(folder).iterdir())
    assert run() == [folder]  # found: nothing is compiled
    with open(copy / "kernels" / "core" / "topk.py", "a", encoding="utf-8") as file:
        file.write("# an edit in another file\n")
    again, other = run()
    assert again == "compiled"
    assert other != folder
    for path in Path(other).glob("*.nbc"):  # a damaged kernel is as good as none
        path.write_bytes(path.read_bytes()[:100] + b"\0" * 50)
    assert run() == ["compiled", other]
    assert run() == [other]
    for path in Path(other).glob("*.nbi"):  # and so is a damaged list of them
        path.write_bytes(b"\x80garbage")
    assert run() == ["compiled", other]
    assert run() == [other]


EVERYTHING = """
import sys, tempfile
import pyarrow as pa
from fastseq import BM25, TFIDF, Analyzer, BoW, Index

analyzers = [
    Analyzer(), Analyzer(tokenizer="space", ngrams=(1, 2)), Analyzer(char_ngrams=(2, 3)),
    Analyzer(tokenizer="char"), Analyzer.for_language("english"),
]
texts = ["the cats purr", "a cat sat " * 300, None, "\\u732b\\u559c\\u6b22\\u5403\\u9c7c"]
tables = [pa.table({"id": ids, "text": texts}) for ids in ([*"abcd"], [1, 2, 3, 4])]
models = [BM25(), BM25(variant="bm25l"), TFIDF(), TFIDF("Lnn.atc"), BoW()]
for analyzer, table in zip(analyzers, tables * 3):
    with tempfile.TemporaryDirectory() as folder:
        Index.build(table, folder + "/built", analyzer=analyzer, threads=2, memory="16MB")
        for index in (Index.open(folder + "/built"), Index.open(folder + "/built")):
            for query in ("cat", ["cat", "sat"] * 40, {"cat": -1.0}, [{"cat": 1.0}, "cat"], []):
                for k in (1, 4, 9):
                    for model in models:
                        index.search(query, k=k, model=model, threads=2).ids
for name, module in sorted(sys.modules.items()):
    if name.startswith("fastseq.kernels."):
        for kernel in vars(module).values():
            own = type(getattr(kernel, "_cache", None)).__name__ == "_KernelCache"
            if getattr(kernel, "__module__", "") == name and own:
                print(name, kernel.__name__, len(kernel.signatures))
"""


def test_kernels_compile_for_one_array_layout() -> None:
    """Read-only or strided arrays are other types to Numba, and cost seconds each."""
    ran = subprocess.run(
        [sys.executable, "-c", EVERYTHING],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    assert ran.returncode == 0, ran.stderr
    counts = {
        line.rpartition(" ")[0]: int(line.rpartition(" ")[2])
        for line in ran.stdout.split("\n")[:-1]
    }
    # steps that only kernels call are compiled with each of them
    kernels = {name for name, count in counts.items() if count}
    searching = "fastseq.kernels.search"
    assert {f"{searching}.search search", f"{searching}.postings invert"} <= kernels
    assert {name: count for name, count in counts.items() if count > 1} == {}


# ---- how they are compiled


def test_division_by_zero_is_infinite_and_threads_may_run() -> None:
    @module.helper
    def divided(out, values, by):  # type: ignore[no-untyped-def]
        for i in range(len(out)):
            out[i] = values[i] / by[i]

    out = np.empty(3, np.float32)
    divided(out, np.array([1, -1, 0], np.float32), np.zeros(3, np.float32))
    assert out[:2].tolist() == [np.inf, -np.inf]
    assert np.isnan(out[2])
    assert compiling.OPTIONS["nogil"] is True
    assert not compiling.OPTIONS.get("parallel")
    assert not compiling.OPTIONS.get("fastmath")  # the same bits, vectorised or not
