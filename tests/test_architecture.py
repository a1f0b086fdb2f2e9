"""Holds the layout: who may import whom, read from the source with ast.

    cli -> search, models
    search -> index -> text, store -> kernels, types, settings, machine, threads, errors
    models -> training -> nn, text, store
    models -> vectors -> text, store
    cli -> features -> text, store

A package may use those below it, never one above or beside it.
"""

from __future__ import annotations

import ast
import re
import sys
import sysconfig
import tomllib
from functools import cache
from graphlib import TopologicalSorter
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# every package, and the packages it may import; a module at the top of fastseq counts as a package
BASE = {"types", "settings", "machine", "errors", "threads", "estimator", "interrupts", "seeds"}
BASE |= {"devices"}
ALLOWED = {
    "errors": set(),
    "types": set(),
    "threads": set(),
    "interrupts": set(),
    "seeds": set(),
    "estimator": {"errors", "settings"},
    "machine": {"errors"},
    "settings": {"errors", "machine"},
    "query": {"errors", "settings", "machine"},
    "kernels": set(),
    "devices": {"errors", "kernels"},
    "store": BASE | {"kernels"},
    "plotting": {"errors", "store", "training"},
    "text": BASE | {"kernels"},
    "features": BASE | {"kernels", "store", "text"},
    "index": BASE | {"kernels", "store", "text"},
    "search": BASE | {"kernels", "store", "text", "index", "query"},
    "nn": BASE | {"kernels"},
    "vectors": BASE | {"kernels", "store", "text", "plotting"},
    "training": BASE | {"kernels", "store", "nn"},
    "models": BASE | {"kernels", "store", "text", "nn", "plotting", "vectors", "training"},
    "samples": BASE | {"store"},
    "cli": BASE
    | {"kernels", "store", "text", "index", "query", "search", "samples", "features", "models"}
    | {"nn", "vectors", "training", "plotting", "fastseq"},
}

# third-party packages, and the packages that may import them
ONLY_IN = {
    "pyarrow": {"store"},
    "click": {"cli"},
    "rich": {"cli", "search"},
    "ir_measures": {"cli"},
    "safetensors": set(),  # the tests compare with it
    "matplotlib": {"vectors", "plotting"},
    "Stemmer": {"text"},
    "stop_words": {"text"},
    "rjieba": {"text"},
    "tokenizers": {"text"},
    "usearch": {"index"},
}
OURS = {"fastseq", "fastseq_cli", "cli"}
KERNEL_PACKAGES = {"numba", "numpy", "llvmlite", "cuda"}
# files that may import Numba's CUDA target, and NVIDIA's own packages
CUDA_TARGET = {"target"}
LONGEST = 800  # lines of a file


def sources() -> list[Path]:
    return sorted([*ROOT.glob("fastseq/**/*.py"), *ROOT.glob("cli/**/*.py")])


def name_of(path: Path) -> str:
    """The module's dotted name, `cli.search` for cli/search.py."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def package_of(module: str) -> str:
    """The package a dotted name of ours lies in; "fastseq" for the package itself."""
    parts = module.split(".")
    if parts[0] in ("cli", "fastseq_cli"):
        return "cli"
    return parts[1] if len(parts) > 1 else "fastseq"


def exists(module: str) -> bool:
    base = ROOT.joinpath(*module.split("."))
    return base.is_dir() or base.with_suffix(".py").is_file()


@cache
def imports_of(path: Path) -> frozenset[str]:
    """Every module that a file imports, wherever in it, as absolute dotted names.

    `from a import b` is a.b where that is a module, else a. Imports for type checkers alone count
    like all others where they are ours: a package's types may not come from above either.
    """
    source = path.read_text("utf-8")
    return frozenset(imports_in(source, name_of(path), path.name == "__init__.py"))


def imports_in(source: str, name: str, is_package: bool) -> set[str]:
    package = name if is_package else name.rpartition(".")[0]
    found = set()
    tree = ast.parse(source)
    for_types = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        before = set(found)
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, base] if base else above)
            for alias in node.names:
                deeper = f"{base}.{alias.name}"
                found.add(deeper if exists(deeper) or deeper == "numba.cuda" else base)
        elif (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name | ast.Attribute)
            and (node.func.id if isinstance(node.func, ast.Name) else node.func.attr)
            == "import_module"
            and node.args
            and isinstance(node.args[0], ast.Constant)
        ):
            found.add(str(node.args[0].value))
        if node in for_types:
            found = before | {module for module in found if module.split(".")[0] in OURS}
    return found


def broken_rules(path: Path) -> list[str]:
    """What a file imports that its package may not, one line each."""
    package = package_of(name_of(path))
    return [
        f"{path.relative_to(ROOT)}: {problem}"
        for module in sorted(imports_of(path))
        if (problem := problem_of(package, module))
    ]


def problem_of(package: str, module: str) -> str | None:
    top = module.partition(".")[0]
    if top in OURS:
        target = package_of(module)
        if target != package and package != "fastseq" and target not in ALLOWED[package]:
            return f"{package} may not import {module}"
        if package == "fastseq" and target == "cli":
            return f"the package may not import {module}"
        return None
    if top in ONLY_IN and package not in ONLY_IN[top]:
        return f"{top} is imported in {' and '.join(sorted(ONLY_IN[top]))} only, not in {package}"
    if package == "kernels" and top not in KERNEL_PACKAGES | set(sys.stdlib_module_names):
        return f"kernels import numba, numpy, llvmlite and each other, not {module}"
    return None


def test_every_package_is_in_the_table() -> None:
    packages = {package_of(name_of(path)) for path in sources()} - {"fastseq"}
    assert packages <= set(ALLOWED), f"not in ALLOWED: {packages - set(ALLOWED)}"


def test_the_table_has_no_cycle() -> None:
    below = {package: set(allowed) for package, allowed in ALLOWED.items()}
    while below:
        lowest = [package for package, allowed in below.items() if not allowed & set(below)]
        assert lowest, f"these import each other in a circle: {sorted(below)}"
        for package in lowest:
            del below[package]


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Imports for types and within functions included; packages list public names lazily."""
    modules = {name_of(path): path for path in sources() if path.name != "__init__.py"}
    graph = {name: imports_of(path) & modules.keys() - {name} for name, path in modules.items()}
    TopologicalSorter(graph).prepare()  # raises CycleError


