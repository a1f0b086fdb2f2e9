"""The engines that are timed, each behind the same few names.

An engine's module has `open_engine(corpus, column, folder)`, which builds a searchable index where
`folder` has none and returns an Engine. Each is also a program, for bench/indexing.py:

    python bench/engines/<name>_engine.py index CORPUS COLUMN FOLDER THREADS
    python bench/engines/<name>_engine.py count FOLDER        documents and postings, as JSON

The first is the quickest way the engine's documentation and source offer from Parquet to an index
on disk, which is not always the index that `open_engine` makes for searching.
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

import numpy as np

BENCH = Path(__file__).resolve().parent.parent


class Ranking(NamedTuple):
    """rows int32[Q, k], -1 past the last hit; scores float32[Q, k], 0 past the last hit."""

    rows: np.ndarray
    scores: np.ndarray


class Way(NamedTuple):
    """One way to search: `run` is timed, `ranking` turns its answer into a Ranking and is not."""

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


@contextlib.contextmanager
def fresh_folder(folder: Path) -> Iterator[None]:
    """An empty folder that is taken away again when building it fails or is stopped."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Drop what compiled code writes to standard output and standard error meanwhile."""
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
    index: Callable[[Path, str, Path, int], None], count: Callable[[Path], dict[str, int]]
) -> None:
    """The two commands above."""
    if sys.argv[1] == "index":
        corpus, column, folder, threads = sys.argv[2:]
        index(Path(corpus), column, Path(folder), int(threads))
    else:
        print(json.dumps(count(Path(sys.argv[2]))))
