"""The lists of terms in all segments: what they hold, and searches while they change."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from fastseq import Analyzer, Index
from fastseq.kernels.core.jit import jit
from fastseq.kernels.search import search as kernels
from fastseq.kernels.search.impacts import Impacts
from fastseq.kernels.search.postings import Postings
from fastseq.kernels.search.segments import (
    FIRST_RUN,
    LAST_RUN,
    LIST_COLUMNS,
    POSTING,
    RUN,
    fill_lists,
    first_run,
    ranked_part,
)
from fastseq.search import scorer, searcher
from tests.naive.commits import combine


@jit
def _first_run(packed):  # type: ignore[no-untyped-def]
    return first_run(packed)


@jit
def _ranked_part(own, k):  # type: ignore[no-untyped-def]
    return ranked_part(own, k)


@pytest.mark.parametrize("window", [0, 1, 32767, 32768, 65535])
@pytest.mark.parametrize("count", [1, 2, 32768, 32769, 65536])
@pytest.mark.parametrize("best", [0.0, 1e-38, 0.7, 3e38])
def test_lists_have_what_is_read_first(window: int, count: int, best: float) -> None:
    postings = Postings(
        docs=np.zeros(count + 3, np.uint16), tfs=np.ones(count + 3, np.uint8),
        term_posting=np.array([0, 3, 3, count + 3]), term_run=np.array([0, 1, 1, 2]),
        run_window=np.array([0, window], np.uint16),
        run_count=np.array([2, count - 1], np.uint16),
        large_at=np.empty(0, np.int64), large_tf=np.empty(0, np.int32),
    )  # fmt: skip
    lists = np.zeros((5, 2, LIST_COLUMNS), np.int64)
    impacts = Impacts(
        best=np.array([0.5, np.nan, best], np.float32), parts=np.empty(0, np.float32),
        block=np.empty(0, np.float32), ranked=np.array([[9] * 3, [8] * 3, [3, 2, 1]], np.float32),
    )  # fmt: skip
    rows, terms = np.array([4, 1, 2], np.int32), np.array([2, -1, 1], np.int32)
    fill_lists(lists, 1, rows, postings, impacts, terms, np.empty(0, np.int64))
    own = lists[4, 1]
    assert own[[POSTING, RUN, LAST_RUN]].tolist() == [3, 1, 2]
    assert _first_run(own[FIRST_RUN]) == (window, count, np.float32(best))
    ranks = [(1, 3), (10, 3), (11, 2), (100, 2), (101, 1), (1000, 1), (1001, 0)]
    assert [(k, _ranked_part(own, k)) for k, _ in ranks] == ranks
    assert not lists[:4].any()
    assert not lists[:, 0].any()


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three segments, which have some words in common."""
    folder = tmp_path_factory.mktemp("three")
    for s in range(3):
        texts = [f"w{n} w{n + 100 * s} " * (1 + n % 3) + "all" for n in range(200)]
        table = pa.table({"id": [f"{s}-{n}" for n in range(200)], "text": texts})
        Index.build(table, folder / str(s), analyzer=Analyzer(tokenizer="space"), store="id")
    combine(folder / "index", [folder / str(s) for s in range(3)])
    return folder / "index"


QUERIES = [f"w{n} w{(7 * n) % 400} all" for n in range(0, 400, 3)]


@pytest.mark.parametrize("impacts", [1 << 28, 50, -1])
@pytest.mark.parametrize("words", [1 << 13, 5])
def test_searches_between_the_parts_of_another(
    three: Path, monkeypatch: pytest.MonkeyPatch, impacts: int, words: int
) -> None:
    """The cached terms grow, are replaced and are cleared while a search uses them."""
    expected = Index.open(three).search(QUERIES, 20, threads=1)
    monkeypatch.setattr(scorer, "_CACHED_IMPACTS", impacts)
    monkeypatch.setattr(searcher, "_CACHED_WORDS", words)
    index = Index.open(three)
    whole: Callable[..., None] = kernels.search
    others = iter(range(len(QUERIES)))
    inside = False

    def interrupted(*arguments: Any) -> None:
        nonlocal inside
        if not inside and (q := next(others, None)) is not None:
            inside = True
            hits = index.search(QUERIES[-q - 1 :][:1], 20, threads=1)
            assert hits.scores[0].tobytes() == expected.scores[-q - 1].tobytes()
            assert hits.rows[0].tobytes() == expected.rows[-q - 1].tobytes()
            inside = False
        whole(*arguments)

    monkeypatch.setattr(kernels, "search", interrupted)
    for q, query in enumerate(QUERIES):
        hits = index.search([query], 20, threads=1)
        assert hits.scores[0].tobytes() == expected.scores[q].tobytes()
        assert hits.rows[0].tobytes() == expected.rows[q].tobytes()
    hits = index.search(QUERIES, 20, threads=1)
    assert hits.rows.tobytes() == expected.rows.tobytes()
