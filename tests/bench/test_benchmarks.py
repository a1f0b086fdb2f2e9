"""Every benchmark runs in its small mode, and commands in documents have existing modules and
options."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from contextlib import redirect_stdout
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NAMES = sorted(path.stem for path in ROOT.glob("bench/*.py") if path.stem != "__init__")
COMMAND = re.compile(r"bench\.(\w+)((?: [^`\n|#]+)?)")


@pytest.mark.parametrize("name", NAMES)
def test_benchmark_runs_in_its_small_mode(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    status = import_module(f"bench.{name}").main(["--small"])
    out, err = capfd.readouterr()
    assert status == 0, out
    assert "written: " in err


def test_benchmark_runs_as_a_module() -> None:
    command = [sys.executable, "-m", "bench.features", "--small", "--ngrams", "1"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith("python -m bench.features --small --ngrams 1\n")


def test_no_module_shadows_a_package_of_others() -> None:
    names = {path.stem for path in ROOT.glob("bench/**/*.py")}
    assert not names & {"cuda", "torch", "gensim", "tantivy", "bm25s", "numba", "fasttext"}


@cache
def help_of(name: str) -> str:
    written = io.StringIO()
    with redirect_stdout(written), pytest.raises(SystemExit):
        import_module(f"bench.{name}").main(["--help"])
    return written.getvalue()


@pytest.mark.parametrize("file", ["bench/RESULTS.md", "Makefile"])
def test_commands_in_documents_exist(file: str) -> None:
    text = (ROOT / file).read_text("utf-8").replace("\\\n", " ")
    found = [match for match in COMMAND.findall(text) if match[0] not in ("common", "engines")]
    assert found
    for name, options in found:
        assert name in NAMES, name
        for flag in re.findall(r"--[a-z-]+", options):
            assert flag in help_of(name), (name, flag)
