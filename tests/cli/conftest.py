"""What the tests of the command line share: a way to run it, and small collections."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

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
