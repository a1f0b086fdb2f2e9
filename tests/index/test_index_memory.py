"""The limit of `--memory`, as the anonymous memory of a process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

ADD = """
import json, sys, threading, time
import fastseq

index, first, corpus = sys.argv[1:]
analyzer = fastseq.Analyzer.for_language("english")
fastseq.Index.build(first, index, analyzer=analyzer, store=["id"])

def anonymous():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("RssAnon")) << 10

def peak_of_adding(documents):
    found, ended = [anonymous()], threading.Event()

    def watch():
        while not ended.is_set():
            found.append(anonymous())
            time.sleep(.003)

    thread = threading.Thread(target=watch)
    thread.start()
    fastseq.Index.open(index).add(documents, memory="64MB", threads=2)
    ended.set()
    thread.join()
    return max(found)

print(json.dumps([peak_of_adding(first), peak_of_adding(corpus)]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_64_mb_are_enough_for_a_larger_vocabulary_and_text(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    words = np.array([f"w{number}" for number in range(200_000)])
    ids = np.minimum(rng.zipf(1.2, 9_000_000), len(words)) - 1
    texts = [" ".join(part) for part in np.split(words[ids], 150_000)]
    table = pa.table({"id": [f"document {number}" for number in range(150_000)], "text": texts})
    assert table.column("text").nbytes > 35e6
    pq.write_table(table.slice(0, 1), tmp_path / "first.parquet")
    pq.write_table(table, tmp_path / "corpus.parquet")
    places = [tmp_path / name for name in ("index", "first.parquet", "corpus.parquet")]
    ran = subprocess.run(
        [sys.executable, "-c", ADD, *places], capture_output=True, text=True, timeout=300
    )
    assert ran.returncode == 0, ran.stderr
    one, every = json.loads(ran.stdout)
    assert 16e6 < every - one < 64 << 20
