"""What the tests of the command line share: a way to run it, and small collections."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from fastseq_cli.main import cli

BILINGUAL = Path(__file__).resolve().parents[2] / "data" / "bilingual"


@dataclass(frozen=True)
class Ran:
    """What one command line did."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The one line on stderr, of a command that failed and said nothing else."""
        assert self.code != 0, self.out
        lines = self.err.splitlines()
        assert len(lines) == 1, self.err
        assert lines[0].startswith("Error: "), self.err
        return lines[0]


Run = Callable[..., Ran]


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
def write(tmp_path: Path) -> Callable[..., Path]:
    """`write("docs.parquet", id=[…], text=[…])` in the working folder."""

    def parquet(name: str, **columns: object) -> Path:
        pq.write_table(pa.table(columns), tmp_path / name)
        return tmp_path / name

    return parquet


# ---- small corpora that a model learns in a second, and models of them

GOOD, BAD = ("a good film", "a fine story , well told"), ("a dull film", "a bad story , badly told")
SMALL = ("--hidden", "16", "--embedding", "16", "--threads", "1", "--batch-size", "8")
REVIEWS: dict[str, list[Any]] = {
    "id": [f"r{n}" for n in range(80)],
    "text": [f"{(GOOD if n % 2 else BAD)[n // 2 % 2]} {n % 7}" for n in range(80)],
    "label": [n % 2 for n in range(80)],
}
NAMES = ("Ada", "Bo", "Cleo", "Dan")
SPOKEN: dict[str, list[Any]] = {
    "tokens": [[NAMES[n % 4], "sees", NAMES[n % 3], "in", "Rome"] for n in range(60)],
    "tags": [["B-PER", "O", "B-PER", "O", "B-LOC"]] * 60,
}
BOOK: dict[str, list[Any]] = {"text": ["the cat sat on the mat\n", "the dog sat on the log\n"] * 60}
WAVE: dict[str, list[Any]] = {"value": [math.sin(n / 3) for n in range(300)]}


@pytest.fixture(scope="session")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with reviews, spoken, book and wave: one corpus a task, all as .parquet."""
    folder = tmp_path_factory.mktemp("corpora")
    named = {"reviews": REVIEWS, "spoken": SPOKEN, "book": BOOK, "wave": WAVE}
    for name, columns in named.items():
        pq.write_table(pa.table(columns), folder / f"{name}.parquet")
    return folder


@pytest.fixture(scope="session")
def models(corpora: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model of each corpus, under its name."""
    folder = tmp_path_factory.mktemp("models")
    for name, words in {
        "reviews": (*SMALL, "--epochs", "6"),
        "spoken": (*SMALL, "--epochs", "6", "--bidirectional", "--crf"),
        "book": (*SMALL, "--task", "language", "--unit", "char", "--epochs", "6"),
        "wave": ("--task", "forecast", "--window", "8", "--horizon", "2", "--hidden", "16"),
    }.items():
        ran = run_cli("fit-lstm", corpora / f"{name}.parquet", "-o", folder / name, *words)
        assert ran.code == 0, ran.err
    return folder
