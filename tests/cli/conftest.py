"""Running a command in the test process, and small corpora and models."""

from __future__ import annotations

import json
import math
import sys
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from fastseq_cli.main import cli

from fastseq import samples

SCRIPT = Path(sys.executable).with_name("fastseq")
BILINGUAL = Path(__file__).resolve().parents[2] / "data" / "bilingual"


@dataclass(frozen=True)
class Ran:
    """The result of a command line."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The error of a command that failed, its only line on stderr except for compilations."""
        assert self.code != 0, self.out
        lines = [line for line in self.err.splitlines() if not line.startswith("Compiling ")]
        assert len(lines) == 1, self.err
        assert lines[0].startswith("Error: "), self.err
        return lines[0]

    @property
    def pairs(self) -> dict[str, str]:
        """The summary of a command that succeeded, by name."""
        assert self.code == 0, self.err
        lines = (line.split("  ", 1) for line in self.out.splitlines())
        return {name: value.strip() for name, value in lines}

    @property
    def json(self) -> Any:
        """The JSON of a command that succeeded."""
        assert self.code == 0, self.err
        return json.loads(self.out)


Run = Callable[..., Ran]
Write = Callable[..., Path]


def run_cli(*words: object, stdin: str | bytes | None = None) -> Ran:
    """Run `fastseq words…` in this process."""
    try:
        runner = CliRunner(mix_stderr=False)  # click 8.1
    except TypeError:
        runner = CliRunner()
    ran = runner.invoke(cli, [str(word) for word in words], input=stdin, prog_name="fastseq")
    if ran.exception is not None and not isinstance(ran.exception, SystemExit):
        raise ran.exception
    return Ran(ran.exit_code, ran.stdout, ran.stderr)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """`run("search", "cat")` in an empty working folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FASTSEQ_INDEX", raising=False)
    monkeypatch.delenv("FASTSEQ_MODEL", raising=False)
    return run_cli


@pytest.fixture(scope="session")
def bilingual(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of data/bilingual, its titles and texts."""
    index = tmp_path_factory.mktemp("bilingual") / "index"
    columns = ("--text-column", "title", "--text-column", "text")
    ran = run_cli("index", BILINGUAL / "docs.parquet", "-o", index, *columns)
    assert ran.code == 0, ran.err
    return index


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """`write("docs.parquet", id=[…], text=[…])` in the working folder."""

    def parquet(name: str, **columns: object) -> Path:
        pq.write_table(pa.table(columns), tmp_path / name)
        return tmp_path / name

    return parquet


@pytest.fixture
def small_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sample corpora of one package of the standard library; tests/test_samples.py has all."""
    paths = (Path(sysconfig.get_paths()["stdlib"]) / "email").glob("[a-z]*.py")
    modules = {f"email.{path.stem}": path for path in sorted(paths)}
    monkeypatch.setattr(samples, "library_modules", lambda: modules)


# ---- small corpora that a model learns in a second, and models of them


def two_topics() -> list[str]:
    """Sentences about fruit and about water, in turns."""
    words = "apple pear plum cherry", "river lake sea ocean"
    rng = np.random.default_rng(0)
    return [" ".join(rng.choice(words[i % 2].split(), 8).tolist()) for i in range(300)]


SMALL = ("--hidden", "16", "--threads", "1", "--batch-size", "8", "--learning-rate", "0.02")
SMALL_TEXT = (*SMALL, "--embedding", "16")


@pytest.fixture(scope="session")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small corpus for each task: reviews, spoken, book and wave .parquet."""
    good, bad = ("a good film", "a fine story , well told"), ("a dull film", "a bad story , told")
    names = ("Ada", "Bo", "Cleo", "Dan")
    rows = range(80)
    named: dict[str, dict[str, list[Any]]] = {
        "reviews": {
            "id": [f"r{n}" for n in rows],
            "text": [f"{(good if n % 2 else bad)[n // 2 % 2]} {n % 7}" for n in rows],
            "label": [n % 2 for n in rows],
        },
        "spoken": {
            "tokens": [[names[n % 4], "sees", names[n % 3], "in", "Rome"] for n in rows],
            "tags": [["B-PER", "O", "B-PER", "O", "B-LOC"]] * len(rows),
        },
        "book": {"text": ["the cat sat on the mat\n", "the dog sat on the log\n"] * 40},
        "wave": {"value": [math.sin(n / 3) for n in range(300)]},
    }
    folder = tmp_path_factory.mktemp("corpora")
    for name, columns in named.items():
        pq.write_table(pa.table(columns), folder / f"{name}.parquet")
    return folder


@pytest.fixture(scope="session")
def models(corpora: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model of each corpus, under its name."""
    folder = tmp_path_factory.mktemp("models")
    for name, words in {
        "reviews": (*SMALL_TEXT, "--epochs", "6"),
        "spoken": (*SMALL_TEXT, "--epochs", "4", "--bidirectional", "--crf"),
        "book": (*SMALL_TEXT, "--task", "language", "--unit", "char", "--bptt", "20"),
        "wave": (*SMALL, "--task", "forecast", "--window", "8", "--horizon", "2", "--epochs", "8"),
    }.items():
        ran = run_cli("fit-lstm", corpora / f"{name}.parquet", "-o", folder / name, *words)
        assert ran.code == 0, ran.err
    return folder
