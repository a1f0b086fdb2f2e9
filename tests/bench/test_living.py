"""The benchmark of a changing index: its segments, its comparison of hits, its memory figures."""

from __future__ import annotations

import sys
from pathlib import Path

import pyarrow as pa
import pytest

from bench.common import small
from bench.common.reference import read_batches
from bench.engines import fastseq_engine as engine
from bench.indexing import counted, measured
from bench.living import SEGMENTS, parts, watch_anonymous
from fastseq.index.merging import due

CORPUS = small.data() / "text" / "wiki_simple.parquet"


@pytest.mark.parametrize("documents", [200, 523_827])
def test_segments_of_one_size_and_of_three_hold_all_documents(documents: int) -> None:
    for sizes in parts(documents):
        assert len(sizes) == SEGMENTS
        assert sum(sizes) == documents
        assert min(sizes) > 0


def test_segments_of_three_sizes_are_not_merged() -> None:
    even, sizes = parts(523_827)
    for number in range(1, SEGMENTS + 1):
        assert due(sizes[:number], [0] * number) is None
    assert due(even, [0] * SEGMENTS) is not None


def test_differences_of_ids_and_score_bits_are_found(tmp_path: Path) -> None:
    table = read_batches(CORPUS, "text", 150, 1)[0]
    full = engine.build(table, "text", tmp_path / "full", 1)
    queries = small.TOPIC_WORDS[0][:3]
    assert engine.differences(full, full, queries, [3, 100]) == []
    fewer = engine.build(table.slice(0, 149), "text", tmp_path / "fewer", 1)
    assert engine.differences(full, fewer, queries, [100])
    # a longer text without the queries' words changes the mean length and so the scores alone
    texts = table["text"].to_pylist()
    place = next(n for n, text in enumerate(texts) if not set(queries) & set(text.split()))
    texts[place] += " elsewhere"
    longer = table.set_column(1, "text", pa.array(texts))
    other = engine.build(longer, "text", tmp_path / "longer", 1)
    assert engine.differences(full, other, queries, [1000]) == ["k = 1000: other scores"]


def test_batches_become_the_index_of_a_fresh_build(tmp_path: Path) -> None:
    engine.batches(CORPUS, "text", tmp_path / "index", 1, "10", "7")
    found = counted(tmp_path / "index", "fastseq")
    assert found["documents"] == 70
    assert found["positions"] == 1


def test_anonymous_memory_of_a_process_is_watched(tmp_path: Path) -> None:
    if not Path("/proc/self/status").exists():
        pytest.skip("no /proc")
    size = 50 << 20
    found: list[float] = []
    program = f"a = b'x' * {size}; import time; time.sleep(0.1)"
    outcome = measured(
        [sys.executable, "-c", program], tmp_path, lambda process: watch_anonymous(found, process)
    )
    assert not outcome.error
    assert size < max(found) < size + (50 << 20)


def test_failing_program_is_reported(tmp_path: Path) -> None:
    outcome = measured([sys.executable, "-c", "raise SystemExit('no')"], tmp_path)
    assert outcome.error == "exit 1: no"
    with pytest.raises(RuntimeError, match="no manifest"):
        counted(tmp_path, "fastseq")