def test_imports_run_downward_only() -> None:
    found = [problem for path in sources() for problem in broken_rules(path)]
    assert not found, "\n".join(found)


def test_commands_do_not_import_each_other() -> None:
    shared = {"encoders", "options", "output", "parameters", "progress"}
    for path in ROOT.glob("cli/*.py"):
        ours = {m.split(".")[1] for m in imports_of(path) if m.startswith("cli.")}
        assert ours <= shared, f"{path.name} imports {sorted(ours - shared)}"


def cuda_problems(name: str, modules: set[str]) -> list[str]:
    """What a file of that name imports of CUDA though it may not."""
    own = name.startswith("fastseq.kernels.cuda.")
    stem = name.rpartition(".")[2]
    return [
        module
        for module in sorted(modules)
        if (module.startswith(("numba.cuda", "numba_cuda")) and not (own and stem in CUDA_TARGET))
        or (module == "cuda.pathfinder" and not (own and stem == "gemm"))
        or (module.partition(".")[0] == "cuda" and module != "cuda.pathfinder")
    ]


def test_cuda_is_imported_only_where_declared() -> None:
    for path in sources():
        assert not cuda_problems(name_of(path), imports_of(path)), path


@pytest.mark.parametrize(
    "source",
    [
        "from numba import cuda",
        "import numba.cuda",
        "import numba.cuda as device",
        "from numba.cuda.cudadrv import driver",
        "def f():\n    from numba import cuda",
        'from importlib import import_module\nimport_module("numba.cuda.dispatcher")',
        "import importlib\ndef f():\n    importlib.import_module('numba_cuda')",
        "from cuda import pathfinder",
        "from cuda.bindings import driver",
        'import_module("cuda.core")',
    ],
)
def test_cuda_imports_are_detected(source: str) -> None:
    lstm = "fastseq.kernels.cuda.recurrent.lstm"
    for name in ("fastseq.search.cuda", lstm, "fastseq.nn.cuda.backend"):
        assert cuda_problems(name, imports_in(source, name, False)), (source, name)


def early_imports(source: str) -> list[str]:
    """Modules that are imported as soon as the file is: outside of functions."""
    found: list[str] = []
    waiting: list[ast.AST] = [ast.parse(source)]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            waiting += node.orelse
            continue
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found += [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
        waiting += ast.iter_child_nodes(node)
    return found


LAZY = ("fastseq.kernels.cuda", "fastseq.search.cuda", "fastseq.nn.cuda")


def early_cuda(source: str) -> list[str]:
    """What of CUDA is imported early, but for what may always be."""
    free = "fastseq.kernels.cuda.runtime.availability"
    return [m for m in early_imports(source) if m.startswith(LAZY) and not m.startswith(free)]


def test_package_without_cuda_never_imports_its_kernels() -> None:
    """Outside of their packages they are imported where they are used."""
    for path in sources():
        if not name_of(path).startswith(LAZY):
            assert not early_cuda(path.read_text("utf-8")), path


@pytest.mark.parametrize(
    ("source", "seen"),
    [
        ("import fastseq.kernels.cuda.runtime.memory", True),
        ("from fastseq.kernels import cuda", True),
        ("try:\n    from fastseq.nn.cuda import backend\nexcept ImportError:\n    pass", True),
        ("if TYPE_CHECKING:\n    from fastseq.search.cuda import GpuSearch", False),
        ("class A:\n    from fastseq.nn.cuda.backend import CudaBackend", True),
        ("def f():\n    from fastseq.nn.cuda.backend import CudaBackend", False),
        ("from fastseq.kernels.cuda.runtime.availability import available", False),
    ],
)
def test_early_imports_are_detected(source: str, seen: bool) -> None:
    assert bool(early_cuda(source)) == seen


def test_files_are_short() -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for path in [*sources(), *ROOT.glob("tests/**/*.py")]
        if (lines := len(path.read_text("utf-8").splitlines())) > LONGEST
    }
    assert not long, f"longer than {LONGEST} lines: {long}"


