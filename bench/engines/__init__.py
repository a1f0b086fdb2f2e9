"""The search engines that are timed, each a module with the same few names.

`open_engine(corpus, column, folder)` builds a searchable index where `folder` has none and returns
an Engine. Each module is also a program, for bench.indexing and bench.living:

    python -m bench.engines.<name>_engine index CORPUS COLUMN FOLDER THREADS [OPTION…]
    python -m bench.engines.<name>_engine count FOLDER     documents and postings, as JSON

The first is the fastest way from Parquet to an index on disk that the engine's documentation and
source offer, which is not always the index that `open_engine` makes for searching. Modules of
engines that accept changes have further commands, the functions that they pass to `run_as_program`.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from bench.common.reference import Ranking
from bench.common.report import optional

# name: the package that it needs
ENGINES = {
    "fastseq": "fastseq",
    "bm25s": "bm25s",
    "tantivy": "tantivy",
    "pisa": "pyterrier_pisa",
}
PACKAGES = ("bm25s", "tantivy", "pyterrier-pisa")


class Way(NamedTuple):
    """One way to search: `run` is timed, `ranking` converts its answer and is not."""

    name: str
    run: Callable[[], Any]
    ranking: Callable[[Any], Ranking]


class Engine(Protocol):
    """exact: its scores are the reference's, to float32's precision. note: how it is used."""

    name: str
    exact: bool
    note: str

    def ways(self, queries: Sequence[str], k: int, threads: int) -> list[Way]:
        """The promising ways to answer all the queries from their raw strings."""


def installed(names: Sequence[str]) -> list[str]:
    """Those of the engines whose packages are installed; the others are named on stderr."""
    return [name for name in names if optional(ENGINES[name]) is not None]


def program(name: str) -> list[str]:
    """The command of an engine's program, to be run in the repository root."""
    return [sys.executable, "-m", f"{__name__}.{name}_engine"]


@contextlib.contextmanager
def fresh_folder(folder: Path) -> Iterator[None]:
    """An empty folder, removed when building the index in it fails or is interrupted."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Discard what compiled code writes to standard output and standard error."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = os.dup(1), os.dup(2)
    sink = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(sink, 1)
        os.dup2(sink, 2)
        yield
    finally:
        for number, saved in zip((1, 2), kept, strict=True):
            os.dup2(saved, number)
            os.close(saved)
        os.close(sink)


def run_as_program(
    index: Callable[..., None],
    count: Callable[[Path], dict[str, int]],
    **commands: Callable[..., None],
) -> None:
    """The commands above. Further ones have the arguments of `index`."""
    command, *words = sys.argv[1:]
    if command == "count":
        print(json.dumps(count(Path(words[0]))))
    else:
        corpus, column, folder, threads, *options = words
        run = {"index": index, **commands}[command]
        run(Path(corpus), column, Path(folder), int(threads), *options)