def test_naive_twins_import_nothing_of_fastseq() -> None:
    for path in ROOT.glob("tests/naive/*.py"):
        ours = [m for m in imports_of(path) if m.split(".")[0] in OURS]
        assert not ours, f"{path.name} imports {ours}"


def options_named(source: str) -> list[str]:
    """The strings of a file, docstrings aside, that name an option of the command line."""
    tree = ast.parse(source)
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    return [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and id(node) not in docstrings
        and re.search(r"(?<![\w-])--[a-z]", node.value)
    ]


def test_messages_of_the_library_name_no_option() -> None:
    paths = ROOT.glob("fastseq/**/*.py")
    found = {str(path): options_named(path.read_text("utf-8")) for path in paths}
    assert not {path: named for path, named in found.items() if named}


def test_options_in_messages_are_detected() -> None:
    source = 'def f():\n    "Docstring of --memory."\n    raise OSError(f"{1}: give --overwrite")'
    assert options_named(source) == [": give --overwrite"]


def test_nothing_is_pickled() -> None:
    for path in sources():
        tops = {module.partition(".")[0] for module in imports_of(path)}
        assert not tops & {"pickle", "shelve", "marshal", "joblib"}, path


def test_the_command_line_is_installed_under_its_own_name() -> None:
    mapped = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]
    assert mapped["package-dir"]["fastseq_cli"] == "cli"
    assert "cli" not in mapped["packages"]
    # what the installation put into site-packages (RECORD), not the checkout's own metadata
    site = Path(sysconfig.get_paths()["purelib"])
    installed = [
        file.parts[0]
        for found in metadata.distributions(name="fastseq", path=[str(site)])
        for file in found.files or []
    ]
    assert installed, f"fastseq is not installed in {site}"
    assert not {"cli", "cli.py"} & set(installed)


def test_every_package_is_listed() -> None:
    """A package that pyproject.toml forgets is missing from the wheel, and from nothing else."""
    mapped = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]
    packages = {name_of(path) for path in ROOT.glob("fastseq/**/__init__.py")} | {"fastseq_cli"}
    assert set(mapped["packages"]) == packages


@pytest.mark.parametrize(
    ("package", "module", "said"),
    [
        ("kernels", "fastseq.types", "kernels may not import"),
        ("kernels", "scipy.sparse", "kernels import numba"),
        ("text", "fastseq.store.runs", "text may not import"),
        ("store", "fastseq.text.analyzer", "store may not import"),
        ("index", "fastseq.search.index", "index may not import"),
        ("search", "fastseq_cli.main", "search may not import"),
        ("search", "pyarrow.parquet", "imported in store only"),
        ("cli", "pyarrow", "imported in store only"),
        ("index", "rich.table", "imported in cli and search only"),
        ("search", "fastseq", "search may not import"),
    ],
)
def test_wrong_imports_are_detected(package: str, module: str, said: str) -> None:
    assert said in (problem_of(package, module) or "")


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import fastseq.store.files", {"fastseq.store.files"}),
        ("from fastseq import errors", {"fastseq.errors"}),
        ("from fastseq.errors import DataError", {"fastseq.errors"}),
        ("from . import jit", {"fastseq.kernels.core.jit"}),
        ("from .jit import inline", {"fastseq.kernels.core.jit"}),
        ("from ...errors import DataError", {"fastseq.errors"}),
        ("def f():\n    if x:\n        import pyarrow as pa", {"pyarrow"}),
        ("importlib.import_module('rich.table')", {"rich.table"}),
        ("if TYPE_CHECKING:\n    import pyarrow as pa", set()),
        ("if TYPE_CHECKING:\n    from fastseq.search.index import Hits", {"fastseq.search.index"}),
    ],
)
def test_every_form_of_import_is_read(source: str, expected: set[str]) -> None:
    assert imports_in(source, "fastseq.kernels.core.some", is_package=False) == expected
